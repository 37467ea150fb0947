extension Scenario {
    /// mkdir(2), rmdir(2), unlink(2), mknod(2), and invalid names.
    static let names = #"""
        making what is there already
          for kind: file, directory, fifo, socket, symlink
          make x $kind 0644
          mkdir x 0755
          mknod x file 0644
          mknod x fifo 0644
          symlink y x
          open x O_CREAT|O_EXCL|O_WRONLY 0644
          bind x
          create y 0600
          link y x
          lstat x
        names below what is no directory
          for kind: file, fifo, socket
          make x $kind 0644
          create x/y 0644
          mkdir x/y 0755
          mknod x/y fifo 0644
          symlink a x/y
          unlink x/y
          rmdir x/y
          stat x/y
          lstat x/y
          open x/y O_RDONLY
          chmod x/y 0644
          chown x/y root:root
          truncate x/y 0
          utimens x/y
          readlink x/y
          access x/y F_OK
          create f 0644
          link f x/y
          link x/y g
          rename f x/y
          rename x/y g
          chdir x
          list x
          open x O_DIRECTORY
          stat x/
          stat x/.
          stat x/..
        names below what is missing
          create x/y 0644
          mkdir x/y 0755
          mkdir x/y/z 0755
          mknod x/y fifo 0644
          symlink a x/y
          unlink x/y
          rmdir x/y
          stat x/y
          open x/y O_RDONLY
          chmod x/y 0644
          chown x/y root:root
          truncate x/y 0
          utimens x/y
          readlink x/y
          create f 0644
          link f x/y
          link x/y g
          rename f x/y
          rename x/y g
        what is missing
          stat x
          open x O_RDONLY
          open x O_RDWR|O_TRUNC
          open x O_DIRECTORY
          open x O_PATH
          unlink x
          rmdir x
          chmod x 0644
          chown x root:root
          lchown x root:root
          truncate x 0
          utimens x
          readlink x
          link x y
          rename x y
          access x F_OK
          chdir x
          statfs x
          getxattr x user.a
          setxattr x user.a 1
          listxattr x
          execute x
        the longest names
          for make: make $name file 0644, make $name directory 0755, make $name fifo 0644, make $name symlink 0777
          for name: n{255}, n{256}
          $make
          lstat $name
          chmod $name 0600
          rename $name m{255}
          rename m{255} m{256}
          list .
        names that are too long, for each call
          for name: n{256}, n{256}/x, n{300}
          create f 0644
          create $name 0644
          mkdir $name 0755
          mknod $name fifo 0644
          symlink a $name
          bind $name
          unlink $name
          rmdir $name
          stat $name
          open $name O_RDONLY
          chmod $name 0644
          chown $name root:root
          truncate $name 0
          utimens $name
          readlink $name
          link f $name
          link $name g
          rename f $name
          rename $name g
          access $name F_OK
          getxattr $name user.a
        the longest names, deep down
          mkdir a{255} 0755
          mkdir a{255}/b{255} 0755
          mkdir a{255}/b{255}/c{255} 0755
          put a{255}/b{255}/c{255}/d{255} deep
          content a{255}/b{255}/c{255}/d{255}
          rename a{255}/b{255} e{255}
          content e{255}/c{255}/d{255}
        the longest paths
          create f 0644
          stat (./){2047}f
          stat (./){2047}ff
          open (./){2047}f O_RDONLY
          rename (./){2047}f g
          rename g (./){2048}f
          symlink x{4095} l
          readlink l
          symlink x{4096} m
        empty names
          create f 0644
          create "" 0644
          mkdir "" 0755
          stat ""
          unlink ""
          rmdir ""
          rename f ""
          rename "" f
          link f ""
          symlink "" l
          symlink a ""
          open "" O_RDONLY
          chmod "" 0644
          list .
        names of any bytes
          for name: a\sb, a\nb, \x01\x02\x7f, \xff\xfe\x80, \xc3\xa4, a\xcc\x88, *?[a], -rf, \\, \s, ..., .hidden, #x#, ~
          put $name data
          content $name
          list .
          rename $name x
          rename x $name
          link $name y
          unlink $name
          list .
          mkdir $name 0755
          create $name/$name 0644
          list $name
          symlink $name l
          readlink l
          stat l
        names in different case
          put a lower
          put A upper
          content a
          list .
          unlink A
          content a
        names that differ in their form of Unicode only
          put \xc3\xa4 one
          put a\xcc\x88 two
          list .
          content \xc3\xa4
        dot and dot-dot
          mkdir d 0755
          mkdir . 0755
          mkdir .. 0755
          mkdir d/. 0755
          mkdir d/.. 0755
          rmdir .
          rmdir d/.
          mkdir d/e 0755
          rmdir d/..
          rmdir d/e/..
          unlink .
          unlink d/.
          unlink d/..
          create . 0644
          create d/. 0644
          symlink x .
          link d/. e
          rename . e
          rename d/. e
          rename d/.. e
          create f 0644
          rename f .
          rename f d/..
          same d/.. .
          same d/e/../.. .
          same . d/.
          stat d/e/.
        trailing slashes
          create f 0644
          mkdir d 0755
          symlink f lf
          symlink d ld
          symlink gone lg
          create g/ 0644
          open g/ O_RDONLY|O_CREAT 0644
          mkdir e/ 0755
          mkdir e2// 0755
          mkdir lg/ 0755
          mkdir ld/ 0755
          stat f/
          stat d/
          lstat ld/
          lstat lf/
          stat lg/
          readlink ld/
          unlink f/
          unlink d/
          unlink ld/
          rmdir ld/
          rmdir f/
          link f/ g
          link f g/
          rename f/ g
          rename f g/
          rename d/ h/
          rename ld/ i
          rename e ld/
          symlink x s/
          mknod n/ fifo 0644
          truncate f/ 0
          open f/ O_RDONLY
          open h/ O_RDONLY
          chmod h/ 0700
          rmdir h/
          list .
        removing what is of another kind
          for kind: file, fifo, socket, symlink
          make x $kind 0644
          rmdir x
          unlink x
          unlink x
          mkdir x 0755
          unlink x
          rmdir x
          rmdir x
        removing directories that are not empty
          for kind: file, directory, fifo, socket, symlink
          mkdir d 0755
          make d/x $kind 0755
          rmdir d
          rename d/x y
          rmdir d
        making and removing move the times of the directory
          for make: make d/x file 0644, make d/x directory 0755, make d/x fifo 0644, make d/x socket 0644, make d/x symlink 0777
          mkdir d 0755
          note d
          $make
          changes d
          times d/x
          birth d/x
          note d
          stat d/x
          lstat d/x
          changes d
          note d
          unlink d/x
          changes d
          note d
          rmdir d/x
          changes d
        failing to make or remove moves no times
          mkdir d 0755
          mkdir d/e 0755
          create d/f 0644
          note d
          note d/e
          note d/f
          mkdir d/e 0755
          mkdir d/f 0755
          rmdir d/f
          unlink d/e
          open d/f O_CREAT|O_EXCL|O_RDWR 0644
          link d/f d/e
          symlink a d/f
          rename d/f d/e
          rename d/e d/f
          unlink d/missing
          changes d
          changes d/e
          changes d/f
        link counts of directories
          mkdir d 0755
          stat d
          mkdir d/a 0755
          mkdir d/b 0755
          stat d
          create d/f 0644
          stat d
          rename d/a e
          stat d
          rmdir d/b
          stat d
          stat e
        paths through links to directories
          mkdir d 0755
          symlink d l
          symlink l ll
          create ll/f 0644
          mkdir l/e 0755
          list d
          same l/f d/f
          stat ll/e
          same ll/.. .
          rmdir l
          unlink l/f
          rmdir ll/e
          rename l/ k
          unlink ll
          list d
        rights of the mask
          for mask: 0, 022, 027, 077, 0777, 0111
          umask $mask
          create f 0666
          create g 07777
          mkdir d 0777
          mkdir e 01777
          mknod p fifo 0666
          mknod s socket 0777
          mknod r file 0640
          @b = bind b
          symlink x l
          lstat f
          lstat g
          lstat d
          lstat e
          lstat p
          lstat s
          lstat r
          lstat b
          lstat l
        set-id and sticky bits of what is made
          umask 0
          create f 06755
          create g 01644
          mkdir d 06755
          mkdir e 03777
          mknod p fifo 07666
          mknod r file 06755
          stat f
          stat g
          stat d
          stat e
          stat p
          stat r
        """#
}

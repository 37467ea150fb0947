extension Scenario {
    /// link(2), symlink(2), readlink(2), and following.
    static let links = #"""
        link of each kind
          for kind: file, fifo, socket, symlink, char:1:3
          make x $kind 0644
          note x
          note .
          link x y
          changes x
          changes .
          lstat x
          lstat y
          same x y
          note y
          unlink x
          changes y
          lstat y
          unlink y
          lstat y
        link of a directory
          mkdir d 0755
          link d e
          link d d/e
          link . e
          symlink d l
          link l e AT_SYMLINK_FOLLOW
          list .
        link of a link
          put f data
          symlink f l
          link l m
          lstat m
          link l n AT_SYMLINK_FOLLOW
          lstat n
          same f n
          symlink gone g
          link g h
          link g i AT_SYMLINK_FOLLOW
          readlink h
          lstat f
        link to a name that is taken
          for kind: file, directory, fifo, symlink
          create f 0644
          make x $kind 0755
          link f x
          link f f
          stat f
          lstat x
        link to a name through a dangling link
          create f 0644
          symlink gone l
          link f l
          list .
        link with unknown flags
          create f 0644
          link f g 0x1
          link f g AT_SYMLINK_NOFOLLOW
          link f g AT_REMOVEDIR
        link of a descriptor
          put f data
          @a = open f O_RDWR
          link @a g AT_EMPTY_PATH
          stat g
          link /proc/self/fd/@a h AT_SYMLINK_FOLLOW
          stat f
          @p = open f O_PATH
          link @p i AT_EMPTY_PATH
          stat i
          unlink f
          unlink g
          unlink h
          unlink i
          stat @a
          link /proc/self/fd/@a j AT_SYMLINK_FOLLOW
          link @a j AT_EMPTY_PATH
        links share what they hold
          put a one
          link a b
          mkdir d 0755
          link b d/c
          put d/c more
          content a
          chmod b 0600
          stat a
          setxattr a user.x 1
          getxattr d/c user.x
          utimens b 1000000000 1000000001
          times a
          truncate d/c 2
          content b
          rename a d/e
          content b
          stat d/e
          unlink b
          stat d/c
          unlink d/c
          content d/e
        several links, made and taken away
          create f 0644
          link f l0
          link f l1
          link f l2
          link l2 l3
          link l3 l4
          link l4 l5
          unlink l2
          stat f
          unlink f
          stat l5
        links of one file, renamed and opened
          put a one
          link a b
          @a = open a O_RDWR
          rename a c
          write @a two
          content b
          unlink c
          content b
          stat @a
          rename b a
          write @a more
          content a
          same a @a
        another user's file
          create f 0644
          chown f bob:bob
          as alice
          link f g
          chmod . 0777
          as bob
          link f h
          chmod f 0666
          as alice
          link f g
          stat f
        another user's set-id file
          create f 0666
          chown f bob:bob
          chmod f 04777
          as alice
          link f g
          as bob
          link f h
        another user's fifo
          mknod p fifo 0666
          chown p bob:bob
          chmod p 0666
          as alice
          link p q
          as bob
          link p r
        link into a directory that may not be written
          mkdir d 0755
          create f 0644
          chown f alice:alice
          as alice
          link f d/g
          mkdir e 0755
          link f e/g
          chmod e 0555
          link f e/h
          unlink e/g
          list e
        targets of links
          for target: gone, ., .., /, f/x, x{1023}, \xff\s, ///, a/../b
          symlink $target l
          readlink l
          lstat l
        links that loop
          symlink l l
          symlink b a
          symlink a b
          symlink l/x c
          stat l
          lstat l
          stat a
          stat c
          open l O_RDONLY
          open l O_RDONLY|O_CREAT 0644
          open l O_RDONLY|O_CREAT|O_EXCL 0644
          open l O_PATH
          open l O_PATH|O_NOFOLLOW
          open l O_NOFOLLOW
          open l O_DIRECTORY
          chmod l 0644
          chown l root:root
          lchown l root:
          truncate a 0
          utimens a
          utimens a 1 2 AT_SYMLINK_NOFOLLOW
          access a F_OK
          chdir a
          create a/x 0644
          mkdir a/x 0755
          mkdir a 0755
          unlink a/x
          rmdir a/x
          rename a/x y
          link a/x y
          link a y AT_SYMLINK_FOLLOW
          symlink x a/y
          readlink a/x
          getxattr a user.x
          unlink a
          stat b
          unlink l
        a chain of 20 links, and one that is too long
          put f end
          symlink f l0
          symlink l0 l1
          symlink l1 l2
          symlink l2 l3
          symlink l3 l4
          symlink . d
          content l4
          content (d/){15}l4
          content (d/){36}l4
          content (d/){41}f
        links that lead nowhere
          symlink gone l
          stat l
          lstat l
          open l O_RDONLY
          open l O_WRONLY|O_CREAT|O_EXCL 0644
          mkdir l 0755
          chmod l 0644
          truncate l 0
          access l F_OK
          access l F_OK AT_SYMLINK_NOFOLLOW
          open l O_WRONLY|O_CREAT 0640
          stat gone
          list .
        making a file through a link, elsewhere
          mkdir d 0755
          symlink d/f l
          symlink e/f m
          note d
          put l data
          changes d
          put m data
          content d/f
          readlink l
        links by other owners
          symlink x l
          chown l alice:alice
          lchown l alice:alice
          lstat l
          as bob
          readlink l
          unlink l
          lchown l bob:bob
          as alice
          lchown l :shared
          lchown l :bob
          lstat l
          as root
          lchown l bob:
          lstat l
        mode of a link
          symlink f l
          create f 0644
          lchmod l 0600
          lchmod f 0600
          lstat l
          stat f
          chmod l 0640
          stat f
          lstat l
        reading links moves no times but that of access
          symlink f l
          note .
          readlink l
          lstat l
          changes .
        reading what is no link
          for kind: file, directory, fifo, socket
          make x $kind 0755
          readlink x
          readlink .
        absolute links out of the tree
          symlink /dev/null n
          symlink /proc/self/nonexistent p
          put n data
          content n
          stat p
          open n O_RDWR
        """#
}

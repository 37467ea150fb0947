extension Scenario {
    /// chmod(2), chown(2), and what they and others do to set-id bits.
    static let modes = #"""
        chmod of each kind
          for kind: file, directory, fifo, socket, char:1:3
          make x $kind 0644
          chmod x 0
          lstat x
          chmod x 07777
          lstat x
          chmod x 0100644
          note x
          note .
          chmod x 0600
          changes x
          changes .
          lstat x
          note x
          chmod x 0600
          changes x
        chmod through a descriptor
          create f 0644
          mkdir d 0755
          @f = open f O_RDONLY
          @d = open d O_DIRECTORY
          @p = open f O_PATH
          chmod @f 04711
          chmod @d 01700
          chmod @p 0600
          stat f
          stat d
          unlink f
          chmod @f 0600
          stat @f
          rmdir d
          chmod @d 0755
          stat @d
        chmod by others
          for kind: file, directory, fifo
          make x $kind 0666
          chown x alice:alice
          chmod x 0666
          as bob
          chmod x 0600
          as carol
          chmod x 0600
          as alice
          chmod x 0640
          as root
          chmod x 0604
          lstat x
        set-group bit for a group one is not in
          for kind: file, directory
          make x $kind 0755
          chown x alice:bob
          as alice
          chmod x 02755
          stat x
          chmod x 06755
          stat x
          chown x :shared
          chmod x 02755
          stat x
          as root
          chown x alice:bob
          chmod x 02755
          stat x
          as alice
          chmod x 02750
          stat x
        sticky bit of a file
          create f 0644
          chown f alice:alice
          as alice
          chmod f 01644
          stat f
        chown by root
          for kind: file, directory, fifo, socket, char:1:3
          make x $kind 0644
          note x
          note .
          chown x alice:shared
          changes x
          changes .
          lstat x
          chown x :bob
          chown x carol:
          lstat x
          chown x 12345:54321
          lstat x
        chown without ids
          for kind: file, directory, fifo
          make x $kind 0644
          note x
          chown x :
          changes x
        chown by its owner
          for kind: file, directory, fifo
          make x $kind 0644
          chown x alice:alice
          as alice
          chown x :shared
          lstat x
          chown x :alice
          chown x alice:shared
          chown x alice:
          chown x :
          chown x bob:
          chown x :bob
          chown x bob:bob
          chown x root:
          lstat x
        chown by others
          create f 0666
          chown f alice:shared
          chmod f 0666
          as bob
          chown f bob:
          chown f :shared
          chown f :bob
          chown f alice:
          chown f :
          as carol
          chown f carol:carol
          chown f :
          stat f
        chown through a descriptor
          create f 0644
          chown f alice:alice
          as alice
          @f = open f O_RDONLY
          chown @f :shared
          chown @f bob:
          @p = open f O_PATH
          chown @p :alice
          stat f
          unlink f
          as root
          chown @f bob:bob
          stat @f
        chown of what a link leads to
          create f 0644
          symlink f l
          chown l alice:shared
          lstat l
          stat f
          lchown l bob:bob
          lstat l
          stat f
        chown takes set-id bits
          for mode: 04755, 02755, 06755, 06711, 02745, 06644, 07777
          for owner: :shared, alice:, bob:bob, :
          create f 0644
          chown f alice:alice
          chmod f $mode
          chown f $owner
          stat f
          chown f alice:alice
          chmod f $mode
          as alice
          chown f $owner
          stat f
        chown leaves set-id bits of directories
          mkdir d 0755
          chown d alice:alice
          chmod d 07755
          as alice
          chown d :shared
          stat d
          as root
          chown d bob:bob
          stat d
        writing takes set-id bits
          for change: pwrite @a x 0, write @a x, append @a x 0, truncate @a 0, truncate @a 100, truncate f 0, fallocate @a 0 0 100, copy @b 0 @a 0 1, put f x, open f O_WRONLY|O_TRUNC
          for mode: 06777, 02767, 04766
          put f data
          put b more
          chmod f $mode
          @a = open f O_RDWR
          @b = open b O_RDONLY
          $change
          stat f
          chown f alice:alice
          chmod f $mode
          note f
          as bob
          @a = open f O_RDWR
          @b = open b O_RDONLY
          $change
          stat f
          changes f
          as root
          chmod f $mode
          as alice
          @a = open f O_RDWR
          $change
          stat f
        writing nothing leaves set-id bits
          put f data
          chown f alice:alice
          chmod f 06777
          as bob
          @a = open f O_RDWR
          write @a ""
          read @a 4
          stat f
        writing to mapped memory takes set-id bits
          put f x{5000}
          chown f alice:alice
          chmod f 06777
          as bob
          @a = open f O_RDWR
          @m = mmap @a PROT_READ|PROT_WRITE MAP_SHARED 0 4096
          store @m 10 y
          msync @m MS_SYNC
          stat f
        group of what is made
          umask 02
          mkdir plain 0777
          mkdir grouped 0777
          chown grouped root:shared
          chmod grouped 02777
          chmod plain 0777
          for make: make $in/x file 0666, make $in/x directory 0777, make $in/x fifo 0666, make $in/x socket 0666, make $in/x symlink 0777, make $in/x file 02777, make $in/x directory 01777
          for in: plain, grouped
          as alice
          $make
          lstat $in/x
          as carol
          unlink $in/x
          rmdir $in/x
          $make
          lstat $in/x
        set-group bit of what others make in a grouped directory
          mkdir d 0777
          chown d root:shared
          chmod d 02777
          umask 0
          as alice
          create d/a 02775
          create d/b 02765
          mknod d/c file 06777
          mkdir d/e 02700
          mkdir d/f 0700
          stat d/a
          stat d/b
          stat d/c
          stat d/e
          stat d/f
          as carol
          create d/g 02775
          create d/h 02765
          create d/i 06755
          mknod d/j file 06777
          mkdir d/k 0700
          mkdir d/k/l 0700
          stat d/g
          stat d/h
          stat d/i
          stat d/j
          stat d/k
          stat d/k/l
        moving into a grouped directory keeps the group
          mkdir d 0777
          chown d root:shared
          chmod d 02777
          create f 0644
          rename f d/f
          stat d/f
          create g 0644
          link g d/g
          stat d/g
        files of a group
          create f 0660
          chown f alice:shared
          chmod f 0660
          as bob
          open f O_RDWR
          put f bob
          as carol
          open f O_RDONLY
          access f R_OK
          as alice
          chmod f 0060
          open f O_RDONLY
          as bob
          open f O_RDWR
          as root
          chmod f 0006
          as alice
          open f O_RDONLY
          as bob
          open f O_RDONLY
          as carol
          open f O_RDWR
        rights of a file, by everyone
          for mode: 0, 0400, 0200, 0100, 0040, 0020, 0010, 0004, 0002, 0001, 0777
          for who: root, alice, bob, carol
          put f data
          chown f alice:shared
          chmod f $mode
          as $who
          open f O_RDONLY
          open f O_WRONLY
          open f O_RDWR
          open f O_PATH
          access f R_OK
          access f W_OK
          access f X_OK
          access f R_OK|W_OK|X_OK AT_EACCESS
          truncate f 1
          utimens f
          setxattr f user.a 1
          getxattr f user.a
          listxattr f
        rights of a file, by its owner
          for mode: 0, 0400, 0200, 0100, 0077, 0700
          put f data
          chmod f $mode
          open f O_RDONLY
          open f O_WRONLY
          open f O_RDWR|O_TRUNC
          open f O_PATH
          access f R_OK
          access f W_OK
          access f X_OK
          truncate f 1
          utimens f
          setxattr f user.a 1
          getxattr f user.a
          link f g
          rename f h
          chmod h 0600
          content h
        a descriptor keeps the rights it was opened with
          put f data
          @a = open f O_RDWR
          chmod f 0
          read @a 2
          write @a more
          truncate @a 3
          pread @a 10 0
          stat @a
          open f O_RDWR
          open /proc/self/fd/@a O_RDONLY
          chmod f 0600
          content f
        a file made without rights is written through its descriptor
          for mode: 0, 0400, 0200
          @a = open f O_CREAT|O_RDWR|O_EXCL $mode
          write @a data
          pread @a 10 0
          truncate @a 2
          stat f
          open f O_RDWR
          chmod @a 0600
          content f
        a descriptor used by another user
          put f data
          chown f alice:alice
          chmod f 0600
          as alice
          @a = open f O_RDWR
          as bob
          pread @a 10 0
          pwrite @a bob 0
          stat @a
          truncate @a 2
          chmod @a 0666
          utimens @a
          setxattr @a user.a 1
          getxattr @a user.a
          open f O_RDONLY
          open /proc/self/fd/@a O_RDONLY
          fallocate @a 0 0 100
          stat @a
        unused bits of modes
          create f 0644
          chmod f 0170644
          stat f
          create g 0170600
          lstat g
          mkdir d 0170700
          lstat d
        """#
}

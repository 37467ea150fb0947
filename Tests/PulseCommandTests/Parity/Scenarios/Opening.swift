extension Scenario {
    /// open(2), close(2), and unlinked open files.
    static let opening = #"""
        open of each kind
          for kind: file, directory, symlink, fifo, socket, char:1:3
          make x $kind 0755
          open x O_RDONLY|O_NONBLOCK
          open x O_WRONLY|O_NONBLOCK
          open x O_RDWR|O_NONBLOCK
          open x O_RDONLY|O_NONBLOCK|O_CREAT 0644
          open x O_RDONLY|O_NONBLOCK|O_CREAT|O_EXCL 0644
          open x O_RDONLY|O_NONBLOCK|O_DIRECTORY
          open x O_RDONLY|O_NONBLOCK|O_NOFOLLOW
          open x O_RDWR|O_NONBLOCK|O_TRUNC
          open x O_RDONLY|O_NONBLOCK|O_APPEND
          open x O_PATH
          open x O_PATH|O_NOFOLLOW
          open x O_PATH|O_DIRECTORY
          open x O_CREAT|O_DIRECTORY 0755
          lstat x
        create in every way
          for flags: O_RDONLY, O_WRONLY, O_RDWR, O_RDWR|O_EXCL, O_RDWR|O_TRUNC, O_WRONLY|O_APPEND, O_RDWR|O_SYNC, O_RDWR|O_NOFOLLOW, O_RDONLY|O_TRUNC
          for mode: 0644, 0, 0444
          note .
          @a = open f O_CREAT|$flags $mode
          changes .
          stat f
          write @a data
          pread @a 10 0
          stat @a
          same f @a
          @b = open f O_CREAT|$flags $mode
          stat f
          close @a
          close @a
        O_TRUNC
          for flags: O_RDONLY, O_WRONLY, O_RDWR, O_RDWR|O_CREAT, O_RDWR|O_APPEND
          put f data
          @r = open f O_RDONLY
          @a = open f $flags|O_TRUNC
          stat @r
          read @r 10
          write @a new
          content f
          pread @r 10 0
        O_TRUNC without leave
          for right: 0444, 0222, 0666
          put f data
          chmod f $right
          chown f alice:alice
          as bob
          open f O_RDONLY|O_TRUNC
          open f O_WRONLY|O_TRUNC
          open f O_RDWR|O_TRUNC
          stat f
        O_EXCL
          put f data
          symlink f l
          symlink gone g
          mkdir d 0755
          open f O_CREAT|O_EXCL|O_RDWR 0644
          open l O_CREAT|O_EXCL|O_RDWR 0644
          open g O_CREAT|O_EXCL|O_RDWR 0644
          open d O_CREAT|O_EXCL|O_RDWR 0644
          open f O_EXCL|O_RDWR
          @a = open n O_CREAT|O_EXCL|O_RDWR 0400
          write @a data
          open n O_CREAT|O_EXCL|O_RDWR|O_TRUNC 0400
          stat n
        O_NOFOLLOW
          put f data
          mkdir d 0755
          put d/f data
          symlink f l
          symlink d m
          open l O_RDONLY|O_NOFOLLOW
          open l O_RDWR|O_CREAT|O_NOFOLLOW 0644
          open m O_RDONLY|O_NOFOLLOW
          open m O_RDONLY|O_NOFOLLOW|O_DIRECTORY
          open m/f O_RDONLY|O_NOFOLLOW
          open f O_RDONLY|O_NOFOLLOW
          @l = open l O_PATH|O_NOFOLLOW
          stat @l
          readlink @l
          chmod @l 0600
        O_PATH
          put f data
          mkdir d 0755
          put d/f data
          @p = open f O_PATH
          @d = open d O_PATH
          read @p 10
          write @p x
          truncate @p 0
          chmod @p 0600
          chown @p :
          utimens @p
          getxattr @p user.a
          fsync @p
          lseek @p 0 SEEK_SET
          flock @p LOCK_EX|LOCK_NB
          fcntl @p F_GETFL
          mmap @p PROT_READ MAP_SHARED 0 4096
          stat @p
          content @d/f
          create @d/g 0644
          list @d/.
          content /proc/self/fd/@p
          open /proc/self/fd/@p O_RDWR
          chmod /proc/self/fd/@p 0640
          stat f
          unlink f
          stat @p
          content /proc/self/fd/@p
          rename d e
          content @d/f
          rmdir @d
          unlink @d/f
        file that is deleted while open
          put f data
          @a = open f O_RDWR
          unlink f
          stat @a
          read @a 10
          write @a more
          pread @a 100 0
          truncate @a 2
          pread @a 100 0
          chmod @a 0600
          utimens @a 1 2
          setxattr @a user.a 1
          getxattr @a user.a
          listxattr @a
          fallocate @a 0 0 100
          fsync @a
          stat @a
          times @a
          create f 0644
          same f @a
          stat f
          pread @a 10 0
          open /proc/self/fd/@a O_RDWR
          content /proc/self/fd/@a
          close @a
          content f
        file that is deleted while open twice
          put f data
          @a = open f O_RDWR
          @b = open f O_RDWR
          unlink f
          write @a new
          pread @b 10 0
          close @a
          pwrite @b more 4
          pread @b 10 0
          stat @b
          close @b
        file that is replaced while open
          put f data
          put g other
          @a = open f O_RDWR
          rename g f
          stat @a
          read @a 10
          write @a more
          content f
          fsync @a
          chmod @a 0600
          stat f
          @b = open f O_RDWR
          write @b fresh
          content f
          pread @a 20 0
        name that is taken anew many times
          put f one
          @a = open f O_RDWR
          unlink f
          put f two
          @b = open f O_RDWR
          unlink f
          mkdir f 0755
          @c = open f O_DIRECTORY
          rmdir f
          put f three
          pread @a 10 0
          pread @b 10 0
          stat @c
          content f
          same @a @b
          same @a f
          truncate @a 1
          truncate @b 2
          stat @a
          stat @b
          stat f
        directory that is deleted while open
          mkdir d 0755
          @d = open d O_DIRECTORY
          rmdir d
          stat @d
          create @d/f 0644
          mkdir @d/e 0755
          stat @d/.
          stat @d/..
          list @d/.
          chmod @d 0700
          fsync @d
          utimens @d 1 2
          stat @d
          setxattr @d user.a 1
          mkdir d 0755
          same d @d
          rename d @d/x
        directory that is replaced while open
          mkdir d 0755
          mkdir e 0755
          create e/f 0644
          @d = open d O_DIRECTORY
          rename e d
          stat @d
          list @d/.
          create @d/g 0644
          list d
        descriptors that are duplicated share their place
          put f 0123456789
          @a = open f O_RDWR
          @b = dup @a
          @c = open f O_RDWR
          read @a 3
          read @b 3
          read @c 3
          lseek @a 0 SEEK_CUR
          close @a
          read @b 3
          write @b x
          content f
        flags of openings
          create f 0644
          @a = open f O_RDWR|O_APPEND
          fcntl @a F_GETFL
          fcntl @a F_SETFL 0
          fcntl @a F_GETFL
          write @a 0123
          lseek @a 1 SEEK_SET
          write @a x
          fcntl @a F_SETFL O_APPEND|O_NONBLOCK
          fcntl @a F_GETFL
          lseek @a 0 SEEK_SET
          write @a y
          content f
          @b = open f O_RDONLY|O_NOFOLLOW|O_SYNC
          fcntl @b F_GETFL
          @c = open f O_WRONLY|O_CREAT|O_EXCL|O_TRUNC
          @d = open f O_WRONLY|O_CREAT|O_TRUNC|O_DSYNC
          fcntl @d F_GETFL
          @e = open . O_DIRECTORY
          fcntl @e F_GETFL
          fcntl @e F_SETFL O_APPEND
        open for nothing, and with nonsense
          put f data
          @a = open f O_ACCMODE
          read @a 1
          write @a x
          stat @a
          open f O_DIRECTORY|O_CREAT 0644
          open f O_PATH|O_CREAT|O_TRUNC|O_EXCL
          open f 0100000000
        file of a directory that its owner has closed
          mkdir d 0755
          put d/f data
          @a = open d/f O_RDWR
          chmod d 0
          pread @a 10 0
          pwrite @a more 0
          stat @a
          chmod @a 0600
          truncate @a 2
          chmod d 0755
          content d/f
        file of a directory that its owner has closed, just made
          mkdir d 0755
          @a = open d/f O_RDWR|O_CREAT 0644
          chmod d 0
          chmod @a 0600
          chmod d 0755
        making files in a directory that goes
          mkdir d 0755
          chdir d
          rmdir ../d
          create f 0644
          mkdir e 0755
          symlink x l
          list .
          stat .
          stat ..
          open . O_DIRECTORY
          getcwd
          chmod . 0700
          rename ../gone x
          chdir .
        """#
}

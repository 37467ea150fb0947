extension Scenario {
    /// utimensat(2), and what calls do to times.
    static let times = #"""
        setting times of each kind
          for kind: file, directory, fifo, socket, symlink
          make x $kind 0644
          note x
          note .
          utimens x 1000000000.123456789 1100000000.987654321 AT_SYMLINK_NOFOLLOW
          changes x
          changes .
          times x
          utimens x OMIT 1200000000 AT_SYMLINK_NOFOLLOW
          times x
          utimens x 1300000000 OMIT AT_SYMLINK_NOFOLLOW
          times x
          note x
          utimens x OMIT OMIT AT_SYMLINK_NOFOLLOW
          changes x
          utimens x NOW OMIT AT_SYMLINK_NOFOLLOW
          times x
          utimens x 1 NOW AT_SYMLINK_NOFOLLOW
          times x
        times that are far away
          for time: 0, 1, -1, -2147483648, 2147483647, 2147483648, 4294967296, 15032385535, 15032385536, -2147483649, 1.999999999
          create f 0644
          utimens f $time $time
          times f
        times that cannot be
          create f 0644
          utimens f 1.1000000000 1
          utimens f 1 1.1999999999
          utimens f 1 1 0x1
          times f
        times through links and descriptors
          put f data
          symlink f l
          utimens l 1000000000 1000000001
          times f
          utimens l 1100000000 1100000001 AT_SYMLINK_NOFOLLOW
          times f
          @a = open f O_RDONLY
          utimens @a 1200000000 1200000001
          times f
          times @a
          unlink f
          utimens @a 1300000000 1300000001
          times @a
          @d = open . O_DIRECTORY
          utimens @d 1000000000 1000000001
          times .
          @p = open . O_PATH
          utimens @p
        times by others
          for kind: file, directory
          for right: 0666, 0644, 0444
          make x $kind 0755
          chown x alice:alice
          chmod x $right
          as alice
          utimens x
          utimens x 1000000000 1000000001
          utimens x NOW NOW
          utimens x NOW OMIT
          utimens x OMIT OMIT
          times x
          as bob
          utimens x
          utimens x NOW NOW
          utimens x NOW OMIT
          utimens x OMIT NOW
          utimens x 1 1
          utimens x OMIT OMIT
          utimens x 1 NOW
          times x
        times through another user's descriptor
          put f data
          chown f alice:alice
          chmod f 0666
          as bob
          @r = open f O_RDONLY
          @w = open f O_WRONLY
          utimens @r
          utimens @w
          utimens @w 1 2
          as root
          chmod f 0644
          as bob
          utimens @w
          times f
        reading
          put f data
          utimens f 1000000000 1000000001
          @a = open f O_RDONLY
          note f
          read @a 0
          changes f
          read @a 2
          changes f
          note f
          read @a 2
          pread @a 2 0
          changes f
        reading without leaving a trace
          put f data
          utimens f 1000000000 1000000001
          @a = open f O_RDONLY|O_NOATIME
          note f
          read @a 10
          changes f
          times f
        reading through mapped memory
          put f data
          @a = open f O_RDONLY
          @m = mmap @a PROT_READ MAP_SHARED 0 4096
          load @m 0 4
          content f
        writing
          for change: write @a x, pwrite @a x 100, append @a x 0, truncate @a 2, truncate @a 100, truncate f 1, truncate f 4, fallocate @a 0 0 100, put f x, open f O_WRONLY|O_TRUNC, write @a "", copy @b 0 @a 0 4, truncate @a 4, sendfile @a @b 4
          put f data
          put b more
          utimens f 1000000000 1000000001
          @a = open f O_RDWR
          @b = open b O_RDONLY
          note f
          note .
          $change
          changes f
          changes .
          times f
          note f
          close @a
          changes f
        changing what is no data
          for change: chmod f 0600, chown f alice:, chown f :, setxattr f user.a 1, link f g, rename f h, setfacl f access u::rw-,u:alice:r--,g::r--,m::r--,o::---
          put f data
          utimens f 1000000000 1000000001
          @a = open f O_RDONLY
          note @a
          $change
          changes @a
          times @a
        writing to a fifo
          mknod p fifo 0644
          @p = open p O_RDWR|O_NONBLOCK
          note p
          write @p data
          changes p
        opening for writing and closing moves nothing
          put f data
          note f
          open f O_RDWR
          open f O_WRONLY|O_APPEND
          open f O_WRONLY|O_CREAT 0644
          changes f
          put e ""
          note e
          open e O_WRONLY|O_TRUNC
          changes e
          truncate e 0
          changes e
        times set after writing stay
          put f data
          @a = open f O_RDWR
          write @a more
          utimens f 1000000000 1000000001
          times f
          close @a
          times f
          @b = open f O_RDWR
          write @b again
          utimens @b 1000000000 1000000001
          fsync @b
          times f
          close @b
          times f
        times set after writing to mapped memory stay
          put f x{5000}
          @a = open f O_RDWR
          @m = mmap @a PROT_READ|PROT_WRITE MAP_SHARED 0 4096
          store @m 0 data
          msync @m MS_SYNC
          close @m
          close @a
          utimens f 1000000000 1000000001
          times f
          content f
        writing to mapped memory moves times
          put f x{5000}
          utimens f 1000000000 1000000001
          @a = open f O_RDWR
          @m = mmap @a PROT_READ|PROT_WRITE MAP_SHARED 0 4096
          load @m 0 1
          note f
          store @m 0 data
          msync @m MS_SYNC
          close @m
          changes f
        reading mapped memory
          put f x{5000}
          utimens f 1000000000 1000000001
          @a = open f O_RDONLY
          note f
          @m = mmap @a PROT_READ MAP_SHARED 0 4096
          load @m 0 1
          changes f
        listing a directory
          mkdir d 0755
          create d/f 0644
          utimens d 1000000000 1000000001
          note d
          list d
          changes d
          note d
          stat d/f
          open d O_DIRECTORY
          changes d
        time of birth
          create f 0644
          mkdir d 0755
          symlink x l
          mknod p fifo 0644
          birth f
          birth d
          birth l
          birth p
          utimens f 1000000000 1000000001
          birth f
          @a = open f O_RDONLY
          birth @a
          link f g
          birth g
          unlink f
          unlink g
          birth @a
        times of a file whose names go
          put f data
          link f g
          @a = open f O_RDWR
          note @a
          unlink g
          changes @a
          note @a
          unlink f
          changes @a
          note @a
          write @a x
          changes @a
          note @a
          chmod @a 0600
          changes @a
        times of a directory that is removed
          mkdir d 0755
          @d = open d O_DIRECTORY
          note @d
          rmdir d
          changes @d
          stat @d
          create @d/f 0644
          list @d/.
        times of what is replaced by a rename
          put f one
          put g two
          @g = open g O_RDONLY
          note @g
          note f
          rename f g
          changes @g
          stat @g
        """#
}

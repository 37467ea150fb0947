extension Scenario {
    /// read(2), write(2), truncate(2), mmap(2), copying.
    static let data = #"""
        reading and writing at odd places
          @a = open f O_RDWR|O_CREAT 0644
          read @a 10
          write @a 0123456789
          read @a 10
          lseek @a 0 SEEK_SET
          read @a 4
          lseek @a 2 SEEK_CUR
          read @a 100
          read @a 1
          pread @a 10 5
          pread @a 10 10
          pread @a 10 1T
          pread @a 10 -1
          pwrite @a x -1
          pwrite @a x 20
          stat f
          lseek @a -1 SEEK_SET
          lseek @a -1 SEEK_END
          read @a 5
          lseek @a 100 SEEK_END
          write @a y
          lseek @a 0 SEEK_CUR
          lseek @a 0 9
          stat f
          content f
        writing at and over edges of pages
          for offset: 0, 1, 4095, 4096, 4097, 65535, 131071, 1048575
          @a = open f O_RDWR|O_CREAT 0644
          pwrite @a abc $offset
          pread @a 10 $offset
          stat f
          pwrite @a x{4096} 2000
          pread @a 3 $offset
          pwrite @a y{10000} $offset
          stat f
          pread @a 3 4094
          truncate f 5000
          content f
        large writes
          for count: 4096, 131072, 131073, 1000000
          @a = open f O_RDWR|O_CREAT 0644
          write @a x{$count}
          stat f
          pwrite @a y 100
          pread @a 3 99
          lseek @a 0 SEEK_SET
          read @a $count
          write @a z{$count}
          stat f
        writing through a reader, and the reverse
          put f data
          @r = open f O_RDONLY
          @w = open f O_WRONLY
          write @r x
          pwrite @r x 0
          truncate @r 0
          fallocate @r 0 0 100
          read @w 1
          pread @w 1 0
          write @w X
          read @r 10
          mmap @w PROT_READ MAP_SHARED 0 4096
          mmap @r PROT_READ|PROT_WRITE MAP_SHARED 0 4096
          @m = mmap @r PROT_READ|PROT_WRITE MAP_PRIVATE 0 4096
          store @m 0 private
          load @m 0 8
          content f
        appending
          put f 0123
          @a = open f O_RDWR|O_APPEND
          @b = open f O_WRONLY|O_APPEND
          @c = open f O_RDWR
          write @a a
          write @b b
          lseek @a 0 SEEK_CUR
          pwrite @a c 0
          write @c X
          lseek @a 0 SEEK_SET
          read @a 100
          write @a d
          truncate @a 2
          write @b e
          append @c z 0
          append @c y -1
          write @c Y
          content f
        truncating
          for size: 0, 1, 4, 5, 4095, 4096, 4097, 100000
          put f data
          @a = open f O_RDWR
          truncate f $size
          stat f
          content f
          truncate @a 10
          truncate @a $size
          pread @a 20 0
          truncate f 6
          content f
        truncating leaves nothing of the old to be read
          put f x{10000}
          truncate f 100
          truncate f 10000
          content f
          @a = open f O_RDWR
          @m = mmap @a PROT_READ|PROT_WRITE MAP_SHARED 0 12288
          store @m 9999 y
          truncate @a 5000
          truncate @a 12000
          content f
          load @m 4999 10
        truncating what is no file
          mkdir d 0755
          mknod p fifo 0644
          @s = bind s
          truncate d 0
          truncate p 0
          truncate s 0
          @d = open d O_DIRECTORY
          truncate @d 0
        sizes that cannot be
          for size: -1, 9223372036854775807, 8796093022208, 17592186040321, 17592186044415, 4611686018427387904
          @a = open f O_RDWR|O_CREAT 0644
          truncate f $size
          truncate @a $size
          pwrite @a x $size
          pread @a 1 $size
          fallocate @a FALLOC_FL_KEEP_SIZE $size 10
          stat f
          truncate f 0
        seeking behind what a file can hold
          for place: 17592186040321, 4611686018427387904, 9223372036854775807
          @a = open f O_RDWR|O_CREAT 0644
          lseek @a $place SEEK_SET
        truncating by others
          for right: 0644, 0666, 0600
          put f data
          chown f alice:alice
          chmod f $right
          as bob
          truncate f 2
          @a = open f O_RDONLY
          truncate @a 1
          stat f
        reading a directory as a file
          mkdir d 0755
          @d = open d O_DIRECTORY
          read @d 10
          pread @d 10 0
          write @d x
          mmap @d PROT_READ MAP_SHARED 0 4096
          fallocate @d 0 0 10
          lseek @d 0 SEEK_CUR
          fsync @d
          fdatasync @d
        seeking to the end of a directory
          @d = open . O_DIRECTORY
          lseek @d 0 SEEK_END
        copying between files
          put f 0123456789
          create g 0644
          @f = open f O_RDONLY
          @g = open g O_RDWR
          copy @f 0 @g 0 4
          copy @f 8 @g 4 100
          copy @f 100 @g 0 10
          copy @f 0 @g 20 3
          content g
          copy @g 0 @f 0 10
          copy @f 0 @f 5 2
          copy @g 0 @g 0 5
          copy @g 0 @g 100 5
          copy @f 0 @g 0 0
          copy @f -1 @g 0 10
          content g
          stat g
        copying what is no file, or for appending
          put f data
          mkdir d 0755
          @f = open f O_RDONLY
          @d = open d O_DIRECTORY
          @a = open f O_RDWR|O_APPEND
          copy @d 0 @a 0 10
          copy @f 0 @d 0 10
          copy @f 0 @a 0 10
          @w = open g O_WRONLY|O_CREAT 0644
          copy @w 0 @w 10 5
          copy @f 0 @f 10 1
          sendfile @w @f 10
          sendfile @a @f 10
          sendfile @f @w 10
          content g
        copying large files
          put f (0123456789abcdef){20000}
          create g 0644
          @f = open f O_RDONLY
          @g = open g O_RDWR
          copy @f 0 @g 0 1000000
          stat g
          pread @g 20 319990
          sendfile @g @f 100000
          stat g
          clone @g @f
          stat g
        mapped memory and descriptors see each other
          put f x{8192}
          @a = open f O_RDWR
          @b = open f O_RDWR
          @m = mmap @a PROT_READ|PROT_WRITE MAP_SHARED 0 8192
          store @m 0 first
          pread @b 8 0
          pwrite @b second 0
          load @m 0 8
          store @m 4094 edges
          pread @a 10 4092
          msync @m MS_SYNC
          content f
          close @a
          store @m 100 late
          pread @b 8 98
          close @m
          content f
        mapped memory behind the end
          put f data
          @a = open f O_RDWR
          @m = mmap @a PROT_READ|PROT_WRITE MAP_SHARED 0 12288
          load @m 0 10
          stat f
          load @m 4096 1
          store @m 8192 x
          truncate @a 9000
          load @m 0 10
          load @m 8192 1
          store @m 8999 y
          truncate @a 100
          load @m 4096 1
          load @m 98 4
          content f
        what is stored behind the end, when a file grows
          put f data
          @a = open f O_RDWR
          @m = mmap @a PROT_READ|PROT_WRITE MAP_SHARED 0 4096
          store @m 4 tail
          truncate @a 100
          load @m 0 10
        mapping, at odd places
          put f x{10000}
          @a = open f O_RDWR
          @m = mmap @a PROT_READ MAP_SHARED 4096 4096
          load @m 0 3
          mmap @a PROT_READ MAP_SHARED 1 4096
          mmap @a PROT_READ MAP_SHARED 0 0
          mmap @a PROT_READ 0 0 4096
          store @m 0 x
        mapped memory of a file that goes
          put f x{5000}
          @a = open f O_RDWR
          @m = mmap @a PROT_READ|PROT_WRITE MAP_SHARED 0 4096
          close @a
          unlink f
          store @m 0 data
          msync @m MS_SYNC
          load @m 0 6
          put f other
          load @m 0 6
          close @m
          content f
        private mappings
          put f x{5000}
          @a = open f O_RDWR
          @m = mmap @a PROT_READ|PROT_WRITE MAP_PRIVATE 0 4096
          store @m 0 mine
          pread @a 6 0
          pwrite @a theirs 10
          load @m 0 20
          msync @m MS_SYNC
          content f
        writing to disk
          for call: fsync, fdatasync, syncfs
          @a = open f O_RDWR|O_CREAT 0644
          write @a data
          $call @a
          @r = open f O_RDONLY
          $call @r
          @d = open . O_DIRECTORY
          $call @d
          unlink f
          $call @a
          close @a
          $call @a
        writing at once
          for flag: O_SYNC, O_DSYNC
          @a = open f O_RDWR|O_CREAT|$flag 0644
          write @a data
          pwrite @a more 10
          truncate @a 12
          content f
        writing without the cache
          @a = open f O_RDWR|O_CREAT|O_DIRECT 0644
          fcntl @a F_GETFL
          stat f
        advice
          put f x{10000}
          @a = open f O_RDWR
          fadvise @a 0 0 4
          fadvise @a 0 0 3
          fadvise @a 0 0 99
          pread @a 10 9995
        """#
}

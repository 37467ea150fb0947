extension Scenario {
    /// fallocate(2), SEEK_DATA and SEEK_HOLE.
    static let holes = #"""
        holes are found
          @a = open f O_RDWR|O_CREAT 0644
          lseek @a 0 SEEK_DATA
          lseek @a 0 SEEK_HOLE
          pwrite @a x{4096} 1M
          pwrite @a x{4096} 3M
          truncate @a 5M
          lseek @a 0 SEEK_DATA
          lseek @a 1M SEEK_DATA
          lseek @a 1M SEEK_HOLE
          lseek @a 1052672 SEEK_DATA
          lseek @a 3M SEEK_HOLE
          lseek @a 4M SEEK_DATA
          lseek @a 4M SEEK_HOLE
          lseek @a 5M SEEK_DATA
          lseek @a 5M SEEK_HOLE
          lseek @a 10M SEEK_HOLE
          lseek @a -1 SEEK_DATA
          lseek @a 0 SEEK_CUR
          blocks f
          pread @a 10 2M
        holes of what is allocated and has been read
          put f data
          @a = open f O_RDWR
          fallocate @a FALLOC_FL_ZERO_RANGE 4096 500
          pread @a 100 0
          lseek @a 0 SEEK_HOLE
        holes of an empty file, and of a full one
          create e 0644
          put f x{10000}
          @e = open e O_RDONLY
          @f = open f O_RDONLY
          lseek @e 0 SEEK_DATA
          lseek @e 0 SEEK_HOLE
          lseek @f 5000 SEEK_DATA
          lseek @f 0 SEEK_HOLE
          lseek @f 10000 SEEK_DATA
        allocating
          for offset: 0, 100, 8192
          for flags: 0, FALLOC_FL_KEEP_SIZE
          put f x{10000}
          @a = open f O_RDWR
          note f
          fallocate @a $flags $offset 100
          stat f
          changes f
          fallocate @a $flags $offset 100000
          stat f
          changes f
          blocks f
          pread @a 20 9990
        punching holes
          for place: 0 4096, 100 200, 4000 200, 4096 8192, 8192 1000000, 0 1000000
          put f x{20000}
          @a = open f O_RDWR
          note f
          fallocate @a FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE $place
          changes f
          stat f
          blocks f
          content f
        zeroing
          for flags: FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE|FALLOC_FL_KEEP_SIZE
          put f x{20000}
          @a = open f O_RDWR
          fallocate @a $flags 4000 200
          fallocate @a $flags 8192 4096
          fallocate @a $flags 19990 100
          stat f
          content f
        collapsing and inserting
          put f x{4096}y{4096}z{4096}
          @a = open f O_RDWR
          fallocate @a FALLOC_FL_COLLAPSE_RANGE 4096 4096
          content f
          fallocate @a FALLOC_FL_INSERT_RANGE 4096 4096
          content f
        collapsing and inserting, wrongly
          put f x{12288}
          @a = open f O_RDWR
          fallocate @a FALLOC_FL_COLLAPSE_RANGE 1 4096
          fallocate @a FALLOC_FL_INSERT_RANGE 0 100
          fallocate @a FALLOC_FL_COLLAPSE_RANGE|FALLOC_FL_KEEP_SIZE 0 4096
        allocating wrongly
          put f data
          mknod p fifo 0644
          @a = open f O_RDWR
          @p = open p O_RDWR
          fallocate @a 0 -1 10
          fallocate @a 0 0 0
          fallocate @a 0 0 -1
          fallocate @a 0 10 9223372036854775807
          fallocate @a FALLOC_FL_PUNCH_HOLE 0 10
          fallocate @a 0400 0 10
          fallocate @a FALLOC_FL_UNSHARE_RANGE 0 10
          fallocate @p 0 0 10
          @r = open f O_RDONLY
          fallocate @r 0 0 10
          stat f
        holes in what is mapped
          put f x{12288}
          @a = open f O_RDWR
          @m = mmap @a PROT_READ|PROT_WRITE MAP_SHARED 0 12288
          store @m 5000 y
          fallocate @a FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE 4096 4096
          load @m 4090 20
          store @m 5000 z
          content f
        copying a file with holes
          @a = open f O_RDWR|O_CREAT 0644
          truncate @a 1M
          pwrite @a x{4096} 512K
          @b = open g O_RDWR|O_CREAT 0644
          copy @a 0 @b 0 2M
          stat g
          pread @b 10 524283
        """#
}

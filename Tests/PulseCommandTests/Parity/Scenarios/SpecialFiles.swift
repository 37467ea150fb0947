extension Scenario {
    /// Fifos, sockets and devices.
    static let specialFiles = #"""
        fifo
          mknod p fifo 0640
          lstat p
          open p O_WRONLY|O_NONBLOCK
          @r = open p O_RDONLY|O_NONBLOCK
          read @r 10
          @w = open p O_WRONLY|O_NONBLOCK
          write @w data
          stat @w
          read @r 10
          close @r
          write @w x
          @b = open p O_RDWR|O_TRUNC
          write @b both
          read @b 10
          lseek @b 0 SEEK_SET
          truncate @b 0
          fsync @b
          same p @b
        fifo under other names
          mknod p fifo 0666
          link p q
          mkdir d 0755
          @r = open p O_RDONLY|O_NONBLOCK
          @w = open q O_WRONLY|O_NONBLOCK
          rename p d/p
          write @w through
          read @r 10
          @v = open d/p O_WRONLY|O_NONBLOCK
          unlink q
          unlink d/p
          write @v more
          read @r 10
          stat @r
        fifo of another user
          mknod p fifo 0622
          chmod p 0622
          chown p alice:alice
          as bob
          open p O_RDONLY|O_NONBLOCK
          open p O_RDWR
          as alice
          @r = open p O_RDONLY|O_NONBLOCK
          as bob
          @w = open p O_WRONLY|O_NONBLOCK
          write @w data
          open p O_WRONLY|O_NONBLOCK|O_TRUNC
          unlink p
          as alice
          read @r 10
        socket
          @s = bind s
          lstat s
          connect s
          bind s
          open s O_RDWR
          open s O_PATH
          chmod s 0600
          link s t
          connect t
          rename s u
          connect u
          stat @s
          close @s
          connect t
          lstat t
          unlink t
          connect t
        socket of another user
          mkdir d 0755
          @s = bind d/s
          chmod d/s 0600
          as alice
          connect d/s
          bind d/t
          as root
          chmod d/s 0666
          as alice
          connect d/s
          as root
          chmod d 0700
          as alice
          connect d/s
        connecting to what is no socket
          for kind: file, directory, fifo, symlink
          make x $kind 0755
          connect x
          mknod s socket 0644
          connect s
          connect gone
        devices
          for device: char:1:3, char:1:5, char:254:255, block:7:200
          for mode: 0644, 0666, 0
          mknod x $device $mode
          lstat x
          chmod x 0600
          lstat x
          link x y
          rename y z
          unlink x
          lstat z
        devices made by others
          mkdir d 0777
          chmod d 0777
          as alice
          mknod d/c char:1:3 0666
          mknod d/b block:7:200 0666
          mknod d/w char:0:0 0666
          mknod d/p fifo 0666
          mknod d/s socket 0666
          mknod d/f file 0666
          list d
          stat d/p
        device that is used
          mknod null char:1:3 0666
          mknod zero char:1:5 0666
          chmod null 0666
          @n = open null O_RDWR
          @z = open zero O_RDONLY
          write @n data
          read @n 10
          read @z 10
          stat @n
          mknod none char:254:255 0666
          open none O_RDONLY
        nodes of other kinds
          mknod d directory 0755
          mknod f file 0600
          mknod l 0 0600
          stat f
          list .
        """#
}

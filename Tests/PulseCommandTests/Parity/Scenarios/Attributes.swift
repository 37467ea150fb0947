extension Scenario {
    /// Extended attributes and inode flags.
    static let attributes = #"""
        user attributes of each kind
          for kind: file, directory, fifo, socket, symlink
          make x $kind 0644
          note x
          lsetxattr x user.a 1
          changes x
          lsetxattr x user.b ""
          lgetxattr x user.a
          lgetxattr x user.b
          lgetxattr x user.c
          llistxattr x
          lsetxattr x user.a 2 XATTR_CREATE
          lsetxattr x user.c 2 XATTR_REPLACE
          lsetxattr x user.a 3 XATTR_REPLACE
          lsetxattr x user.d 4 XATTR_CREATE
          lsetxattr x user.d 4 XATTR_CREATE|XATTR_REPLACE
          lsetxattr x user.d 4 8
          note x
          lremovexattr x user.a
          changes x
          lremovexattr x user.a
          llistxattr x
        attributes of other families
          for name: trusted.a, security.a, system.a, nonsense, nonsense.a, user., user, trusted., .a, user.(x){250}, user.(x){251}
          create f 0644
          setxattr f $name value
          getxattr f $name
          listxattr f
          removexattr f $name
        attributes of other families, by others
          for name: trusted.a, security.a, user.a
          create f 0666
          chown f alice:alice
          setxattr f $name value
          as alice
          setxattr f $name other
          getxattr f $name
          removexattr f $name
          as bob
          setxattr f $name other
          getxattr f $name
        attributes of other families, listed by others
          for name: trusted.a, security.a, user.a
          create f 0666
          setxattr f $name value
          as alice
          listxattr f
        values of attributes
          for value: "", \0, \0\0a\0, \xff\xfe, x{1000}, x{3000}, x{5000}, x{70000}
          create f 0644
          setxattr f user.a $value
          getxattr f user.a
          setxattr f user.a $value
          listxattr f
        attributes in too little room
          create f 0644
          setxattr f user.a 0123456789
          getxattr f user.a 10
          getxattr f user.a 9
          getxattr f user.a 0
          getxattr f user.b 0
          listxattr f 7
          listxattr f 6
          listxattr f 0
          removexattr f user.a
          listxattr f 0
        more attributes than there is room for
          create f 0644
          setxattr f user.a x{2000}
          setxattr f user.b x{2000}
          setxattr f user.c x{2000}
          setxattr f user.d x{4000}
          listxattr f
          removexattr f user.a
          setxattr f user.d x{1500}
          listxattr f
        attributes through links and descriptors
          create f 0644
          symlink f l
          setxattr l user.a 1
          getxattr f user.a
          lgetxattr l user.a
          lsetxattr l user.a 1
          lsetxattr l trusted.a 1
          llistxattr l
          lgetxattr l trusted.a
          @a = open f O_RDONLY
          setxattr @a user.b 2
          listxattr @a
          unlink f
          setxattr @a user.c 3
          getxattr @a user.b
          removexattr @a user.a
          listxattr @a
          @d = open . O_DIRECTORY
          setxattr @d user.d 4
          getxattr . user.d
          removexattr . user.d
        attributes by rights
          for right: 0644, 0600, 0444, 0222
          create f 0644
          setxattr f user.a 1
          chown f alice:alice
          chmod f $right
          as bob
          getxattr f user.a
          setxattr f user.a 2
          removexattr f user.a
          listxattr f
          as alice
          getxattr f user.a
          setxattr f user.a 3
          removexattr f user.a
        attributes of a directory by rights
          mkdir d 0755
          chown d alice:alice
          as bob
          setxattr d user.a 1
          as root
          chmod d 0777
          as bob
          setxattr d user.a 1
          getxattr d user.a
          as root
          chmod d 01777
          as bob
          setxattr d user.b 1
          as alice
          setxattr d user.b 1
          removexattr d user.a
          listxattr d
        capabilities of a file
          create f 0755
          setxattr f security.capability \x01\0\0\x02\0{16}
          setxattr f security.capability x
          getxattr f security.capability
          note f
          put f data
          getxattr f security.capability
          setxattr f security.capability \x01\0\0\x02\0{16}
          chown f alice:alice
          getxattr f security.capability
          setxattr f security.capability \x01\0\0\x02\0{16}
          truncate f 0
          getxattr f security.capability
          as alice
          setxattr f security.capability \x01\0\0\x02\0{16}
          removexattr f security.capability
        attributes go with their file
          create f 0644
          setxattr f user.a 1
          link f g
          rename f h
          getxattr g user.a
          getxattr h user.a
          unlink g
          create g 0644
          listxattr g
          rename h g
          listxattr g
        inode flags
          for kind: file, directory
          make x $kind 0755
          lsattr x
          chattr x +d
          lsattr x
          chattr x +A
          lsattr x
          chattr x -d
          chattr x -A
          lsattr x
        inode flags as statx(2) gives them
          create f 0644
          chattr f +d
          attributes f
        inode flags and the time of their change
          create f 0644
          note f
          chattr f +d
          changes f
        inode flags of what is neither file nor directory
          make p fifo 0644
          lsattr p
          attributes p
          symlink p l
          attributes l
        inode flags by others
          create f 0644
          chown f alice:alice
          as bob
          lsattr f
          chattr f +d
          as alice
          chattr f +d
          chattr f +i
          chattr f +a
          lsattr f
        file that cannot be changed
          put f data
          mkdir d 0755
          @w = open f O_RDWR
          chattr f +i
          open f O_RDWR
          open f O_RDONLY
          put f x
          truncate f 0
          chmod f 0600
          chown f alice:
          utimens f
          utimens f 1 1
          setxattr f user.a 1
          link f g
          rename f g
          unlink f
          setfacl f access u::rw-,g::r--,o::r--
          chattr f -i
          unlink f
        renaming a directory onto a file that cannot be changed
          create f 0644
          mkdir d 0755
          chattr f +i
          rename d f
          chattr f -i
        directory that cannot be changed
          mkdir d 0755
          put d/f data
          create g 0644
          chattr d +i
          create d/g 0644
          mkdir d/e 0755
          unlink d/f
          rename d/f f
          rename g d/g
          link g d/h
          symlink x d/l
          chmod d 0700
          rmdir d
          rename d e
          put d/f more
          chattr d -i
          content d/f
        file that can only grow
          put f data
          chattr f +a
          open f O_RDWR
          open f O_WRONLY|O_TRUNC
          open f O_WRONLY|O_APPEND|O_TRUNC
          @a = open f O_WRONLY|O_APPEND
          write @a more
          truncate @a 0
          truncate f 0
          chmod f 0600
          utimens f 1 1
          utimens f
          link f g
          rename f g
          unlink f
          chattr f -a
          content f
        taking the flag that makes it grow from who has such a file open
          put f data
          chattr f +a
          @a = open f O_WRONLY|O_APPEND
          fcntl @a F_SETFL 0
          pwrite @a more 0
          chattr f -a
          content f
        """#
}

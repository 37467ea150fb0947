extension Scenario {
    /// POSIX ACLs, which are extended attributes with side effects.
    static let accessLists = #"""
        ACL of a file
          put f data
          chmod f 0640
          chown f root:root
          setfacl f access u::rw-,u:alice:r--,g::r--,g:bob:rw-,m::rw-,o::---
          getfacl f access
          stat f
          listxattr f
          getfacl f default
          setfacl f default u::rw-,g::r--,o::---
          as alice
          open f O_RDONLY
          open f O_RDWR
          access f R_OK
          access f W_OK
          as bob
          open f O_RDWR
          as carol
          open f O_RDONLY
        ACL of an own file
          put f data
          setfacl f access u::rw-,u:alice:rwx,g::r--,m::rwx,o::r--
          stat f
          getfacl f access
          chmod f 0640
          getfacl f access
          stat f
          setfacl f access u::r--,g::---,o::---
          stat f
          listxattr f
          removexattr f system.posix_acl_access
          removexattr f system.posix_acl_access
          stat f
        ACLs that are none
          for list: u::rw-, u::rw-,g::r--, u::rw-,u:alice:r--,g::r--,o::r--, g::r--,u::rw-,o::r--, u::rw-,u::rw-,g::r--,o::r--, u::rw-,u:alice:r--,u:alice:rw-,g::r--,m::rw-,o::r--
          create f 0644
          setfacl f access $list
          stat f
          listxattr f
        ACLs as bytes
          for value: "", \x02\0\0\0, \x01\0\0\0, \x02, \x03\0\0\0, \x02\0\0\0x{8}, \x02\0\0\0\0{7}
          create f 0644
          setxattr f system.posix_acl_access $value
          getxattr f system.posix_acl_access
          stat f
        ACL and the bits of the mode
          create f 0600
          setfacl f access u::rw-,u:alice:rw-,g::rw-,g:bob:r--,m::rw-,o::---
          chmod f 0640
          getfacl f access
          chmod f 0600
          getfacl f access
          chmod f 0670
          getfacl f access
          chmod f 07777
          getfacl f access
          stat f
          chown f bob:bob
          getfacl f access
          stat f
        the mask of an ACL counts
          put f data
          setfacl f access u::rw-,u:alice:rw-,g::rw-,m::r--,o::---
          as alice
          open f O_RDONLY
          open f O_RDWR
          as root
          chmod f 0660
          as alice
          open f O_RDWR
          as root
          chmod f 0600
          as alice
          open f O_RDONLY
        a group of an ACL
          put f data
          setfacl f access u::rw-,g::---,g:shared:r--,g:carol:rw-,m::rw-,o::---
          as alice
          open f O_RDONLY
          open f O_WRONLY
          as bob
          content f
          as carol
          open f O_RDWR
          open f O_RDWR|O_TRUNC
        an ACL that refuses
          put f data
          chmod f 0644
          setfacl f access u::rw-,u:alice:---,g::r--,m::r--,o::r--
          as alice
          open f O_RDONLY
          stat f
          getfacl f access
          as bob
          open f O_RDONLY
        ACL of a directory
          mkdir d 0700
          put d/f data
          chmod d/f 0644
          setfacl d access u::rwx,u:alice:r-x,u:bob:-wx,g::---,m::rwx,o::---
          stat d
          as alice
          list d
          content d/f
          create d/g 0644
          unlink d/f
          as bob
          list d
          create d/g 0644
          mkdir d/e 0755
          rename d/f d/h
          content d/h
          as carol
          stat d/h
          chdir d
        ACL set by others
          create f 0666
          chown f alice:alice
          chmod f 0666
          as bob
          setfacl f access u::rw-,u:bob:rw-,g::r--,m::rw-,o::---
          removexattr f system.posix_acl_access
          as alice
          setfacl f access u::rw-,u:bob:rw-,g::r--,m::rw-,o::---
          as bob
          open f O_RDWR
          getfacl f access
          chmod f 0666
          stat f
        default ACL
          for mask: 0, 022, 077
          for make: make d/x file 0666, make d/x file 0600, make d/x directory 0777, make d/x directory 0700, make d/x fifo 0666, make d/x symlink 0777, mknod d/x file 0640
          umask $mask
          mkdir d 0755
          setfacl d default u::rwx,u:alice:r-x,g::r-x,g:shared:rwx,m::rwx,o::---
          stat d
          listxattr d
          $make
          lstat d/x
          llistxattr d/x
          getfacl d/x access
          getfacl d/x default
        default ACL without a mask
          umask 077
          mkdir d 0755
          setfacl d default u::rw-,g::r-x,o::r--
          create d/f 0666
          mkdir d/e 0777
          stat d/f
          listxattr d/f
          stat d/e
          getfacl d/e default
          @a = open d O_TMPFILE|O_RDWR 0666
          stat @a
        default ACL goes down, and others make what is in it
          mkdir d 0777
          chmod d 0777
          setfacl d default u::rwx,u:bob:rw-,g::r-x,m::rwx,o::---
          as alice
          umask 022
          mkdir d/e 0777
          put d/e/f data
          mknod d/e/p fifo 0666
          stat d/e
          stat d/e/f
          getfacl d/e/f access
          getfacl d/e default
          as bob
          content d/e/f
          list d/e
          create d/e/g 0666
          as carol
          list d/e
        default ACL is taken away
          mkdir d 0755
          setfacl d default u::rwx,u:alice:rwx,g::r-x,m::rwx,o::---
          removexattr d system.posix_acl_default
          removexattr d system.posix_acl_default
          create d/f 0666
          stat d/f
          listxattr d
          setfacl d default u::rwx,u:alice:rwx,g::r-x,m::rwx,o::---
          setxattr d system.posix_acl_default ""
          listxattr d
        default ACL in a grouped directory
          mkdir d 0777
          chown d root:shared
          chmod d 02777
          setfacl d default u::rwx,g::rwx,g:carol:r-x,m::rwx,o::r-x
          as alice
          create d/f 02777
          mkdir d/e 0755
          stat d/f
          stat d/e
          getfacl d/f access
          as carol
          create d/g 02777
          stat d/g
        moving into a directory with a default ACL
          mkdir d 0755
          setfacl d default u::rwx,u:alice:rwx,g::r-x,m::rwx,o::---
          create f 0644
          rename f d/f
          listxattr d/f
          stat d/f
        temporary file where there is a default ACL
          for mask: 0, 077
          umask $mask
          mkdir d 0755
          setfacl d default u::rwx,u:alice:r-x,g::r-x,m::rwx,o::---
          @a = open d O_TMPFILE|O_RDWR 0666
          stat @a
          getfacl @a access
          link /proc/self/fd/@a d/f AT_SYMLINK_FOLLOW
          stat d/f
        set-group-id bit is cleared by an ACL change from outside the group
          create f 0755
          chown f alice:bob
          chmod f 02755
          as alice
          setfacl f access u::rwx,u:carol:r-x,g::r-x,m::r-x,o::r-x
          stat f
          as root
          chmod f 02755
          setfacl f access u::rwx,u:carol:r-x,g::r-x,m::r-x,o::r-x
          stat f
        ACL of other kinds
          for kind: symlink, fifo, socket
          make x $kind 0644
          lsetxattr x system.posix_acl_access \x02\0\0\0\x01\0\x06\0\xff{4}\x04\0\x04\0\xff{4}\x20\0\x04\0\xff{4}
          lgetxattr x system.posix_acl_access
          lstat x
        """#
}

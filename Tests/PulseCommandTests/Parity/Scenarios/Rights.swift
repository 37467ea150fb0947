extension Scenario {
    /// Permissions in other users' directories.
    static let rights = #"""
        directory that may not be searched
          for mode: 0600, 0400, 0200, 0
          mkdir d 0755
          mkdir d/e 0755
          put d/f data
          symlink f d/l
          @f = open d/f O_RDWR
          @d = open d O_DIRECTORY
          chmod d $mode
          stat d/f
          open d/f O_RDONLY
          create d/g 0644
          mkdir d/g 0755
          unlink d/f
          rmdir d/e
          rename d/f g
          link d/f g
          symlink x d/g
          readlink d/l
          chmod d/f 0600
          truncate d/f 0
          utimens d/f
          getxattr d/f user.a
          list d
          chdir d
          stat d/.
          stat d/..
          stat @d/f
          stat d
          read @f 10
          chmod d 0700
        directory of another user, by everyone
          for mode: 0700, 0755, 0711, 0744, 0733, 0722, 0777
          for who: root, alice, bob, carol
          mkdir d 0777
          mkdir d/e 0777
          put d/f data
          chmod d/f 0666
          chmod d/e 0777
          chown d alice:shared
          chmod d $mode
          as $who
          stat d
          list d
          chdir d
          stat d/f
          content d/f
          open d/f O_RDWR
          open d/new O_CREAT|O_WRONLY 0644
          open d/f O_CREAT|O_WRONLY 0644
          open d/f O_CREAT|O_EXCL|O_WRONLY 0644
          mkdir d/dir 0755
          mknod d/fifo fifo 0644
          symlink x d/link
          bind d/socket
          link d/f d/g
          rename d/f d/h
          rename d/e d/i
          unlink d/f
          unlink d/h
          unlink d/gone
          rmdir d/e
          rmdir d/i
          create d/e/inside 0644
          access d W_OK
          access d X_OK
          chmod d 0777
          chown d :shared
          utimens d
          utimens d 1 2
          rmdir d
        path through a closed directory
          mkdir a 0755
          mkdir a/b 0700
          mkdir a/b/c 0777
          chmod a/b/c 0777
          put a/b/c/f data
          chmod a/b/c/f 0666
          @c = open a/b/c O_DIRECTORY
          @p = open a/b/c O_PATH
          symlink a/b/c l
          as alice
          stat a/b
          list a/b
          stat a/b/c
          content a/b/c/f
          open a/b/c/f O_RDWR
          create a/b/c/g 0644
          rename a/b/c/f f
          stat l
          list l
          content @c/f
          create @c/g 0644
          content @p/g
          unlink @c/f
          list @c/.
          stat @c/..
        removing in a sticky directory
          for owner: root, alice
          for who: root, alice, bob
          mkdir s 01777
          chown s $owner:$owner
          chmod s 01777
          create s/r 0666
          mkdir s/rd 0777
          as alice
          create s/a 0666
          mkdir s/ad 0777
          symlink x s/al
          mknod s/ap fifo 0666
          as bob
          create s/b 0666
          mkdir s/bd 0777
          as $who
          unlink s/r
          unlink s/a
          unlink s/al
          unlink s/ap
          unlink s/b
          rmdir s/rd
          rmdir s/ad
          rmdir s/bd
          create s/r 0644
          create s/a 0644
          put s/b $who
          link s/b s/c
          list s
          rmdir s
        sticky directory, its group may write
          mkdir s 0777
          chown s root:shared
          chmod s 01770
          as alice
          create s/a 0660
          as bob
          create s/b 0660
          unlink s/a
          rename s/a s/c
          unlink s/b
          as carol
          unlink s/a
          list s
        deep directory that is closed above after being entered
          mkdir a 0755
          mkdir a/b 0777
          chmod a/b 0777
          put a/b/f data
          chmod a/b/f 0666
          as alice
          chdir a/b
          as root
          chmod .. 0700
          as alice
          content f
          create g 0644
          stat .
          stat ..
          list .
          list ..
          stat ../b
          rename g h
          getcwd
        root goes everywhere
          mkdir d 0
          create d/f 0
          put d/f data
          content d/f
          chown d/f alice:alice
          rename d/f d/g
          link d/g d/h
          list d
          execute d/g
          access d/g R_OK|W_OK
          access d/g X_OK
          access d X_OK
        access by effective or real ids
          create f 0400
          chown f alice:alice
          as alice
          access f R_OK
          access f W_OK
          access f R_OK AT_EACCESS
          access f W_OK AT_EACCESS
          access f 8
          access f F_OK|R_OK 0x4000
          access . W_OK
        files made in another user's directory
          mkdir d 0777
          chown d bob:bob
          chmod d 0777
          as alice
          for make: make d/x file 0644, make d/x directory 0755, make d/x fifo 0644, make d/x socket 0644, make d/x symlink 0777
          note d
          $make
          changes d
          lstat d/x
          as bob
          chmod d/x 0777
          chown d/x bob:bob
          unlink d/x
          rmdir d/x
        file made where it may not be read back
          mkdir d 0777
          chmod d 0733
          as alice
          @a = open d/f O_CREAT|O_RDWR 0
          write @a data
          pread @a 10 0
          stat @a
          chmod @a 0644
          content d/f
          list d
          unlink d/f
          stat @a
        making a file where others may not, though it is there
          mkdir d 0755
          put d/f data
          chmod d/f 0666
          as alice
          open d/f O_CREAT|O_RDWR 0644
          open d/g O_CREAT|O_RDWR 0644
          put d/f more
          open d/f O_CREAT|O_EXCL|O_RDWR 0644
          content d/f
        open with O_NOATIME by others
          put f data
          chown f alice:alice
          chmod f 0666
          as alice
          open f O_RDONLY|O_NOATIME
          as bob
          open f O_RDONLY|O_NOATIME
          as root
          open f O_RDONLY|O_NOATIME
        one user in many entries
          mkdir d 0777
          chown d alice:shared
          chmod d 0070
          as alice
          list d
          create d/a 0644
          as bob
          list d
          create d/b 0644
          as carol
          list d
          as root
          chmod d 0007
          as bob
          list d
          as carol
          create d/c 0644
          list d
        """#
}

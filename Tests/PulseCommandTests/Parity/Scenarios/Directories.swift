extension Scenario {
    /// Listings, working directories, statfs(2).
    static let directories = #"""
        listing each kind
          mkdir d 0755
          list d
          for kind: file, directory, symlink, fifo, socket, char:1:3
          make d/x $kind 0755
          list d
          inodes d
          rename d/x d/y
          list d
          link d/y d/z
          list d
          inodes d
        a large directory
          mkdir d 0755
          populate d k 300
          @d = open d O_DIRECTORY
          rest @d k
          rest @d k
          lseek @d 0 SEEK_SET
          rest @d k
          depopulate d k 50
          lseek @d 0 SEEK_SET
          rest @d k
          stat d
        names that come and go while a directory is read
          mkdir d 0755
          populate d k 150
          populate d g 30
          @d = open d O_DIRECTORY
          readdir @d 50
          populate d n 50
          depopulate d g 30
          rest @d k
          lseek @d 0 SEEK_SET
          rest @d g
          lseek @d 0 SEEK_SET
          rest @d n
        a directory that is emptied while it is read
          mkdir d 0755
          populate d k 100
          @d = open d O_DIRECTORY
          readdir @d 50
          depopulate d k 100
          rmdir d
          rest @d other
          stat @d
        names that are renamed while a directory is read
          mkdir d 0755
          populate d k 150
          @d = open d O_DIRECTORY
          readdir @d 50
          create d/x 0644
          rename d/x d/y
          rename d/y d/x
          unlink d/x
          rest @d k
        two readers of a directory
          mkdir d 0755
          populate d k 150
          @a = open d O_DIRECTORY
          @b = open d O_DIRECTORY
          readdir @a 50
          readdir @b 100
          rest @a k
          rest @b k
          lseek @a 0 SEEK_SET
          create d/kk 0644
          rest @a k
        listing what may not be
          mkdir d 0755
          create d/f 0644
          @d = open d O_DIRECTORY
          @p = open d O_PATH
          chmod d 0
          list d
          readdir @d 1
          rest @d f
          readdir @p 1
          chmod d 0755
          create f 0644
          @f = open f O_RDONLY
          readdir @f 1
        listing what has just changed
          mkdir d 0755
          list d
          create d/a 0644
          list d
          link d/a d/b
          list d
          rename d/a d/c
          list d
          unlink d/b
          list d
          mkdir d/e 0755
          list d
          rmdir d/e
          unlink d/c
          list d
        files that were not there when asked for
          stat f
          open f O_RDONLY
          create f 0644
          stat f
          stat g
          mkdir g 0755
          stat g
          rmdir g
          stat g
          symlink f g
          stat g
          stat h
          rename f h
          stat h
          stat f
          stat g
          stat k
          link h k
          stat k
        working directory that moves
          mkdir a 0755
          mkdir a/b 0755
          chdir a/b
          create f 0644
          rename ../../a ../../c
          create g 0644
          list .
          list ..
          getcwd
          chdir ..
          list .
          rmdir b
          getcwd
        working directory that may not be
          mkdir d 0755
          create f 0644
          symlink d l
          chdir f
          chdir gone
          chdir l
          getcwd
          chdir ..
          chmod d 0600
          chdir d
          getcwd
        going up
          mkdir a 0755
          mkdir a/b 0755
          mkdir c 0755
          @b = open a/b O_DIRECTORY
          same @b/.. a
          rename a/b c/b
          same @b/.. c
          same @b/../.. .
          chdir c/b
          same .. ../../c
          symlink ../../a l
          same l/.. ../..
          stat l
        file system
          create f 0644
          mkdir d 0755
          statfs .
          statfs d
          statfs f
          statfs gone
          @f = open f O_RDONLY
          syncfs @f
        a deep tree
          mkdir a 0755
          mkdir a/a 0755
          mkdir a/a/a 0755
          mkdir a/a/a/a 0755
          put a/a/a/a/f deep
          rename a/a/a b
          rename b a/b
          content a/b/a/f
          stat (a/../){100}a/b/a/f
          rmdir a/a
          list a
        """#
}

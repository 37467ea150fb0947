extension Scenario {
    /// rename(2) and renameat2(2).
    static let renames = #"""
        rename to a free name
          for kind: file, directory, fifo, socket, symlink, char:1:3
          mkdir d 0755
          mkdir e 0755
          make d/x $kind 0755
          note d
          note e
          note d/x
          rename d/x e/y
          changes d
          changes e
          lstat e/y
          lstat d/x
          stat d
          stat e
          rename e/y e/z
          list e
        rename of a kind onto a kind
          for from: file, directory, fifo, symlink, socket
          for to: file, directory, fifo, symlink, socket
          make x $from 0755
          make y $to 0700
          note .
          rename x y
          changes .
          lstat x
          lstat y
          list .
        rename onto a directory that is not empty
          mkdir a 0755
          mkdir b 0755
          create b/x 0644
          rename a b
          create a/y 0644
          rename a b
          unlink b/x
          rename a b
          list b
          list .
        rename of a directory into itself
          mkdir d 0755
          mkdir d/e 0755
          mkdir d/e/f 0755
          rename d d/e
          rename d d/g
          rename d d/e/f/g
          rename d/e d
          rename d/e/f d
          rename d d
          rename d/e d/e/.
          list d
        rename onto itself, and onto another name of the same file
          put f data
          link f g
          note .
          note f
          rename f f
          rename f g
          changes .
          changes f
          list .
          stat f
          rename f g RENAME_NOREPLACE
          rename f g RENAME_EXCHANGE
          list .
        rename onto a file that has more names
          put f one
          put g two
          link g h
          note h
          rename f g
          changes h
          stat h
          content g
          content h
        rename onto a file that is open
          put f one
          put g two
          @a = open g O_RDWR
          rename f g
          read @a 10
          pwrite @a three 0
          stat @a
          content g
          same @a g
        rename of a file that is open
          put f one
          @a = open f O_RDWR
          rename f g
          pwrite @a TWO 0
          content g
          stat @a
          same @a g
          rename g f
          truncate @a 1
          content f
        rename of a directory around what is open
          mkdir d 0755
          mkdir d/e 0755
          put d/e/f one
          @d = open d/e O_DIRECTORY
          @f = open d/e/f O_RDWR
          rename d g
          pwrite @f two 0
          content g/e/f
          create @d/new 0644
          list g/e
          stat @d/f
          rename g/e h
          unlink @d/new
          list h
          same @d h
        rename without replacing
          for kind: file, directory, symlink, fifo
          put f data
          make x $kind 0755
          rename f x RENAME_NOREPLACE
          rename x f RENAME_NOREPLACE
          rename x y RENAME_NOREPLACE
          rename gone z RENAME_NOREPLACE
          list .
        exchange of a kind and a kind
          for from: file, directory, symlink
          for to: file, directory, fifo
          mkdir d 0755
          make x $from 0755
          make d/y $to 0700
          note .
          note d
          note x
          note d/y
          rename x d/y RENAME_EXCHANGE
          changes .
          changes d
          lstat x
          lstat d/y
          stat .
          stat d
        exchange of directories that are not empty
          mkdir a 0755
          mkdir b 0755
          mkdir a/x 0755
          create b/y 0644
          @a = open a O_DIRECTORY
          rename a b RENAME_EXCHANGE
          list a
          list b
          stat a
          stat b
          same @a b
          create @a/z 0644
          list b
        exchange with what is missing, or above
          mkdir d 0755
          mkdir d/e 0755
          create f 0644
          rename f gone RENAME_EXCHANGE
          rename gone f RENAME_EXCHANGE
          rename d d/e RENAME_EXCHANGE
          rename d/e d RENAME_EXCHANGE
          rename f f RENAME_EXCHANGE
          rename d d RENAME_EXCHANGE
          list .
        rename with flags that exclude each other
          create f 0644
          create g 0644
          rename f g RENAME_EXCHANGE|RENAME_NOREPLACE
          rename f g RENAME_EXCHANGE|RENAME_WHITEOUT
          rename f g 8
          rename f g 128
          list .
        rename that leaves a whiteout
          put f data
          rename f g RENAME_WHITEOUT
          lstat f
          content g
          rename f h RENAME_NOREPLACE|RENAME_WHITEOUT
          lstat h
          list .
        rename out of and into what may not be written
          for right: 0755, 0733, 0722, 0777, 0766
          mkdir d $right
          mkdir e 0777
          chmod d $right
          chmod e 0777
          create d/f 0666
          create e/g 0666
          as alice
          rename d/f e/f
          rename e/g d/g
          rename e/f e/h
          list e
        rename of a directory that may not be written
          mkdir d 0777
          chmod d 0777
          as alice
          mkdir d/a 0755
          mkdir d/b 0755
          mkdir d/c 0755
          chmod d/a 0555
          rename d/a d/e
          rename d/a d/b/a
          as bob
          rename d/b d/f
          rename d/c d/f/c
          rename d/f d/c/f
          list d
        rename in a sticky directory
          for owner: alice, bob, root
          mkdir s 01777
          chown s $owner:$owner
          chmod s 01777
          as alice
          put s/a alice
          mkdir s/da 0755
          mkdir s/sub 0777
          chmod s/sub 0777
          as bob
          put s/b bob
          mkdir s/db 0755
          rename s/a s/x
          rename s/b s/a
          rename s/da s/y
          rename s/db s/da
          rename s/a s/sub/a
          rename s/b s/sub/b
          rename s/sub/b s/a
          rename s/b s/a RENAME_EXCHANGE
          as alice
          rename s/b s/z
          list s
          list s/sub
        rename below different parents that are open
          mkdir a 0755
          mkdir b 0755
          @a = open a O_PATH
          @b = open b O_DIRECTORY
          create @a/f 0644
          rename @a/f @b/g
          list b
          rename @b/g @a/../h
          list .
          rename @a/gone @b/x
          rename . @b/x
        rename of what a link leads to
          mkdir d 0755
          put d/f data
          symlink d l
          symlink d/f m
          rename l/f l/g
          list d
          rename m n
          readlink n
          rename d/g n
          lstat n
          rename l k
          lstat k
        rename changes the name's file alone
          put f data
          setxattr f user.a 1
          chmod f 0640
          utimens f 1000000000 1100000000
          note f
          rename f g
          stat g
          times g
          getxattr g user.a
          birth g
        rename onto a directory that is in use
          mkdir a 0755
          mkdir b 0755
          chdir b
          rename ../a ../b
          getcwd
          create x 0644
          list .
          list ..
        rename of the directory that one is in
          mkdir a 0755
          chdir a
          create f 0644
          rename ../a ../b
          create g 0644
          list .
          list ../b
          stat ../a
          getcwd
        many renames in a row
          put f 1
          rename f g
          put f 2
          rename f g
          put f 3
          rename f g
          content g
          mkdir d 0755
          rename g d/g
          rename d e
          put g 4
          rename g e/g
          content e/g
          rename e d
          rename d/g g
          content g
          list d
        rename of a parent and its child crosswise
          mkdir a 0755
          mkdir a/b 0755
          mkdir c 0755
          rename a/b b
          rename a b/a
          rename b c/b
          list c/b
          stat c/b/a/../..
          rename c c/b/a/c
          rename c/b/a a
          stat c
          stat a
        """#
}

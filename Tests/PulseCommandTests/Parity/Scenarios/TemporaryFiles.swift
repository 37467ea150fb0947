extension Scenario {
    /// O_TMPFILE.
    static let temporaryFiles = #"""
        temporary file without a name
          for mode: 0644, 0600, 0, 04755
          note .
          @a = open . O_TMPFILE|O_RDWR $mode
          changes .
          stat @a
          write @a data
          pread @a 10 0
          truncate @a 2
          list .
          link /proc/self/fd/@a f AT_SYMLINK_FOLLOW
          stat f
          changes .
          link /proc/self/fd/@a g AT_SYMLINK_FOLLOW
          link @a h AT_EMPTY_PATH
          content f
          stat @a
          same @a f
        temporary file that shall never have a name
          @a = open . O_TMPFILE|O_RDWR|O_EXCL 0644
          write @a data
          link /proc/self/fd/@a f AT_SYMLINK_FOLLOW
          stat @a
          close @a
          list .
        temporary file, wrongly
          create f 0644
          mkdir d 0500
          open . O_TMPFILE|O_RDONLY 0644
          open f O_TMPFILE|O_RDWR 0644
          open gone O_TMPFILE|O_RDWR 0644
          open d O_TMPFILE|O_RDWR 0644
          open . O_TMPFILE|O_RDWR|O_CREAT 0644
        temporary file of others
          mkdir d 0777
          chown d root:shared
          chmod d 02777
          mkdir e 0755
          umask 027
          as alice
          @a = open d O_TMPFILE|O_RDWR 0666
          stat @a
          open e O_TMPFILE|O_RDWR 0666
          write @a data
          link /proc/self/fd/@a d/f AT_SYMLINK_FOLLOW
          stat d/f
          as bob
          @b = open d O_TMPFILE|O_WRONLY 0666
          write @b bob
          link /proc/self/fd/@b d/g AT_SYMLINK_FOLLOW
          stat d/g
          as alice
          @c = open d O_TMPFILE|O_RDWR 0666
          write @c x
          chmod @c 0640
          setxattr @c user.a 1
          link /proc/self/fd/@c d/h AT_SYMLINK_FOLLOW
          getxattr d/h user.a
          list d
        """#
}

extension Scenario {
    /// flock(2), record locks and leases, between open files.
    static let locks = #"""
        flock
          put f data
          @a = open f O_RDWR
          @b = open f O_RDONLY
          @c = dup @a
          flock @a LOCK_EX|LOCK_NB
          flock @b LOCK_EX|LOCK_NB
          flock @b LOCK_SH|LOCK_NB
          flock @c LOCK_EX|LOCK_NB
          flock @a LOCK_SH|LOCK_NB
          flock @b LOCK_SH|LOCK_NB
          flock @a LOCK_EX|LOCK_NB
          flock @b LOCK_UN
          flock @c LOCK_EX|LOCK_NB
          close @a
          flock @b LOCK_SH|LOCK_NB
          close @c
          flock @b LOCK_SH|LOCK_NB
          flock @b 0
        flock of each kind
          for kind: file, directory, fifo
          make x $kind 0755
          @a = open x O_RDONLY|O_NONBLOCK
          @b = open x O_RDONLY|O_NONBLOCK
          flock @a LOCK_EX|LOCK_NB
          flock @b LOCK_EX|LOCK_NB
          close @a
          flock @b LOCK_EX|LOCK_NB
        flock through other names
          put f data
          link f g
          @a = open f O_RDWR
          @b = open g O_RDWR
          flock @a LOCK_EX|LOCK_NB
          flock @b LOCK_EX|LOCK_NB
          unlink f
          flock @b LOCK_EX|LOCK_NB
          rename g h
          @c = open h O_RDWR
          flock @c LOCK_SH|LOCK_NB
          put f other
          @d = open f O_RDWR
          flock @d LOCK_EX|LOCK_NB
        record locks
          put f data
          @a = open f O_RDWR
          @b = open f O_RDWR
          setlk @a F_WRLCK 0 10
          getlk @b F_RDLCK 0 0
          setlk @b F_WRLCK 5 1
          setlk @b F_WRLCK 10 10
          setlk @b F_RDLCK 20 0
          setlk @a F_RDLCK 25 5
          getlk @a F_WRLCK 0 0
          setlk @a F_UNLCK 2 4
          getlk @b F_WRLCK 0 0
          setlk @b F_WRLCK 2 4
          getlk @a F_WRLCK 2 1
          close @a
          getlk @b F_WRLCK 0 0
          setlk @b F_WRLCK 0 0
        record locks by the way a file is open
          put f data
          @r = open f O_RDONLY
          @w = open f O_WRONLY
          setlk @r F_WRLCK 0 1
          setlk @r F_RDLCK 0 1
          setlk @w F_RDLCK 5 1
          setlk @w F_WRLCK 5 1
          setlk @w F_WRLCK -1 1
          setlk @w 7 0 1
          @d = open . O_DIRECTORY
          setlk @d F_RDLCK 0 1
        flock and record locks know nothing of each other
          put f data
          @a = open f O_RDWR
          @b = open f O_RDWR
          flock @a LOCK_EX|LOCK_NB
          setlk @b F_WRLCK 0 0
          flock @b LOCK_EX|LOCK_NB
          setlk @a F_WRLCK 0 0
        locks of others
          put f data
          chmod f 0666
          as alice
          @a = open f O_RDWR
          flock @a LOCK_EX|LOCK_NB
          setlk @a F_WRLCK 0 10
          as bob
          @b = open f O_RDWR
          flock @b LOCK_EX|LOCK_NB
          setlk @b F_WRLCK 0 10
          getlk @b F_WRLCK 0 10
          as alice
          close @a
          as bob
          flock @b LOCK_EX|LOCK_NB
          setlk @b F_WRLCK 0 10
        leases
          put f data
          @a = open f O_RDONLY
          fcntl @a F_GETLEASE
          fcntl @a F_SETLEASE F_RDLCK
          fcntl @a F_GETLEASE
          fcntl @a F_SETLEASE F_UNLCK
        """#
}

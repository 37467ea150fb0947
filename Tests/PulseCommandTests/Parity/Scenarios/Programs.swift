extension Scenario {
    /// execve(2), and what happens to files that are executed.
    static let programs = #"""
        open of a program that runs
          program p cat
          @r = run p
          open p O_WRONLY
          open p O_RDWR
          open p O_RDONLY
          truncate p 0
          put p x
          chmod p 0700
          rename p q
          open q O_WRONLY
          unlink q
          put q x
          close @r
          open q O_WRONLY
        emptying a program that runs, by opening it to read
          program p cat
          @r = run p
          open p O_RDONLY|O_TRUNC
          access p X_OK
          execute p
        program that is open for writing
          program p true
          @w = open p O_WRONLY
          execute p
          close @w
          @r = open p O_RDONLY
          execute p
        programs
          program p true
          program q false
          execute p
          execute ./q
          chmod p 0644
          execute p
          chmod p 0711
          execute p
          put s #!/bin/false\n
          execute s
          chmod s 0755
          execute s
          put e ""
          chmod e 0755
          execute e
          put t text
          chmod t 0755
          execute t
          put i #!/gone\n
          chmod i 0755
          execute i
          mkdir d 0755
          execute d
          symlink p l
          execute l
          execute p/
          execute gone
          rename p d/p
          execute d/p
          execute l
        program that may be executed only
          program p true
          chmod p 0111
          execute p
          open p O_RDONLY
        programs of another user
          for mode: 0755, 0711, 0700, 0744, 0710
          program p true
          chown p alice:shared
          chmod p $mode
          as alice
          execute p
          as bob
          execute p
          as carol
          execute p
        """#
}

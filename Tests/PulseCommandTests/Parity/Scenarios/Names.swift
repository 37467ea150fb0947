extension Scenario {
    static let names = #"""
        rename onto a directory that is not empty
          mkdir a 0755
          mkdir b 0755
          create b/x 0644
          rename a b
        name of 255 bytes
          create n{255} 0644
          create n{256} 0644
          list .
          note .
          mkdir m 0755
          changes .
        """#
}

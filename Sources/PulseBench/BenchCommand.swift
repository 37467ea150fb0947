import ArgumentParser
import SystemPackage

/// The `pulsefs-bench` program: measures a mounted town from outside, as its users meet it.
@main
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pulsefs-bench",
        abstract: "Measures pulsefs beside plain directories and other file systems, in one run.",
        subcommands: [TouchCommand.self, TreeCommand.self, TableCommand.self, RenderCommand.self, RoleCommand.self]
    )
}

/// What ends a benchmark early, in words for the person who started it.
struct BenchFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }

    /// A failed system call: what was tried, on which path, and the text of `errno`.
    init(_ attempt: String, _ error: Errno) {
        description = "\(attempt): \(error)"
    }
}

import ArgumentParser
import SystemPackage

/// Measures pulsefs from outside, as its users meet it.
@main
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pulsefs-bench",
        abstract: "Measures pulsefs beside plain directories and other FUSE file systems, in one run.",
        subcommands: [
            TouchCommand.self, TreeCommand.self, RequestsCommand.self, TableCommand.self, RenderCommand.self,
            ChildCommand.self,
        ]
    )
}

/// The reason why a benchmark ends early, as text for the user.
struct BenchFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }

    /// A failed system call: the attempt with its path, and the text of `errno`.
    init(_ attempt: String, _ error: Errno) {
        description = "\(attempt): \(error)"
    }
}

/// Prints to standard error.
func warn(_ message: String) {
    _ = try? FileDescriptor.standardError.writeAll("pulsefs-bench: \(message)\n".utf8)
}

func warnIfDebugBuild() {
    #if DEBUG
        warn("this is a debug build; measure with a release build")
    #endif
}

import ArgumentParser
import FoundationEssentials
import Glibc
import SystemPackage

/// What the benchmark's child processes do; each prints its result as JSON.
struct RoleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "role",
        abstract: "One step of a benchmark, in a process of its own.",
        shouldDisplay: false,
        subcommands: [
            Latency.self, Client.self, Burst.self, Writer.self, Reader.self, Plant.self, Walk.self, Uproot.self,
            Step.self,
        ]
    )

    /// Times touches, then reads.
    struct Latency: ParsableCommand {
        @Argument var file: String
        @Option var ordinary: String
        @Option var samples: Int
        @Flag var polling = false
        /// The one core to run on.
        @Option var core: Int?

        func run() throws {
            if let core { try CoreAffinity(only: core).apply(toThread: 0) }
            try report(
                TouchTimes(
                    of: GoFile(path: file, polling: polling), ordinary: GoFile(path: ordinary), samples: samples))
        }
    }

    /// Times touches and reads in turn, beside others that do the same.
    struct Client: ParsableCommand {
        @Argument var file: String
        /// On the monotonic clock, in nanoseconds.
        @Option var start: Int
        @Option var milliseconds: Int
        @Flag var polling = false

        func run() throws {
            try report(
                TouchClient(
                    of: GoFile(path: file, polling: polling), start: MonotonicTime(nanoseconds: start),
                    for: .milliseconds(milliseconds)))
        }
    }

    /// Touches in bursts and looks at another process's CPU time after each.
    struct Burst: ParsableCommand {
        @Argument var file: String
        @Option var touches: Int
        @Option var process: Int32
        @Option var milliseconds: Int
        @Option var bursts: Int

        func run() throws {
            try report(
                TouchBurst.cpuAfterBursts(
                    of: touches, on: GoFile(path: file), process: process, window: .milliseconds(milliseconds),
                    bursts: bursts))
        }
    }

    /// Writes documents of changing length for a while.
    struct Writer: ParsableCommand {
        @Argument var file: String
        @Option var milliseconds: Int

        func run() throws {
            try report(TornReads.write(GoFile(path: file), for: .milliseconds(milliseconds)))
        }
    }

    /// Reads documents for a while and judges them.
    struct Reader: ParsableCommand {
        @Argument var file: String
        @Option var milliseconds: Int

        func run() throws {
            try report(TornReads.read(GoFile(path: file), for: .milliseconds(milliseconds)))
        }
    }

    /// Makes the touched files, an ordinary one and, where asked for, a tree of such.
    struct Plant: ParsableCommand {
        @Argument var touched: [String]
        @Option var ordinary: String
        @Option var tree: String?
        @Option var files: Int = 0

        func run() throws {
            var made: [String] = []
            for file in touched {
                made += try makeDirectories(above: file)
                try GoFile(path: file).write(CheckedDocument(number: 0, length: 16).bytes)
            }
            try GoFile(path: ordinary).write(CheckedDocument(number: 0, length: 16).bytes)
            if let tree { try SourceTree(root: tree).plant(files: files) }
            try report(made)
        }
    }

    /// Lists a tree and asks for every file's attributes.
    struct Walk: ParsableCommand {
        @Argument var tree: String

        func run() throws {
            try report(try SourceTree(root: tree).walk())
        }
    }

    /// Removes what `Plant` has made: the files, the directories they needed, the tree.
    struct Uproot: ParsableCommand {
        @Argument var touched: [String]
        @Option var ordinary: String
        @Option var tree: String?
        @Option var made: [String] = []

        func run() throws {
            for file in touched { unlink(file) }
            unlink(ordinary)
            for directory in made.reversed() { rmdir(directory) }
            if let tree { try FileManager.default.removeItem(atPath: tree) }
            try report(true)
        }
    }
}

/// One step of `tree` on one target.
extension RoleCommand {
    struct Step: ParsableCommand {
        @Argument var name: String
        @Option var directory: String
        @Option var inputs: String
        @Option var keep: String
        @Option var pattern: String
        @Option var megabytes: Int

        func run() throws {
            guard let step = TreeStep.named(name) else { throw BenchFailure("no step \(name)") }
            guard chdir(directory) == 0 else { throw BenchFailure("cannot enter \(directory)", Errno(rawValue: errno)) }
            let variables = StepVariables(inputs: inputs, keep: keep, pattern: pattern, megabytes: megabytes)
            do {
                try report(StepRun.Result.done(try StepRun(step: step, variables: variables).perform()))
            } catch {
                try report(StepRun.Result.failed("\(error)"))
            }
        }
    }
}

/// Makes the directories that a file lies in; gives those that were not there, outermost first.
private func makeDirectories(above file: String) throws -> [String] {
    var made: [String] = []
    for (offset, character) in file.enumerated().dropFirst() where character == "/" {
        let directory = String(file.prefix(offset))
        if mkdir(directory, 0o755) == 0 {
            made.append(directory)
        } else if errno != EEXIST {
            throw BenchFailure("cannot make \(directory)", Errno(rawValue: errno))
        }
    }
    return made
}

private func report(_ result: some Encodable) throws {
    print(String(decoding: try JSONEncoder().encode(result), as: UTF8.self))
}

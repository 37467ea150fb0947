import ArgumentParser
import FoundationEssentials
import Glibc
import SystemPackage

/// `pulsefs-bench touch`: the cost of a touch and a read, for the client and for the processes behind the mount.
struct TouchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "touch",
        abstract: "Times touches and reads of a signal file, and counts torn reads.",
        discussion: """
            Writes and reads one file with the system calls of Go's os.WriteFile and os.ReadFile: in a town, in a plain \
            directory, and in a tmpfs. Without --town it mounts its own towns in --directory and removes them afterwards. \
            In a given town it touches heartbeat files of its own and makes a tree, and never unmounts it.
            """
    )

    @Option(help: ArgumentHelp("A mounted town to measure.", valueName: "dir"))
    var town: String?
    @OptionGroup var towns: TownOptions
    @Option(help: "Rounds; a figure is the median over them.")
    var rounds = 7
    @Option(help: "Timed writes, reads and opens for each round and target.")
    var samples = 200
    @Option(help: "How long clients race or work at once, for each round and target.")
    var seconds = 1.0
    @Option(help: "Simultaneous clients, each with a file of its own; 0 for none.")
    var clients = 8
    @Option(help: "How long the CPU time of an idle mount is measured.")
    var idleSeconds = 10.0
    @OptionGroup var output: ReportOutput

    func validate() throws {
        guard rounds > 0, samples > 0, seconds > 0, clients >= 0, idleSeconds >= 0 else {
            throw ValidationError(
                "--rounds, --samples and --seconds must be above 0, --clients and --idle-seconds not below.")
        }
    }

    func run() throws {
        warnIfDebugBuild()
        let supervisor = towns.supervisor
        let report = try withScratchDirectory(in: "/dev/shm") { memory in
            try withScratchDirectory(in: towns.directory ?? "/var/tmp") { scratch in
                var targets = try towns.targets
                targets[0].directory = try town.map(mountedDirectory)
                targets += [.plain, Target(name: "tmpfs", kind: .plain, directory: memory)]
                return try withTargets(targets, in: scratch, supervisor: supervisor) { directories in
                    let places = try zip(targets, directories).map { try TouchPlace($0, $1, signalFile: signalFile) }
                    return try TouchBenchmark(settings: self, supervisor: supervisor, places: places).report()
                }
            }
        }
        try output.write(report)
    }

    /// A heartbeat where it matters: a mirror sends only runtimes, and a given town must not lose its keepalive document.
    private var signalFile: String {
        let isMirrored = towns.variant.contains { $0.options?.contains("redis") ?? false }
        return town == nil && !isMirrored
            ? ".runtime/keepalive.json" : ".runtime/heartbeats/pulsefs-bench-\(getpid()).json"
    }

    /// A given town, as mountinfo spells it; the path is not followed: in a hung mount that would block.
    private func mountedDirectory(_ town: String) throws -> String {
        let path = FilePath(FileManager.default.currentDirectoryPath).pushing(FilePath(town)).lexicallyNormalized()
        guard try Mount.on(path.string) != nil else {
            throw ValidationError("Nothing is mounted on \(path), according to /proc/self/mountinfo.")
        }
        return path.string
    }
}

/// A target's files.
struct TouchPlace {
    let target: Target
    let directory: String
    let file: String
    let fileSystem: String

    init(_ target: Target, _ directory: String, signalFile: String) throws {
        self.target = target
        self.directory = directory
        file = "\(directory)/\(signalFile)"
        fileSystem = try Mount.type(at: directory)
    }

    var ordinaryFile: String { "\(directory)/pulsefs-bench-\(getpid()).txt" }
    var tree: String { "\(directory)/pulsefs-bench-\(getpid())" }
    func clientFile(_ number: Int) -> String {
        "\(directory)/.runtime/heartbeats/pulsefs-bench-\(getpid())-\(number).json"
    }
}

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
            In a given town it only touches a heartbeat file and makes a tree of its own, and never unmounts it.
            """
    )

    @Option(help: ArgumentHelp("A mounted town to measure.", valueName: "dir"))
    var town: String?
    @OptionGroup var towns: TownOptions
    @Option(help: ArgumentHelp("Add a town with a mirror in this Redis: the cost of a mirror.", valueName: "url"))
    var redis: String?
    @Flag(help: "Add a town that inspects no processes: the cost of attribution.")
    var attribution = false
    @Option(help: ArgumentHelp("Where its own towns and the plain directory are made.", valueName: "dir"))
    var directory = "/var/tmp"
    @Option(help: ArgumentHelp("A directory on a tmpfs.", valueName: "dir"))
    var tmpfs = "/dev/shm"
    @Option(help: "Rounds; a figure is the median over them.")
    var rounds = 7
    @Option(help: "Timed writes, reads and opens for each round and target.")
    var samples = 200
    @Option(help: "How long a writer and a reader race, for each round and target.")
    var tornSeconds = 1.0
    @Option(help: "Simultaneous clients, each with a file of its own; 0 for none.")
    var clients = 8
    @Option(help: "How long they work, for each round and target.")
    var clientSeconds = 1.0
    @Option(help: "Bursts of touches after which the worker's CPU time is measured; 0 for none.")
    var bursts = 10
    @Flag(inversion: .prefixedNo, help: "Also measure with client and worker on one core (its own towns only).")
    var oneCore = true
    @Option(help: "How long the CPU time of an idle mount is measured.")
    var idleSeconds = 10.0
    @Option(help: "Files in the tree that is walked before memory is read.")
    var files = 1_400
    @Option(help: "How long a step may hang before the benchmark gives up and detaches its own towns.")
    var patienceSeconds = 30.0
    @Flag(help: "Poll each opened file, which costs the same request as Go's epoll registration.")
    var polling = false
    @OptionGroup var output: ReportOutput

    func validate() throws {
        guard rounds > 0, samples > 0, files > 0, clients >= 0, bursts >= 0, clientSeconds > 0 else {
            throw ValidationError(
                "--rounds, --samples, --files and --client-seconds must be above 0, --clients and --bursts not below.")
        }
        guard tornSeconds > 0, idleSeconds >= 0, patienceSeconds > 0 else {
            throw ValidationError("--torn-seconds and --patience-seconds must be above 0, --idle-seconds not below.")
        }
    }

    func run() throws {
        warnIfDebugBuild()
        let supervisor = Supervisor(patience: .seconds(patienceSeconds))
        let report = try withScratchDirectory(in: tmpfs) { memory in
            try withScratchDirectory(in: directory) { scratch in
                var targets = try towns.targets
                targets[0].directory = try town.map(mountedDirectory)
                func addTown(_ name: String, option: String) {
                    let options = [towns.mountOptions, option].compactMap(\.self).joined(separator: ",")
                    targets.append(
                        Target(name: name, kind: .pulsefs, program: targets[0].program, options: options))
                }
                if let redis { addTown("mirrored", option: "redis=\(redis)") }
                if attribution { addTown("unattributed", option: "no-attribution") }
                targets += [.plain, Target(name: "tmpfs", kind: .plain, directory: memory)]
                return try withTargets(targets, in: scratch, supervisor: supervisor) { directories in
                    let places = try zip(targets, directories).map { try TouchPlace($0, $1, signalFile: signalFile) }
                    return try TouchBenchmark(settings: self, supervisor: supervisor, places: places).report()
                }
            }
        }
        try output.write(report)
    }

    /// Only a runtime is mirrored, so a mirror needs a heartbeat file; a given town must not lose its keepalive
    /// document.
    private var signalFile: String {
        town == nil && redis == nil ? ".runtime/keepalive.json" : ".runtime/heartbeats/pulsefs-bench-\(getpid()).json"
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

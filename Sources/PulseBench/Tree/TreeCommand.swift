import ArgumentParser
import FoundationEssentials
import Glibc
import SystemPackage

/// `pulsefs-bench tree`: what an agent's work costs in a tree that is mounted.
struct TreeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tree",
        abstract: "Times git, grep, find, tar, cp, SQLite and others in a mounted tree.",
        discussion: """
            Does the same steps in a plain directory, in a town, and through bindfs and mergerfs where they are installed, one \
            after another within each round. What a step does is checked; a step that fails has no figure, and the exit code is 1.
            """
    )

    @Option(help: ArgumentHelp("The pulsefs to mount with (default: the one beside this program).", valueName: "path"))
    var pulsefs: String?
    @Option(name: .customShort("o"), help: ArgumentHelp("Mount options for the town.", valueName: "options"))
    var mountOptions: String?
    @Option(
        help: ArgumentHelp(
            "A further town, with other options or by another program: NAME=OPTIONS, NAME@PROGRAM or NAME@PROGRAM=OPTIONS.",
            valueName: "variant"))
    var variant: [TreeVariant] = []
    @Option(
        help: ArgumentHelp(
            "Measure only these of pulsefs, bindfs and mergerfs; the plain directory and variants always are.",
            valueName: "name"))
    var target: [String] = []
    @Option(
        help: ArgumentHelp(
            "Do only this step (repeatable): \(TreeStep.all.map(\.name).joined(separator: ", ")).", valueName: "name"))
    var step: [String] = []
    @Option(help: "Rounds; a figure is the median over them.")
    var rounds = 5
    @Option(help: ArgumentHelp("Where the targets are made.", valueName: "dir"))
    var directory = "/dev/shm"
    @Option(help: ArgumentHelp("A repository to work with, instead of a seeded one.", valueName: "path"))
    var repository: String?
    @Option(help: "The seed of the repository.")
    var seed: UInt64 = 1
    @Option(help: "Files in the seeded repository.")
    var files = 1_400
    @Option(help: "The word that is searched for (default: 'heartbeat', in a given repository 'return').")
    var pattern: String?
    @Option(help: "The size of the big file, in MiB.")
    var megabytes = 256
    @Option(help: "How long a step may take before the benchmark gives up.")
    var patienceSeconds = 300.0
    @OptionGroup var output: ReportOutput

    func validate() throws {
        guard rounds > 0, files > 0, megabytes > 0, patienceSeconds > 0 else {
            throw ValidationError("--rounds, --files, --megabytes and --patience-seconds must be above 0.")
        }
        for name in step where TreeStep.named(name) == nil { throw ValidationError("There is no step '\(name)'.") }
        for name in target where !["pulsefs", "bindfs", "mergerfs"].contains(name) {
            throw ValidationError("There is no target '\(name)'.")
        }
        let names = ["plain", "pulsefs", "bindfs", "mergerfs"] + variant.map(\.name)
        guard Set(names).count == names.count else {
            throw ValidationError(
                "A variant needs a name of its own, unlike \(names.prefix(4).joined(separator: ", ")).")
        }
        for name in ["git", "sqlite3", "make", "cc", "tar"] where !isInstalled(name) {
            throw ValidationError("\(name) is needed and is not installed.")
        }
    }

    func run() throws {
        #if DEBUG
            warn("built for debugging: use a release build of pulsefs")
        #endif
        let supervisor = Supervisor(patience: .seconds(patienceSeconds))
        let own = try ownTargets()
        let report = try withScratchDirectory(in: directory) { try measure(own, in: $0, supervisor) }
        try output.write(report)
        guard report.failures.isEmpty else {
            for failure in report.failures { warn(failure) }
            throw ExitCode.failure
        }
    }

    private func measure(_ own: [TreeTarget], in scratch: String, _ supervisor: Supervisor) throws -> TreeReport {
        let watch = Noise.Watch()
        let peers = TreeTarget.peers.filter { isWanted($0.name) }
        let obstacles = try peers.map { try $0.obstacle(in: scratch, supervisor: supervisor) }
        let targets = own + zip(peers, obstacles).filter { $0.1 == nil }.map(\.0)
        let inputs = TreeInputs(directory: "\(scratch)/inputs", supervisor: supervisor)
        try inputs.make(from: repository.map { .given($0) } ?? .seeded(SeededRepository(seed: seed, files: files)))
        let fileSystem = try MountTable.current().mount(holding: scratch)?.type ?? "unknown"
        let benchmark = TreeBenchmark(
            supervisor: supervisor, targets: targets,
            steps: TreeStep.all.filter { step.isEmpty || step.contains($0.name) }, rounds: rounds,
            inputs: inputs.directory, pattern: searchedWord, megabytes: megabytes,
            progress: isatty(STDERR_FILENO) == 1 ? { warn($0) } : { _ in })
        let steps = try benchmark.measure(in: scratch)
        return TreeReport(
            machine: Machine(), noise: watch.finish(),
            settings: .init(
                rounds: rounds, directory: directory, fileSystem: fileSystem, repository: repository,
                seed: repository == nil ? seed : nil, pattern: searchedWord, megabytes: megabytes),
            tree: try inputs.describe(),
            targets: try targets.map { target in
                TreeReport.Place(
                    name: target.name, kind: target.kind, version: try target.version(by: supervisor),
                    command: target.command, fileSystem: fileSystem)
            },
            absent: zip(peers, obstacles).compactMap { peer, obstacle in
                obstacle.map { TreeReport.Absent(name: peer.name, reason: $0) }
            },
            steps: steps)
    }

    /// The directory as it is, and all towns.
    private func ownTargets() throws -> [TreeTarget] {
        let program = try self.pulsefs ?? neighbour("pulsefs")
        let town = TreeTarget(name: "pulsefs", kind: .pulsefs, program: program, options: mountOptions)
        let variants = variant.map { variant in
            TreeTarget(
                name: variant.name, kind: .pulsefs, program: variant.program ?? program, options: variant.options)
        }
        return [.plain] + (isWanted("pulsefs") ? [town] : []) + variants
    }

    private var searchedWord: String { pattern ?? (repository == nil ? SeededRepository.searchedWord : "return") }

    private func isWanted(_ name: String) -> Bool { target.isEmpty || target.contains(name) }
}

/// A town beside the first: `NAME=OPTIONS`, `NAME@PROGRAM` or `NAME@PROGRAM=OPTIONS`.
struct TreeVariant: ExpressibleByArgument, Equatable {
    let name: String
    var program: String?
    var options: String?

    init?(argument: String) {
        let sides = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let left = sides[0].split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = left.first, !name.isEmpty, !name.contains("/") else { return nil }
        self.name = String(name)
        program = left.count > 1 ? String(left[1]) : nil
        options = sides.count > 1 && !sides[1].isEmpty ? String(sides[1]) : nil
        guard program != "", program != nil || sides.count > 1 else { return nil }
    }
}

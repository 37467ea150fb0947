import ArgumentParser
import FoundationEssentials
import Glibc
import SystemPackage

/// `pulsefs-bench touch`: what a touch and a read of it cost, and what they cost the processes behind the mount.
struct TouchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "touch",
        abstract: "Times touches and reads of a signal file, and counts torn reads.",
        discussion: """
            Writes and reads one file with the system calls that Go's os.WriteFile and os.ReadFile make: through a mount, in a \
            plain directory, and in a tmpfs. Without --town it mounts a town of its own, in --directory, and removes it again. \
            A given town is only touched in a heartbeat file and a tree of the benchmark's own, and is never unmounted.
            """
    )

    @Option(help: ArgumentHelp("A mounted town to measure.", valueName: "dir"))
    var town: String?
    @Option(help: ArgumentHelp("The pulsefs to mount with (default: the one beside this program).", valueName: "path"))
    var pulsefs: String?
    @Option(name: .customShort("o"), help: ArgumentHelp("Mount options for a town of its own.", valueName: "options"))
    var mountOptions: String?
    @Option(
        help: ArgumentHelp(
            "Measure a second town of its own, with a mirror in this Redis: what a mirror costs a touch.",
            valueName: "url"))
    var redis: String?
    @Flag(
        help: "Measure a second town of its own that looks at no processes: what attribution costs a touch and an open."
    )
    var attribution = false
    @Option(help: ArgumentHelp("Where the town of its own and the plain directory are made.", valueName: "dir"))
    var directory = "/var/tmp"
    @Option(help: ArgumentHelp("A directory on a tmpfs.", valueName: "dir"))
    var tmpfs = "/dev/shm"
    @Option(help: "Rounds; a figure is the median over them.")
    var rounds = 7
    @Option(help: "Timed writes, and timed reads, a round and target.")
    var samples = 200
    @Option(help: "How long a writer and a reader race, a round and target.")
    var tornSeconds = 1.0
    @Option(help: "Clients that work at once, each with a file of its own; 0 for none.")
    var clients = 8
    @Option(help: "How long they do, a round and target.")
    var clientSeconds = 1.0
    @Option(help: "Bursts of touches after which the CPU time of the worker is watched; 0 for none.")
    var bursts = 10
    @Flag(
        inversion: .prefixedNo,
        help: "Measure with caller and worker on one core, too (a town of its own only).")
    var oneCore = true
    @Option(help: "How long to watch the CPU time of an idle mount.")
    var idleSeconds = 10.0
    @Option(help: "Files in the tree that is walked before memory is read.")
    var files = 1_400
    @Option(help: "How long a step may hang before the benchmark gives up and its own town is detached.")
    var patienceSeconds = 30.0
    @Flag(help: "Poll each opened file: the request that Go's runtime causes by registering it with epoll.")
    var polling = false
    @OptionGroup var output: ReportOutput

    func validate() throws {
        guard rounds > 0, samples > 0, files > 0 else {
            throw ValidationError("--rounds, --samples and --files must be at least 1.")
        }
        guard clients >= 0, bursts >= 0, clientSeconds > 0 else {
            throw ValidationError("--clients and --bursts must not be below 0, --client-seconds must be above.")
        }
        guard tornSeconds > 0, idleSeconds >= 0, patienceSeconds > 0 else {
            throw ValidationError("--torn-seconds and --patience-seconds must be above 0, --idle-seconds not below.")
        }
    }

    func run() throws {
        #if DEBUG
            warn("built for debugging: torn reads come out too low, for the writer is slow; use a release build")
        #endif
        let supervisor = Supervisor(patience: .seconds(patienceSeconds))
        let pulsefs = Pulsefs(program: try self.pulsefs ?? neighbour("pulsefs"), supervisor: supervisor)
        let report = try withScratchDirectory(in: tmpfs) { memory in
            try withScratchDirectory(in: directory) { scratch in
                let plain = try makeDirectory("\(scratch)/plain")
                let own = try makeDirectory("\(scratch)/town")
                func measureAll(_ beside: [(Target.Name, String)]) throws -> TouchReport {
                    let others = beside + [(.plain, plain), (.tmpfs, memory)]
                    if let town { return try measure(try mounted(town), others, supervisor, pulsefs) }
                    return try withMountedTown(own, by: pulsefs, options: mountOptions) {
                        try measure(own, others, supervisor, pulsefs)
                    }
                }
                /// With one town more than there are, mounted with an option of its own.
                func beside(
                    _ name: Target.Name, _ option: String?, body: ([(Target.Name, String)]) throws -> TouchReport
                ) throws -> TouchReport {
                    guard let option else { return try body([]) }
                    let directory = try makeDirectory("\(scratch)/\(name.rawValue)")
                    let options = [mountOptions, option].compactMap(\.self).joined(separator: ",")
                    return try withMountedTown(directory, by: pulsefs, options: options) {
                        try body([(name, directory)])
                    }
                }
                return try beside(.mirrored, redis.map { "redis=\($0)" }) { mirrored in
                    try beside(.unattributed, attribution ? "no-attribution" : nil) { unattributed in
                        try measureAll(mirrored + unattributed)
                    }
                }
            }
        }
        try output.write(report)
    }

    /// All figures, with the touched file and the tree in place.
    private func measure(
        _ town: String,
        _ others: [(Target.Name, String)],
        _ supervisor: Supervisor,
        _ pulsefs: Pulsefs
    ) throws -> TouchReport {
        // Only a runtime is mirrored, and that is who has a heartbeat file.
        let isOwn = self.town == nil && redis == nil
        let signalFile = isOwn ? ".runtime/keepalive.json" : ".runtime/heartbeats/pulsefs-bench-\(getpid()).json"
        let targets = try ([(.mount, town)] + others).map { name, directory in
            try Target(name: name, directory: directory, signalFile: signalFile)
        }
        let benchmark = TouchBenchmark(
            supervisor: supervisor,
            targets: targets,
            settings: .init(
                rounds: rounds, samples: samples, tornSeconds: tornSeconds, polling: polling,
                clients: clients > 0 ? clients : nil, clientSeconds: clients > 0 ? clientSeconds : nil)
        )
        let watch = Noise.Watch()
        return try benchmark.withPlantedTargets(files: files) { tree in
            let servers = try benchmark.servers(of: pulsefs, tree: tree, idle: .seconds(idleSeconds))
            let figures = try benchmark.figures()
            let workers = try targets.map { try worker(of: $0, pulsefs) }
            let burst = try workers[0].flatMap { worker in
                bursts > 0 ? try benchmark.burst(worker: worker, bursts: bursts) : nil
            }
            let oneCore = self.oneCore && self.town == nil ? try benchmark.oneCore(workers: workers) : nil
            let clients = try benchmark.crowds()
            return TouchReport(
                machine: Machine(),
                noise: watch.finish(),
                version: servers?.version,
                settings: benchmark.settings,
                targets: figures,
                ratios: TouchReport.ratios(among: figures),
                oneCore: oneCore,
                clients: clients,
                burst: burst,
                servers: servers?.costs
            )
        }
    }

    /// The process that serves a target, where that is a pulsefs.
    private func worker(of target: Target, _ pulsefs: Pulsefs) throws -> pid_t? {
        target.fileSystem == "fuse.pulsefs" ? try pulsefs.status(target.directory).workerPID : nil
    }

    /// A given town as the mount table spells it.
    ///
    /// The path is put together, not followed: following it into a hung mount would not return.
    private func mounted(_ town: String) throws -> String {
        let path = FilePath(FileManager.default.currentDirectoryPath).pushing(FilePath(town))
            .lexicallyNormalized().string
        guard try MountTable.current().mount(on: path) != nil else {
            throw ValidationError("Nothing is mounted on \(path), going by /proc/self/mountinfo.")
        }
        return path
    }
}

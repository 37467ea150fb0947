import Glibc

/// Measures the same file on every target, in rounds, so that whatever else the machine does hits all of them alike.
struct TouchBenchmark {
    let supervisor: Supervisor
    let targets: [Target]
    let settings: TouchReport.Settings

    /// Makes the touched files and the tree in the mounted town while `body` runs; it gets the tree's path.
    func withPlantedTargets<Result>(files: Int, body: (String) throws -> Result) throws -> Result {
        let tree = "\(targets[0].directory)/pulsefs-bench-\(getpid())"
        var planted: [[String]] = []
        defer {
            // Also after a failure or a request to stop, which is why it is not asked about here.
            for uproot in planted.reversed() { _ = try? supervisor.run("/proc/self/exe", uproot, uninterrupted: true) }
        }
        for (index, target) in targets.enumerated() {
            let treeOptions = index == 0 ? ["--tree", tree] : []
            let options = ["--ordinary", target.ordinaryFile] + treeOptions
            let touched = [target.file] + target.clientFiles(settings.clients ?? 0)
            planted.append(["role", "uproot"] + touched + options)
            let made: [String] = try supervisor.play(["plant"] + touched + ["--files", "\(files)"] + options)
            planted[index] += made.flatMap { ["--made", $0] }
        }
        return try body(tree)
    }

    /// One row a target.
    func figures() throws -> [TouchReport.Figures] {
        var times = targets.map { _ in [TouchTimes]() }
        var torn = targets.map { _ in TornReads() }
        for round in 0..<settings.rounds {
            let order = targets.indices.map { ($0 + round) % targets.count }
            for index in order { times[index].append(try touchTimes(on: targets[index])) }
            for index in order { torn[index] += try tornReads(on: targets[index]) }
        }
        return try targets.indices.map { index in
            TouchReport.Figures(
                target: targets[index].name,
                directory: targets[index].directory,
                fileSystem: targets[index].fileSystem,
                write: try .init(rounds: times[index].map(\.writes)),
                read: try .init(rounds: times[index].map(\.reads)),
                open: try .init(rounds: times[index].map(\.opens)),
                torn: .init(torn[index])
            )
        }
    }

    /// Memory and idle CPU time of the processes behind the mount; nil where it is not a pulsefs.
    func servers(
        of pulsefs: Pulsefs,
        tree: String,
        idle: Duration
    ) throws -> (version: String, costs: TouchReport.Servers)? {
        guard targets[0].fileSystem == "fuse.pulsefs" else { return nil }
        let status = try pulsefs.status(targets[0].directory)
        let walked: Int = try supervisor.play(["walk", tree])
        let servers = status.servers
        let memory = try servers.map { try $0.memory() }
        let before = try servers.map { try $0.cpuTime() }
        try supervisor.idle(for: idle)
        let after = try servers.map { try $0.cpuTime() }
        let costs = servers.indices.map { index in
            TouchReport.Cost(
                pid: servers[index].pid,
                rss: memory[index].rss,
                pss: memory[index].pss,
                idleCPUMilliseconds: (after[index] - before[index]) / .milliseconds(1)
            )
        }
        return (
            status.version,
            .init(walkedFiles: walked, idleSeconds: idle / .seconds(1), keeper: costs[0], worker: costs[1])
        )
    }

    func touchTimes(on target: Target, core: Int? = nil) throws -> TouchTimes {
        try supervisor.play(
            ["latency", target.file, "--ordinary", target.ordinaryFile, "--samples", "\(settings.samples)"]
                + (settings.polling ? ["--polling"] : []) + (core.map { ["--core", "\($0)"] } ?? [])
        )
    }

    private func tornReads(on target: Target) throws -> TornReads {
        let time = Duration.seconds(settings.tornSeconds)
        let arguments = [target.file, "--milliseconds", "\(Int(settings.tornSeconds * 1_000))"]
        let writer = try supervisor.start(["writer"] + arguments)
        let reader = try supervisor.start(["reader"] + arguments)
        var tally: TornReads = try supervisor.result(of: reader, taking: time)
        tally += try supervisor.result(of: writer, taking: time)
        guard tally.writes > 0, tally.reads > 0 else {
            throw BenchFailure("writer or reader never got its turn on \(target.file)")
        }
        return tally
    }
}

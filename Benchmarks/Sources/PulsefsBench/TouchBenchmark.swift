import Glibc

/// Does the same on every target, in rounds, so that everything else the machine does affects all of them alike.
struct TouchBenchmark {
    let settings: TouchCommand
    let supervisor: Supervisor
    /// The first one is the town that the others are compared with.
    let places: [TouchPlace]

    static let touchesInBurst = 200
    static let burstWindow = 0.3

    /// Everything measured of one target; arrays have an element for each round.
    struct Results {
        var times: [TouchTimes] = []
        var torn = TornReads()
        var oneCore: [TouchTimes] = []
        var clients: [[TouchTimes]] = []
    }

    /// A process behind the mount: KiB, and CPU time in the idle window.
    struct ServerCost {
        let name: String
        let rss: Int
        let pss: Int
        let idleTime: Duration
    }

    func report() throws -> Report {
        let watch = Noise.Watch()
        return try withFiles {
            let status = try places.map { place in
                place.fileSystem == "fuse.pulsefs"
                    ? try TownStatus(
                        of: place.directory, program: place.target.program ?? "pulsefs", supervisor: supervisor) : nil
            }
            let servers = try status[0].map(servers)
            var results = places.map { _ in Results() }
            try rotate(rounds: settings.rounds, count: places.count) { index in
                results[index].times.append(try touchTimes(on: places[index]))
            }
            try rotate(rounds: settings.rounds, count: places.count) { index in
                results[index].torn += try tornReads(on: places[index])
            }
            let bursts = try status[0].map { try cpuTimeAfterBursts(worker: $0.workerPid) } ?? []
            let core = settings.oneCore && settings.town == nil ? try lastCore() : nil
            if let core {
                try rotate(rounds: settings.rounds, count: places.count) { index in
                    results[index].oneCore.append(
                        try touchTimes(on: places[index], core: core, worker: status[index]?.workerPid))
                }
            }
            if settings.clients > 0 {
                try rotate(rounds: settings.rounds, count: places.count) { index in
                    results[index].clients.append(try clients(on: places[index]))
                }
            }
            return try TouchReport(
                settings: settings, places: places, version: status[0]?.version, results: results, core: core,
                bursts: bursts, servers: servers ?? []
            ).report(noise: watch.finish())
        }
    }

    /// Makes the files on every target, and removes them after `body`.
    private func withFiles<Result>(_ body: () throws -> Result) throws -> Result {
        var cleanups: [[String]] = []
        defer {
            // Best effort, also after a stop request; the error of `body` matters more.
            for cleanup in cleanups.reversed() { _ = try? supervisor.run(cleanup, uninterrupted: true) }
        }
        for place in places {
            let files = [place.file, place.ordinaryFile] + (0..<settings.clients).map(place.clientFile)
            cleanups.append(["rm", "-rf", "--", place.tree] + files)
            let made: [String] = try supervisor.run(
                .makeFiles(files, tree: place.tree, treeFiles: place.file == places[0].file ? settings.files : 0))
            if !made.isEmpty {
                cleanups.insert(["rmdir", "--"] + made.reversed(), at: cleanups.count - 1)
            }
        }
        return try body()
    }

    private func touchTimes(on place: TouchPlace) throws -> TouchTimes {
        try supervisor.run(touchTimesJob(place))
    }

    /// With the client and all threads of the worker on one core; afterwards the worker may use all cores of this
    /// process.
    private func touchTimes(on place: TouchPlace, core: String, worker: pid_t?) throws -> TouchTimes {
        let pin = { (cores: String) in
            guard let worker else { return }
            try supervisor.run(
                ["taskset", "--all-tasks", "--pid", "--cpu-list", cores, "\(worker)"], uninterrupted: true)
        }
        let cores = try allowedCores()
        try pin(core)
        let result = Result { try supervisor.run(touchTimesJob(place), prefix: ["taskset", "-c", core]) as TouchTimes }
        try pin(cores)
        return try result.get()
    }

    private func touchTimesJob(_ place: TouchPlace) -> Job {
        .touchTimes(
            file: place.file, ordinary: place.ordinaryFile, samples: settings.samples, polling: settings.polling)
    }

    /// The cores of this process, as taskset(1) prints and takes them: `0-3,7`.
    private func allowedCores() throws -> String {
        let printed = try supervisor.run(["taskset", "--pid", "--cpu-list", "\(getpid())"])
        return String(printed.split(separator: ":").last ?? "").filter { !$0.isWhitespace }
    }

    /// The last core usually has the fewest interrupts.
    private func lastCore() throws -> String {
        String(try allowedCores().split { $0 == "," || $0 == "-" }.last ?? "0")
    }

    private func tornReads(on place: TouchPlace) throws -> TornReads {
        let seconds = settings.tornSeconds
        let writer = try supervisor.start(.writeLoop(file: place.file, seconds: seconds))
        let reader = try supervisor.start(.readLoop(file: place.file, seconds: seconds))
        var torn: TornReads = try supervisor.result(of: reader, taking: .seconds(seconds))
        torn += try supervisor.result(of: writer, taking: .seconds(seconds))
        guard torn.writes > 0, torn.reads > 0 else { throw BenchFailure("writer or reader never ran on \(place.file)") }
        return torn
    }

    /// One client for each file, all starting at the same instant.
    private func clients(on place: TouchPlace) throws -> [TouchTimes] {
        // Late enough for all of them to be ready.
        let start = ContinuousClock.now + .milliseconds(100 + 20 * settings.clients)
        let children = try (0..<settings.clients).map { number in
            try supervisor.start(
                .client(
                    file: place.clientFile(number), start: start, seconds: settings.clientSeconds,
                    polling: settings.polling))
        }
        return try children.map { try supervisor.result(of: $0, taking: .seconds(settings.clientSeconds)) }
    }

    private func cpuTimeAfterBursts(worker: pid_t) throws -> [Double] {
        guard settings.bursts > 0 else { return [] }
        return try supervisor.run(
            .bursts(
                file: places[0].file, touches: Self.touchesInBurst, process: worker, seconds: Self.burstWindow,
                bursts: settings.bursts), taking: .seconds(Self.burstWindow) * settings.bursts)
    }

    /// Memory after a walk over the tree, then CPU time without requests.
    private func servers(of status: TownStatus) throws -> [ServerCost] {
        // The size is asked for so that find(1) calls lstat for every name.
        let found = try supervisor.run(["find", places[0].tree, "-type", "f", "-size", "-1024k", "-printf", "x"])
        guard found.utf8.count == settings.files else { throw BenchFailure("the walk found \(found.utf8.count) files") }
        let processes = [("keeper", status.keeperPid), ("worker", status.workerPid)]
        let memory = try processes.map { try Self.memory(of: $1) }
        let before = try processes.map { try cpuTime(of: $1) }
        try supervisor.idle(for: .seconds(settings.idleSeconds))
        return try processes.indices.map { index in
            ServerCost(
                name: processes[index].0, rss: memory[index].rss, pss: memory[index].pss,
                idleTime: try cpuTime(of: processes[index].1) - before[index])
        }
    }

    /// Resident and proportional memory in KiB, from `/proc/<pid>/smaps_rollup`.
    private static func memory(of process: pid_t) throws -> (rss: Int, pss: Int) {
        let lines = try readText("/proc/\(process)/smaps_rollup").split(separator: "\n")
        func field(_ name: String) -> Int {
            let line = lines.first { $0.hasPrefix("\(name):") }
            return line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        }
        return (field("Rss"), field("Pss"))
    }
}

import Glibc

/// Does the same on every target, in rounds, so that everything else the machine does affects all of them alike.
struct TouchBenchmark {
    let settings: TouchCommand
    let supervisor: Supervisor
    /// The first one is the town that the others are compared with.
    let places: [TouchPlace]

    private static let touchesInBurst = 200
    private static let burstWindow = 0.3

    /// Everything measured of one target; arrays have an element for each round.
    struct Results {
        var times: [TouchTimes] = []
        var torn = TornReads()
        var clients: [[TouchTimes]] = []
    }

    func report() throws -> Report {
        let watch = Noise.Watch()
        // Best effort, also after a stop request; another error matters more.
        let made = places.flatMap { [$0.tree, $0.file, $0.ordinaryFile] + clientFiles(of: $0) }
        defer { _ = try? supervisor.run(["rm", "-rf", "--"] + made, uninterrupted: true) }
        for place in places {
            let treeFiles = place.file == places[0].file ? settings.towns.files : 0
            let files = [place.file, place.ordinaryFile] + clientFiles(of: place)
            let _: [String] = try supervisor.run(.makeFiles(files, tree: place.tree, treeFiles: treeFiles))
        }
        let status = try TownStatus(
            of: places[0].directory, program: places[0].target.program ?? "pulsefs", supervisor: supervisor)
        let servers = try serversSection(status)
        var results = places.map { _ in Results() }
        try rotate(rounds: settings.rounds, count: places.count) { index in
            results[index].times.append(
                try supervisor.run(
                    .touchTimes(
                        file: places[index].file, ordinary: places[index].ordinaryFile, samples: settings.samples)))
        }
        try rotate(rounds: settings.rounds, count: places.count) { index in
            results[index].torn += try tornReads(on: places[index])
        }
        let bursts = try burstsSection(worker: status.workerPid)
        try rotate(rounds: settings.clients > 0 ? settings.rounds : 0, count: places.count) { index in
            results[index].clients.append(try clients(on: places[index]))
        }
        let simultaneous = settings.clients > 0 ? [try clientsSection(results)] : []
        return Report(
            title: "A touch and a read of a signal file", machine: Machine(), noise: watch.finish(),
            introduction: [
                "pulsefs \(status.version); \(settings.rounds) rounds, order of targets rotated; each "
                    + "\(settings.samples) writes, reads, and opens of an ordinary file, then "
                    + "\(number(settings.seconds)) s of one writer and one reader"
            ], sections: try latencySections(results) + simultaneous + [bursts, servers],
            axis: "µs, logarithmic; shorter is better")
    }

    private func clientFiles(of place: TouchPlace) -> [String] { (0..<settings.clients).map(place.clientFile) }

    // MARK: Latencies

    private func tornReads(on place: TouchPlace) throws -> TornReads {
        let seconds = settings.seconds
        let children = try [true, false].map {
            try supervisor.start(.race(file: place.file, isWriter: $0, seconds: seconds))
        }
        var torn = TornReads()
        for child in children { torn += try supervisor.result(of: child, taking: .seconds(seconds)) }
        guard torn.writes > 0, torn.reads > 0 else { throw BenchFailure("writer or reader never ran on \(place.file)") }
        return torn
    }

    /// A row for each target, then the first target's times as multiples of the others'.
    private func latencySections(_ results: [Results]) throws -> [Report.Section] {
        let statistics = try results.map { results in
            try [\TouchTimes.writes, \.reads, \.opens].map { operation in
                try RoundStatistics(results.times.map { $0[keyPath: operation] })
            }
        }
        let rows = places.indices.map { index in
            let torn = results[index].torn
            return Report.Row(
                places[index].target.name,
                statistics[index].flatMap {
                    [.number($0[0.5], samples: $0.perRound(0.5)), .number($0[0.99]), .percent($0.spread)]
                } + [
                    Report.Cell(text: "\(percent(torn.share, digits: 2)) of \(torn.reads)", value: torn.share),
                    .text(places[index].fileSystem),
                ])
        }
        let ratios = places.indices.dropFirst().map { index in
            Report.Row(
                "\(places[0].target.name) ÷ \(places[index].target.name)",
                zip(statistics[0], statistics[index]).flatMap { first, other -> [Report.Cell] in
                    [.number(medianRatio(of: first.perRound(0.5), to: other.perRound(0.5))), .text(""), .text("")]
                } + [.text(""), .text("")])
        }
        let torn = zip(places, results).map { place, results in
            "\(place.target.name) \(results.torn.empty) empty, \(results.torn.mixed) mixed, "
                + "beside \(results.torn.writes) writes"
        }
        return [
            .init(
                text: "µs, medians over the rounds; ± is the spread of the round medians",
                table: .init(
                    columns: ["write", "read", "open"].flatMap { ["\($0) p50", "p99", "±"] }
                        + ["torn reads", "file system"],
                    rows: rows + ratios, chartColumns: [0, 3, 6], chartsByColumn: true)),
            .init(text: "Torn: " + torn.joined(separator: "; ")),
        ]
    }

    // MARK: Clients

    /// One client for each file, all starting at the same instant.
    private func clients(on place: TouchPlace) throws -> [TouchTimes] {
        // Late enough for all of them to be ready.
        let start = ContinuousClock.now + .milliseconds(100 + 20 * settings.clients)
        let children = try clientFiles(of: place).map {
            try supervisor.start(.client(file: $0, start: start, seconds: settings.seconds))
        }
        return try children.map { try supervisor.result(of: $0, taking: .seconds(settings.seconds)) }
    }

    /// Of each client the median over the rounds; the table shows the lowest and the highest client.
    private func clientsSection(_ results: [Results]) throws -> Report.Section {
        func range(_ figures: [Double]) -> Report.Cell {
            let text = "\(number(figures.min() ?? 0))–\(number(figures.max() ?? 0))"
            return Report.Cell(text: text, value: Percentiles(figures)?.median, samples: figures)
        }
        let rows = try zip(places, results).map { place, results in
            Report.Row(
                place.target.name,
                try [\TouchTimes.writes, \.reads].flatMap { operation in
                    let clients = try (0..<settings.clients).map { client in
                        try RoundStatistics(results.clients.map { $0[client][keyPath: operation] })
                    }
                    let worst = clients.map { $0[0.99] / $0[0.5] }.max()
                    return [range(clients.map { $0[0.5] }), range(clients.map { $0[0.99] }), .number(worst)]
                })
        }
        return .init(
            text: "\(settings.clients) clients at once, each writing and reading a file of its own; "
                + "lowest and highest of all clients:",
            table: .init(
                columns: ["write", "read"].flatMap { ["\($0) p50", "p99", "worst p99 ÷ p50"] }, rows: rows,
                chartColumns: [0, 3], chartsByColumn: true, chartSuffix: ", \(settings.clients) clients"))
    }

    // MARK: The processes behind the mount

    /// A burst for each round.
    private func burstsSection(worker: pid_t) throws -> Report.Section {
        let bursts: [Double] = try supervisor.run(
            .bursts(
                file: places[0].file, touches: Self.touchesInBurst, process: worker, seconds: Self.burstWindow,
                bursts: settings.rounds), taking: .seconds(Self.burstWindow) * settings.rounds)
        guard let times = Percentiles(bursts) else { throw BenchFailure("no burst was measured") }
        return .init(
            text: "CPU time of the worker from 1 ms after a burst of \(Self.touchesInBurst) touches, in "
                + "\(number(Self.burstWindow * 1_000)) ms: median \(number(times.median)) µs, at worst "
                + "\(number(times[1])) µs, of \(bursts.count) bursts")
    }

    /// Memory after a walk over the tree, then CPU time without requests.
    private func serversSection(_ status: TownStatus) throws -> Report.Section {
        // The size is asked for so that find(1) calls lstat for every name.
        let found = try supervisor.run(["find", places[0].tree, "-type", "f", "-size", "-1024k", "-printf", "x"])
        guard found.utf8.count == settings.towns.files else {
            throw BenchFailure("the walk found \(found.utf8.count) files")
        }
        let processes = [("keeper", status.keeperPid), ("worker", status.workerPid)]
        let memory = try processes.map { try Self.memory(of: $1) }
        let before = try processes.map { try cpuTime(of: $1) }
        try supervisor.idle(for: .seconds(settings.idleSeconds))
        let rows = try processes.indices.map { index in
            let idleTime = try cpuTime(of: processes[index].1) - before[index]
            return Report.Row(processes[index].0, memory[index] + [.number(idleTime / .milliseconds(1))])
        }
        return .init(
            text: "Memory after a walk over \(settings.towns.files) files, and CPU time in "
                + "\(number(settings.idleSeconds)) s without requests:",
            table: .init(columns: ["RSS KiB", "PSS KiB", "CPU ms"], rows: rows))
    }

    /// Resident and proportional memory in KiB, from `/proc/<pid>/smaps_rollup`.
    private static func memory(of process: pid_t) throws -> [Report.Cell] {
        let lines = try readText("/proc/\(process)/smaps_rollup").split(separator: "\n")
        return ["Rss:", "Pss:"].map { name in
            let line = lines.first { $0.hasPrefix(name) }
            return .count(line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0)
        }
    }
}

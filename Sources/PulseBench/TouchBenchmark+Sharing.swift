import Glibc

extension TouchBenchmark {
    /// Touches, reads and openings with caller and worker on one core; `workers` has each target's, where it has one.
    func oneCore(workers: [pid_t?]) throws -> TouchReport.OneCore {
        guard let core = try CoreAffinity(ofThread: 0).last else { throw BenchFailure("no core to run on") }
        var times = targets.map { _ in [TouchTimes]() }
        for round in 0..<settings.rounds {
            for index in targets.indices.map({ ($0 + round) % targets.count }) {
                func measure() throws { times[index].append(try touchTimes(on: targets[index], core: core)) }
                if let worker = workers[index] {
                    try withProcess(worker, onCore: core, body: measure)
                } else {
                    try measure()
                }
            }
        }
        let latencies = try targets.indices.map { index in
            TouchReport.Latencies(
                target: targets[index].name,
                write: try .init(rounds: times[index].map(\.writes)),
                read: try .init(rounds: times[index].map(\.reads)),
                open: try .init(rounds: times[index].map(\.opens))
            )
        }
        return TouchReport.OneCore(core: core, targets: latencies, ratios: TouchReport.ratios(among: latencies))
    }

    /// Many clients at once; nil where none are asked for.
    func crowds() throws -> [TouchReport.Crowd]? {
        guard let count = settings.clients, let seconds = settings.clientSeconds, count > 0 else { return nil }
        var rounds = targets.map { _ in [[TouchClient]]() }
        for round in 0..<settings.rounds {
            for index in targets.indices.map({ ($0 + round) % targets.count }) {
                rounds[index].append(try clients(on: targets[index].clientFiles(count), seconds: seconds))
            }
        }
        return try zip(targets, rounds).map { try TouchReport.Crowd(target: $0.name, rounds: $1) }
    }

    /// The worker's CPU time after bursts of touches.
    func burst(worker: pid_t, bursts: Int) throws -> TouchReport.Burst {
        let touches = 200
        let window = Duration.milliseconds(300)
        let microseconds: [Double] = try supervisor.play(
            [
                "burst", targets[0].file, "--touches", "\(touches)", "--process", "\(worker)",
                "--milliseconds", "\(Int(window / .milliseconds(1)))", "--bursts", "\(bursts)",
            ], taking: window * bursts)
        return TouchReport.Burst(
            touches: touches, windowSeconds: window / .seconds(1), microseconds: microseconds)
    }

    /// One client a file, all begun at the same time.
    private func clients(on files: [String], seconds: Double) throws -> [TouchClient] {
        // Long enough for all of them to have been started.
        let start = MonotonicTime.now.advanced(by: .milliseconds(100 + 20 * files.count))
        let arguments =
            ["--start", "\(start.nanoseconds)", "--milliseconds", "\(Int(seconds * 1_000))"]
            + (settings.polling ? ["--polling"] : [])
        // Each is started, then the rest, then it is waited for: a child cannot be kept in an array.
        func results(of rest: ArraySlice<String>) throws -> [TouchClient] {
            guard let file = rest.first else { return [] }
            let child = try supervisor.start(["client", file] + arguments)
            let others = try results(of: rest.dropFirst())
            return [try supervisor.result(of: child, taking: .seconds(seconds))] + others
        }
        return try results(of: files[...])
    }
}

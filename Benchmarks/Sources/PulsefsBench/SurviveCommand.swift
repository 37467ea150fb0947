import ArgumentParser
import FoundationEssentials
import Glibc

/// `pulsefs-bench survive`: kills pulsefs again and again while processes work in the town.
struct SurviveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "survive",
        abstract: "Kills processes of pulsefs while others work in the town; no call may fail.",
        discussion: """
            Clients work in directories of the town and check all that they read; a script uses git, SQLite, tar and a \
            compiler, and must print what it prints in a plain directory; a reader of events must get each touch once. \
            First all work for a while without a death, to compare memory and descriptors. With --scope=signals, the \
            clients work in .runtime.
            """
    )

    /// Whom a death hits.
    enum Victim: String, ExpressibleByArgument, CaseIterable {
        case worker, keeper
        /// Worker and keeper at once.
        case pair
        /// Another copy of the program takes over.
        case upgrade
        /// The same, and one of the processes is killed meanwhile.
        case upgradeKill = "upgrade-kill"
        /// A redis-server of the benchmark's own, which the town is mirrored to.
        case redis
    }

    /// How a process dies.
    enum Death: String, ExpressibleByArgument, CaseIterable {
        case kill, segv, abrt, bus

        var signal: CInt {
            switch self {
            case .kill: SIGKILL
            case .segv: SIGSEGV
            case .abrt: SIGABRT
            case .bus: SIGBUS
            }
        }
    }

    @OptionGroup var towns: TownOptions
    @Option(help: "Number of deaths.")
    var kills = 300
    @Option(help: "Whom they hit, chosen at random (repeatable): \(Victim.allValueStrings.joined(separator: ", ")).")
    var victim: [Victim] = []
    @Option(help: "How the processes die.")
    var death = Death.kill
    @Option(help: "Mean time between two deaths, in seconds.")
    var interval = 0.3
    @Option(help: "Clients that work in the town.")
    var clients = 4
    @Option(help: "How long they work before the first death.")
    var warmUpSeconds = 20.0
    @Option(help: "The same seed gives the same victims and pauses.")
    var seed: UInt64 = 1
    @Option(help: ArgumentHelp("A second program for upgrades (default: a copy).", valueName: "path"))
    var other: String?
    @OptionGroup var output: ReportOutput

    func validate() throws {
        guard kills >= 0, interval > 0, clients > 0, warmUpSeconds >= 0 else {
            throw ValidationError("--interval and --clients must be above 0, --kills and --warm-up-seconds not below.")
        }
    }

    func run() throws {
        warnIfDebugBuild()
        let report = try withScratchDirectory(in: towns.directory ?? "/var/tmp") { scratch in
            try SurviveBenchmark(settings: self, scratch: scratch).report()
        }
        try output.write(report)
    }
}

/// One run of `pulsefs-bench survive`.
final class SurviveBenchmark {
    private let settings: SurviveCommand
    private let supervisor: Supervisor
    private let scratch: String
    private let town: String
    private let program: String
    private let other: String
    private let options: [String]
    private var generator: SeededGenerator
    private var redis: ChildProcess?

    private var redisSocket: String { "\(scratch)/redis.sock" }
    private var usesRedis: Bool { settings.victim.contains(.redis) }

    init(settings: SurviveCommand, scratch: String) throws {
        self.settings = settings
        self.scratch = scratch
        supervisor = settings.towns.supervisor
        town = try makeDirectory("\(scratch)/town")
        guard let target = try settings.towns.targets.first, let program = target.program else {
            throw BenchFailure("there is no program to measure")
        }
        self.program = program
        other = settings.other ?? "\(scratch)/pulsefs"
        if settings.other == nil { try supervisor.run(["install", "-m", "755", program, other]) }
        generator = SeededGenerator(seed: settings.seed)
        var options = target.options.map { [$0] } ?? []
        if settings.victim.contains(.redis) { options.append("redis=unix://\(scratch)/redis.sock") }
        self.options = options.isEmpty ? [] : ["-o", options.joined(separator: ",")]
    }

    /// What processes hold.
    private struct Resources {
        let kilobytes: Double
        let descriptors: Double
    }

    func report() throws -> Report {
        let watch = Noise.Watch()
        if usesRedis { try startRedis() }
        defer { redis = nil }
        let mount = [
            "env", "PULSEFS_STATE_DIRECTORY=\(scratch)/state", "PULSEFS_DEATH_LIMIT=1000000000", program, "mount", town,
            "--log", "\(scratch)/log",
        ]
        return try withMount(
            on: options.joined().contains("scope=signals") ? "\(town)/.pulse" : town, by: supervisor,
            mount: mount + options,
            // With --scope=signals there are several mounts.
            unmount: ["sh", "-c", #""$0" unmount "$1" || ! "$0" unmount --lazy "$1""#, program, town]
        ) {
            try makeWorkplace()
            let calm = try work(1, deaths: 0)
            let before = try resources()
            let hard = try work(2, deaths: settings.kills)
            let after = try resources()
            return report(calm, hard, before, after, watch.finish())
        }
    }

    /// In a mount, whatever the scope.
    private var workplace: String { "\(town)/.runtime" }

    /// Fills what pulsefs keeps of past touches, so that memory grows no more for that.
    private func makeWorkplace() throws {
        let file = "\(workplace)/heartbeats/bench.json"
        let _: [String] = try supervisor.run(.makeFiles([file], tree: "\(scratch)/none", treeFiles: 0))
        let _: Int = try supervisor.run(.touch(file: file, count: 20_000))
    }

    // MARK: Working and dying

    private struct Outcome {
        var work: [SurvivalWork] = []
        /// When each death came, and whom it hit.
        var deaths: [(time: ContinuousClock.Instant, victim: SurviveCommand.Victim)] = []
        var rounds = 0
        var failures: [String] = []

        var calls: Int { work.reduce(0) { $0 + $1.calls } }
        var failed: Int { work.reduce(0) { $0 + $1.failed } + failures.count }
        var touches: Int { work.reduce(0) { $0 + $1.touches } }
        var longest: Double { work.flatMap(\.slow).map(\.milliseconds).max() ?? 0 }

        /// The longest call that each death of a kind was in the middle of.
        func stalls(_ victim: SurviveCommand.Victim) -> [Double] {
            let slow = work.flatMap(\.slow)
            return deaths.filter { $0.victim == victim }.map { death in
                slow.filter {
                    $0.start < death.time + .milliseconds(100)
                        && $0.start + .microseconds(Int64($0.milliseconds * 1000)) > death.time
                }.map(\.milliseconds).max() ?? 0
            }
        }
    }

    private func work(_ phase: Int, deaths: Int) throws -> Outcome {
        let stop = "\(scratch)/stop\(phase)"
        let last = ".runtime/heartbeats/last\(phase).json"
        let reader = try supervisor.start(.readEvents(of: town, until: last))
        let signals = (0..<settings.clients).map { ".runtime/heartbeats/client\(phase)-\($0).json" }
        let clients = try signals.enumerated().map { number, signal in
            try supervisor.start(
                .survive(
                    directory: "\(workplace)/phase\(phase)-client\(number)", signal: "\(town)/\(signal)", stop: stop,
                    seed: settings.seed + UInt64(phase * 1000 + number)))
        }
        let place = "\(workplace)/real\(phase)"
        try supervisor.run(["mkdir", place])
        let script = try supervisor.start(.realWork(directory: place, stop: stop, rounds: nil))
        try supervisor.idle(for: .seconds(deaths == 0 ? settings.warmUpSeconds : 1))
        var outcome = Outcome()
        for _ in 0..<deaths {
            let victim = settings.victim.randomElement(using: &generator) ?? .worker
            if let time = try strike(victim) { outcome.deaths.append((time, victim)) }
            try supervisor.idle(for: .seconds(settings.interval * .random(in: 0.5...1.5, using: &generator)))
        }
        try writeFile(stop, [])
        for client in clients { outcome.work.append(try supervisor.result(of: client, taking: .seconds(60))) }
        let real: RealWork = try supervisor.result(of: script, taking: .seconds(120))
        outcome.rounds = real.printed.count
        // The reader ends with this touch.
        let _: [String] = try supervisor.run(.makeFiles(["\(town)/\(last)"], tree: "\(scratch)/none", treeFiles: 0))
        let events: EventCounts = try supervisor.result(of: reader, taking: .seconds(60))
        outcome.failures = try verify(outcome, signals, events, real)
        return outcome
    }

    private func verify(
        _ outcome: Outcome, _ signals: [String], _ events: EventCounts, _ real: RealWork
    ) throws -> [String] {
        var failures: [String] = []
        for (signal, work) in zip(signals, outcome.work) {
            let seen = events.touches[signal] ?? 0
            if seen != work.touches { failures.append("\(signal): \(work.touches) touches, \(seen) events") }
        }
        if events.gaps > 0 { failures.append("\(events.gaps) events are missing or came twice") }
        let plain: RealWork = try withScratchDirectory(in: scratch) { place in
            try supervisor.run(
                .realWork(directory: place, stop: nil, rounds: min(1, real.printed.count)), taking: .seconds(120))
        }
        for (round, printed) in real.printed.enumerated() where printed != plain.printed.first {
            failures.append("round \(round) of the script has printed: \(printed)")
        }
        return failures
    }

    /// - Returns: When; nil if there was nobody to hit.
    private func strike(_ victim: SurviveCommand.Victim) throws -> ContinuousClock.Instant? {
        switch victim {
        case .worker: return kill(try status().workerPid)
        case .keeper: return kill(try status().keeperPid)
        case .pair:
            let status = try status()
            _ = kill(status.keeperPid)
            return kill(status.workerPid)
        case .redis:
            redis = nil
            try startRedis()
            return .now
        case .upgrade:
            let time = ContinuousClock.now
            try supervisor.run([try otherProgram(), "upgrade", town])
            return time
        case .upgradeKill:
            let status = try status()
            let upgrade = try ChildProcess([try otherProgram(), "upgrade", town])
            try supervisor.idle(for: .milliseconds(Int.random(in: 0...60, using: &generator)))
            let time = kill(Bool.random(using: &generator) ? status.workerPid : status.keeperPid)
            // It fails if the keeper did not get to it.
            upgrade.wait()
            return time
        }
    }

    /// The program that does not serve now.
    private func otherProgram() throws -> String {
        let serving = try supervisor.run(["readlink", "/proc/\(try status().workerPid)/exe"])
        return serving.hasPrefix(other) ? program : other
    }

    private func kill(_ pid: pid_t) -> ContinuousClock.Instant? {
        let time = ContinuousClock.now
        return Glibc.kill(pid, settings.death.signal) == 0 ? time : nil
    }

    private func status() throws -> TownStatus {
        try TownStatus(of: town, program: program, supervisor: supervisor)
    }

    private func startRedis() throws {
        redis = try ChildProcess([
            "redis-server", "--port", "0", "--unixsocket", redisSocket, "--save", "", "--dir", scratch,
        ])
        try supervisor.idle(for: .milliseconds(100))
    }

    // MARK: Results

    /// Of keeper and worker, when everybody has closed their files.
    private func resources() throws -> Resources {
        try supervisor.idle(for: .seconds(12))
        let status = try status()
        var (kilobytes, descriptors) = (0.0, 0.0)
        for pid in [status.keeperPid, status.workerPid] {
            let line = try readText("/proc/\(pid)/status").split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
            kilobytes += line?.split(separator: " ").dropFirst().first.flatMap { Double($0) } ?? 0
            descriptors += Double(try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count)
        }
        return Resources(kilobytes: kilobytes, descriptors: descriptors)
    }

    private func report(
        _ calm: Outcome, _ hard: Outcome, _ before: Resources, _ after: Resources, _ noise: Noise
    ) -> Report {
        func count(_ label: String, _ count: (Outcome) -> Int) -> Report.Row {
            .init(label, [calm, hard].map { .count(count($0)) })
        }
        func held(_ label: String, _ value: (Resources) -> Double) -> Report.Row {
            .init(label, [before, after].map { .number(value($0)) })
        }
        let rows = [
            count("deaths") { $0.deaths.count }, count("calls") { $0.calls }, count("failed calls") { $0.failed },
            count("touches") { $0.touches }, count("rounds of the script") { $0.rounds },
            .init("longest call, ms", [calm, hard].map { .number($0.longest) }),
            held("memory of keeper and worker, KB") { $0.kilobytes }, held("their descriptors") { $0.descriptors },
        ]
        let stalls = SurviveCommand.Victim.allCases.compactMap { victim in
            Percentiles(hard.stalls(victim)).map { stalls in
                Report.Row(
                    victim.rawValue,
                    [.count(hard.deaths.count { $0.victim == victim })]
                        + [0.5, 0.99, 1].map { .number(stalls[$0]) })
            }
        }
        let failures = [calm, hard].flatMap { $0.failures + $0.work.flatMap(\.failures) }
        return Report(
            title: "Deaths under load", machine: Machine(), noise: noise,
            introduction: [
                "\(settings.clients) clients, a script and a reader of events; death by SIG\(settings.death.rawValue.uppercased()); "
                    + "seed \(settings.seed)" + (options.last.map { "; -o \($0)" } ?? "")
            ],
            sections: [
                .init(table: .init(columns: ["without", "with deaths"], rows: rows)),
                .init(
                    text: "The longest call in each death, in ms:",
                    table: .init(columns: ["deaths", "p50", "p99", "longest"], rows: stalls)),
            ], axis: "", failures: failures)
    }
}

import ArgumentParser
import CGNU
import Glibc
import Liveness
import Synchronization

/// `pulsefs-bench table`: the cost of the liveness table by itself.
struct TableCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "table",
        abstract: "Times the liveness table in this process: touches, queries, expiry; and its memory.",
        discussion: """
            No file system is involved: this is the cost of a touch after its request has been decoded and its document \
            validated. Touches go through the store's lock, as in the worker.
            """
    )

    @Option(help: "Records in the table: runtimes, and a fifth of them heartbeat files.")
    var records = 10_000
    @Option(help: "Rounds, each with a new table; a figure is the median over them.")
    var rounds = 5
    @Option(help: "Touches for each round and kind.")
    var touches = 100_000
    @Option(help: "Ids in one query.")
    var batch = 10_000
    @OptionGroup var output: ReportOutput

    func validate() throws {
        guard records >= 10, rounds > 0, touches > 0, batch > 0 else {
            throw ValidationError("--records must be at least 10; --rounds, --touches and --batch, at least 1.")
        }
    }

    /// Longer than a run.
    fileprivate static let ttl: Duration = .seconds(3600)
    /// Operations that change the table's size, and queries, for each round.
    private static let (newRecordCount, queryCount) = (1_000, 20)

    func run() throws {
        warnIfDebugBuild()
        let watch = Noise.Watch()
        let memory = [
            memoryRow("touched by id", TablePopulation(runtimes: records, files: 0)),
            memoryRow("with a heartbeat file each", TablePopulation(runtimes: records / 2, files: records / 2)),
        ]
        let figures = (0..<rounds).map { _ in measureRound() }
        let rows = try figures[0].indices.map { operation in
            let statistics = try RoundStatistics(figures.map { $0[operation].times })
            let cells = [0.5, 0.99, 0.999, 1].map { share in
                Report.Cell.number(statistics[share], samples: share == 0.5 ? statistics.perRound(0.5) : nil)
            }
            return Report.Row(figures[0][operation].name, cells + [.percent(statistics.spread)])
        }
        try output.write(
            Report(
                title: "The liveness table", machine: Machine(), noise: watch.finish(),
                introduction: [
                    "\(records) records, a fifth of them heartbeat files; \(rounds) rounds of \(touches) touches of each "
                        + "kind, in random order"
                ],
                sections: [
                    .init(
                        text: "µs, medians over the rounds; ± is the spread of the round medians",
                        table: .init(columns: ["p50", "p99", "p99.9", "worst", "±"], rows: rows, chartColumns: [0])),
                    .init(
                        text: "Memory for each record, without its document:",
                        table: .init(columns: ["records", "bytes"], rows: memory)),
                ], axis: "µs, logarithmic; shorter is better"))
    }

    /// The times in µs of each operation on a new table.
    private func measureRound() -> [(name: String, times: [Double])] {
        let population = TablePopulation(runtimes: records - records / 5, files: records / 5)
        let store = Store()
        store.fill(with: population, [])
        func touchTimes(_ kind: TablePopulation.Kind) -> [Double] {
            let count = kind == .heartbeat ? population.files : population.runtimes
            return (0..<touches).map { _ in store.time(of: population.touch(kind, Int.random(in: 0..<count))) }
        }
        func newRecordTimes(_ name: String) -> [Double] {
            (0..<Self.newRecordCount).map { number in
                let number = Int.random(in: 0..<population.runtimes)
                return store.time(of: population.touch(.id, number, name: name))
            }
        }
        func queryTimes(_ query: (InMemoryLivenessStore) -> Void) -> [Double] {
            (0..<Self.queryCount).map { _ in ContinuousClock().measure { query(store.liveness) }.microseconds }
        }
        // A tenth of the ids is unknown.
        let ids = (0..<batch).map { _ in
            TablePopulation.id(Int.random(in: 0..<population.runtimes + population.runtimes / 9))
        }
        var figures = TablePopulation.Kind.allCases.map { (name: "touch: \($0)", times: touchTimes($0)) }
        figures += [
            ("a new record", newRecordTimes("new")),
            ("\(batch) ids in one query", queryTimes { _ = $0.areAlive(ids) }),
            ("counting all by state", queryTimes { _ = $0.counts() }),
            ("listing a rig", queryTimes { _ = $0.listing(of: TablePopulation.rig(0)) }),
            ("listing all rigs", queryTimes { _ = $0.listing(of: "") }),
        ]
        store.advance(by: Self.ttl * 2)
        figures.append(("64 of many expire", store.timesOfExpiry(limit: 64)))
        store.advance(by: LivenessTable.defaultRetention)
        figures.append(("a new record, old ones freed", newRecordTimes("newer")))
        return figures
    }

    /// Bytes that malloc has given out for each record, without the documents, which exist before it is measured.
    private func memoryRow(_ name: String, _ population: TablePopulation) -> Report.Row {
        func usage() -> Int {
            let heap = mallinfo2()
            return Int(heap.uordblks) + Int(heap.hblkhd)
        }
        let documents = (0..<population.files).map { TablePopulation.document($0) }
        let before = usage()
        let store = Store()
        store.fill(with: population, documents)
        let bytes = usage() - before
        return withExtendedLifetime((store, documents)) {
            Report.Row(name, [.count(population.records), .number(Double(bytes) / Double(population.records))])
        }
    }
}

/// The runtimes of a measured table, and their touches as the file system makes them.
///
/// Runtimes are the polecats of many rigs, 100 in each. The first ones also have a heartbeat file.
private struct TablePopulation {
    enum Kind: String, CaseIterable {
        /// By id, as `touch .pulse/alive/ID` does.
        case id
        /// By writing a heartbeat file: a signal file, its runtime, and a new document.
        case heartbeat
    }

    let runtimes: Int
    /// Runtimes that have a heartbeat file.
    let files: Int

    var records: Int { runtimes + files }

    /// A directory of ids, like `rig-42/polecats/`.
    static func rig(_ number: Int) -> String { "rig-\(number)/polecats/" }

    /// An id like `rig-42/polecats/agent-4217`.
    static func id(_ number: Int, name: String = "agent") -> RuntimeID {
        let text = rig(number / 100) + "\(name)-\(number)"
        guard let id = try? RuntimeID(text) else { preconditionFailure("\(text) is a valid id") }
        return id
    }

    /// About 100 bytes, as `gt` writes them.
    static func document(_ number: Int) -> Document {
        let text = #"{"timestamp":"2026-11-21T18:30:00.123456789Z","state":"working","context":"bead \#(number)"}"#
        return Document(Array(text.utf8))
    }

    private static let processes = (0..<64).map { Touch.Process(pid: 1000 + $0, program: "gt") }

    /// A touch whose times are not set yet.
    func touch(_ kind: Kind, _ number: Int, name: String = "agent", document: Document? = nil) -> Touch {
        let isFile = kind == .heartbeat
        return Touch(
            signal: isFile ? Array(".runtime/heartbeats/agent-\(number).json".utf8) : nil,
            runtime: Self.id(number, name: name), receivedAt: .goZero, at: .now, ttl: TableCommand.ttl,
            document: isFile ? document ?? Self.document(number) : nil, source: isFile ? .written : .command,
            evidence: isFile ? .path : nil, process: Self.processes[number % Self.processes.count])
    }
}

/// A store as a mounted town has it; its clock can be advanced.
private final class Store: Sendable {
    private struct Watcher: LivenessWatcher {
        func eventsChanged() {}
        func deadlineMovedEarlier() {}
    }

    let liveness: InMemoryLivenessStore
    private let lead: Lead

    /// How far the store's clock is ahead of the real one.
    private final class Lead: Sendable {
        let duration = Mutex(Duration.zero)
        var now: ContinuousClock.Instant { .now + duration.withLock { $0 } }
    }

    init() {
        let lead = Lead()
        self.lead = lead
        liveness = InMemoryLivenessStore(watcher: Watcher(), now: { lead.now }, wallTime: { .now })
    }

    func advance(by duration: Duration) { lead.duration.withLock { $0 += duration } }

    /// Touches each runtime once.
    ///
    /// - Parameter documents: One for each heartbeat file.
    func fill(with population: TablePopulation, _ documents: [Document]) {
        for number in 0..<population.runtimes {
            let kind: TablePopulation.Kind = number < population.files ? .heartbeat : .id
            _ = time(of: population.touch(kind, number, document: number < documents.count ? documents[number] : nil))
        }
    }

    /// Reads the clocks and touches, as a request does; returns the time in µs.
    func time(of touch: Touch) -> Double {
        var touch = touch
        return ContinuousClock().measure {
            touch.receivedAt = .now
            touch.stamp = HLCTimestamp(touch.receivedAt)
            touch.at = lead.now
            liveness.touch(touch)
        }.microseconds
    }

    /// Expires everything that is due, a part at a time; the time of each part in µs.
    func timesOfExpiry(limit: Int) -> [Double] {
        var times: [Double] = []
        var next: ContinuousClock.Instant?
        repeat {
            times.append(ContinuousClock().measure { next = liveness.expire(limit: limit) }.microseconds)
        } while next.map { $0 <= lead.now } ?? false
        return times
    }
}

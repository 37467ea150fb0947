import CLinux
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

/// The liveness table by itself, in this process, as the file system holds it: behind its lock, watched, with real clocks.
struct TableBenchmark {
    let settings: TableReport.Settings

    /// Longer than a run.
    private static let ttl: Duration = .seconds(3600)
    /// Touches that are made ready at a time, so that what a touch brings is as near to the processor as a request is.
    private static let chunk = 1000

    func report() throws -> TableReport {
        let watch = Noise.Watch()
        let memory = [
            try measureMemory("touched by id", TablePopulation(runtimes: settings.records, files: 0)),
            try measureMemory(
                "with a heartbeat file each",
                TablePopulation(runtimes: settings.records / 2, files: settings.records / 2)),
        ]
        let population = TablePopulation(records: settings.records)
        let store = LivenessStoreInUse()
        let fill = store.fill(population, ttl: Self.ttl)
        var touches: [TablePopulation.Kind: [[Double]]] = [:]
        var means: [TablePopulation.Kind: [Double]] = [:]
        var batches: [[Double]] = []
        for _ in 0..<settings.rounds {
            for kind in TablePopulation.Kind.allCases {
                let (times, mean) = measureTouches(kind, of: population, in: store)
                touches[kind, default: []].append(times)
                means[kind, default: []].append(mean)
            }
            batches.append(measureBatches(of: population, in: store))
        }
        var expiry: [(touches: TableReport.Meanwhile, slices: [Double])] = []
        for _ in 0..<settings.rounds { expiry.append(try measureExpiry(of: population, in: store)) }
        let questions = try Question.allCases.map { try measure($0, of: population, in: store) }
        let sweep = measureSweep(of: population, in: store)
        return TableReport(
            machine: Machine(), noise: watch.finish(), settings: settings, memory: memory,
            fill: try TableReport.Times(rounds: [fill]),
            touches: try TablePopulation.Kind.allCases.map { kind in
                TableReport.Touches(
                    kind: kind, mean: Percentiles(means[kind] ?? [])?.median ?? 0,
                    times: try TableReport.Times(rounds: touches[kind] ?? []))
            },
            batches: try TableReport.Times(rounds: batches),
            expiry: try TableReport.Meanwhile(medianOf: expiry.map(\.touches)),
            slices: try TableReport.Times(rounds: expiry.map(\.slices)),
            questions: questions, sweep: try TableReport.Times(rounds: [sweep]))
    }

    // MARK: Memory

    private func measureMemory(_ name: String, _ population: TablePopulation) throws -> TableReport.Memory {
        // What is there when it is counted is not the table's.
        let documents = (0..<population.files).map { TablePopulation.document($0) }
        malloc_trim(0)
        let before = try Usage()
        let store = LivenessStoreInUse()
        for number in 0..<population.runtimes {
            var touch = population.touch(number < population.files ? .times : .id, number, ttl: Self.ttl)
            if number < population.files { touch.document = documents[number] }
            store.touch(&touch)
        }
        malloc_trim(0)
        let after = try Usage()
        return withExtendedLifetime((store, documents)) {
            let records = Double(population.records)
            return TableReport.Memory(
                population: name, records: population.records,
                allocated: Double(after.allocated - before.allocated) / records,
                resident: Double(after.resident - before.resident) / records)
        }
    }

    /// Of this process, in bytes.
    private struct Usage {
        /// By malloc's own books, with what each piece takes around it, and what the table takes past malloc.
        let allocated: Int
        let resident: Int

        init() throws {
            let books = mallinfo2()
            allocated = Int(books.uordblks) + Int(books.hblkhd)
            let pages = String(decoding: try GoFile(path: "/proc/self/statm").read(), as: UTF8.self)
                .split(separator: " ")
            guard pages.count > 1, let count = Int(pages[1]) else {
                throw BenchFailure("cannot read /proc/self/statm")
            }
            resident = count * sysconf(Int32(_SC_PAGESIZE))
        }
    }

    // MARK: Touches and batches

    /// In µs: the time of each touch, and the processor's time of one in a row of them.
    private func measureTouches(
        _ kind: TablePopulation.Kind, of population: TablePopulation, in store: LivenessStoreInUse
    ) -> (times: [Double], mean: Double) {
        let count = kind.hasFile ? population.files : population.runtimes
        var times: [Double] = []
        var total = Duration.zero
        var untimed = 0
        for round in 0..<max(1, settings.touches / Self.chunk) {
            var touches = (0..<Self.chunk).map { _ in
                population.touch(kind, Int.random(in: 0..<count), ttl: Self.ttl)
            }
            // By turns one by one, and in a row.
            if round % 2 == 0 {
                for number in touches.indices { times.append(store.timedTouch(&touches[number])) }
            } else {
                let start = Self.processorTime
                for number in touches.indices { store.touch(&touches[number]) }
                total += Self.processorTime - start
                untimed += touches.count
            }
        }
        return (times, untimed > 0 ? total.microseconds / Double(untimed) : 0)
    }

    /// The processor's time in µs, of whole batches.
    private func measureBatches(of population: TablePopulation, in store: LivenessStoreInUse) -> [Double] {
        (0..<settings.batches).map { _ in
            // A tenth of them nobody has heard of.
            let ids = (0..<settings.batch).map { _ in
                TablePopulation.id(Int.random(in: 0..<population.runtimes + population.runtimes / 9))
            }
            let start = Self.processorTime
            let answers = store.liveness.areAlive(ids)
            let time = Self.processorTime - start
            precondition(answers?.count == ids.count, "a store in memory answers")
            return time.microseconds
        }
    }

    /// Of this thread; what others take of the processor meanwhile is not in it.
    fileprivate static var processorTime: Duration {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }

    // MARK: While something else goes on

    /// Touches, by the one thread of a town's that does so, while others go on touching.
    private func measureExpiry(
        of population: TablePopulation, in store: LivenessStoreInUse
    ) throws -> (touches: TableReport.Meanwhile, slices: [Double]) {
        // Beside those that are touched meanwhile.
        let count = settings.expiring
        let touches = (0..<count).map { number in
            var touch = population.touch(.id, number, ttl: .seconds(1))
            touch.runtime = TablePopulation.crowd(number)
            return touch
        }
        let deadline = ContinuousClock.now + .milliseconds(300) + .microseconds(10 * count)
        for var touch in touches {
            touch.at = .now
            touch.ttl = deadline - touch.at
            store.liveness.touch(touch)
        }
        guard ContinuousClock.now < deadline else {
            throw BenchFailure("this machine is too slow or too busy to make \(count) runtimes in time")
        }
        let before = store.liveness.tally.expired
        let watch = try store.startExpiry()
        let quiet = touchTimes(of: population, in: store) { ContinuousClock.now >= deadline }
        let during = touchTimes(of: population, in: store) {
            store.liveness.tally.expired - before >= UInt64(count)
        }
        let took = ContinuousClock.now - deadline
        let slices = watch.end()
        return (try TableReport.Meanwhile(took: took.microseconds / 1000, quiet: quiet, during: during), slices)
    }

    /// What somebody may ask of the whole table.
    private enum Question: String, CaseIterable {
        case counts = "counting all by state"
        case crowd = "listing a directory of as many runtimes"
        case rigs = "listing the rigs, and whether anybody is alive in each"
    }

    private func ask(_ question: Question, _ liveness: InMemoryLivenessStore) -> Int {
        switch question {
        case .counts: liveness.counts().runtimes.alive
        case .crowd: liveness.listing(of: "crowd/").runtimes.count
        case .rigs: liveness.listing(of: "").directories.count
        }
    }

    private func measure(
        _ question: Question, of population: TablePopulation, in store: LivenessStoreInUse
    ) throws -> TableReport.Question {
        var rounds: [TableReport.Meanwhile] = []
        for _ in 0..<settings.rounds {
            let end = ContinuousClock.now + .milliseconds(100)
            let quiet = touchTimes(of: population, in: store) { ContinuousClock.now >= end }
            let isDone = SharedFlag()
            let took = Mutex(Duration.zero)
            let liveness = store.liveness
            let asker = try Thread(named: "asker") {
                let time = ContinuousClock().measure { _ = ask(question, liveness) }
                took.withLock { $0 = time }
                isDone.raise()
            }
            let during = touchTimes(of: population, in: store) { isDone.isRaised }
            asker.join()
            rounds.append(
                try TableReport.Meanwhile(took: took.withLock { $0 }.microseconds / 1000, quiet: quiet, during: during))
        }
        return TableReport.Question(question: question.rawValue, times: try TableReport.Meanwhile(medianOf: rounds))
    }

    /// Times in µs of touches by id that go on until something is so; at least one.
    private func touchTimes(
        of population: TablePopulation, in store: LivenessStoreInUse, until isDone: () -> Bool
    ) -> [Double] {
        var times: [Double] = []
        repeat {
            for _ in 0..<16 {
                var touch = population.touch(.id, Int.random(in: 0..<population.runtimes), ttl: Self.ttl)
                times.append(store.timedTouch(&touch))
            }
        } while !isDone()
        return times
    }

    /// In µs: touches of new runtimes a day and more later, which free what is of no use by then.
    private func measureSweep(of population: TablePopulation, in store: LivenessStoreInUse) -> [Double] {
        let later = LivenessTable.defaultRetention + Self.ttl + .seconds(3600)
        return (0..<population.records).map { number in
            var touch = population.touch(.id, 2 * population.records + number, ttl: Self.ttl)
            return store.timedTouch(&touch, later: later)
        }
    }
}

/// A store as a mounted town has it.
private struct LivenessStoreInUse {
    private final class Watcher: LivenessWatcher {
        private let isAwaited = Atomic(false)
        func eventsChanged() { _ = isAwaited.load(ordering: .relaxed) }
        func deadlineMovedEarlier() {}
    }

    let liveness = InMemoryLivenessStore(watcher: Watcher(), wallTime: { Self.wallTime })

    private static var wallTime: WallTime {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return WallTime(seconds: Int64(now.tv_sec), nanoseconds: Int32(now.tv_nsec))
    }

    func fill(_ population: TablePopulation, ttl: Duration) -> [Double] {
        (0..<population.runtimes).map { number in
            var touch = population.touch(number < population.files ? .heartbeat : .id, number, ttl: ttl)
            return timedTouch(&touch)
        }
    }

    /// As a request does it: clocks are read, the touch is noted, and who waits is told.
    func touch(_ touch: inout Touch, later: Duration = .zero) {
        touch.receivedAt = Self.wallTime
        touch.stamp = HLCTimestamp(touch.receivedAt)
        touch.at = .now + later
        liveness.notify(liveness.apply(touch))
    }

    /// The time in µs.
    func timedTouch(_ touch: inout Touch, later: Duration = .zero) -> Double {
        let start = ContinuousClock.now
        self.touch(&touch, later: later)
        return (ContinuousClock.now - start).microseconds
    }

    /// The thread that says who has expired.
    func startExpiry() throws(Errno) -> Expiry { try Expiry(liveness) }

    struct Expiry: ~Copyable {
        private let isDone = SharedFlag()
        private let slices = SharedTimes()
        private let thread: Linux.Thread

        init(_ liveness: InMemoryLivenessStore) throws(Errno) {
            let (isDone, slices) = (isDone, slices)
            thread = try Thread(named: "expiry") {
                while !isDone.isRaised {
                    let start = TableBenchmark.processorTime
                    let before = liveness.tally.expired
                    let next = liveness.expire(limit: 64)
                    let took = TableBenchmark.processorTime - start
                    if liveness.tally.expired > before { slices.append(took.microseconds) }
                    // As it pauses while there are more; and short enough that the deadline that matters is met.
                    usleep(next.map { $0 <= .now } == true ? 20 : 100)
                }
            }
        }

        /// How long each look took that found somebody, in the processor's time.
        consuming func end() -> [Double] {
            isDone.raise()
            let slices = slices
            thread.join()
            return slices.all
        }
    }
}

/// Raised once, by any thread.
private final class SharedFlag: Sendable {
    private let raised = Atomic(false)
    var isRaised: Bool { raised.load(ordering: .acquiring) }
    func raise() { raised.store(true, ordering: .releasing) }
}

private final class SharedTimes: Sendable {
    private let times = Mutex<[Double]>([])
    var all: [Double] { times.withLock { $0 } }
    func append(_ time: Double) { times.withLock { $0.append(time) } }
}

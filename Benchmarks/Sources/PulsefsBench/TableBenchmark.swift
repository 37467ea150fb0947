import CMalloc
import Dispatch
import Glibc
import Liveness
import Synchronization

/// The liveness table as the file system holds it: behind its lock, watched, with real clocks.
struct TableBenchmark {
    let settings: TableCommand

    /// Longer than a run.
    private static let ttl: Duration = .seconds(3600)
    /// Touches prepared at a time: few enough to stay in the processor's cache, as a request does.
    private static let chunk = 1000

    /// Touches during other work on the table, and just before it; times are µs.
    struct Interference {
        let name: String
        var tookMilliseconds: [Double] = []
        var quiet: [[Double]] = []
        var during: [[Double]] = []
    }

    func report() throws -> Report {
        let watch = Noise.Watch()
        let half = settings.records / 2
        let memory = [
            try measureMemory("touched by id", TablePopulation(runtimes: settings.records, files: 0)),
            try measureMemory("with a heartbeat file each", TablePopulation(runtimes: half, files: half)),
        ]
        let files = settings.records / 5
        let population = TablePopulation(runtimes: settings.records - files, files: files)
        let store = Store()
        let fill = (0..<population.runtimes).map { number in
            let kind: TablePopulation.Kind = number < population.files ? .heartbeat : .id
            return store.timedTouch(population.touch(kind, number, ttl: Self.ttl))
        }
        var touches = TablePopulation.Kind.allCases.map { (kind: $0, times: [[Double]](), means: [Double]()) }
        var batches: [[Double]] = []
        for _ in 0..<settings.rounds {
            for index in touches.indices {
                let (times, mean) = measureTouches(touches[index].kind, of: population, in: store)
                touches[index].times.append(times)
                touches[index].means.append(mean)
            }
            batches.append(measureBatches(of: population, in: store))
        }
        var expiry = Interference(name: "\(settings.expiring) expire at one instant")
        var looks: [[Double]] = []
        for _ in 0..<settings.rounds {
            looks.append(try measureExpiry(of: population, in: store, &expiry))
        }
        let questions = [
            measure("counting all by state", of: population, in: store) { _ = $0.counts() },
            measure("listing a directory of as many runtimes", of: population, in: store) {
                _ = $0.listing(of: "crowd/")
            },
            measure("listing the rigs, and whether any runtime is alive in each", of: population, in: store) {
                _ = $0.listing(of: "")
            },
        ]
        let sweep = measureSweep(of: population, in: store)
        return try TableReport(
            settings: settings, memory: memory,
            touches: touches.map { ("touch: \($0.kind.rawValue)", $0.means, $0.times) } + [
                ("a new record", [], [fill]), ("a new record, old ones freed", [], [sweep]),
                ("\(settings.batch) ids asked at once", [], batches),
            ],
            interference: [expiry] + questions, looks: looks
        ).report(noise: watch.finish())
    }

    /// Bytes for each record, without the documents, which exist before it is measured.
    private func measureMemory(
        _ name: String, _ population: TablePopulation
    ) throws -> (name: String, records: Int, allocated: Double, resident: Double) {
        let documents = (0..<population.files).map { TablePopulation.document($0) }
        func usage() throws -> (allocated: Int, resident: Int) {
            malloc_trim(0)
            let heap = mallinfo2()
            // The second field is the resident set, in pages.
            let pages = try readText("/proc/self/statm").split(separator: " ").dropFirst().first.flatMap { Int($0) }
            guard let pages else { throw BenchFailure("cannot read /proc/self/statm") }
            return (Int(heap.uordblks) + Int(heap.hblkhd), pages * sysconf(Int32(_SC_PAGESIZE)))
        }
        let before = try usage()
        let store = Store()
        for number in 0..<population.runtimes {
            var touch = population.touch(number < population.files ? .times : .id, number, ttl: Self.ttl)
            if number < population.files { touch.document = documents[number] }
            store.touch(&touch)
        }
        let after = try usage()
        return withExtendedLifetime((store, documents)) {
            let records = Double(population.records)
            return (
                name, population.records, Double(after.allocated - before.allocated) / records,
                Double(after.resident - before.resident) / records
            )
        }
    }

    /// In µs: the time of each touch, and the CPU time of one in a series; chunks are timed in one way and the other in
    /// turn.
    private func measureTouches(
        _ kind: TablePopulation.Kind, of population: TablePopulation, in store: Store
    ) -> (times: [Double], mean: Double) {
        let count = kind.hasFile ? population.files : population.runtimes
        var times: [Double] = []
        var total = Duration.zero
        var inSeries = 0
        for chunk in 0..<max(2, settings.touches / Self.chunk) {
            var touches = (0..<Self.chunk).map { _ in
                population.touch(kind, Int.random(in: 0..<count), ttl: Self.ttl)
            }
            if chunk % 2 == 0 {
                times += touches.map { store.timedTouch($0) }
            } else {
                let start = cpuTimeOfThread()
                for number in touches.indices { store.touch(&touches[number]) }
                total += cpuTimeOfThread() - start
                inSeries += touches.count
            }
        }
        return (times, total.microseconds / Double(inSeries))
    }

    /// The CPU time in µs of whole batches; a tenth of the ids is unknown.
    private func measureBatches(of population: TablePopulation, in store: Store) -> [Double] {
        (0..<20).map { _ in
            let ids = (0..<settings.batch).map { _ in
                TablePopulation.id(Int.random(in: 0..<population.runtimes + population.runtimes / 9))
            }
            let start = cpuTimeOfThread()
            let answers = store.liveness.areAlive(ids)
            let time = cpuTimeOfThread() - start
            precondition(answers?.count == ids.count, "a store in memory always answers")
            return time.microseconds
        }
    }

    /// Many runtimes expire at one instant, and a thread finds them as the worker's does; returns the CPU time in µs of
    /// each of its looks.
    private func measureExpiry(
        of population: TablePopulation, in store: Store, _ result: inout Interference
    ) throws -> [Double] {
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
        let looks = Times()
        let before = store.liveness.tally.expired
        measure(&result, quietUntil: deadline, of: population, in: store) { liveness in
            while liveness.tally.expired - before < UInt64(count) {
                let start = cpuTimeOfThread()
                let found = liveness.tally.expired
                _ = liveness.expire(limit: 64)
                if liveness.tally.expired > found { looks.add((cpuTimeOfThread() - start).microseconds) }
                // The worker's pause between two looks.
                usleep(20)
            }
        }
        return looks.all
    }

    private func measure(
        _ name: String, of population: TablePopulation, in store: Store,
        question: @escaping @Sendable (InMemoryLivenessStore) -> Void
    ) -> Interference {
        var result = Interference(name: name)
        for _ in 0..<settings.rounds {
            measure(&result, quietUntil: .now + .milliseconds(100), of: population, in: store, work: question)
        }
        return result
    }

    /// Times touches by id until an instant, and then while another thread does some work.
    private func measure(
        _ result: inout Interference, quietUntil end: ContinuousClock.Instant, of population: TablePopulation,
        in store: Store, work: @escaping @Sendable (InMemoryLivenessStore) -> Void
    ) {
        func touchTimes(until isDone: () -> Bool) -> [Double] {
            var times: [Double] = []
            repeat {
                for _ in 0..<16 {
                    let number = Int.random(in: 0..<population.runtimes)
                    times.append(store.timedTouch(population.touch(.id, number, ttl: Self.ttl)))
                }
            } while !isDone()
            return times
        }
        result.quiet.append(touchTimes { ContinuousClock.now >= end })
        let took = Times()
        let liveness = store.liveness
        DispatchQueue.global().async { took.add(ContinuousClock().measure { work(liveness) } / .milliseconds(1)) }
        result.during.append(touchTimes { !took.all.isEmpty })
        result.tookMilliseconds += took.all
    }

    /// In µs: touches of new runtimes more than a day later, which free the expired records.
    private func measureSweep(of population: TablePopulation, in store: Store) -> [Double] {
        let later = LivenessTable.defaultRetention + Self.ttl + .seconds(3600)
        return (0..<population.records).map { number in
            let touch = population.touch(.id, 2 * population.records + number, ttl: Self.ttl)
            return store.timedTouch(touch, later: later)
        }
    }
}

/// A store as a mounted town has it.
private struct Store {
    private struct Watcher: LivenessWatcher {
        func eventsChanged() {}
        func deadlineMovedEarlier() {}
    }

    let liveness = InMemoryLivenessStore(watcher: Watcher(), wallTime: { .now })

    /// As a request does it: reads the clocks and touches.
    func touch(_ touch: inout Touch, later: Duration = .zero) {
        touch.receivedAt = .now
        touch.stamp = HLCTimestamp(touch.receivedAt)
        touch.at = .now + later
        liveness.touch(touch)
    }

    /// The time in µs.
    func timedTouch(_ touch: Touch, later: Duration = .zero) -> Double {
        var touch = touch
        return ContinuousClock().measure { self.touch(&touch, later: later) }.microseconds
    }
}

/// Times that another thread collects.
private final class Times: Sendable {
    private let times = Mutex<[Double]>([])
    var all: [Double] { times.withLock { $0 } }
    func add(_ time: Double) { times.withLock { $0.append(time) } }
}

/// Without the time that other threads and processes use meanwhile.
private func cpuTimeOfThread() -> Duration {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
}

import TestSupport
import Testing

@testable import Liveness

/// The table against a model: plain dictionaries that are searched as a whole.
@Suite(.timeLimit(.minutes(5))) struct LivenessTableModelTests {
    private static let start = FakeClock.start
    private static let epoch = WallTime(seconds: 1_785_585_600)
    private static let retention = Duration.seconds(60)
    private static let origins = [nil, Origin(name: "a.1", host: "a"), Origin(name: "b.2", host: "b")]

    private struct Model {
        struct Entry {
            var touches: [Touch]
            var deadline: ContinuousClock.Instant
            var exit: Record.Exit?

            /// The latest by stamp; of equal ones the last to arrive.
            var last: Touch { touches.reduce(touches[0]) { $1.stamp >= $0.stamp ? $1 : $0 } }

            func isAlive(at now: ContinuousClock.Instant) -> Bool { exit == nil && now < deadline }
        }

        var entries: [RecordSubject: Entry] = [:]
        var tombstones: [RecordSubject: HLCTimestamp] = [:]
        /// Runtimes whose current life has not been reported as expired.
        var unreported: Set<RuntimeID> = []

        mutating func touch(_ touch: Touch) {
            var touch = touch
            let subjects = Self.subjects(of: touch)
            for subject in subjects {
                if let entry = entries[subject] {
                    if case .runtime = subject, entry.last.at > touch.at { continue }
                    touch.stamp = touch.stamp.later(than: entry.last.stamp)
                } else if let stamp = tombstones[subject] {
                    touch.stamp = touch.stamp.later(than: stamp)
                }
            }
            for subject in subjects { add(touch, to: subject, at: touch.at) }
        }

        mutating func receive(_ touch: Touch, exit: Record.Exit?, at now: ContinuousClock.Instant) -> Bool {
            let subject = Self.subjects(of: touch)[0]
            guard isNewer(touch.stamp, than: subject) else { return false }
            add(touch, to: subject, at: now)
            if let exit { entries[subject]?.exit = exit }
            return true
        }

        mutating func forget(_ subject: RecordSubject, stamp: HLCTimestamp) {
            let last = entries[subject]?.last.stamp ?? tombstones[subject]
            tombstones[subject] = last.map { stamp.later(than: $0) } ?? stamp
            entries[subject] = nil
        }

        mutating func receiveForget(_ subject: RecordSubject, stamp: HLCTimestamp) -> Bool {
            guard isNewer(stamp, than: subject) else { return false }
            tombstones[subject] = stamp
            entries[subject] = nil
            return true
        }

        private func isNewer(_ stamp: HLCTimestamp, than subject: RecordSubject) -> Bool {
            (entries[subject]?.last.stamp ?? tombstones[subject]).map { $0 < stamp } ?? true
        }

        private mutating func add(_ touch: Touch, to subject: RecordSubject, at now: ContinuousClock.Instant) {
            tombstones[subject] = nil
            if var entry = entries[subject] {
                let isNewLife = entry.exit.map { $0.at < max(entry.last.at, touch.at) } ?? false
                entry.deadline = isNewLife ? touch.deadline : max(entry.deadline, touch.deadline)
                if isNewLife { entry.exit = nil }
                entry.touches.append(touch)
                entries[subject] = entry
            } else {
                entries[subject] = Entry(touches: [touch], deadline: touch.deadline)
            }
            if case .runtime(let id) = subject {
                if entries[subject]?.isAlive(at: now) == true { unreported.insert(id) } else { unreported.remove(id) }
            }
        }

        static func subjects(of touch: Touch) -> [RecordSubject] {
            [touch.signal.map { .signal(SignalPath(bytes: $0)) }, touch.runtime.map { .runtime($0) }].compactMap { $0 }
        }
    }

    private let ids: [RuntimeID]
    private let paths = ["a.json", "b.json", "c"].map { Array($0.utf8) }

    init() throws {
        ids = try ["mayor", "rig", "rig/a", "rig/b/c", "rig-2/d"].map { try RuntimeID($0) }
    }

    private func touch(_ subjects: Int, at now: Duration, _ random: inout SplitMix64) -> Touch {
        // Some arrive late, or at the same time as another.
        let delay = Duration.seconds([0, 0, 0, 0, -1, -3].randomElement(using: &random) ?? 0)
        let document = Int.random(in: 0..<3, using: &random)
        return Touch(
            signal: subjects != 1 ? paths.randomElement(using: &random) : nil,
            runtime: subjects != 0 ? ids.randomElement(using: &random) : nil,
            receivedAt: Self.epoch + now + delay, at: Self.start + now + delay,
            ttl: .milliseconds(Int.random(in: 1...20_000, using: &random)),
            document: document == 0 ? nil : Document([UInt8(document)]),
            source: Touch.Source.allCases.randomElement(using: &random) ?? .written,
            evidence: [nil, .path, .document, .directory].randomElement(using: &random) ?? nil,
            process: Bool.random(using: &random) ? Touch.Process(pid: 1, program: "gt") : nil,
            stamp: HLCTimestamp(
                Self.epoch + now + delay, by: Self.origins.randomElement(using: &random) ?? nil))
    }

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func tableAgreesWithTheModel(_ seed: UInt64) throws {
        var random = SplitMix64(state: seed)
        var table = LivenessTable(retention: Self.retention, isShared: true)
        var model = Model()
        var elapsed = Duration.zero
        for _ in 0..<2000 {
            elapsed += .milliseconds(Int.random(in: 0...2, using: &random) * 400)
            let now = Self.start + elapsed
            let stamp = HLCTimestamp(Self.epoch + elapsed, by: Self.origins[1])
            let subject: RecordSubject =
                Bool.random(using: &random)
                ? .runtime(ids.randomElement(using: &random) ?? ids[0])
                : .signal(SignalPath(bytes: paths.randomElement(using: &random) ?? paths[0]))
            switch Int.random(in: 0..<24, using: &random) {
            case 0:
                let id = ids.randomElement(using: &random) ?? ids[0]
                let exit = Record.Exit(
                    of: Touch.Process(pid: 1, program: "gt"), noticedAt: Self.epoch + elapsed,
                    at: now - .seconds(Int.random(in: 0...2, using: &random)))
                if let record = table.exit(id, exit, stamp: stamp) {
                    let entry = try #require(model.entries[.runtime(id)])
                    #expect(entry.exit == nil && record.stamp > entry.last.stamp)
                    model.entries[.runtime(id)]?.exit = exit
                    // The exit takes the place of the last touch.
                    model.entries[.runtime(id)]?.touches.append(record.touch)
                    model.unreported.remove(id)
                } else if let entry = model.entries[.runtime(id)] {
                    #expect(
                        entry.exit != nil || entry.last.at > exit.at
                            || (entry.last.stamp.origin != nil && entry.last.stamp.origin != stamp.origin))
                }
            case 1:
                table.forget(subject, stamp: stamp, at: now)
                model.forget(subject, stamp: stamp)
                if case .runtime(let id) = subject { model.unreported.remove(id) }
            case 2:
                let stamp = HLCTimestamp(Self.epoch + elapsed + .seconds(-2), by: Self.origins[2])
                let isNews = table.receiveForget(subject, stamp: stamp, at: now)
                let isExpected = model.receiveForget(subject, stamp: stamp)
                #expect(isNews == isExpected)
                if isNews, case .runtime(let id) = subject { model.unreported.remove(id) }
            case 3..<7:
                var received = touch(Int.random(in: 0...1, using: &random), at: elapsed, &random)
                received.stamp.origin = Self.origins[2]
                let exit =
                    received.runtime != nil && Int.random(in: 0..<4, using: &random) == 0
                    ? Record.Exit(
                        of: Touch.Process(pid: 2, program: "x"), noticedAt: received.receivedAt, at: received.at) : nil
                let isNews = table.receive(received, exit: exit, at: now)
                let isExpected = model.receive(received, exit: exit, at: now)
                #expect(isNews == isExpected)
                if isNews, exit != nil, let id = received.runtime { model.unreported.remove(id) }
            case 7:
                let limit = Int.random(in: 1...4, using: &random)
                for expired in table.removeExpirations(at: now, limit: limit) {
                    #expect(model.unreported.remove(expired.id) != nil)
                    #expect(model.entries[.runtime(expired.id)]?.deadline == expired.deadline)
                }
            default:
                let touch = touch(Int.random(in: 0...2, using: &random), at: elapsed, &random)
                table.touch(touch)
                model.touch(touch)
            }
            check(table, model, at: now)
        }
        // Every life that has ended unreported is reported in the end, and no other.
        let end = Self.start + elapsed + .seconds(60)
        let reported = Set(table.removeExpirations(at: end, limit: .max).map(\.id))
        #expect(reported == model.unreported)
        #expect(table.nextExpiration == nil)
    }

    private func check(_ table: LivenessTable, _ model: Model, at now: ContinuousClock.Instant) {
        for subject in ids.map({ RecordSubject.runtime($0) }) + paths.map({ .signal(SignalPath(bytes: $0)) }) {
            let record = table.record(of: subject)
            let entry = model.entries[subject]
            #expect(record?.deadline == entry?.deadline)
            #expect(record?.exit == entry?.exit)
            #expect(record?.stamp == entry?.last.stamp)
            #expect(record?.touch.at == entry?.last.at)
            #expect(record?.touch.source == entry?.last.source)
            #expect(record?.touch.process == entry?.last.process)
            #expect((record?.touch.document == nil) == (entry?.touches.allSatisfy { $0.document == nil } ?? true))
            if let document = entry?.last.document { #expect(record?.touch.document == document) }
            #expect(record?.isAlive(at: now) == entry?.isAlive(at: now))
            #expect(table.tombstones[subject]?.stamp == model.tombstones[subject])
        }
        let known = ids.filter { model.entries[.runtime($0)] != nil }
        #expect(table.runtimes.keys == known.sorted())
        for id in ids {
            #expect(table.isAlive(id, at: now) == (model.entries[.runtime(id)]?.isAlive(at: now) ?? false))
        }
        // No expiry is overlooked.
        let first = model.unreported.compactMap { model.entries[.runtime($0)]?.deadline }.min()
        if let first { #expect(table.nextExpiration.map { $0 <= first } ?? false) }
    }

    /// Ten times the number of runtimes that the table is sized for.
    @Test func tableHoldsAHundredThousandRuntimes() throws {
        var random = SplitMix64(state: 1)
        let ids = try (0..<100_000).map { try RuntimeID("rig-\($0 / 100)/polecats/agent-\($0)") }.shuffled(
            using: &random)
        var table = LivenessTable()
        for (number, id) in ids.enumerated() {
            table.touch(
                Touch(
                    runtime: id, receivedAt: Self.epoch, at: Self.start, ttl: .seconds(1 + number % 100),
                    document: nil, source: .command))
        }
        #expect(table.runtimes.keys == ids.sorted())
        let now = Self.start + .seconds(50)
        let isRight = ids.enumerated().allSatisfy { table.isAlive($1, at: now) == (1 + $0 % 100 > 50) }
        #expect(isRight)
        #expect(table.removeExpirations(at: now, limit: .max).count == 50_000)
        for id in ids.prefix(99_000) { table.forget(.runtime(id), stamp: HLCTimestamp(Self.epoch), at: now) }
        #expect(table.runtimes.keys == ids.dropFirst(99_000).sorted())
        table.touch(Touch(runtime: ids[0], receivedAt: Self.epoch, at: now, document: nil, source: .command))
        #expect(table.expirations.count <= 2 * 1001 + 1024)
    }
}

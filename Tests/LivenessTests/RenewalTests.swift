import TestSupport
import Testing

@testable import Liveness

/// What touches make of records that only the table holds, against records that somebody else holds, too.
@Suite struct RenewalTests {
    private let start = FakeClock.start
    private let ids: [RuntimeID]
    private let paths = ["a.json", "b.json", "c"].map { Array($0.utf8) }

    init() throws {
        ids = try ["mayor", "deacon", "gastown/polecats/furiosa"].map { try RuntimeID($0) }
    }

    /// All that a record tells.
    private struct Told: Equatable {
        let touch: Touch
        let deadline: ContinuousClock.Instant
        let exit: Record.Exit?
        let documents: [Document?]

        init?(_ record: Record?) {
            guard let record else { return nil }
            touch = record.touch
            deadline = record.deadline
            exit = record.exit
            documents = [record.ownDocument, record.sharedDocument]
        }
    }

    private func touch(at now: Duration, _ random: inout SplitMix64) -> Touch {
        let signal = Bool.random(using: &random) ? paths.randomElement(using: &random) : nil
        // Now and then one comes late, or at the same time as another.
        let delay = Duration.seconds([0, 0, 0, 0, -1, -3].randomElement(using: &random) ?? 0)
        let document = Int.random(in: 0..<3, using: &random)
        let origin = Origin(name: "b", host: "b")
        return Touch(
            signal: signal,
            runtime: signal == nil || Int.random(in: 0..<4, using: &random) > 0
                ? ids.randomElement(using: &random) : nil,
            receivedAt: WallTime(seconds: 1000) + now + delay, at: start + now + delay,
            ttl: .milliseconds(Int.random(in: 1...20_000, using: &random)),
            document: document == 0 ? nil : Document([UInt8(document)]),
            source: Touch.Source.allCases.randomElement(using: &random) ?? .written,
            evidence: [nil, .path, .document, .directory].randomElement(using: &random) ?? nil,
            process: Bool.random(using: &random) ? Touch.Process(pid: 1, program: "gt") : nil,
            stamp: Int.random(in: 0..<5, using: &random) == 0
                ? HLCTimestamp(WallTime(seconds: 1000) + now + delay, by: origin) : nil)
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func whoHoldsARecordMakesNoDifferenceToTheTable(_ seed: UInt64) {
        var random = SplitMix64(state: seed)
        var table = LivenessTable()
        var heldTable = LivenessTable()
        var held: [Record] = []
        var now = Duration.zero
        for step in 0..<3000 {
            now += .milliseconds(Int.random(in: 0...2, using: &random) * 400)
            let id = ids[step % ids.count]
            switch Int.random(in: 0..<30, using: &random) {
            case 0:
                let exit = Record.Exit(
                    of: Touch.Process(pid: 1, program: "gt"), noticedAt: WallTime(seconds: 1000) + now, at: start + now)
                let stamp = HLCTimestamp(WallTime(seconds: 1000) + now)
                #expect((table.exit(id, exit, stamp: stamp) != nil) == (heldTable.exit(id, exit, stamp: stamp) != nil))
            case 1:
                for subject in [.runtime(id), .signal(SignalPath(bytes: paths[step % paths.count]))] as [RecordSubject]
                {
                    table.forget(subject, stamp: HLCTimestamp(.goZero), at: start + now)
                    heldTable.forget(subject, stamp: HLCTimestamp(.goZero), at: start + now)
                }
            default:
                let touch = touch(at: now, &random)
                table.touch(touch)
                let touched = heldTable.touch(touch)
                held += [touched.signal, touched.runtime].compactMap { $0 }
            }
            for id in ids {
                #expect(Told(table.record(of: id)) == Told(heldTable.record(of: id)))
                #expect(table.isAlive(id, at: start + now) == heldTable.isAlive(id, at: start + now))
            }
            for path in paths { #expect(Told(table.record(ofSignal: path)) == Told(heldTable.record(ofSignal: path))) }
            #expect(table.counts(at: start + now) == heldTable.counts(at: start + now))
            #expect(
                table.hasLiving(backing: "gastown/", at: start + now)
                    == heldTable.hasLiving(backing: "gastown/", at: start + now))
        }
    }

    @Test func recordThatSomebodyHoldsNeverChanges() {
        var table = LivenessTable()
        func touch(_ second: Int, signal: [UInt8]?) -> Touch {
            Touch(
                signal: signal, runtime: ids[0], receivedAt: WallTime(seconds: Int64(second)),
                at: start + .seconds(second), document: nil, source: .attributes)
        }
        for signal in [nil, paths[0]] {
            table.touch(touch(1, signal: signal))
            let held = table.record(of: ids[0])
            let told = Told(held)
            let copy = table
            table.touch(touch(2, signal: signal))
            #expect(Told(held) == told && Told(copy.record(of: ids[0])) == told)
            #expect(table.record(of: ids[0])?.touch.at == start + .seconds(2))
            table.forget(.runtime(ids[0]), stamp: HLCTimestamp(.goZero), at: start)
        }
    }

    @Test func recordIsRenewedWhereItIs() {
        var table = LivenessTable()
        func touch(_ second: Int, signal: [UInt8]?) {
            table.touch(
                Touch(
                    signal: signal, runtime: ids[0], receivedAt: WallTime(seconds: Int64(second)),
                    at: start + .seconds(second), document: nil, source: .attributes))
        }
        touch(1, signal: paths[0])
        let first = table.record(of: ids[0]).map { ObjectIdentifier($0) }
        touch(2, signal: paths[0])
        #expect(table.record(of: ids[0]).map { ObjectIdentifier($0) } == first)
        #expect(table.record(ofSignal: paths[0]).map { ObjectIdentifier($0) } == first)
        // The file's record stays what it was when the runtime is touched without it.
        touch(3, signal: nil)
        #expect(table.record(ofSignal: paths[0])?.touch.at == start + .seconds(2))
        #expect(table.record(of: ids[0])?.touch.at == start + .seconds(3))
        #expect(table.record(of: ids[0])?.touch.signal == nil)
    }
}

import TestSupport
import Testing

@testable import Liveness

@Suite(.timeLimit(.minutes(5))) struct LivenessTableTests {
    private let start = FakeClock.start
    private let path = Array(".runtime/keepalive.json".utf8)
    private let mayor: RuntimeID
    private let deacon: RuntimeID

    init() throws {
        mayor = try RuntimeID("mayor")
        deacon = try RuntimeID("deacon")
    }

    private func touch(
        _ runtime: RuntimeID?, signal: [UInt8]? = nil, after delay: Duration = .zero, ttl: Duration = .seconds(90),
        _ document: String? = "{}"
    ) -> Touch {
        Touch(
            signal: signal, runtime: runtime, receivedAt: WallTime(seconds: delay.components.seconds),
            at: start + delay,
            ttl: ttl, document: document.map { Document(Array($0.utf8)) }, source: .written
        )
    }

    @Test func touchRefreshesItsSignalFileAndItsRuntime() {
        var table = LivenessTable()
        let both = touch(mayor, signal: path)
        table.touch(both)
        #expect(table.record(of: mayor)?.touch == both)
        #expect(table.record(ofSignal: path)?.touch == both)
        #expect(table.record(of: deacon) == nil)
        #expect(table.record(ofSignal: []) == nil)
    }

    @Test func touchWithoutRuntimeRefreshesOnlyItsSignalFile() {
        var table = LivenessTable()
        table.touch(touch(mayor, signal: path))
        table.touch(touch(nil, signal: path, after: .seconds(60)))
        #expect(table.isAlive(mayor, at: start + .seconds(89)))
        #expect(!table.isAlive(mayor, at: start + .seconds(90)))
        #expect(table.record(ofSignal: path)?.isAlive(at: start + .seconds(149)) == true)
    }

    @Test func runtimeIsAliveUntilItsDeadline() {
        var table = LivenessTable()
        table.touch(touch(mayor))
        #expect(table.isAlive(mayor, at: start))
        #expect(table.isAlive(mayor, at: start + .seconds(90) - .nanoseconds(1)))
        #expect(!table.isAlive(mayor, at: start + .seconds(90)))
        #expect(!table.isAlive(deacon, at: start))
    }

    @Test func expiredRecordKeepsItsDocument() {
        var table = LivenessTable()
        table.touch(touch(mayor, signal: path, "old"))
        let record = table.record(ofSignal: path)
        #expect(record?.isAlive(at: start + .seconds(3600)) == false)
        #expect(record?.touch.document == Document(Array("old".utf8)))
    }

    @Test func laterTouchWithEarlierDeadlineDoesNotShortenLife() {
        var table = LivenessTable()
        table.touch(touch(mayor, ttl: .seconds(600)))
        table.touch(touch(mayor, after: .seconds(10), ttl: .seconds(1), "new"))
        #expect(table.isAlive(mayor, at: start + .seconds(599)))
        #expect(table.record(of: mayor)?.touch.document == Document(Array("new".utf8)))
        #expect(table.record(of: mayor)?.deadline == start + .seconds(600))
    }

    /// Else an agent that hangs after an announced wait would be alive for the rest of an hour.
    @Test func nextDocumentEndsAnAnnouncedSilence() {
        var table = LivenessTable()
        var announcement = touch(mayor, signal: path, "{}")
        announcement.announcedTTL = .seconds(3600)
        table.touch(announcement)
        // Activity and a late touch say nothing of it.
        table.touch(touch(mayor, after: .seconds(300), nil))
        table.touch(touch(mayor, signal: path, after: .seconds(-1)))
        #expect(table.isAlive(mayor, at: start + .seconds(3599)))
        table.touch(touch(mayor, signal: path, after: .seconds(600)))
        #expect(table.record(of: mayor)?.deadline == start + .seconds(690))
        #expect(table.record(ofSignal: path)?.deadline == start + .seconds(690))
    }

    @Test func touchThatArrivesLateReplacesNothingLater() {
        var table = LivenessTable()
        table.touch(touch(mayor, after: .seconds(10), "later"))
        table.touch(touch(mayor, after: .seconds(5), ttl: .seconds(600), "earlier"))
        #expect(table.record(of: mayor)?.touch.document == Document(Array("later".utf8)))
        #expect(table.record(of: mayor)?.deadline == start + .seconds(605))
    }

    @Test func ofTwoTouchesAtOneInstantTheSecondCounts() {
        var table = LivenessTable()
        table.touch(touch(mayor, "first"))
        table.touch(touch(mayor, "second"))
        #expect(table.record(of: mayor)?.touch.document == Document(Array("second".utf8)))
    }

    @Test(arguments: [Duration.seconds(20), .seconds(5)])
    func touchWithoutDocumentKeepsTheOneKnown(delay: Duration) {
        var table = LivenessTable()
        table.touch(touch(mayor, after: .seconds(10), "known"))
        table.touch(touch(mayor, after: delay, nil))
        #expect(table.record(of: mayor)?.touch.document == Document(Array("known".utf8)))
        #expect(table.record(of: mayor)?.touch.at == start + max(delay, .seconds(10)))
    }

    @Test func lateDocumentIsBetterThanNone() {
        var table = LivenessTable()
        table.touch(touch(mayor, after: .seconds(10), nil))
        table.touch(touch(mayor, after: .seconds(5), "late"))
        #expect(table.record(of: mayor)?.touch.document == Document(Array("late".utf8)))
    }

    @Test func forgettingARuntimeLeavesItsSignalFile() {
        var table = LivenessTable()
        table.touch(touch(mayor, signal: path))
        table.forget(mayor)
        table.forget(deacon)
        #expect(table.record(of: mayor) == nil)
        #expect(table.record(ofSignal: path) != nil)
    }

    @Test func forgettingASignalFileLeavesItsRuntime() {
        var table = LivenessTable()
        table.touch(touch(mayor, signal: path))
        table.forget(signal: path)
        #expect(table.record(of: mayor) != nil)
        #expect(table.record(ofSignal: path) == nil)
    }

    @Test func forgottenDeadlineDoesNotCount() {
        var table = LivenessTable()
        table.touch(touch(mayor, ttl: .seconds(600)))
        table.forget(mayor)
        table.touch(touch(mayor, ttl: .seconds(1)))
        #expect(!table.isAlive(mayor, at: start + .seconds(1)))
    }

    @Test func copyOfATableIsItsOwn() {
        var table = LivenessTable()
        table.touch(touch(mayor))
        let copy = table
        table.forget(mayor)
        #expect(copy.isAlive(mayor, at: start))
    }

    // MARK: Sweeping

    @Test func sweepFreesOnlyWhatExpiredLongAgo() {
        var table = LivenessTable(retention: .seconds(100))
        table.touch(touch(mayor, signal: path, ttl: .seconds(10)))
        table.touch(touch(deacon, ttl: .seconds(11)))
        table.sweep(at: start + .seconds(110))
        #expect(table.record(of: mayor) == nil)
        #expect(table.record(ofSignal: path) == nil)
        #expect(table.record(of: deacon) != nil)
    }

    @Test func expiredRecordsStayForADay() {
        var table = LivenessTable()
        table.touch(touch(mayor))
        table.sweep(at: start + .seconds(90 + 24 * 3600 - 1))
        #expect(table.record(of: mayor) != nil)
        table.sweep(at: start + .seconds(90 + 24 * 3600))
        #expect(table.record(of: mayor) == nil)
    }

    @Test func noTouchSweepsMoreThanAFew() throws {
        var table = LivenessTable(retention: .seconds(100))
        for number in 0..<5000 {
            table.touch(touch(try RuntimeID("old-\(number)"), ttl: .seconds(10)))
        }
        var before = table.runtimes.count
        for number in 0..<3000 {
            table.touch(touch(try RuntimeID("new-\(number)"), after: .seconds(1000)))
            let after = table.runtimes.count
            #expect(before - after < 4)
            before = after
        }
        #expect(before == 3000)
        #expect(table.isAlive(try RuntimeID("new-0"), at: start + .seconds(1001)))
    }

    @Test func touchesOfEverNewRuntimesDoNotFillTheTable() throws {
        var table = LivenessTable(retention: .seconds(100))
        var largest = 0
        for number in 0..<20_000 {
            table.touch(touch(try RuntimeID("session-\(number)"), after: .seconds(number), ttl: .seconds(10)))
            largest = max(largest, table.runtimes.count)
        }
        // The sweep passes over up to 110 live ones in a row.
        #expect(largest <= 1024 + 110)
        #expect(table.isAlive(try RuntimeID("session-19999"), at: start + .seconds(20_008)))
    }
}

extension LivenessTable {
    fileprivate mutating func forget(_ id: RuntimeID) {
        forget(.runtime(id), stamp: HLCTimestamp(.goZero), at: FakeClock.start)
    }

    fileprivate mutating func forget(signal path: [UInt8]) {
        forget(.signal(SignalPath(bytes: path)), stamp: HLCTimestamp(.goZero), at: FakeClock.start)
    }
}

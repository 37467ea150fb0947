import TestSupport
import Testing

@testable import Liveness

@Suite(.timeLimit(.minutes(5))) struct MirrorQueueTests {
    private let clock = FakeClock()
    private let mayor: RecordSubject
    private let deacon: RecordSubject

    init() throws {
        mayor = .runtime(try RuntimeID("mayor"))
        deacon = .runtime(try RuntimeID("deacon"))
    }

    private func names(_ subjects: [RecordSubject]) -> [String] { subjects.map { SharedRecord.name(of: $0) } }

    @Test func emptyQueueIsNeverDue() {
        var queue = MirrorQueue()
        #expect(queue.due == nil)
        let subjects = queue.dequeue(10, at: clock.now)
        #expect(subjects.isEmpty)
    }

    @Test func firstTouchIsDueAtOnce() {
        var queue = MirrorQueue()
        let isDue = queue.add(mayor, isUrgent: false, at: clock.now)
        #expect(isDue)
        let isDueAgain = queue.add(deacon, isUrgent: false, at: clock.now)
        #expect(!isDueAgain, "the sender is awake already")
        #expect(queue.due == .now)
        #expect(queue.count == 2)
        let subjects = queue.dequeue(10, at: clock.now)
        #expect(names(subjects) == ["r:mayor", "r:deacon"])
        #expect(queue.count == 0)
    }

    @Test func touchesAreCoalesced() {
        var queue = MirrorQueue()
        for _ in 0..<3 { queue.add(mayor, isUrgent: false, at: clock.now) }
        #expect(queue.count == 1)
        let subjects = queue.dequeue(10, at: clock.now)
        #expect(names(subjects) == ["r:mayor"])
        #expect(queue.coalesced == 2)
    }

    @Test func runtimeIsSentOnceASecond() {
        var queue = MirrorQueue()
        var times: [Duration] = []
        for step in 0..<40 {
            queue.add(mayor, isUrgent: false, at: clock.now)
            if !queue.dequeue(10, at: clock.now).isEmpty { times.append(.milliseconds(step * 100)) }
            clock.advance(by: .milliseconds(100))
        }
        #expect(times == [.zero, .seconds(1), .seconds(2), .seconds(3)])
    }

    @Test func rateLimitedTouchIsDueAfterASecond() {
        var queue = MirrorQueue()
        queue.add(mayor, isUrgent: false, at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        let due = clock.now + .seconds(1)
        clock.advance(by: .milliseconds(300))
        let isDue = queue.add(mayor, isUrgent: false, at: clock.now)
        #expect(!isDue)
        #expect(queue.due == .at(due))
        clock.advance(by: .milliseconds(699))
        let first = queue.dequeue(10, at: clock.now)
        #expect(first.isEmpty)
        clock.advance(by: .milliseconds(1))
        let second = queue.dequeue(10, at: clock.now)
        #expect(names(second) == ["r:mayor"])
    }

    @Test func lastDequeueIgnoresTheRateLimit() {
        var queue = MirrorQueue()
        queue.add(mayor, isUrgent: false, at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        queue.add(mayor, isUrgent: false, at: clock.now)
        let last = queue.dequeue(10, at: clock.now, isLast: true)
        #expect(names(last) == ["r:mayor"])
    }

    @Test func sentEntriesAreDropped() {
        var queue = MirrorQueue()
        queue.add(mayor, isUrgent: false, at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        clock.advance(by: .seconds(1))
        let subjects = queue.dequeue(10, at: clock.now)
        #expect(subjects.isEmpty)
        #expect(queue.due == nil)
    }

    @Test func forgetIsNotRateLimited() {
        var queue = MirrorQueue()
        queue.add(mayor, isUrgent: false, at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        let isDue = queue.add(mayor, isUrgent: true, at: clock.now)
        #expect(isDue)
        let subjects = queue.dequeue(10, at: clock.now)
        #expect(names(subjects) == ["r:mayor"])
    }

    @Test func touchAfterAForgetIsSent() {
        var queue = MirrorQueue()
        queue.add(mayor, isUrgent: true, at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        queue.add(mayor, isUrgent: false, at: clock.now)
        let subjects = queue.dequeue(10, at: clock.now)
        #expect(names(subjects) == ["r:mayor"])
    }

    @Test func forgetDoesNotMakeTouchesMoreFrequent() {
        var queue = MirrorQueue()
        queue.add(mayor, isUrgent: false, at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        queue.add(mayor, isUrgent: true, at: clock.now)
        queue.add(mayor, isUrgent: false, at: clock.now)
        let first = queue.dequeue(10, at: clock.now)
        #expect(first.isEmpty)
        #expect(queue.count == 1)
        clock.advance(by: .seconds(1))
        let second = queue.dequeue(10, at: clock.now)
        #expect(names(second) == ["r:mayor"])
    }

    @Test func undeliveredSubjectsAreSentAgain() {
        var queue = MirrorQueue()
        queue.add(mayor, isUrgent: false, at: clock.now)
        queue.add(deacon, isUrgent: true, at: clock.now)
        let taken = queue.dequeue(10, at: clock.now)
        queue.add(mayor, isUrgent: false, at: clock.now)
        queue.requeue(taken, at: clock.now)
        #expect(queue.count == 2)
        clock.advance(by: .seconds(1))
        let subjects = queue.dequeue(10, at: clock.now)
        #expect(names(subjects).sorted() == ["r:deacon", "r:mayor"])
    }

    @Test func subjectThatAServerLostIsSentAgain() {
        var queue = MirrorQueue()
        queue.add(mayor, isUrgent: false, at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        clock.advance(by: .milliseconds(200))
        queue.requeue([mayor], at: clock.now)
        let early = queue.dequeue(10, at: clock.now)
        #expect(early.isEmpty)
        clock.advance(by: .milliseconds(800))
        let taken = queue.dequeue(10, at: clock.now)
        #expect(names(taken) == ["r:mayor"])
    }

    @Test func requeueDoesNotDelayALaterForget() {
        var queue = MirrorQueue()
        queue.add(mayor, isUrgent: false, at: clock.now)
        let taken = queue.dequeue(10, at: clock.now)
        queue.add(mayor, isUrgent: true, at: clock.now)
        queue.requeue(taken, at: clock.now)
        let subjects = queue.dequeue(10, at: clock.now)
        #expect(names(subjects) == ["r:mayor"])
    }

    @Test func refusedSubjectIsSentAgainAtOnce() {
        var queue = MirrorQueue()
        queue.add(mayor, isUrgent: false, at: clock.now)
        let refused = queue.dequeue(10, at: clock.now)
        queue.requeue(refused, wereRefused: true, at: clock.now)
        let again = queue.dequeue(10, at: clock.now)
        #expect(names(again) == ["r:mayor"])
    }

    @Test func droppedChangesAreCountedAndReported() throws {
        var queue = MirrorQueue(capacity: 2)
        for number in 0..<5 {
            queue.add(.runtime(try RuntimeID("runtime-\(number)")), isUrgent: false, at: clock.now)
        }
        queue.add(mayor, isUrgent: true, at: clock.now)
        #expect(queue.count == 3)
        #expect(queue.dropped == 3)
        let overflowed = queue.resetOverflow()
        #expect(overflowed)
        let overflowsAgain = queue.resetOverflow()
        #expect(!overflowsAgain)
        let subjects = queue.dequeue(10, at: clock.now)
        #expect(names(subjects) == ["r:runtime-0", "r:runtime-1", "r:mayor"])
        // There is room again when the rate limit is over.
        clock.advance(by: .seconds(1))
        queue.add(deacon, isUrgent: false, at: clock.now)
        #expect(queue.count == 1)
    }

    @Test func limitLeavesTheRestForTheNextTime() throws {
        var queue = MirrorQueue()
        for number in 0..<5000 {
            queue.add(.runtime(try RuntimeID("runtime-\(number)")), isUrgent: false, at: clock.now)
        }
        var taken = 0
        while case let subjects = queue.dequeue(512, at: clock.now), !subjects.isEmpty { taken += subjects.count }
        #expect(taken == 5000)
        #expect(queue.count == 0)
    }
}

/// What is sent about a subject, by the table's state when it is sent.
@Suite(.timeLimit(.minutes(5))) struct MirrorMessageTests {
    private let here = Origin(name: "here", host: "here")
    private let mayor: RecordSubject
    private var table = LivenessTable(isShared: true)

    init() throws {
        mayor = .runtime(try RuntimeID("mayor"))
    }

    private func touch(_ document: String, after delay: Duration, by origin: Origin) throws -> Touch {
        Touch(
            runtime: try RuntimeID("mayor"), receivedAt: WallTime(seconds: 100) + delay, at: FakeClock.start + delay,
            document: Document(Array(document.utf8)), source: .written,
            stamp: HLCTimestamp(WallTime(seconds: 100) + delay, by: origin))
    }

    private var sent: String? {
        switch table.message(about: mayor, by: here) {
        case .touched(_, let record)?: String(decoding: record.touch.document?.bytes ?? [], as: UTF8.self)
        case .forgotten?: "forgotten"
        case nil: nil
        }
    }

    @Test mutating func newestTouchIsSent() throws {
        #expect(sent == nil)
        table.touch(try touch("1", after: .zero, by: here))
        table.touch(try touch("2", after: .milliseconds(2), by: here))
        #expect(sent == "2")
    }

    @Test mutating func lateTouchDoesNotUndoAForget() throws {
        table.touch(try touch("1", after: .zero, by: here))
        table.forget(mayor, stamp: HLCTimestamp(WallTime(seconds: 101), by: here), at: FakeClock.start + .seconds(1))
        #expect(sent == "forgotten")
        table.touch(try touch("2", after: .seconds(2), by: here))
        #expect(sent == "2")
    }

    @Test mutating func changeThatAnotherOriginHasOvertakenIsNotSent() throws {
        table.touch(try touch("1", after: .zero, by: here))
        let received = try touch("2", after: .seconds(1), by: Origin(name: "there", host: "there"))
        let isNews = table.receive(received, at: FakeClock.start + .seconds(1))
        #expect(isNews)
        #expect(sent == nil)
    }
}

import TestSupport
import Testing

@testable import Liveness

@Suite struct MirrorQueueTests {
    private let clock = FakeClock()
    private let mayor: RecordSubject
    private let deacon: RecordSubject

    init() throws {
        mayor = .runtime(try RuntimeID("mayor"))
        deacon = .runtime(try RuntimeID("deacon"))
    }

    private func touch(_ subject: RecordSubject, _ document: String = "{}", after delay: Duration = .zero)
        -> MirrorQueue.Message
    {
        .touched(subject, Record(Touch(at: clock, after: delay, document: document)))
    }

    private func forget(_ subject: RecordSubject, after delay: Duration = .zero) -> MirrorQueue.Message {
        .forgotten(subject, HLCTimestamp(clock.wallTime + delay))
    }

    private func described(_ messages: [MirrorQueue.Message]) -> [String] {
        messages.map { message in
            switch message {
            case .touched(let subject, let record):
                "\(SharedRecord.name(of: subject)) \(String(decoding: record.touch.document?.bytes ?? [], as: UTF8.self))"
            case .forgotten(let subject, _): "\(SharedRecord.name(of: subject)) forgotten"
            }
        }
    }

    @Test func emptyQueueIsNeverDue() {
        var queue = MirrorQueue()
        #expect(queue.due == nil)
        let messages = queue.dequeue(10, at: clock.now)
        #expect(messages.isEmpty)
    }

    @Test func firstTouchIsDueAtOnce() {
        var queue = MirrorQueue()
        let isDue = queue.add(touch(mayor), at: clock.now)
        #expect(isDue)
        let isDueAgain = queue.add(touch(deacon), at: clock.now)
        #expect(!isDueAgain, "the sender is awake already")
        #expect(queue.due == .now)
        #expect(queue.count == 2)
        let messages = queue.dequeue(10, at: clock.now)
        #expect(described(messages) == ["r:mayor {}", "r:deacon {}"])
        #expect(queue.count == 0)
    }

    @Test func newestTouchWins() {
        var queue = MirrorQueue()
        queue.add(touch(mayor, "1"), at: clock.now)
        queue.add(touch(mayor, "2", after: .milliseconds(2)), at: clock.now)
        queue.add(touch(mayor, "late", after: .milliseconds(1)), at: clock.now)
        let messages = queue.dequeue(10, at: clock.now)
        #expect(described(messages) == ["r:mayor 2"])
        #expect(queue.coalesced == 2)
    }

    @Test func runtimeIsSentOnceASecond() {
        var queue = MirrorQueue()
        var times: [Duration] = []
        for step in 0..<40 {
            queue.add(touch(mayor), at: clock.now)
            if !queue.dequeue(10, at: clock.now).isEmpty { times.append(.milliseconds(step * 100)) }
            clock.advance(by: .milliseconds(100))
        }
        #expect(times == [.zero, .seconds(1), .seconds(2), .seconds(3)])
    }

    @Test func rateLimitedTouchIsDueAfterASecond() {
        var queue = MirrorQueue()
        queue.add(touch(mayor, "1"), at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        let due = clock.now + .seconds(1)
        clock.advance(by: .milliseconds(300))
        let isDue = queue.add(touch(mayor, "2", after: .milliseconds(1)), at: clock.now)
        #expect(!isDue)
        #expect(queue.due == .at(due))
        clock.advance(by: .milliseconds(699))
        let first = queue.dequeue(10, at: clock.now)
        #expect(first.isEmpty)
        clock.advance(by: .milliseconds(1))
        let second = queue.dequeue(10, at: clock.now)
        #expect(described(second) == ["r:mayor 2"])
    }

    @Test func sentEntriesAreDropped() {
        var queue = MirrorQueue()
        queue.add(touch(mayor), at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        clock.advance(by: .seconds(1))
        let messages = queue.dequeue(10, at: clock.now)
        #expect(messages.isEmpty)
        #expect(queue.due == nil)
    }

    @Test func forgetIsNotRateLimited() {
        var queue = MirrorQueue()
        queue.add(touch(mayor), at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        let isDue = queue.add(forget(mayor, after: .milliseconds(1)), at: clock.now)
        #expect(isDue)
        let messages = queue.dequeue(10, at: clock.now)
        #expect(described(messages) == ["r:mayor forgotten"])
    }

    @Test func forgetOutrunsAnOlderTouch() {
        var queue = MirrorQueue()
        queue.add(touch(mayor), at: clock.now)
        queue.add(forget(mayor, after: .milliseconds(1)), at: clock.now)
        let first = queue.dequeue(10, at: clock.now)
        #expect(described(first) == ["r:mayor forgotten"])
        // A touch made before the forget and added after it.
        queue.add(touch(mayor), at: clock.now)
        let second = queue.dequeue(10, at: clock.now)
        #expect(second.isEmpty)
    }

    @Test func touchAfterAForgetIsSent() {
        var queue = MirrorQueue()
        queue.add(forget(mayor), at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        queue.add(touch(mayor, "again", after: .milliseconds(1)), at: clock.now)
        let messages = queue.dequeue(10, at: clock.now)
        #expect(described(messages) == ["r:mayor again"])
    }

    @Test func forgetDoesNotMakeTouchesMoreFrequent() {
        var queue = MirrorQueue()
        queue.add(touch(mayor), at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        queue.add(forget(mayor, after: .milliseconds(1)), at: clock.now)
        queue.add(touch(mayor, "again", after: .milliseconds(2)), at: clock.now)
        let first = queue.dequeue(10, at: clock.now)
        #expect(first.isEmpty)
        #expect(queue.count == 1)
        clock.advance(by: .seconds(1))
        let second = queue.dequeue(10, at: clock.now)
        #expect(described(second) == ["r:mayor again"])
    }

    @Test func undeliveredMessagesAreSentAgain() {
        var queue = MirrorQueue()
        queue.add(touch(mayor, "1"), at: clock.now)
        queue.add(forget(deacon), at: clock.now)
        let taken = queue.dequeue(10, at: clock.now)
        queue.add(touch(mayor, "2", after: .milliseconds(1)), at: clock.now)
        queue.requeue(taken, at: clock.now)
        clock.advance(by: .seconds(1))
        let messages = queue.dequeue(10, at: clock.now)
        #expect(described(messages).sorted() == ["r:deacon forgotten", "r:mayor 2"])
    }

    @Test func messageThatAServerLostIsSentAgain() {
        var queue = MirrorQueue()
        let message = touch(mayor)
        queue.add(message, at: clock.now)
        _ = queue.dequeue(10, at: clock.now)
        clock.advance(by: .milliseconds(200))
        queue.requeue([message], at: clock.now)
        let early = queue.dequeue(10, at: clock.now)
        #expect(early.isEmpty)
        clock.advance(by: .milliseconds(800))
        let taken = queue.dequeue(10, at: clock.now)
        #expect(described(taken) == ["r:mayor {}"])
    }

    /// A backlog is a snapshot; it must not undo what was sent after it was made.
    @Test func backlogDoesNotUndoALaterForget() {
        var queue = MirrorQueue()
        let snapshot = touch(mayor)
        queue.add(forget(mayor, after: .milliseconds(1)), at: clock.now)
        let sent = queue.dequeue(10, at: clock.now)
        #expect(described(sent) == ["r:mayor forgotten"])
        queue.requeue([snapshot], at: clock.now)
        clock.advance(by: .milliseconds(999))
        let taken = queue.dequeue(10, at: clock.now)
        #expect(described(taken).isEmpty)
    }

    @Test func refusedMessageIsSentAgainAtOnce() {
        var queue = MirrorQueue()
        queue.add(touch(mayor), at: clock.now)
        let refused = queue.dequeue(10, at: clock.now)
        queue.requeue(refused, wereRefused: true, at: clock.now)
        let again = queue.dequeue(10, at: clock.now)
        #expect(described(again) == ["r:mayor {}"])
    }

    @Test func droppedChangesAreCountedAndReported() throws {
        var queue = MirrorQueue(capacity: 2)
        for number in 0..<5 { queue.add(touch(.runtime(try RuntimeID("runtime-\(number)"))), at: clock.now) }
        queue.add(forget(mayor), at: clock.now)
        #expect(queue.count == 3)
        #expect(queue.dropped == 3)
        let overflowed = queue.resetOverflow()
        #expect(overflowed)
        let overflowsAgain = queue.resetOverflow()
        #expect(!overflowsAgain)
        let messages = queue.dequeue(10, at: clock.now)
        #expect(described(messages) == ["r:runtime-0 {}", "r:runtime-1 {}", "r:mayor forgotten"])
        // There is room again when the rate limit is over.
        clock.advance(by: .seconds(1))
        queue.add(touch(deacon), at: clock.now)
        #expect(queue.count == 1)
    }

    @Test func limitLeavesTheRestForTheNextTime() throws {
        var queue = MirrorQueue()
        for number in 0..<5000 { queue.add(touch(.runtime(try RuntimeID("runtime-\(number)"))), at: clock.now) }
        var taken = 0
        while case let messages = queue.dequeue(512, at: clock.now), !messages.isEmpty { taken += messages.count }
        #expect(taken == 5000)
        #expect(queue.count == 0)
    }
}

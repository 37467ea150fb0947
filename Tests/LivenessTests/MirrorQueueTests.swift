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

    /// A touch of this moment, by its document.
    private func touch(_ subject: RecordSubject, _ document: String = "{}", after delay: Duration = .zero)
        -> MirrorQueue.Message
    {
        .touched(
            subject,
            Record(
                Touch(
                    receivedAt: clock.wallTime + delay, at: clock.now + delay, document: Document(Array(document.utf8)),
                    source: .written)))
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
        let taken1 = queue.take(10, at: clock.now)
        #expect(taken1.isEmpty)
    }

    @Test func firstTouchIsDueAtOnce() {
        var queue = MirrorQueue()
        let isFirst2 = queue.note(touch(mayor), at: clock.now)
        #expect(isFirst2)
        let isFirst3 = queue.note(touch(deacon), at: clock.now)
        #expect(!isFirst3, "whoever takes is awake already")
        #expect(queue.due == .now)
        #expect(queue.count == 2)
        let taken4 = queue.take(10, at: clock.now)
        #expect(described(taken4) == ["r:mayor {}", "r:deacon {}"])
        #expect(queue.count == 0)
    }

    @Test func newestTouchWins() {
        var queue = MirrorQueue()
        queue.note(touch(mayor, "1"), at: clock.now)
        queue.note(touch(mayor, "2", after: .milliseconds(2)), at: clock.now)
        queue.note(touch(mayor, "late", after: .milliseconds(1)), at: clock.now)
        let taken5 = queue.take(10, at: clock.now)
        #expect(described(taken5) == ["r:mayor 2"])
        #expect(queue.coalesced == 2)
    }

    @Test func runtimeIsToldOfOnceASecond() {
        var queue = MirrorQueue()
        var times: [Duration] = []
        for step in 0..<40 {
            queue.note(touch(mayor), at: clock.now)
            if !queue.take(10, at: clock.now).isEmpty { times.append(.milliseconds(step * 100)) }
            clock.advance(by: .milliseconds(100))
        }
        #expect(times == [.zero, .seconds(1), .seconds(2), .seconds(3)])
    }

    @Test func touchThatHasToWaitIsDueWhenItsSecondIsOver() {
        var queue = MirrorQueue()
        queue.note(touch(mayor, "1"), at: clock.now)
        _ = queue.take(10, at: clock.now)
        let due = clock.now + .seconds(1)
        clock.advance(by: .milliseconds(300))
        let isFirst6 = queue.note(touch(mayor, "2", after: .milliseconds(1)), at: clock.now)
        #expect(!isFirst6)
        #expect(queue.due == .at(due))
        clock.advance(by: .milliseconds(699))
        let taken7 = queue.take(10, at: clock.now)
        #expect(taken7.isEmpty)
        clock.advance(by: .milliseconds(1))
        let taken8 = queue.take(10, at: clock.now)
        #expect(described(taken8) == ["r:mayor 2"])
    }

    @Test func nothingIsKeptOfWhatIsOver() {
        var queue = MirrorQueue()
        queue.note(touch(mayor), at: clock.now)
        _ = queue.take(10, at: clock.now)
        clock.advance(by: .seconds(1))
        let taken9 = queue.take(10, at: clock.now)
        #expect(taken9.isEmpty)
        #expect(queue.due == nil)
    }

    @Test func forgetWaitsForNothing() {
        var queue = MirrorQueue()
        queue.note(touch(mayor), at: clock.now)
        _ = queue.take(10, at: clock.now)
        let isFirst10 = queue.note(forget(mayor, after: .milliseconds(1)), at: clock.now)
        #expect(isFirst10)
        let taken11 = queue.take(10, at: clock.now)
        #expect(described(taken11) == ["r:mayor forgotten"])
    }

    @Test func forgetOutrunsAnOlderTouch() {
        var queue = MirrorQueue()
        queue.note(touch(mayor), at: clock.now)
        queue.note(forget(mayor, after: .milliseconds(1)), at: clock.now)
        let taken12 = queue.take(10, at: clock.now)
        #expect(described(taken12) == ["r:mayor forgotten"])
        // One that was on its way here when the runtime was forgotten.
        queue.note(touch(mayor), at: clock.now)
        let taken13 = queue.take(10, at: clock.now)
        #expect(taken13.isEmpty)
    }

    @Test func touchAfterAForgetIsTold() {
        var queue = MirrorQueue()
        queue.note(forget(mayor), at: clock.now)
        _ = queue.take(10, at: clock.now)
        queue.note(touch(mayor, "again", after: .milliseconds(1)), at: clock.now)
        let taken14 = queue.take(10, at: clock.now)
        #expect(described(taken14) == ["r:mayor again"])
    }

    @Test func forgetDoesNotMakeTouchesMoreFrequent() {
        var queue = MirrorQueue()
        queue.note(touch(mayor), at: clock.now)
        _ = queue.take(10, at: clock.now)
        queue.note(forget(mayor, after: .milliseconds(1)), at: clock.now)
        queue.note(touch(mayor, "again", after: .milliseconds(2)), at: clock.now)
        let taken15 = queue.take(10, at: clock.now)
        #expect(taken15.isEmpty)
        #expect(queue.count == 1)
        clock.advance(by: .seconds(1))
        let taken16 = queue.take(10, at: clock.now)
        #expect(described(taken16) == ["r:mayor again"])
    }

    @Test func whatWasTakenAndNotToldIsToldAgain() {
        var queue = MirrorQueue()
        queue.note(touch(mayor, "1"), at: clock.now)
        queue.note(forget(deacon), at: clock.now)
        let taken = queue.take(10, at: clock.now)
        queue.note(touch(mayor, "2", after: .milliseconds(1)), at: clock.now)
        queue.putBack(taken, at: clock.now)
        clock.advance(by: .seconds(1))
        let taken17 = queue.take(10, at: clock.now)
        #expect(described(taken17).sorted() == ["r:deacon forgotten", "r:mayor 2"])
    }

    @Test func whatWasToldAServerThatLostItIsToldAgain() {
        var queue = MirrorQueue()
        let message = touch(mayor)
        queue.note(message, at: clock.now)
        _ = queue.take(10, at: clock.now)
        clock.advance(by: .milliseconds(200))
        queue.putBack([message], at: clock.now)
        let early = queue.take(10, at: clock.now)
        #expect(early.isEmpty)
        clock.advance(by: .milliseconds(800))
        let taken = queue.take(10, at: clock.now)
        #expect(described(taken) == ["r:mayor {}"])
    }

    /// A refill is a snapshot: what was told after it was taken must not be undone by it.
    @Test func refillDoesNotUndoAForgetThatWasToldSinceItWasTaken() {
        var queue = MirrorQueue()
        let snapshot = touch(mayor)
        queue.note(forget(mayor, after: .milliseconds(1)), at: clock.now)
        let told = queue.take(10, at: clock.now)
        #expect(described(told) == ["r:mayor forgotten"])
        queue.putBack([snapshot], at: clock.now)
        clock.advance(by: .milliseconds(999))
        let taken = queue.take(10, at: clock.now)
        #expect(described(taken).isEmpty)
    }

    @Test func whatWasRefusedMayBeToldAgainAtOnce() {
        var queue = MirrorQueue()
        queue.note(touch(mayor), at: clock.now)
        let refused = queue.take(10, at: clock.now)
        queue.putBack(refused, wereRefused: true, at: clock.now)
        let again = queue.take(10, at: clock.now)
        #expect(described(again) == ["r:mayor {}"])
    }

    @Test func whatThereIsNoRoomForIsCountedAndSaid() throws {
        var queue = MirrorQueue(capacity: 2)
        for number in 0..<5 { queue.note(touch(.runtime(try RuntimeID("runtime-\(number)"))), at: clock.now) }
        queue.note(forget(mayor), at: clock.now)
        #expect(queue.count == 3)
        #expect(queue.dropped == 3)
        let overflowed18 = queue.takeOverflow()
        #expect(overflowed18)
        let overflowed19 = queue.takeOverflow()
        #expect(!overflowed19)
        let taken20 = queue.take(10, at: clock.now)
        #expect(described(taken20) == ["r:runtime-0 {}", "r:runtime-1 {}", "r:mayor forgotten"])
        // There is room again when what was told has cooled.
        clock.advance(by: .seconds(1))
        queue.note(touch(deacon), at: clock.now)
        #expect(queue.count == 1)
    }

    @Test func limitLeavesTheRestForTheNextTime() throws {
        var queue = MirrorQueue()
        for number in 0..<5000 { queue.note(touch(.runtime(try RuntimeID("runtime-\(number)"))), at: clock.now) }
        var taken = 0
        while case let messages = queue.take(512, at: clock.now), !messages.isEmpty { taken += messages.count }
        #expect(taken == 5000)
        #expect(queue.count == 0)
    }
}

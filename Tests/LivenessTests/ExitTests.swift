import TestSupport
import Testing

@testable import Liveness

/// The record of a runtime whose root process has exited.
@Suite(.timeLimit(.minutes(5))) struct ExitTests {
    private let start = FakeClock.start
    private let wall = WallTime(seconds: 1_785_585_600)
    private let here = Origin(host: "here", path: "/gt")
    private let there = Origin(host: "there", path: "/gt")
    private let nux: RuntimeID

    init() throws {
        nux = try RuntimeID("gastown/polecats/nux")
    }

    private func touch(
        after delay: Duration, _ text: String? = nil, evidence: Attribution.Evidence = .environment(.role),
        by origin: Origin? = nil
    ) -> Touch {
        Touch(
            runtime: nux, receivedAt: wall + delay, at: start + delay,
            document: text.map { Document(Array($0.utf8)) }, source: .written, evidence: evidence,
            stamp: HLCTimestamp(wall + delay, by: origin))
    }

    private func exit(after delay: Duration) -> Record.Exit {
        Record.Exit(
            of: Touch.Process(pid: 4711, program: "claude"), noticedAt: wall + delay, at: start + delay)
    }

    private func stamp(after delay: Duration, by origin: Origin? = nil) -> HLCTimestamp {
        HLCTimestamp(wall + delay, by: origin)
    }

    @Test func exitedRuntimeIsNotAlive() throws {
        var table = LivenessTable()
        table.touch(touch(after: .zero))
        let now = start + .seconds(1)
        #expect(table.isAlive(nux, at: now))
        let ended = table.exit(nux, exit(after: .seconds(1)), stamp: stamp(after: .seconds(1)))
        let record = try #require(ended)
        #expect(record.state(at: now) == .exited)
        #expect(!table.isAlive(nux, at: now))
        #expect(record.touch.stamp > stamp(after: .zero))
        let again = table.exit(nux, exit(after: .seconds(2)), stamp: stamp(after: .seconds(2)))
        #expect(again == nil)
    }

    @Test func touchAfterTheExitStartsANewLife() throws {
        var table = LivenessTable()
        var long = touch(after: .zero)
        long.ttl = .seconds(3600)
        table.touch(long)
        _ = table.exit(nux, exit(after: .seconds(1)), stamp: stamp(after: .seconds(1)))
        table.touch(touch(after: .seconds(2)))
        let record = try #require(table.record(of: nux))
        #expect(record.state(at: start + .seconds(3)) == .alive)
        // The ttl of the former life does not count.
        #expect(record.deadline == start + .seconds(92))
    }

    @Test func lateTouchFromBeforeTheExitIsNoLife() throws {
        var table = LivenessTable()
        table.touch(touch(after: .zero))
        _ = table.exit(nux, exit(after: .seconds(5)), stamp: stamp(after: .seconds(5)))
        table.touch(touch(after: .seconds(4)))
        #expect(table.record(of: nux)?.state(at: start + .seconds(6)) == .exited)
    }

    @Test func exitOfARuntimeTouchedLaterOrElsewhereIsIgnored() throws {
        let stranger = try RuntimeID("never")
        var table = LivenessTable(isShared: true)
        table.touch(touch(after: .seconds(2), by: here))
        let before = table.exit(nux, exit(after: .seconds(1)), stamp: stamp(after: .seconds(1), by: here))
        #expect(before == nil, "touched after its process was seen to have ended")
        _ = table.receive(touch(after: .seconds(3), by: there), at: start + .seconds(3))
        let elsewhere = table.exit(nux, exit(after: .seconds(4)), stamp: stamp(after: .seconds(4), by: here))
        #expect(elsewhere == nil, "it lives on another host")
        let unknown = table.exit(
            stranger, exit(after: .seconds(4)), stamp: stamp(after: .seconds(4), by: here))
        #expect(unknown == nil)
    }

    @Test func exitedRecordsAreKeptAsLongAsExpiredOnes() {
        var table = LivenessTable(retention: .seconds(100))
        table.touch(touch(after: .zero))
        _ = table.exit(nux, exit(after: .seconds(1)), stamp: stamp(after: .seconds(1)))
        table.sweep(at: start + .seconds(150))
        #expect(table.record(of: nux) != nil)
        table.sweep(at: start + .seconds(191))
        #expect(table.record(of: nux) == nil)
    }

    @Test func recordKeepsOwnAndSharedDocuments() throws {
        var table = LivenessTable()
        table.touch(touch(after: .zero, #"{"state":"working"}"#, evidence: .path))
        table.touch(touch(after: .seconds(1), #"{"last_command":"gt mail"}"#))
        table.touch(touch(after: .seconds(2)))
        let record = try #require(table.record(of: nux))
        #expect(record.ownDocument?.string("state") == "working")
        #expect(record.sharedDocument?.string("last_command") == "gt mail")
        #expect(record.touch.document?.string("last_command") == "gt mail")
    }

    @Test func exitIsSentAsARecord() throws {
        var table = LivenessTable(isShared: true)
        table.touch(touch(after: .zero, "{}", by: here))
        let ended = table.exit(nux, exit(after: .seconds(10)), stamp: stamp(after: .seconds(10), by: here))
        let sent = SharedRecord(.touched(.runtime(nux), try #require(ended)))
        let received = try #require(SharedRecord(sent.encoded(by: here)))
        #expect(received == sent)
        // Received five seconds later by an origin with another clock.
        let (elsewhere, instant) = (wall + .seconds(1000), start + .seconds(77))
        let (touch, exit) = try #require(
            received.touch(shared: wall + .seconds(15), wall: elsewhere, instant: instant))
        #expect(touch.receivedAt == elsewhere + .seconds(-15))
        #expect(exit?.noticedAt == elsewhere + .seconds(-5))
        #expect(exit?.process == Touch.Process(pid: 4711, program: "claude"))
        var other = LivenessTable(isShared: true)
        let isNews = other.receive(touch, exit: exit, at: instant)
        #expect(isNews)
        #expect(other.record(of: nux)?.state(at: instant) == .exited)
    }

    @Test func exitIsSentAtOnceAfterATouch() throws {
        var table = LivenessTable(isShared: true)
        var queue = MirrorQueue()
        table.touch(touch(after: .zero, by: here))
        queue.add(.runtime(nux), isUrgent: false, at: start)
        _ = queue.dequeue(10, at: start)
        let ended = table.exit(nux, exit(after: .milliseconds(100)), stamp: stamp(after: .milliseconds(100), by: here))
        queue.add(.runtime(nux), isUrgent: ended != nil, at: start + .milliseconds(100))
        let sent = queue.dequeue(10, at: start + .milliseconds(100))
        #expect(sent.count == 1)
    }
}

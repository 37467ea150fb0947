import Liveness
import Testing

@testable import LivenessRedis

@Suite(.timeLimit(.minutes(5))) struct SharedClockTests {
    private let clock = SharedClock()
    private let wall = WallTime(seconds: 1_785_585_600)

    /// The reply of a server whose clock is ahead.
    private func answer(ahead: Duration, after time: Duration, late: Duration = .zero) -> Duration {
        let server = wall + time / 2 + ahead + late
        let reply = RedisReply.array(
            ["\(server.seconds)", "\(server.nanoseconds / 1000)"].map { .string(Array($0.utf8)) })
        return clock.set(reply, asked: wall, answered: wall + time)
    }

    private var ahead: Duration { clock.shared(wall) - wall }

    @Test func clockIsLocalUntilTheServerAnswers() {
        #expect(!clock.isKnown)
        #expect(ahead == .zero)
        let change = answer(ahead: .seconds(3600), after: .milliseconds(2))
        #expect(change == .seconds(3600))
        #expect(clock.isKnown)
        #expect(ahead == .seconds(3600))
    }

    @Test func slowAnswerDoesNotReplaceAQuickOne() {
        _ = answer(ahead: .seconds(10), after: .milliseconds(1))
        // Read at the end of a round trip of a second: by itself it would mean half a second more.
        let change = answer(ahead: .seconds(10), after: .seconds(1), late: .milliseconds(499))
        #expect(change == .zero)
        #expect(ahead == .seconds(10))
    }

    @Test func quickAnswerReplacesASlowOne() {
        _ = answer(ahead: .seconds(10), after: .seconds(1), late: .milliseconds(499))
        _ = answer(ahead: .seconds(10), after: .milliseconds(1))
        #expect(ahead == .seconds(10))
    }

    @Test func contradictingAnswerIsBelieved() {
        _ = answer(ahead: .seconds(10), after: .milliseconds(1))
        let change = answer(ahead: .seconds(12), after: .milliseconds(500))
        #expect(change == .seconds(2))
        #expect(ahead == .seconds(12))
    }

    @Test(
        arguments: [
            .null, .status("OK"), .array([]), .array([.integer(1), .integer(2)]),
            .array([.string(Array("x".utf8)), .string(Array("0".utf8))]),
            .array([.string(Array("1".utf8)), .string(Array("1000000".utf8))]),
            .array([.string(Array("9223372036854775807".utf8)), .string(Array("0".utf8))]),
            .array([.string(Array("-9223372036854775808".utf8)), .string(Array("0".utf8))]),
        ] as [RedisReply])
    func invalidTimeChangesNothing(_ reply: RedisReply) {
        let change = clock.set(reply, asked: wall, answered: wall + .milliseconds(1))
        #expect(change == .zero)
        #expect(!clock.isKnown)
    }
}

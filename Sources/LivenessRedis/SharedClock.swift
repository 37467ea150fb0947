import Liveness
import Synchronization

/// The Redis server's clock, by which all who share records stamp them: how far ours is from it.
///
/// Before it was first asked, and with a server that will not say, it is our own.
final class SharedClock: Sendable {
    /// In nanoseconds; added to our wall clock.
    private let offset = Atomic<Int64>(0)
    private let hasAnswered = Atomic<Bool>(false)

    var isKnown: Bool { hasAnswered.load(ordering: .relaxed) }

    func shared(_ wall: WallTime) -> WallTime {
        wall + .nanoseconds(offset.load(ordering: .relaxed))
    }

    /// Takes in what `TIME` has answered: seconds, and microseconds of the second.
    ///
    /// - Parameters:
    ///   - asked: Our wall clock when the question was sent.
    ///   - answered: The same when the answer had come: the server read its clock about half-way between.
    /// - Returns: By how much that moves the shared time.
    func set(_ reply: RedisReply, asked: WallTime, answered: WallTime) -> Duration {
        guard case .array(let parts) = reply, parts.count == 2, let seconds = parts[0].number,
            let microseconds = parts[1].number, (0..<1_000_000).contains(microseconds)
        else { return .zero }
        let server = WallTime(seconds: seconds, nanoseconds: Int32(microseconds * 1000))
        let between = asked + (answered - asked) / 2
        let distance = (server - between).components
        // Further than this no two clocks are; the sum must not overflow.
        guard abs(distance.seconds) < 1_000_000_000 else { return .zero }
        let new = distance.seconds * 1_000_000_000 + distance.attoseconds / 1_000_000_000
        let old = offset.exchange(new, ordering: .relaxed)
        hasAnswered.store(true, ordering: .relaxed)
        return .nanoseconds(new - old)
    }
}

extension RedisReply {
    /// The number that a string spells.
    fileprivate var number: Int64? {
        guard case .string(let bytes) = self else { return nil }
        return Int64(String(decoding: bytes, as: UTF8.self))
    }
}

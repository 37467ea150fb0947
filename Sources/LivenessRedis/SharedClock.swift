import Liveness
import Synchronization

/// The Redis server's clock, by which all who share records stamp them: how far ours is from it.
///
/// Before it was first asked, and with a server that will not say, it is our own. An answer says no more than that the
/// server's clock was read between question and answer: one that took long does not replace one that was quick, unless
/// the two cannot both be right.
final class SharedClock: Sendable {
    /// In nanoseconds; added to our wall clock.
    private let offset = Atomic<Int64>(0)
    /// How far `offset` may be from the truth, in nanoseconds; nil before the first answer.
    private let uncertainty = Mutex<Int64?>(nil)
    /// By how much two clocks may have drifted apart between two answers.
    private static let drift: Int64 = 20_000

    var isKnown: Bool { uncertainty.withLock { $0 != nil } }

    func shared(_ wall: WallTime) -> WallTime {
        wall + .nanoseconds(offset.load(ordering: .relaxed))
    }

    /// Takes in what `TIME` has answered: seconds, and microseconds of the second.
    ///
    /// - Parameters:
    ///   - asked: Our wall clock when the question was sent.
    ///   - answered: The same when the answer had come.
    /// - Returns: By how much that moves the shared time.
    func set(_ reply: RedisReply, asked: WallTime, answered: WallTime) -> Duration {
        guard case .array(let parts) = reply, parts.count == 2, let seconds = parts[0].number,
            let microseconds = parts[1].number, (0..<1_000_000).contains(microseconds)
        else { return .zero }
        let server = WallTime(seconds: seconds, nanoseconds: Int32(microseconds * 1000))
        let distance = server - (asked + (answered - asked) / 2)
        // Further than this no two clocks are; the numbers must not overflow.
        let limit = Duration.seconds(1_000_000_000)
        guard (.zero - limit..<limit).contains(distance), answered - asked < .seconds(60) else { return .zero }
        return uncertainty.withLock { uncertainty in
            let (new, old) = (distance.nanoseconds, offset.load(ordering: .relaxed))
            let newUncertainty = abs((answered - asked).nanoseconds) / 2
            if let known = uncertainty.map({ $0 + Self.drift }) {
                uncertainty = known
                guard newUncertainty < known || abs(new - old) > known + newUncertainty else { return .zero }
            }
            uncertainty = newUncertainty
            offset.store(new, ordering: .relaxed)
            return .nanoseconds(new - old)
        }
    }
}

extension Duration {
    /// Whole nanoseconds of one that is short enough.
    fileprivate var nanoseconds: Int64 {
        components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000
    }
}

extension RedisReply {
    /// The number that a string spells.
    fileprivate var number: Int64? {
        guard case .string(let bytes) = self else { return nil }
        return Int64(String(decoding: bytes, as: UTF8.self))
    }
}

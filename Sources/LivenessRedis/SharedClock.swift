import Liveness
import Synchronization

/// The Redis server's clock, which stamps the records of all origins, as an offset from the local one.
///
/// 0 until the first answer, or if the server refuses TIME. The server reads its clock between question and answer, so a
/// slow answer replaces a quick one only if the two contradict each other.
final class SharedClock: Sendable {
    /// In nanoseconds; added to the local wall clock.
    private let offset = Atomic<Int64>(0)
    /// Maximum error of `offset`, in nanoseconds; nil before the first answer.
    private let uncertainty = Mutex<Int64?>(nil)
    /// Maximum drift between two answers, in nanoseconds.
    private static let drift: Int64 = 20_000

    var isKnown: Bool { uncertainty.withLock { $0 != nil } }

    func shared(_ wall: WallTime) -> WallTime {
        wall + .nanoseconds(offset.load(ordering: .relaxed))
    }

    /// Updates the offset from a reply to TIME: seconds and microseconds.
    ///
    /// - Parameters:
    ///   - asked: The local time before the command.
    ///   - answered: The local time after the reply.
    /// - Returns: The change of the offset.
    func set(_ reply: RedisReply, asked: WallTime, answered: WallTime) -> Duration {
        guard case .array(let parts) = reply, parts.count == 2, let seconds = parts[0].number,
            let microseconds = parts[1].number, (0..<1_000_000).contains(microseconds)
        else { return .zero }
        let server = WallTime(seconds: seconds, nanoseconds: Int32(microseconds * 1000))
        let distance = server - (asked + (answered - asked) / 2)
        // Keeps the arithmetic from overflowing.
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
    fileprivate var nanoseconds: Int64 {
        components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000
    }
}

extension RedisReply {
    /// A string as a decimal number.
    fileprivate var number: Int64? {
        guard case .string(let bytes) = self else { return nil }
        return Int64(String(decoding: bytes, as: UTF8.self))
    }
}

import Liveness
import Synchronization

/// A clock that moves by `advance` only.
final class FakeClock: Sendable {
    static let start = ContinuousClock.now
    private let elapsed = Mutex(Duration.zero)

    var now: ContinuousClock.Instant { Self.start + elapsed.withLock { $0 } }

    var wallTime: WallTime { WallTime(seconds: 1_785_585_600 + elapsed.withLock { $0 }.components.seconds) }

    func advance(by duration: Duration) {
        elapsed.withLock { $0 += duration }
    }
}

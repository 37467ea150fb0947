import Liveness
import Synchronization

/// A clock that moves only when a test moves it.
///
/// Wall time and monotonic time move together or independently.
package final class FakeClock: Sendable {
    private struct State {
        var instant: ContinuousClock.Instant
        var wall: WallTime
    }

    /// Where monotonic time begins.
    package static let start = ContinuousClock.now
    private let state: Mutex<State>

    /// A clock that starts at the same wall time in every run.
    package convenience init() {
        self.init(wall: WallTime(seconds: 1_785_585_600))
    }

    package init(wall: WallTime) {
        state = Mutex(State(instant: Self.start, wall: wall))
    }

    /// A clock that starts at the machine's time, for comparisons with the times of real files.
    package static func atPresent() -> FakeClock {
        _ = start
        return FakeClock(wall: .now)
    }

    /// Monotonic time.
    package var now: ContinuousClock.Instant { state.withLock(\.instant) }

    package var wallTime: WallTime { state.withLock(\.wall) }

    package var both: (wall: WallTime, instant: ContinuousClock.Instant) { state.withLock { ($0.wall, $0.instant) } }

    /// Lets time pass.
    package func advance(by duration: Duration) {
        state.withLock {
            $0.instant += duration
            $0.wall = $0.wall + duration
        }
    }

    /// Sets the wall clock forward or back, as clock_settime(2) does; monotonic time stays.
    package func stepWall(by duration: Duration) {
        state.withLock { $0.wall = $0.wall + duration }
    }
}

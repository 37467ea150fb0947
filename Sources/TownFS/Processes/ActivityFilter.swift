import Fuse
import Glibc
import Liveness
import Synchronization

/// Notes, while requests are answered, which threads are at work on the town's files.
///
/// A request pays for a look at one slot of a small table: whose turn it was there last, and in which second. Only the
/// first request of a thread in a second is handed on.
final class ActivityFilter: Sendable {
    /// A power of two.
    private static let slots = 4096

    /// Thread in the upper half, second in the lower.
    private let seen: Seen

    private final class Seen: Sendable {
        let slots: InlineArray<4096, Atomic<UInt64>> = InlineArray { _ in Atomic(0) }
    }

    init() { seen = Seen() }

    /// Whether this is news of the thread.
    func isNews(of thread: pid_t) -> Bool {
        let mark = UInt64(UInt32(bitPattern: thread)) << 32 | UInt64(Self.second)
        let slot = Int(thread) & (Self.slots - 1)
        guard seen.slots[slot].load(ordering: .relaxed) != mark else { return false }
        seen.slots[slot].store(mark, ordering: .relaxed)
        return true
    }

    /// Of some clock, to tell one from the next.
    static var second: UInt32 {
        var now = timespec()
        // As coarse as the scheduler's tick, and some ten times as cheap as the exact one.
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now)
        return UInt32(truncatingIfNeeded: now.tv_sec)
    }
}

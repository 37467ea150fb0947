import Fuse
import Glibc
import Liveness
import Synchronization

/// Selects the first request of each thread in each second.
///
/// The cost is one atomic load from a small table of (thread, second), indexed by thread.
final class ActivityFilter: Sendable {
    /// A power of two.
    private static let slots = 4096

    /// Thread in the upper half, second in the lower.
    private let seen: Seen

    private final class Seen: Sendable {
        let slots: InlineArray<4096, Atomic<UInt64>> = InlineArray { _ in Atomic(0) }
    }

    init() { seen = Seen() }

    /// Whether this is the thread's first request in this second.
    func isFirst(of thread: pid_t) -> Bool {
        let mark = UInt64(UInt32(bitPattern: thread)) << 32 | UInt64(Self.second)
        let slot = Int(thread) & (Self.slots - 1)
        guard seen.slots[slot].load(ordering: .relaxed) != mark else { return false }
        seen.slots[slot].store(mark, ordering: .relaxed)
        return true
    }

    /// The current second of the monotonic clock.
    static var second: UInt32 {
        var now = timespec()
        // Has the resolution of a scheduler tick and costs a tenth of CLOCK_MONOTONIC.
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now)
        return UInt32(truncatingIfNeeded: now.tv_sec)
    }
}

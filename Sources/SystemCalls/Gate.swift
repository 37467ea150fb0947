import CLinux
import Glibc
import SystemPackage

/// Lets a few threads at a time do something that may take for ever, and turns the others away after a while.
///
/// The corresponding C functions are `sem_clockwait` and `sem_post`.
package final class Gate: Sendable {
    // because a semaphore is made to be used by several threads, and has to stay where it is.
    nonisolated(unsafe) private let semaphore: UnsafeMutablePointer<sem_t>
    private let patience: Duration

    /// - Parameters:
    ///   - width: How many may be inside.
    ///   - patience: How long the others wait.
    package init(width: Int, patience: Duration) {
        self.patience = patience
        semaphore = .allocate(capacity: 1)
        sem_init(semaphore, 0, UInt32(width))
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    /// Calls `body` if there is room, or comes to be in time; else the answer is nil.
    package func pass<Result>(_ body: () -> Result?) -> Result? {
        guard enter() else { return nil }
        defer { sem_post(semaphore) }
        return body()
    }

    private func enter() -> Bool {
        if sem_trywait(semaphore) == 0 { return true }
        var limit = timespec()
        clock_gettime(CLOCK_MONOTONIC, &limit)
        let nanoseconds = limit.tv_nsec + Int(patience / .nanoseconds(1))
        limit.tv_sec += nanoseconds / 1_000_000_000
        limit.tv_nsec = nanoseconds % 1_000_000_000
        return (try? retryingInterrupts { clinux_sem_wait(semaphore, &limit) }) != nil
    }
}

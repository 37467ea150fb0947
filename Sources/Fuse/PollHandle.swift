import CFuse
import Glibc

/// Tells the kernel that somebody who waits in poll(2), select(2) or epoll(7) shall ask again.
///
/// Once is enough for each; more often costs and does no harm, also when the file has been closed since. Any thread may
/// do so, but none that holds a lock.
///
/// The corresponding libfuse type is `struct fuse_pollhandle`.
public final class PollHandle: Sendable {
    // because libfuse only reads what it points to, until `deinit` frees it.
    private nonisolated(unsafe) let handle: OpaquePointer
    /// What it belongs to, and must not outlive.
    private let served: Session.Served

    init(takingOwnershipOf handle: OpaquePointer, of served: Session.Served) {
        self.handle = handle
        self.served = served
    }

    public func raise() {
        // Fails only when the connection has ended, and nobody waits then.
        fuse_lowlevel_notify_poll(handle)
    }

    deinit {
        fuse_pollhandle_destroy(handle)
    }
}

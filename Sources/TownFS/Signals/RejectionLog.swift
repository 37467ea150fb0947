import Fuse
import Glibc
import Liveness
import Logging
import Synchronization

/// Says in the log, once per writer and file, what was written that is no document.
///
/// A broken tool writes every few seconds; one line of it is enough to find it.
final class RejectionLog: Sendable {
    private struct IdentityClaims: Hashable {
        let thread: pid_t
        let user: uid_t
        let path: [UInt8]
    }

    /// How many writers are remembered; with more, all are forgotten and may be named a second time.
    private static let capacity = 1024

    private let known = Mutex<Set<IdentityClaims>>([])
    private let log: Logger

    init(log: Logger) {
        self.log = log
    }

    func note(_ rejection: Document.Rejection, of path: [UInt8], by request: Request) {
        let isNew = known.withLock { known in
            if known.count >= Self.capacity { known.removeAll() }
            return known.insert(IdentityClaims(thread: request.thread, user: request.user, path: path)).inserted
        }
        guard isNew else { return }
        log.warning(
            "refused a write to \(String(printable: path)): \(rejection)",
            metadata: ["thread": "\(request.thread)", "user": "\(request.user)"])
    }
}

import Fuse
import Glibc
import Liveness
import Logging
import Synchronization

/// Logs rejected documents, once per writer and file.
///
/// A broken tool writes every few seconds. One line is enough to find it.
final class RejectionLog: Sendable {
    private struct IdentityClaims: Hashable {
        let thread: pid_t
        let user: uid_t
        let path: [UInt8]
    }

    /// How many writers are remembered.
    ///
    /// When there are more, all are forgotten.
    private static let capacity = 1024

    private let known = Mutex<Set<IdentityClaims>>([])
    private let log: Logger

    init(log: Logger) {
        self.log = log
    }

    func record(_ rejection: Document.Rejection, of path: [UInt8], by request: Request) {
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

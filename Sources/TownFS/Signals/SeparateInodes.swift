import Fuse
import Glibc
import Synchronization

/// Opens of signal files that need their own inode, by thread.
///
/// After ESTALE the kernel repeats an open once, and looks all names of the path up again (LOOKUP_REVAL). Lookups by
/// that thread return a new inode of the same file with an entry timeout of 0, and the second open is of that inode.
/// Later lookups return the first inode, which owns locks (flock(2), fcntl(2)) and watches (inotify(7)).
final class SeparateInodes: Sendable {
    private struct Pending {
        let file: SignalFile
        var inode: InodeNumber?
    }

    private let pending = Mutex<[pid_t: Pending]>([:])
    /// The size of `pending`, so that most lookups need no lock.
    private let count = Atomic(0)

    /// Entries of killed threads stay until there are so many.
    private static let capacity = 1024

    /// Records an open that gets ESTALE.
    func begin(_ file: SignalFile, for thread: pid_t) {
        pending.withLock { pending in
            if pending.count >= Self.capacity { pending = [:] }
            pending[thread] = Pending(file: file)
            count.store(pending.count, ordering: .relaxed)
        }
    }

    /// Records a successful open.
    func end(for thread: pid_t) {
        guard count.load(ordering: .relaxed) > 0 else { return }
        pending.withLock { pending in
            pending[thread] = nil
            count.store(pending.count, ordering: .relaxed)
        }
    }

    /// Whether the last open of a file by a thread got ESTALE, so that this is the kernel's last attempt.
    func isPending(_ file: SignalFile, for thread: pid_t) -> Bool {
        count.load(ordering: .relaxed) > 0 && pending.withLock { $0[thread]?.file === file }
    }

    /// The inode for the open of a thread.
    ///
    /// - Parameter remember: Counts a lookup of the inode of an earlier lookup, or of a new one if the kernel forgot that.
    func lookup(
        _ file: SignalFile, for thread: pid_t, remember: (InodeNumber?) -> InodeNumber
    ) -> InodeNumber {
        let inode = remember(pending.withLock { $0[thread]?.inode })
        pending.withLock { pending in
            if pending[thread]?.file === file { pending[thread]?.inode = inode }
        }
        return inode
    }
}

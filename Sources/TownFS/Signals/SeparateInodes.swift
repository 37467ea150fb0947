import Fuse
import Glibc
import Synchronization

/// Openings of signal files that are to get an inode of their own, by the thread that makes them.
///
/// An open that is answered ESTALE is tried once more by the kernel, with all names on the way looked up again. Lookups by that
/// thread find a new inode of the same file, whose name the kernel forgets at once, and the open that follows is of that.
/// Others find the file under its first inode, which locks (flock(2), fcntl(2)) and watches (inotify(7)) belong to.
final class SeparateInodes: Sendable {
    private struct Pending {
        let file: SignalFile
        var inode: InodeNumber?
    }

    private let pending = Mutex<[pid_t: Pending]>([:])
    /// Spares the lock for nearly every lookup.
    private let count = Atomic(0)

    /// Threads that were killed before they came back are dropped when there are so many.
    private static let capacity = 1024

    /// Records that an open is about to be answered ESTALE.
    func begin(_ file: SignalFile, for thread: pid_t) {
        pending.withLock { pending in
            if pending.count >= Self.capacity { pending = [:] }
            pending[thread] = Pending(file: file)
            count.store(pending.count, ordering: .relaxed)
        }
    }

    /// Records that a thread has opened a file.
    func end(for thread: pid_t) {
        guard count.load(ordering: .relaxed) > 0 else { return }
        pending.withLock { pending in
            pending[thread] = nil
            count.store(pending.count, ordering: .relaxed)
        }
    }

    /// Whether a thread's last open of a file was answered ESTALE: it is trying for the second time, and will not for a third.
    func isPending(_ file: SignalFile, for thread: pid_t) -> Bool {
        count.load(ordering: .relaxed) > 0 && pending.withLock { $0[thread]?.file === file }
    }

    /// Finds the inode for a thread's opening.
    ///
    /// - Parameter remember: Counts a lookup of the inode that a former lookup found, or of a new one if that is gone.
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

import CLinux
import Glibc
import Synchronization

/// Says of an opening, in the reply to it, that it has no position (`FOPEN_STREAM`), for which libfuse 3.14 has no word.
///
/// Without, the kernel would hold a lock of the open file while a read of it waits, and whoever shares the descriptor and
/// reads, too, could not even be killed.
///
/// Shapes: `struct fuse_out_header` (16 bytes), `struct fuse_open_out` (16 bytes: handle 8, flags 4), of linux/fuse.h.
final class StreamOpening: Sendable {
    private let replying = Mutex(())
    /// The thread whose next reply is to be completed; 0 is none.
    private let thread = Atomic<UInt>(0)

    /// Calls `reply`, which sends the reply to an OPEN and nothing else.
    func replying<Result>(_ reply: () -> Result) -> Result {
        // One at a time, which may hold its lock while it writes: the kernel takes a reply without making anybody wait.
        replying.withLock { _ in
            thread.store(pthread_self(), ordering: .relaxed)
            defer { thread.store(0, ordering: .relaxed) }
            return reply()
        }
    }

    /// Completes such a reply, in the memory that libfuse is about to write from; leaves all others alone.
    func completeReply(_ parts: UnsafePointer<iovec>, count: CInt) {
        // A thread sees what it has stored itself, and what others store is not its own number.
        guard thread.load(ordering: .relaxed) == pthread_self(), count == 2, parts[1].iov_len == 16,
            let body = parts[1].iov_base
        else { return }
        let flags = body.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
        body.storeBytes(of: flags | UInt32(FOPEN_STREAM), toByteOffset: 8, as: UInt32.self)
    }
}

import CLinux
import Glibc
import Synchronization

/// What libfuse cannot say in its reply to INIT, said for it.
///
/// libfuse 3.14 passes on the features it has names for. This stands between it and the connection for the first request
/// and its reply, notes what the kernel offers, and accepts what pulsefs wants beyond that:
///
/// - `FUSE_HANDLE_KILLPRIV_V2`: the kernel no longer asks for `security.capability` before every write. Whoever writes to
///   a file beneath loses its set-id bits and capabilities there, as the kernel sees to it for our write as for theirs.
/// - `FUSE_SETXATTR_EXT`: setxattr says when an access control list takes the set-group-id bit away; see `Dialect`.
/// - `FUSE_PARALLEL_DIROPS`: several callers may look names up and list in one directory at a time. libfuse 3.14 knows
///   it, and forgets to say so.
///
/// Shapes: `struct fuse_in_header` (40 bytes), `struct fuse_init_in`; `struct fuse_out_header` (16 bytes), `struct
/// fuse_init_out`, both of linux/fuse.h.
final class Handshake: Sendable {
    private enum Stage {
        case awaitingRequest
        case awaitingReply(unique: UInt64, offered: UInt32)
        case done
    }

    private let stage = Mutex(Stage.awaitingRequest)
    /// Spares the lock for every reply after the first.
    private let isDone = Atomic(false)

    /// Whether setxattr comes in its longer form.
    let hasLongSetxattr = Atomic(false)

    /// Looks at what was read from the connection.
    func noteRequest(_ bytes: UnsafeRawBufferPointer) {
        guard !isDone.load(ordering: .relaxed) else { return }
        stage.withLock { stage in
            guard case .awaitingRequest = stage,
                bytes.count >= MemoryLayout<fuse_in_header>.size + 16,
                bytes.loadUnaligned(as: fuse_in_header.self).opcode == FUSE_INIT.rawValue
            else { return }
            // fuse_init_in: major, minor, max_readahead, flags, of 4 bytes each.
            let flags = bytes.loadUnaligned(fromByteOffset: MemoryLayout<fuse_in_header>.size + 12, as: UInt32.self)
            stage = .awaitingReply(
                unique: bytes.loadUnaligned(as: fuse_in_header.self).unique, offered: flags)
        }
    }

    /// Completes the reply to INIT, in the memory that libfuse is about to write from.
    ///
    /// Leaves all others alone.
    func completeReply(_ parts: UnsafePointer<iovec>, count: CInt) {
        guard !isDone.load(ordering: .relaxed), count >= 2,
            parts[0].iov_len >= MemoryLayout<fuse_out_header>.size, let head = parts[0].iov_base,
            // fuse_init_out begins as fuse_init_in does.
            parts[1].iov_len >= 16, let body = parts[1].iov_base
        else { return }
        stage.withLock { stage in
            guard case .awaitingReply(let unique, let offered) = stage,
                head.loadUnaligned(as: fuse_out_header.self).unique == unique
            else { return }
            let accepted = body.loadUnaligned(fromByteOffset: 12, as: UInt32.self)
            let wanted = UInt32(FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_PARALLEL_DIROPS)
            body.storeBytes(of: accepted | offered & wanted, toByteOffset: 12, as: UInt32.self)
            hasLongSetxattr.store(offered & UInt32(FUSE_SETXATTR_EXT) != 0, ordering: .relaxed)
            stage = .done
            isDone.store(true, ordering: .relaxed)
        }
    }
}

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
/// - `FUSE_PASSTHROUGH`, if the file system asks for it: the kernel reads and writes files beneath by itself. It is among
///   the flags of a second word, which `FUSE_INIT_EXT` announces.
///
/// And it notes whether the kernel can do without opening directories (`FUSE_NO_OPENDIR_SUPPORT`, from Linux 6.9 on); that is
/// accepted by the answer to the first opening.
///
/// Shapes: `struct fuse_in_header` (40 bytes), `struct fuse_init_in`; `struct fuse_out_header` (16 bytes), `struct
/// fuse_init_out`, both of linux/fuse.h.
final class Init: Sendable {
    private enum Stage {
        case awaitingRequest
        case awaitingReply(unique: UInt64, offered: Offer)
        case done
    }

    /// The flags of INIT, both words of them.
    private struct Offer {
        let flags: UInt32
        /// None without `FUSE_INIT_EXT`.
        let moreFlags: UInt32
    }

    private let features: Features
    private let connection: Connection
    private let stage = Mutex(Stage.awaitingRequest)
    /// Spares the lock for every reply after the first.
    private let isDone = Atomic(false)

    /// Whether setxattr comes in its longer form.
    let hasLongSetxattr = Atomic(false)
    /// Whether directories are listed without being opened.
    let listsUnopened = Atomic(false)

    init(_ features: Features, on connection: Connection) {
        self.features = features
        self.connection = connection
    }

    /// Whether the reply to INIT has been sent.
    var hasEnded: Bool { isDone.load(ordering: .relaxed) }

    /// Looks at what was read from the connection.
    func noteRequest(_ bytes: UnsafeRawBufferPointer) {
        guard !isDone.load(ordering: .relaxed) else { return }
        stage.withLock { stage in
            guard case .awaitingRequest = stage,
                bytes.count >= MemoryLayout<fuse_in_header>.size + 16,
                bytes.loadUnaligned(as: fuse_in_header.self).opcode == FUSE_INIT.rawValue
            else { return }
            // fuse_init_in: major, minor, max_readahead, flags, and flags2 if it is that long, of 4 bytes each.
            let start = MemoryLayout<fuse_in_header>.size
            let flags = bytes.loadUnaligned(fromByteOffset: start + 12, as: UInt32.self)
            let isLong = flags & UInt32(FUSE_INIT_EXT) != 0 && bytes.count >= start + 20
            stage = .awaitingReply(
                unique: bytes.loadUnaligned(as: fuse_in_header.self).unique,
                offered: Offer(
                    flags: flags,
                    moreFlags: isLong ? bytes.loadUnaligned(fromByteOffset: start + 16, as: UInt32.self) : 0))
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
            body.storeBytes(of: accepted | offered.flags & wanted, toByteOffset: 12, as: UInt32.self)
            hasLongSetxattr.store(offered.flags & UInt32(FUSE_SETXATTR_EXT) != 0, ordering: .relaxed)
            // The second tells a kernel of Linux 6.9. Up to 6.5, offsets of a tmpfs count what one opening has seen.
            let isOffered =
                offered.flags & UInt32(FUSE_NO_OPENDIR_SUPPORT) != 0
                && offered.moreFlags & UInt32(clinux_fuse_passthrough_high) != 0
            listsUnopened.store(
                features.listsUnopened && Credentials.mayListEverything && isOffered, ordering: .relaxed)
            acceptMoreFlags(offered, in: UnsafeMutableRawBufferPointer(start: body, count: parts[1].iov_len))
            stage = .done
            isDone.store(true, ordering: .relaxed)
        }
    }

    private func acceptMoreFlags(_ offered: Offer, in body: UnsafeMutableRawBufferPointer) {
        // fuse_init_out: flags2 at 32 and max_stack_depth at 36, of 4 bytes each.
        guard body.count >= 40 else { return }
        var accepted = features.allowsIDMapping ? offered.moreFlags & UInt32(clinux_fuse_allow_idmap_high) : 0
        if let depth = features.passthroughDepth, Credentials.mayAdminister,
            offered.moreFlags & UInt32(clinux_fuse_passthrough_high) != 0
        {
            accepted |= UInt32(clinux_fuse_passthrough_high)
            body.storeBytes(of: depth, toByteOffset: 36, as: UInt32.self)
            connection.agree(onPassthrough: true)
        }
        guard accepted != 0 else { return }
        let flags = body.loadUnaligned(fromByteOffset: 12, as: UInt32.self)
        body.storeBytes(of: flags | UInt32(FUSE_INIT_EXT), toByteOffset: 12, as: UInt32.self)
        let moreFlags = body.loadUnaligned(fromByteOffset: 32, as: UInt32.self)
        body.storeBytes(of: moreFlags | accepted, toByteOffset: 32, as: UInt32.self)
    }
}

import CLinux
import Glibc

/// Says in libfuse 3.14's words what the kernel says in later ones.
///
/// libfuse hands on only what it had a name for when it was written. What else a request carries is put, before libfuse
/// decodes it, into a field that libfuse does hand on, in a bit that nobody else uses:
///
/// - that the caller may not leave set-id bits on what it changes (`FUSE_WRITE_KILL_SUIDGID`, `FUSE_OPEN_KILL_SUIDGID`,
///   `FATTR_KILL_SUIDGID`): into the flags of an open file, or the mode of a setattr;
/// - `FUSE_TMPFILE`, an unnamed file: becomes a `FUSE_CREATE` whose flags have `O_TMPFILE`, which has the same arguments
///   and the same reply.
///
/// Shapes: `struct fuse_in_header` (40 bytes) and what follows it, of linux/fuse.h.
enum Dialect {
    /// In the flags of an open file.
    static let losesSetIDs: CInt = 1 << 30
    /// In a setattr's `st_mode`.
    static let losesSetIDsMode: mode_t = 1 << 31

    static func translate(_ request: UnsafeMutableRawBufferPointer) {
        guard request.count >= MemoryLayout<fuse_in_header>.size else { return }
        var header = request.loadUnaligned(as: fuse_in_header.self)
        switch fuse_opcode(header.opcode) {
        case FUSE_OPEN:
            change(request) { (open: inout fuse_open_in) in
                if open.open_flags & UInt32(FUSE_OPEN_KILL_SUIDGID) != 0 { open.flags |= UInt32(losesSetIDs) }
            }
        case FUSE_TMPFILE, FUSE_CREATE:
            header.opcode = FUSE_CREATE.rawValue
            request.storeBytes(of: header, as: fuse_in_header.self)
            change(request) { (create: inout fuse_create_in) in
                if create.open_flags & UInt32(FUSE_OPEN_KILL_SUIDGID) != 0 { create.flags |= UInt32(losesSetIDs) }
            }
        case FUSE_WRITE:
            change(request) { (write: inout fuse_write_in) in
                if write.write_flags & UInt32(FUSE_WRITE_KILL_SUIDGID) != 0 { write.flags |= UInt32(losesSetIDs) }
            }
        case FUSE_SETATTR:
            change(request) { (change: inout fuse_setattr_in) in
                if change.valid & UInt32(FATTR_KILL_SUIDGID) != 0 { change.mode |= losesSetIDsMode }
            }
        default: break
        }
    }

    /// Changes what follows the header in place; a request that is too short is left for libfuse to refuse.
    private static func change<Body: BitwiseCopyable>(
        _ request: UnsafeMutableRawBufferPointer, _ body: (inout Body) -> Void
    ) {
        let offset = MemoryLayout<fuse_in_header>.size
        guard request.count >= offset + MemoryLayout<Body>.size else { return }
        var changed = request.loadUnaligned(fromByteOffset: offset, as: Body.self)
        body(&changed)
        request.storeBytes(of: changed, toByteOffset: offset, as: Body.self)
    }
}

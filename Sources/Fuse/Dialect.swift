import CLinux
import Glibc

/// Says in libfuse 3.14's words what the kernel says in later ones.
///
/// libfuse hands on only what it had a name for when it was written. What else a request carries is put, before libfuse
/// decodes it, into a field that libfuse does hand on, in a bit that nobody else uses:
///
/// - that the caller may not leave set-id bits on what it changes (`FUSE_WRITE_KILL_SUIDGID`, `FUSE_OPEN_KILL_SUIDGID`,
///   `FATTR_KILL_SUIDGID`, `FUSE_SETXATTR_ACL_KILL_SGID`): into the flags of an open file or of a setxattr, or the mode
///   of a setattr;
/// - the longer form of `FUSE_SETXATTR`, in which the last of these comes: becomes the short one;
/// - `FUSE_TMPFILE`, an unnamed file: becomes a `FUSE_CREATE` whose flags have `O_TMPFILE`, which has the same arguments
///   and the same reply. The flag is added here: overlayfs asks without it.
///
/// Shapes: `struct fuse_in_header` (40 bytes) and what follows it, of linux/fuse.h.
enum Dialect {
    /// In the flags of an open file, or of a setxattr.
    static let killPriv: CInt = 1 << 30
    /// In a setattr's `st_mode`.
    static let killPrivMode: mode_t = 1 << 31

    /// Changes a request in place.
    ///
    /// - Returns: Its new size, which is never larger.
    static func translate(_ request: UnsafeMutableRawBufferPointer, hasLongSetxattr: Bool) -> Int {
        guard request.count >= MemoryLayout<fuse_in_header>.size else { return request.count }
        var header = request.loadUnaligned(as: fuse_in_header.self)
        switch fuse_opcode(header.opcode) {
        case FUSE_OPEN:
            change(request) { (open: inout fuse_open_in) in
                if open.open_flags & UInt32(FUSE_OPEN_KILL_SUIDGID) != 0 { open.flags |= UInt32(killPriv) }
            }
        case FUSE_TMPFILE, FUSE_CREATE:
            let isUnnamed = fuse_opcode(header.opcode) == FUSE_TMPFILE
            header.opcode = FUSE_CREATE.rawValue
            request.storeBytes(of: header, as: fuse_in_header.self)
            change(request) { (create: inout fuse_create_in) in
                if isUnnamed { create.flags |= UInt32(clinux_tmpfile) }
                if create.open_flags & UInt32(FUSE_OPEN_KILL_SUIDGID) != 0 { create.flags |= UInt32(killPriv) }
            }
        case FUSE_WRITE:
            change(request) { (write: inout fuse_write_in) in
                if write.write_flags & UInt32(FUSE_WRITE_KILL_SUIDGID) != 0 { write.flags |= UInt32(killPriv) }
            }
        case FUSE_SETATTR:
            change(request) { (change: inout fuse_setattr_in) in
                if change.valid & UInt32(FATTR_KILL_SUIDGID) != 0 { change.mode |= killPrivMode }
            }
        case FUSE_SETXATTR where hasLongSetxattr:
            return shorten(request, header)
        default: break
        }
        return request.count
    }

    /// Takes what libfuse does not expect out of a `struct fuse_setxattr_in`; name and value follow it.
    private static func shorten(_ request: UnsafeMutableRawBufferPointer, _ header: fuse_in_header) -> Int {
        // Up to and without `setxattr_flags`.
        let short = MemoryLayout<fuse_in_header>.size + 8
        let long = MemoryLayout<fuse_in_header>.size + MemoryLayout<fuse_setxattr_in>.size
        guard request.count >= long else { return request.count }
        change(request) { (set: inout fuse_setxattr_in) in
            if set.setxattr_flags & UInt32(FUSE_SETXATTR_ACL_KILL_SGID) != 0 { set.flags |= UInt32(killPriv) }
        }
        UnsafeMutableRawBufferPointer(rebasing: request[short...])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: request[long...]))
        var header = header
        // Whether the length was right is for `RequestShape` to say.
        header.len &-= UInt32(long - short)
        request.storeBytes(of: header, as: fuse_in_header.self)
        return request.count - (long - short)
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

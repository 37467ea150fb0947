import CLinux
import Glibc

/// Whether a request is as long as it says it is.
///
/// libfuse trusts the kernel: a name without its NUL or data shorter than announced would be read past its end. Requests
/// come from the kernel alone, but nothing that reads bytes from a descriptor should depend on that.
///
/// Shapes: linux/fuse.h, after `Dialect` has had its way.
enum RequestShape {
    /// - Parameter request: From `struct fuse_in_header` on.
    static func isWhole(_ request: UnsafeRawBufferPointer) -> Bool {
        guard request.count >= MemoryLayout<fuse_in_header>.size else { return false }
        let header = request.loadUnaligned(as: fuse_in_header.self)
        guard Int(header.len) == request.count else { return false }
        var body = Body(bytes: UnsafeRawBufferPointer(rebasing: request[MemoryLayout<fuse_in_header>.size...]))
        return body.isWhole(fuse_opcode(header.opcode))
    }

    private struct Body {
        var bytes: UnsafeRawBufferPointer

        mutating func isWhole(_ opcode: fuse_opcode) -> Bool {
            switch opcode {
            case FUSE_LOOKUP, FUSE_UNLINK, FUSE_RMDIR, FUSE_REMOVEXATTR: takeStrings(1)
            case FUSE_SYMLINK: takeStrings(2)
            case FUSE_MKNOD: take(fuse_mknod_in.self) && takeStrings(1)
            case FUSE_MKDIR: take(fuse_mkdir_in.self) && takeStrings(1)
            case FUSE_LINK: take(fuse_link_in.self) && takeStrings(1)
            case FUSE_RENAME: take(fuse_rename_in.self) && takeStrings(2)
            case FUSE_RENAME2: take(fuse_rename2_in.self) && takeStrings(2)
            case FUSE_CREATE: take(fuse_create_in.self) && takeStrings(1)
            case FUSE_FORGET: take(fuse_forget_in.self)
            case FUSE_BATCH_FORGET:
                take(fuse_batch_forget_in.self, then: \.count, times: MemoryLayout<fuse_forget_one>.size)
            case FUSE_GETATTR: take(fuse_getattr_in.self)
            case FUSE_SETATTR: take(fuse_setattr_in.self)
            // The short form, without its last two fields.
            case FUSE_SETXATTR: takeSetxattr()
            case FUSE_GETXATTR: take(fuse_getxattr_in.self) && takeStrings(1)
            case FUSE_LISTXATTR: take(fuse_getxattr_in.self)
            case FUSE_OPEN, FUSE_OPENDIR: take(fuse_open_in.self)
            case FUSE_READ, FUSE_READDIR, FUSE_READDIRPLUS: take(fuse_read_in.self)
            case FUSE_WRITE: take(fuse_write_in.self, then: \.size)
            case FUSE_RELEASE, FUSE_RELEASEDIR: take(fuse_release_in.self)
            case FUSE_FLUSH: take(fuse_flush_in.self)
            case FUSE_FSYNC, FUSE_FSYNCDIR: take(fuse_fsync_in.self)
            case FUSE_IOCTL: take(fuse_ioctl_in.self, then: \.in_size)
            case FUSE_POLL: take(fuse_poll_in.self)
            case FUSE_FALLOCATE: take(fuse_fallocate_in.self)
            case FUSE_LSEEK: take(fuse_lseek_in.self)
            case FUSE_COPY_FILE_RANGE: take(fuse_copy_file_range_in.self)
            case FUSE_INTERRUPT: take(fuse_interrupt_in.self)
            // Kernels before 7.36 send the first four fields alone.
            case FUSE_INIT: take(16)
            case FUSE_READLINK, FUSE_STATFS, FUSE_DESTROY: true
            // Locks, bmap and notify-reply are refused by libfuse, but not before it has read them.
            case FUSE_GETLK, FUSE_SETLK, FUSE_SETLKW: take(fuse_lk_in.self)
            case FUSE_BMAP: take(fuse_bmap_in.self)
            case FUSE_ACCESS: take(fuse_access_in.self)
            case FUSE_NOTIFY_REPLY: take(fuse_notify_retrieve_in.self)
            default: true
            }
        }

        private mutating func take(_ size: Int) -> Bool {
            guard bytes.count >= size else { return false }
            bytes = UnsafeRawBufferPointer(rebasing: bytes[size...])
            return true
        }

        private mutating func take<Head: BitwiseCopyable>(_: Head.Type) -> Bool {
            take(MemoryLayout<Head>.size)
        }

        /// Takes a structure and what one of its fields counts.
        private mutating func take<Head: BitwiseCopyable>(
            _: Head.Type, then count: KeyPath<Head, UInt32>, times size: Int = 1
        ) -> Bool {
            guard bytes.count >= MemoryLayout<Head>.size else { return false }
            let head = bytes.loadUnaligned(as: Head.self)
            return take(Head.self) && take(Int(head[keyPath: count]) * size)
        }

        private mutating func takeSetxattr() -> Bool {
            guard bytes.count >= 8 else { return false }
            let size = bytes.loadUnaligned(as: UInt32.self)
            return take(8) && takeStrings(1) && take(Int(size))
        }

        private mutating func takeStrings(_ count: Int) -> Bool {
            for _ in 0..<count {
                guard let end = bytes.firstIndex(of: 0) else { return false }
                bytes = UnsafeRawBufferPointer(rebasing: bytes[(end + 1)...])
            }
            return true
        }
    }
}

import CLinux
import Glibc
import SystemPackage

/// A request that came with Linux 6.6 and that libfuse 3.14 does not know: stat(2)'s answer and the time of birth.
///
/// The kernel makes it instead of a getattr when statx(2) asks for `STATX_BTIME`.
///
/// Shapes, of linux/fuse.h since protocol 7.39: `struct fuse_statx_in` (24 bytes, none of which matters here), `struct
/// fuse_statx_out` (32 bytes and a `struct fuse_statx` of 256).
struct StatxRequest {
    /// `FUSE_STATX`.
    private static let opcode: UInt32 = 52
    fileprivate static let headSize = 32
    fileprivate static let statusSize = 256

    private let header: fuse_in_header

    /// Nil for any other request.
    init?(_ request: UnsafeRawBufferPointer) {
        guard request.count >= MemoryLayout<fuse_in_header>.size else { return nil }
        header = request.loadUnaligned(as: fuse_in_header.self)
        guard header.opcode == Self.opcode else { return nil }
    }

    /// The whole reply, as it goes to the kernel.
    func reply(from fileSystem: any FileSystem) -> RawReply {
        let caller = Request(user: header.uid, group: header.gid, thread: pid_t(bitPattern: header.pid))
        let inode = InodeNumber(rawValue: header.nodeid)
        var reply = RawReply(to: header.unique)
        do throws(Errno) {
            let answer = try fileSystem.getattr(inode, for: caller)
            reply.append(answer, born: try fileSystem.birthTime(of: inode))
        } catch {
            reply.fail(error)
        }
        return reply
    }
}

extension RawReply {
    fileprivate mutating func append(_ answer: StatusReply, born birth: timespec?) {
        let start = bytes.count
        let timeout = Duration.seconds(answer.timeout).components
        append(UInt64(timeout.seconds))
        append(UInt32(timeout.attoseconds / 1_000_000_000))
        pad(to: start + StatxRequest.headSize)

        let status = answer.status
        append(UInt32(STATX_BASIC_STATS) | (birth == nil ? 0 : UInt32(STATX_BTIME)))
        append(UInt32(status.st_blksize))
        append(UInt64(0))  // attributes
        append(UInt32(status.st_nlink))
        append(status.st_uid)
        append(status.st_gid)
        append(UInt16(truncatingIfNeeded: status.st_mode))
        append(UInt16(0))
        append(UInt64(status.st_ino))
        append(UInt64(bitPattern: Int64(status.st_size)))
        append(UInt64(bitPattern: Int64(status.st_blocks)))
        append(UInt64(0))  // attributes_mask
        for time in [status.st_atim, birth ?? timespec(), status.st_ctim, status.st_mtim] {
            // struct fuse_sx_time: seconds, nanoseconds, reserved.
            append(Int64(time.tv_sec))
            append(UInt32(time.tv_nsec))
            append(UInt32(0))
        }
        append(clinux_major(status.st_rdev))
        append(clinux_minor(status.st_rdev))
        pad(to: start + StatxRequest.headSize + StatxRequest.statusSize)
    }
}

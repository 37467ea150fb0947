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
    private static let headSize = 32
    private static let statusSize = 256

    private let header: fuse_in_header

    /// Nil for any other request.
    init?(_ request: UnsafeRawBufferPointer) {
        guard request.count >= MemoryLayout<fuse_in_header>.size else { return nil }
        header = request.loadUnaligned(as: fuse_in_header.self)
        guard header.opcode == Self.opcode else { return nil }
    }

    /// The whole reply, as it goes to the kernel.
    func reply(from fileSystem: any FileSystem) -> [UInt8] {
        let caller = Request(user: header.uid, group: header.gid, thread: pid_t(bitPattern: header.pid))
        let inode = InodeNumber(rawValue: header.nodeid)
        var reply = Reply(to: header.unique)
        do throws(Errno) {
            let answer = try fileSystem.getattr(inode, for: caller)
            reply.append(answer, born: try fileSystem.birthTime(of: inode))
        } catch {
            reply.fail(error)
        }
        return reply.bytes
    }

    /// Bytes in the making; all numbers in the machine's own order.
    private struct Reply {
        private(set) var bytes: [UInt8] = []

        init(to unique: UInt64) {
            // struct fuse_out_header: len, error, unique
            add(UInt32(0))
            add(Int32(0))
            add(unique)
            setSize()
        }

        mutating func fail(_ error: Errno) {
            withUnsafeBytes(of: -error.rawValue) { bytes.replaceSubrange(4..<8, with: $0) }
        }

        mutating func append(_ answer: StatusReply, born birth: timespec?) {
            let start = bytes.count
            let timeout = Duration.seconds(answer.timeout).components
            add(UInt64(timeout.seconds))
            add(UInt32(timeout.attoseconds / 1_000_000_000))
            pad(to: start + headSize)

            let status = answer.status
            add(UInt32(STATX_BASIC_STATS) | (birth == nil ? 0 : UInt32(STATX_BTIME)))
            add(UInt32(status.st_blksize))
            add(UInt64(0))  // attributes
            add(UInt32(status.st_nlink))
            add(status.st_uid)
            add(status.st_gid)
            add(UInt16(truncatingIfNeeded: status.st_mode))
            add(UInt16(0))
            add(UInt64(status.st_ino))
            add(UInt64(bitPattern: Int64(status.st_size)))
            add(UInt64(bitPattern: Int64(status.st_blocks)))
            add(UInt64(0))  // attributes_mask
            for time in [status.st_atim, birth ?? timespec(), status.st_ctim, status.st_mtim] { add(time) }
            add(clinux_major(status.st_rdev))
            add(clinux_minor(status.st_rdev))
            pad(to: start + headSize + statusSize)
            setSize()
        }

        /// struct fuse_sx_time: seconds, nanoseconds, reserved.
        private mutating func add(_ time: timespec) {
            add(Int64(time.tv_sec))
            add(UInt32(time.tv_nsec))
            add(UInt32(0))
        }

        private mutating func add(_ number: some FixedWidthInteger) {
            withUnsafeBytes(of: number) { bytes.append(contentsOf: $0) }
        }

        private mutating func pad(to size: Int) {
            bytes.append(contentsOf: repeatElement(0, count: size - bytes.count))
        }

        private mutating func setSize() {
            withUnsafeBytes(of: UInt32(bytes.count)) { bytes.replaceSubrange(0..<4, with: $0) }
        }
    }
}

import CLinux
import Fuse
import Glibc
import Linux
import Synchronization
import SystemPackage

/// An open file of the backing tree.
///
/// For a file that is only read and may be registered for passthrough, the descriptor is opened by the first operation
/// that needs it.
final class BackingFile: OpenFile {
    /// What all backing files of a mount need.
    struct Context: Sendable {
        let processes: ProcessWatch
        let devices: DeviceInodeMap
    }

    /// The descriptor of an open file: O_PATH if it is only read, else opened with the caller's flags.
    let path: Descriptor
    /// The caller's flags of open(2).
    let flags: CInt
    /// The file system user of the caller that opened it.
    let user: uid_t
    /// What it was when it was opened; nil if nothing depends on that, or it would not tell.
    private let status: FileStatus?
    private let context: Context
    private let opened: Mutex<Descriptor?>

    /// - Parameters:
    ///   - opened: Opened with the caller's flags.
    ///   - user: The caller's.
    ///   - status: Of `opened`, if that is known already.
    init(_ opened: Descriptor, flags: CInt, user: uid_t, status: FileStatus? = nil, in context: Context) {
        path = opened
        self.context = context
        self.flags = flags
        self.user = user
        self.status = status ?? (flags & O_ACCMODE != O_RDONLY ? try? FileStatus(of: opened.rawValue) : nil)
        self.opened = Mutex(opened)
    }

    /// To be opened for reading if need be.
    init(reading path: Descriptor, user: uid_t, in context: Context) {
        self.path = path
        self.user = user
        self.context = context
        flags = O_RDONLY
        status = try? FileStatus(of: path.rawValue)
        opened = Mutex(nil)
    }

    var isWritable: Bool { flags & O_ACCMODE != O_RDONLY }

    /// Whether it can be changed through a mapping.
    var isMappable: Bool { flags & O_ACCMODE == O_RDWR }

    /// Whether passthrough would behave differently: the kernel goes on appending after fcntl(2) has cleared the flag,
    /// leaves set-id bits, and does not pass direct I/O on.
    var requiresServerIO: Bool {
        if flags & O_DIRECT != 0 { return true }
        guard isWritable else { return false }
        guard flags & O_APPEND == 0, let status else { return true }
        return status.st_mode & (S_ISUID | S_ISGID) != 0
    }

    /// The most that the kernel reads ahead at once, by default (`VM_READAHEAD_PAGES`).
    private static let smallSize: off_t = 128 << 10

    /// Whether it is only read, and so small that the kernel reads it in one request.
    ///
    /// Registering it would cost more, and the kernel caches no pages of registered files.
    var isSmallAndOnlyRead: Bool {
        guard !isWritable, let status else { return false }
        return status.st_size <= Self.smallSize
    }

    /// A descriptor to read from and, if the flags allow it, to write to.
    var descriptor: Descriptor {
        get throws(Errno) {
            if let opened = opened.withLock({ $0 }) { return opened }
            // Of two threads that come here at once, one opens in vain.
            let reopened = try path.reopened(O_RDONLY)
            return opened.withLock { opened in
                opened = opened ?? reopened
                return opened ?? reopened
            }
        }
    }

    // MARK: Operations

    func openReply(_ handle: FileHandle) -> OpenReply {
        let needsFlush = isWritable && context.devices.mayFailAtClose(on: status?.st_dev)
        return OpenReply(handle: handle, allowsPassthrough: true, needsFlush: needsFlush)
    }

    var backingDescriptor: Descriptor? { get throws(Errno) { try descriptor } }
    var mayReleaseLater: Bool { true }

    func read(into bytes: UnsafeMutableRawBufferPointer, at offset: off_t) throws(Errno) -> Int {
        let descriptor = try descriptor
        return try retryingInterrupts { pread(descriptor.rawValue, bytes.baseAddress, bytes.count, offset) }
    }

    func write(
        _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, by request: Request
    ) throws(Errno) -> Int {
        context.processes.recordActivity(request)
        let descriptor = try descriptor
        return try Credentials.withUser(request.callingUser) { () throws(Errno) in
            try retryingInterrupts {
                appending
                    ? clinux_append(descriptor.rawValue, bytes.baseAddress, bytes.count)
                    : pwrite(descriptor.rawValue, bytes.baseAddress, bytes.count, offset)
            }
        }
    }

    func truncate(to size: off_t, by request: Request) throws(Errno) {
        let descriptor = try descriptor
        _ = try retryingInterrupts { ftruncate(descriptor.rawValue, size) }
    }

    func flush() throws(Errno) {
        // Reports what the backing file system reports at close, such as an exceeded quota on NFS.
        let descriptor = try descriptor
        let duplicate = try retryingInterrupts { fcntl(descriptor.rawValue, F_DUPFD_CLOEXEC, 0) }
        if Glibc.close(duplicate) == -1, Errno.current != .interrupted { throw .current }
    }

    func fsync(dataOnly: Bool) throws(Errno) {
        let descriptor = try descriptor
        _ = try retryingInterrupts {
            dataOnly ? fdatasync(descriptor.rawValue) : Glibc.fsync(descriptor.rawValue)
        }
    }

    func fallocate(mode: CInt, offset: off_t, length: off_t) throws(Errno) {
        let descriptor = try descriptor
        _ = try Credentials.withUser(user) { () throws(Errno) in
            try retryingInterrupts { CLinux.fallocate(descriptor.rawValue, mode, offset, length) }
        }
    }

    func lseek(offset: off_t, whence: CInt) throws(Errno) -> off_t {
        let descriptor = try descriptor
        return try retryingInterrupts { Glibc.lseek(descriptor.rawValue, offset, whence) }
    }

    func ioctl(_ command: UInt32, _ argument: UnsafeMutableRawBufferPointer) throws(Errno) {
        try descriptor.attributesIOCTL(command, argument)
    }
}

extension Descriptor {
    /// Reads or sets file attributes (lsattr, chattr) and project ids, as the kernel has permitted; ENOTTY otherwise.
    func attributesIOCTL(_ command: UInt32, _ argument: UnsafeMutableRawBufferPointer) throws(Errno) {
        let size: Int
        switch command {
        case clinux_get_flags, clinux_set_flags: size = MemoryLayout<CInt>.size
        case clinux_get_fsx, clinux_set_fsx: size = MemoryLayout<fsxattr>.size
        default: throw .inappropriateIOCTLForDevice
        }
        guard argument.count >= size else { throw .inappropriateIOCTLForDevice }
        _ = try retryingInterrupts { clinux_ioctl(rawValue, command, argument.baseAddress) }
    }
}

import CLinux
import Glibc
import Linux
import Synchronization
import SystemPackage

/// The kernel's end of a mount: the descriptor of `/dev/fuse`, notifications, and backing files for passthrough.
///
/// Owns the descriptor, and closes it with its last user, so that nothing is written to a number that was reused. After
/// the connection has ended every call fails harmlessly. Any thread may call, also from inside an operation, except
/// where noted.
public final class Connection: Sendable {
    /// The kernel's name for a backing file that it reads and writes by itself (`backing_id` in linux/fuse.h).
    public struct BackingID: Hashable, Sendable {
        public let rawValue: Int32

        public init(rawValue: Int32) { self.rawValue = rawValue }
    }

    private let descriptor: OwnedDescriptor
    private let passthrough = Atomic(false)
    /// Whether this is `/dev/fuse` rather than a test's socket.
    let isDevice: Bool

    /// Takes a descriptor, and makes it non-blocking: then looking for a request and reading it are one system call.
    init(takingOwnershipOf descriptor: consuming OwnedDescriptor) throws(Errno) {
        self.descriptor = descriptor
        let rawValue = self.descriptor.rawValue
        var status = stat()
        isDevice = fstat(rawValue, &status) == 0 && status.st_mode & S_IFMT == S_IFCHR
        let flags = try retryingInterrupts { fcntl(rawValue, F_GETFL) }
        _ = try retryingInterrupts { fcntl(rawValue, F_SETFL, flags | O_NONBLOCK) }
    }

    // MARK: Passthrough

    /// Whether backing files can be registered: negotiated, and not refused so far.
    public var supportsPassthrough: Bool { passthrough.load(ordering: .relaxed) }

    func allowPassthrough(_ isAllowed: Bool) { passthrough.store(isAllowed, ordering: .relaxed) }

    /// Registers a regular file, so that the kernel reads, writes and maps it without a request.
    ///
    /// `descriptor` may be closed afterwards. O_PATH is enough: the kernel opens the file anew for each opening, with the
    /// opener's flags and the calling thread's credentials. To be undone by `unregisterBackingFile`.
    ///
    /// The corresponding ioctl is `FUSE_DEV_IOC_BACKING_OPEN` (linux/fuse.h since protocol 7.40).
    ///
    /// - Throws: EPERM without CAP_SYS_ADMIN, and on every later call; ELOOP for a file of a stacked file system.
    public func registerBackingFile(_ descriptor: CInt) throws(Errno) -> BackingID {
        guard supportsPassthrough else { throw .notPermitted }
        do throws(Errno) {
            return BackingID(
                rawValue: try retryingInterrupts { clinux_fuse_backing_open(self.descriptor.rawValue, descriptor) })
        } catch {
            switch error {
            case .notPermitted, .inappropriateIOCTLForDevice, .notSupported, .badFileDescriptor:
                allowPassthrough(false)
            default: break
            }
            throw error
        }
    }

    /// Unregisters a backing file (`FUSE_DEV_IOC_BACKING_CLOSE`); open files that use it go on reading and writing it.
    public func unregisterBackingFile(_ file: BackingID) {
        // Fails only after the connection has ended, and then the kernel has dropped all of them.
        _ = clinux_fuse_backing_close(descriptor.rawValue, UInt32(bitPattern: file.rawValue))
    }

    // MARK: Notifications

    /// Has the kernel ask for an inode's attributes when they are next needed (`FUSE_NOTIFY_INVAL_INODE`).
    ///
    /// Takes no lock in the kernel.
    public func invalidateAttributes(of inode: InodeNumber) {
        // A negative offset leaves the pages alone.
        notify(FUSE_NOTIFY_INVAL_INODE, fuse_notify_inval_inode_out(ino: inode.rawValue, off: -1, len: 0))
    }

    /// Has the kernel drop an inode's pages (for a directory: its cached listing) and attributes.
    ///
    /// Not from inside an operation on that inode: the kernel may wait for its pages.
    ///
    /// The corresponding message is `FUSE_NOTIFY_INVAL_INODE`.
    public func invalidatePages(of inode: InodeNumber) {
        notify(FUSE_NOTIFY_INVAL_INODE, fuse_notify_inval_inode_out(ino: inode.rawValue, off: 0, len: 0))
    }

    /// Has the kernel look a name up again before it is next used.
    ///
    /// Unlike an invalidation, this leaves alone what is mounted on the name, and directories in which processes work.
    ///
    /// Not from inside an operation: the kernel locks the directory.
    ///
    /// The corresponding message is `FUSE_NOTIFY_INVAL_ENTRY` with `FUSE_EXPIRE_ONLY` (protocol 7.38, Linux 6.1).
    public func expire(_ name: FileName, in parent: InodeNumber) {
        let count = name.bytes.count
        let header = fuse_notify_inval_entry_out(
            parent: parent.rawValue, namelen: UInt32(count), flags: UInt32(FUSE_EXPIRE_ONLY))
        let size = MemoryLayout.size(ofValue: header)
        withUnsafeTemporaryAllocation(byteCount: size + count + 1, alignment: 8) { body in
            body.storeBytes(of: header, as: fuse_notify_inval_entry_out.self)
            // With the terminating NUL.
            body.baseAddress?.advanced(by: size).copyMemory(from: name.pointer, byteCount: count + 1)
            _ = send(unique: 0, code: Int32(bitPattern: FUSE_NOTIFY_INVAL_ENTRY.rawValue), UnsafeRawBufferPointer(body))
        }
    }

    /// Has the kernel send again all requests that were read and not answered.
    ///
    /// They come before all others, each with the top bit of its unique number set (`fuse_in_header.isResent`).
    ///
    /// The corresponding message is `FUSE_NOTIFY_RESEND` (protocol 7.40, Linux 6.9).
    ///
    /// - Throws: EINVAL if the kernel does not know it.
    func resend() throws(Errno) {
        let empty = UnsafeRawBufferPointer(start: nil, count: 0)
        if let failure = send(unique: 0, code: CInt(clinux_fuse_notify_resend), empty) { throw failure }
    }

    /// Sends a message that answers no request.
    func notify<Body: BitwiseCopyable>(_ code: fuse_notify_code, _ body: Body) {
        // A notification has unique 0, and its code in the place of the errno. ENOENT: the kernel does not know the inode,
        // and has nothing to drop.
        _ = withUnsafeBytes(of: body) { send(unique: 0, code: Int32(bitPattern: code.rawValue), $0) }
    }

    // MARK: Reading and writing

    /// Reads a request.
    ///
    /// - Returns: Its size; nil if there is none now.
    /// - Throws: ENODEV after an unmount, or when the other end of a socket was closed; ECONNABORTED after an abort.
    func receive(into room: UnsafeMutableRawBufferPointer) throws(Errno) -> Int? {
        let received = clinux_read(descriptor.rawValue, room.baseAddress, room.count)
        if received > 0 { return received }
        if received == 0 { throw Errno(rawValue: ENODEV) }
        switch Errno.current {
        // ENOENT: the request was aborted while it was being read.
        case .resourceTemporarilyUnavailable, .interrupted, .noSuchFileOrDirectory: return nil
        case let error: throw error
        }
    }

    /// Blocks until there may be a request.
    ///
    /// - Parameter limit: When to give up: nil for never.
    /// - Returns: False if the limit has passed.
    @discardableResult
    func waitForRequest(until limit: ContinuousClock.Instant? = nil) -> Bool {
        var question = [pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)]
        return poll(&question, until: limit)
    }

    /// Sends one message: a header, and a body right after it.
    ///
    /// - Parameter code: A reply's negative errno, or a notification's code.
    /// - Returns: nil, or why the kernel did not take it.
    func send(unique: UInt64, code: Int32, _ body: UnsafeRawBufferPointer) -> Errno? {
        var header = fuse_out_header(
            len: UInt32(MemoryLayout<fuse_out_header>.size + body.count), error: code, unique: unique)
        return withUnsafeMutableBytes(of: &header) { header in
            var parts = (
                iovec(iov_base: header.baseAddress, iov_len: header.count),
                // because writev(2) only reads.
                iovec(iov_base: UnsafeMutableRawPointer(mutating: body.baseAddress), iov_len: body.count)
            )
            return withUnsafeBytes(of: &parts) {
                // because a tuple of two iovecs has their layout, and is not empty.
                send($0.baseAddress!.assumingMemoryBound(to: iovec.self), count: body.isEmpty ? 1 : 2)
            }
        }
    }

    private func send(_ parts: UnsafePointer<iovec>, count: CInt) -> Errno? {
        while clinux_writev(descriptor.rawValue, parts, count) == -1 {
            let error = Errno.current
            // A test's socket may be full; `/dev/fuse` never is.
            guard error == .resourceTemporarilyUnavailable else { return error }
            var question = pollfd(fd: descriptor.rawValue, events: Int16(POLLOUT), revents: 0)
            poll(&question, 1, -1)
        }
        return nil
    }

    /// Sends one message of `size` bytes that is in a pipe.
    func send(_ size: Int, fromPipe pipe: CInt) -> Errno? {
        let sent = clinux_splice(pipe, nil, descriptor.rawValue, size)
        return sent == -1 ? .current : sent == size ? nil : .ioError
    }
}

/// Tells the kernel to ask again about a file that a caller polls.
///
/// One notification per poll is enough. More do no harm, nor does one after the file was closed. Any thread may notify,
/// but not while it holds a lock.
///
/// The corresponding message is `FUSE_NOTIFY_POLL`.
public struct PollHandle: Sendable {
    /// `kh` in linux/fuse.h.
    public let rawValue: UInt64
    private let connection: Connection

    public init(rawValue: UInt64, on connection: Connection) {
        self.rawValue = rawValue
        self.connection = connection
    }

    public func notify() { connection.notify(FUSE_NOTIFY_POLL, fuse_notify_poll_wakeup_out(kh: rawValue)) }
}

import CLinux
import Glibc
import Linux
import Synchronization
import SystemPackage

/// The kernel's end of a mount: what a file system tells it without being asked, and what it lends it.
///
/// Any thread may call, also while it answers a request. Once the connection has ended nothing happens any more.
public final class Connection: Sendable {
    /// What the kernel calls a file beneath whose bytes it reads and writes without asking.
    public struct BackingID: Hashable, Sendable {
        public let rawValue: Int32

        public init(rawValue: Int32) {
            self.rawValue = rawValue
        }
    }

    private static let ended: CInt = -1

    private let descriptor: Atomic<CInt>
    private let passesThrough = Atomic(false)
    /// Whether a message may come from a pipe: to `/dev/fuse`, of which a test has none.
    let takesPages: Bool

    init(_ descriptor: CInt) {
        self.descriptor = Atomic(descriptor)
        var status = stat()
        takesPages = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFCHR
    }

    /// Notes what the kernel and we have agreed on.
    func agree(onPassthrough passesThrough: Bool) {
        self.passesThrough.store(passesThrough, ordering: .relaxed)
    }

    /// Lets go of the descriptor, which is about to be closed by its owner.
    func end() {
        passesThrough.store(false, ordering: .relaxed)
        descriptor.store(Self.ended, ordering: .relaxed)
    }

    // MARK: Lending files

    /// Whether files can be lent: the kernel knows how, and has not refused yet.
    public var supportsPassthrough: Bool { passesThrough.load(ordering: .relaxed) }

    /// Lends the kernel a regular file, to read, write and map without asking us.
    ///
    /// `descriptor` may be closed afterwards; `O_PATH` is enough, as the kernel opens the file anew for each opening, with
    /// the flags of the caller and in the name of the calling thread here. To be taken back by `unregisterBackingFile`.
    ///
    /// The corresponding ioctl is `FUSE_DEV_IOC_BACKING_OPEN` (linux/fuse.h since protocol 7.40).
    ///
    /// - Throws: `notPermitted` without CAP_SYS_ADMIN, and never tries again then; ELOOP for a file of a stacked file system.
    public func registerBackingFile(_ descriptor: CInt) throws(Errno) -> BackingID {
        guard supportsPassthrough else { throw .notPermitted }
        do throws(Errno) {
            return BackingID(
                rawValue: try retryingInterrupts {
                    clinux_fuse_backing_open(self.descriptor.load(ordering: .relaxed), descriptor)
                })
        } catch {
            switch error {
            case .notPermitted, .inappropriateIOCTLForDevice, .notSupported, .badFileDescriptor:
                passesThrough.store(false, ordering: .relaxed)
            default: break
            }
            throw error
        }
    }

    /// Takes a file back; who has it open goes on reading and writing it.
    public func unregisterBackingFile(_ file: BackingID) {
        // Fails only when the connection has ended, and the kernel has let go of everything.
        _ = clinux_fuse_backing_close(descriptor.load(ordering: .relaxed), UInt32(bitPattern: file.rawValue))
    }

    // MARK: Telling

    /// Has the kernel ask for the attributes of an inode the next time that somebody wants to know.
    ///
    /// Nobody waits for this, and the kernel takes no lock for it.
    ///
    /// The corresponding message is `FUSE_NOTIFY_INVAL_INODE`.
    public func invalidateAttributes(of inode: InodeNumber) {
        // An offset below 0 leaves the file's pages alone.
        notify(FUSE_NOTIFY_INVAL_INODE, fuse_notify_inval_inode_out(ino: inode.rawValue, off: -1, len: 0))
    }

    /// Has the kernel drop what it has of an inode's pages, which for a directory is its listing, and ask for the attributes, too.
    ///
    /// The corresponding message is `FUSE_NOTIFY_INVAL_INODE`.
    public func invalidatePages(of inode: InodeNumber) {
        notify(FUSE_NOTIFY_INVAL_INODE, fuse_notify_inval_inode_out(ino: inode.rawValue, off: 0, len: 0))
    }

    private func notify<Message: BitwiseCopyable>(_ code: fuse_notify_code, _ message: Message) {
        var notice = Reply(
            header: fuse_out_header(len: 0, error: Int32(bitPattern: code.rawValue), unique: 0), body: message)
        // ENOENT when the kernel does not know the inode: then it has nothing to forget.
        _ = send(&notice)
    }

    /// A message to the kernel: a header and a structure of linux/fuse.h, of which it makes one piece.
    struct Reply<Body: BitwiseCopyable>: BitwiseCopyable {
        var header: fuse_out_header
        var body: Body
    }

    /// Sends a message, with its size filled in.
    ///
    /// - Returns: 0, or an errno: ENOENT for the reply to a request whose caller is gone.
    func send<Body: BitwiseCopyable>(_ reply: inout Reply<Body>) -> Errno? {
        reply.header.len = UInt32(MemoryLayout<Reply<Body>>.size)
        return withUnsafeBytes(of: &reply) { send($0) }
    }

    /// Sends a reply without a body.
    ///
    /// That fails only when the caller has gone, and nothing has to be undone then.
    func acknowledge(_ unique: UInt64, _ error: Errno? = nil) {
        var reply = fuse_out_header(
            len: UInt32(MemoryLayout<fuse_out_header>.size), error: -(error?.rawValue ?? 0), unique: unique)
        _ = withUnsafeBytes(of: &reply) { send($0) }
    }

    /// Sends one message, as write(2) does.
    func send(_ message: UnsafeRawBufferPointer) -> Errno? {
        // because writev(2) only reads.
        var part = iovec(iov_base: UnsafeMutableRawPointer(mutating: message.baseAddress), iov_len: message.count)
        return Self.write(&part, count: 1, to: descriptor.load(ordering: .relaxed)) == -1 ? .current : nil
    }

    /// Sends one message of `size` bytes that is in a pipe.
    ///
    /// - Returns: As `send`; what is left in the pipe then is not known.
    func send(_ size: Int, from pipe: CInt) -> Errno? {
        let sent = clinux_splice(pipe, nil, descriptor.load(ordering: .relaxed), size)
        return sent == -1 ? .current : sent == size ? nil : .ioError
    }

    /// Writes one message in parts; for a socket that is full it waits, and `/dev/fuse` never is.
    ///
    /// The corresponding C function is `writev`.
    static func write(_ parts: UnsafePointer<iovec>, count: CInt, to descriptor: CInt) -> Int {
        while true {
            let written = clinux_writev(descriptor, parts, count)
            guard written == -1, errno == EAGAIN else { return written }
            var question = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            poll(&question, 1, -1)
        }
    }
}

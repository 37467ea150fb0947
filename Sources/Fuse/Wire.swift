import CLinux
import Glibc

/// One request as a transport delivers it: three parts, borrowed for as long as the request is served.
///
/// `/dev/fuse` delivers the parts in one piece; io_uring delivers each in a buffer of its own.
struct Message {
    /// The first 40 bytes of every request.
    let header: fuse_in_header
    /// The operation's input structure, `Operation.inputSize` bytes, not aligned.
    let input: UnsafeRawBufferPointer
    /// The names, each with its NUL, and the data after them.
    let payload: UnsafeRawBufferPointer

    /// Reads the header of a request in one piece, or returns nil if it is shorter than a header.
    static func header(of bytes: UnsafeRawBufferPointer) -> fuse_in_header? {
        guard bytes.count >= MemoryLayout<fuse_in_header>.size else { return nil }
        return bytes.loadUnaligned(as: fuse_in_header.self)
    }

    /// Splits a request in one piece.
    ///
    /// - Parameter inputSize: The size of the operation's input structure.
    /// - Returns: nil if the request is not as long as its header says, or too short for the structure.
    init?(_ bytes: UnsafeRawBufferPointer, header: fuse_in_header, inputSize: Int) {
        let payloadStart = MemoryLayout<fuse_in_header>.size + inputSize
        guard Int(header.len) == bytes.count, bytes.count >= payloadStart else { return nil }
        self.header = header
        input = UnsafeRawBufferPointer(rebasing: bytes[MemoryLayout<fuse_in_header>.size..<payloadStart])
        payload = UnsafeRawBufferPointer(rebasing: bytes[payloadStart...])
    }
}

extension fuse_in_header {
    /// Set in `unique` when the kernel sends a request again to a process that takes over (`FUSE_UNIQUE_RESEND`).
    private static let resentBit: UInt64 = 1 << 63

    var isResent: Bool { unique & Self.resentBit != 0 }

    /// `unique` as the request was first sent.
    ///
    /// The reply has `unique` as it was sent last.
    var firstUnique: UInt64 { unique & ~Self.resentBit }
}

/// A request whose parts are known to be complete.
struct Call {
    let header: fuse_in_header
    private let input: UnsafeRawBufferPointer
    private let names: UnsafeRawBufferPointer
    /// What follows the names, exactly as many bytes as the input structure announces.
    let data: UnsafeRawBufferPointer
    /// Whether an earlier process has begun it and was killed: it may or may not have happened.
    var isRepeated = false
    /// Where the reply is stored before it is sent; nil if the operation may run twice.
    var record: OperationRecord?

    /// Checks a request against the layout of its operation.
    ///
    /// - Returns: nil if a name lacks its NUL, or fewer data follow than announced.
    init?(_ message: Message, _ operation: Operation) {
        var rest = message.payload
        for _ in 0..<operation.names {
            guard let end = rest.firstIndex(of: 0) else { return nil }
            rest = UnsafeRawBufferPointer(rebasing: rest[(end + 1)...])
        }
        let dataSize = operation.dataSize(message.input)
        guard rest.count >= dataSize else { return nil }
        header = message.header
        input = message.input
        names = UnsafeRawBufferPointer(rebasing: message.payload.prefix(message.payload.count - rest.count))
        data = UnsafeRawBufferPointer(rebasing: rest.prefix(dataSize))
    }

    var inode: InodeNumber { InodeNumber(rawValue: header.nodeid) }

    func request(umask: mode_t = 0) -> Request {
        Request(
            user: header.uid, group: header.gid, thread: pid_t(bitPattern: header.pid), umask: umask,
            unique: header.firstUnique, isRepeated: isRepeated)
    }

    /// The operation's input structure, or its leading part.
    func input<Structure: BitwiseCopyable>(as _: Structure.Type) -> Structure {
        input.loadUnaligned(as: Structure.self)
    }

    /// The first name, which the operation must have.
    var name: FileName {
        // because an operation with names has at least the NUL of one.
        FileName(borrowing: names.baseAddress!.assumingMemoryBound(to: CChar.self))
    }

    /// The second name, which the operation must have.
    var secondName: FileName {
        FileName(borrowing: name.pointer + strlen(name.pointer) + 1)
    }
}

/// One operation of the protocol: the layout of its request, and the method that answers it.
struct Operation: Sendable {
    let opcode: UInt32
    /// Bytes of the input structure that follows the header.
    let inputSize: Int
    /// NUL-terminated names after the structure.
    let names: Int
    /// Bytes of data after the names, as the input structure says.
    let dataSize: @Sendable (UnsafeRawBufferPointer) -> Int
    let blocking: Blocking
    /// Whether its reply is stored before it is sent, as it must not run twice.
    let isRecorded: Bool
    /// Whether the first name is that of a directory entry.
    var namesEntry: Bool { opcode == FUSE_LOOKUP.rawValue || opcode == FUSE_CREATE.rawValue }
    let handler: @Sendable (Dispatcher, Call, inout WorkerBuffers) -> Void

    private init<Input: BitwiseCopyable>(
        _ opcode: fuse_opcode, _: Input.Type, names: Int = 0, _ blocking: Blocking = .byInode,
        once isRecorded: Bool = false, dataSize: @escaping @Sendable (Input) -> Int = { _ in 0 },
        _ handler: @escaping @Sendable (Dispatcher, Call, inout WorkerBuffers) -> Void
    ) {
        self.isRecorded = isRecorded
        self.opcode = opcode.rawValue
        inputSize = MemoryLayout<Input>.size
        self.names = names
        self.blocking = blocking
        self.dataSize = { dataSize($0.loadUnaligned(as: Input.self)) }
        self.handler = handler
    }

    private init<Input: BitwiseCopyable>(
        _ opcode: fuse_opcode, _ input: Input.Type, names: Int = 0, _ blocking: Blocking = .byInode,
        once isRecorded: Bool = false, dataSize: @escaping @Sendable (Input) -> Int = { _ in 0 },
        _ handler: @escaping @Sendable (Dispatcher, Call) -> Void
    ) {
        self.init(opcode, input, names: names, blocking, once: isRecorded, dataSize: dataSize) { dispatcher, call, _ in
            handler(dispatcher, call)
        }
    }

    /// Whether serving a request may wait for a disk, a network or a lock.
    enum Blocking {
        /// It needs memory only.
        case never
        /// As the file system says of the inode, or of the name in it.
        case byInode
        /// It changes or synchronizes the tree.
        case always
    }

    /// Stands for "no input structure": its size is 0.
    private struct NoInput: BitwiseCopyable {}

    /// `struct fuse_setxattr_in` up to `setxattr_flags`: what kernels without FUSE_SETXATTR_EXT send.
    struct ShortSetxattr: BitwiseCopyable {
        var size: UInt32
        var flags: UInt32
    }

    /// All operations that are served, by opcode.
    ///
    /// The others get ENOSYS.
    ///
    /// `Session` answers the first FUSE_INIT. Locks, BMAP and ACCESS are left to the kernel.
    ///
    /// - Parameter setxattrIsLong: Whether FUSE_SETXATTR_EXT was negotiated.
    static func table(setxattrIsLong: Bool) -> [Operation?] {
        let setxattr =
            setxattrIsLong
            ? Operation(FUSE_SETXATTR, fuse_setxattr_in.self, names: 1, once: true, dataSize: { Int($0.size) }) {
                $0.setxattr($1, flags: $1.input(as: fuse_setxattr_in.self).setxattr_flags)
            }
            : Operation(FUSE_SETXATTR, ShortSetxattr.self, names: 1, once: true, dataSize: { Int($0.size) }) {
                $0.setxattr($1, flags: 0)
            }
        var table = [Operation?](repeating: nil, count: all.map { Int($0.opcode) + 1 }.max() ?? 0)
        for operation in all + [setxattr] { table[Int(operation.opcode)] = operation }
        return table
    }

    private static let all: [Operation] = [
        // Names
        Operation(FUSE_LOOKUP, NoInput.self, names: 1, once: true) { $0.lookup($1) },
        Operation(FUSE_FORGET, fuse_forget_in.self, .never) { $0.forget($1) },
        Operation(
            FUSE_BATCH_FORGET, fuse_batch_forget_in.self, .never,
            dataSize: { Int($0.count) * MemoryLayout<fuse_forget_one>.stride }
        ) { $0.batchForget($1) },
        Operation(FUSE_MKNOD, fuse_mknod_in.self, names: 1, .always, once: true) { $0.mknod($1) },
        Operation(FUSE_MKDIR, fuse_mkdir_in.self, names: 1, .always, once: true) { $0.mkdir($1) },
        Operation(FUSE_SYMLINK, NoInput.self, names: 2, .always, once: true) { $0.symlink($1) },
        Operation(FUSE_LINK, fuse_link_in.self, names: 1, .always, once: true) { $0.link($1) },
        Operation(FUSE_UNLINK, NoInput.self, names: 1, .always, once: true) { $0.unlink($1, &$2) },
        Operation(FUSE_RMDIR, NoInput.self, names: 1, .always, once: true) { $0.rmdir($1, &$2) },
        Operation(FUSE_RENAME, fuse_rename_in.self, names: 2, .always, once: true) { $0.rename($1, flags: 0) },
        Operation(FUSE_RENAME2, fuse_rename2_in.self, names: 2, .always, once: true) {
            $0.rename($1, flags: $1.input(as: fuse_rename2_in.self).flags)
        },
        Operation(FUSE_READLINK, NoInput.self) { $0.readlink($1) },
        // Attributes
        Operation(FUSE_GETATTR, fuse_getattr_in.self) { $0.getattr($1) },
        Operation(fuse_opcode(UInt32(clinux_fuse_statx)), NoInput.self) { $0.statx($1) },
        Operation(FUSE_SETATTR, fuse_setattr_in.self, once: true) { $0.setattr($1) },
        Operation(FUSE_STATFS, NoInput.self, .always) { $0.statfs($1) },
        Operation(FUSE_GETXATTR, fuse_getxattr_in.self, names: 1) { $0.getxattr($1, &$2) },
        Operation(FUSE_LISTXATTR, fuse_getxattr_in.self) { $0.listxattr($1, &$2) },
        Operation(FUSE_REMOVEXATTR, NoInput.self, names: 1, once: true) { $0.removexattr($1) },
        // Files
        Operation(FUSE_OPEN, fuse_open_in.self, once: true) { $0.open($1) },
        Operation(FUSE_CREATE, fuse_create_in.self, names: 1, once: true) { $0.create($1, isUnnamed: false) },
        Operation(FUSE_TMPFILE, fuse_create_in.self, names: 1, .always, once: true) { $0.create($1, isUnnamed: true) },
        Operation(FUSE_READ, fuse_read_in.self) { $0.read($1, &$2) },
        Operation(FUSE_WRITE, fuse_write_in.self, once: true, dataSize: { Int($0.size) }) { $0.write($1) },
        Operation(FUSE_FLUSH, fuse_flush_in.self, once: true) { $0.flush($1) },
        Operation(FUSE_RELEASE, fuse_release_in.self) { $0.release($1) },
        Operation(FUSE_FSYNC, fuse_fsync_in.self, .always, once: true) { $0.fsync($1) },
        Operation(FUSE_FALLOCATE, fuse_fallocate_in.self, .always, once: true) { $0.fallocate($1) },
        Operation(FUSE_LSEEK, fuse_lseek_in.self) { $0.lseek($1) },
        Operation(FUSE_COPY_FILE_RANGE, fuse_copy_file_range_in.self, .always, once: true) { $0.copyFileRange($1) },
        Operation(FUSE_IOCTL, fuse_ioctl_in.self, .always, dataSize: { Int($0.in_size) }) { $0.ioctl($1, &$2) },
        Operation(FUSE_POLL, fuse_poll_in.self, .never) { $0.poll($1) },
        // Directories
        Operation(FUSE_OPENDIR, fuse_open_in.self, once: true) { $0.opendir($1) },
        Operation(FUSE_READDIR, fuse_read_in.self) { $0.readdir($1, &$2, plus: false) },
        Operation(FUSE_READDIRPLUS, fuse_read_in.self) { $0.readdir($1, &$2, plus: true) },
        Operation(FUSE_RELEASEDIR, fuse_release_in.self) { $0.releasedir($1) },
        Operation(FUSE_FSYNCDIR, fuse_fsync_in.self, .always) { $0.fsyncdir($1) },
        // The connection
        Operation(FUSE_INIT, NoInput.self, .never) { $0.repeatInit($1) },
        Operation(FUSE_INTERRUPT, fuse_interrupt_in.self, .never) { $0.interrupt($1) },
        Operation(FUSE_DESTROY, NoInput.self, .never) { $0.destroy($1) },
    ]
}

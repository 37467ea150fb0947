import CLinux
import Glibc
import SystemPackage

/// A request of those that nearly all traffic consists of: taken apart here, and answered in one system call.
///
/// Between the kernel and the file system nothing is allocated and no lock is taken, as libfuse does for each request; and
/// libfuse 3.14 has no words for what an opening may be answered with (`FOPEN_PASSTHROUGH`, `FOPEN_STREAM`), and for
/// `FUSE_STATX` none at all.
///
/// When the kernel takes no answer because the caller has been interrupted meanwhile, what the answer stood for (a lookup,
/// an open file) is undone.
///
/// Shapes: linux/fuse.h, after `Dialect` has had its way and `RequestShape` has seen that all of it is there.
struct DirectRequest {
    private let header: fuse_in_header
    /// What follows the header.
    private let arguments: UnsafeRawBufferPointer
    private let served: Session.Served
    private var fileSystem: any FileSystem { served.fileSystem }

    /// - Parameter request: A whole one.
    init(_ request: UnsafeRawBufferPointer, to served: Session.Served) {
        header = request.loadUnaligned(as: fuse_in_header.self)
        arguments = UnsafeRawBufferPointer(rebasing: request[MemoryLayout<fuse_in_header>.size...])
        self.served = served
    }

    /// Answers.
    ///
    /// - Parameters:
    ///   - aftermath: Takes what nobody waits for.
    ///   - pipes: The thread's own.
    /// - Returns: False for a request of another kind, which is left alone.
    func answer(leaving deferred: inout DeferredReleases, by pipes: inout ReplyPipes) -> Bool {
        switch fuse_opcode(header.opcode) {
        case FUSE_LOOKUP: lookup()
        case FUSE_FORGET: deferred.forget(inode, count: argument(as: fuse_forget_in.self).nlookup)
        case FUSE_BATCH_FORGET: forgetSeveral()
        case FUSE_GETATTR: getattr()
        case fuse_opcode(UInt32(clinux_fuse_statx)): statx()
        case FUSE_OPEN:
            // How the last opening went decides how this one may, while that lasts.
            deferred.doAll(of: inode)
            open()
        case FUSE_CREATE: create()
        case FUSE_READ: return read(by: &pipes)
        case FUSE_FLUSH: flush()
        case FUSE_RELEASE: release(leaving: &deferred)
        case FUSE_OPENDIR where served.initialization.listsUnopened.load(ordering: .relaxed):
            // For the kernel, that is for ever.
            acknowledge(.noFunction)
        case FUSE_OPENDIR: opendir()
        case FUSE_RELEASEDIR: deferred.releasedir(handleToRelease, unique: header.unique)
        case FUSE_UNLINK, FUSE_RMDIR, FUSE_RENAME, FUSE_RENAME2:
            // Some file systems keep the name of an open file, and what is renamed onto a signal file had better be closed.
            deferred.doAll()
            return false
        default: return false
        }
        return true
    }

    private var inode: InodeNumber { InodeNumber(rawValue: header.nodeid) }

    private func caller(umask: mode_t = 0) -> Request {
        Request(user: header.uid, group: header.gid, thread: pid_t(bitPattern: header.pid), umask: umask)
    }

    private func argument<Argument: BitwiseCopyable>(as _: Argument.Type) -> Argument {
        arguments.loadUnaligned(as: Argument.self)
    }

    /// The name at the end of the arguments.
    private func name(after offset: Int = 0) -> FileName {
        // because there is at least the NUL of the name.
        FileName(borrowing: (arguments.baseAddress! + offset).assumingMemoryBound(to: CChar.self))
    }

    // MARK: Names

    private func lookup() {
        answer { () throws(Errno) in
            try fileSystem.lookup(name(), in: inode, for: caller())
        } with: { entry in
            fuse_entry_out(entry)
        } undo: { entry in
            fileSystem.forget(entry.inode, count: 1)
        }
    }

    private func forgetSeveral() {
        let stride = MemoryLayout<fuse_forget_one>.stride
        for index in 0..<Int(argument(as: fuse_batch_forget_in.self).count) {
            let one = arguments.loadUnaligned(
                fromByteOffset: MemoryLayout<fuse_batch_forget_in>.size + index * stride, as: fuse_forget_one.self)
            fileSystem.forget(InodeNumber(rawValue: one.nodeid), count: one.nlookup)
        }
    }

    private func getattr() {
        answer { () throws(Errno) in
            try fileSystem.getattr(inode, for: caller())
        } with: { reply in
            fuse_attr_out(reply)
        }
    }

    /// What the kernel asks instead of getattr, since Linux 6.6, when statx(2) wants to know the time of birth, too.
    private func statx() {
        answer { () throws(Errno) in
            (try fileSystem.getattr(inode, for: caller()), born: try fileSystem.birthTime(of: inode))
        } with: { reply, birth in
            clinux_fuse_statx_out(reply, born: birth)
        }
    }

    // MARK: Files

    private func open() {
        let flags = CInt(bitPattern: argument(as: fuse_open_in.self).flags)
        answer { () throws(Errno) in
            choosingPath(try open(flags: flags & ~Dialect.killPriv, killingPrivileges: flags & Dialect.killPriv != 0))
        } with: { opened in
            fuse_open_out(opened)
        } undo: { opened in
            fileSystem.release(opened.handle)
        }
    }

    private func open(flags: CInt, killingPrivileges killPriv: Bool) throws(Errno) -> OpenReply {
        let caller = caller()
        guard killPriv, served.isRoot else { return try fileSystem.open(inode, flags: flags, for: caller) }
        return try Credentials.killingPrivileges(for: caller) { () throws(Errno) in
            try fileSystem.open(inode, flags: flags, for: caller)
        }
    }

    private func choosingPath(_ opened: OpenReply) -> OpenReply {
        guard opened.allowsPassthrough else { return opened }
        var opened = opened
        opened.ioMode = fileSystem.ioMode(of: opened.handle)
        return opened
    }

    private func create() {
        let arguments = argument(as: fuse_create_in.self)
        // What is made has no set-id bits to lose but those that the caller may give it.
        let flags = CInt(bitPattern: arguments.flags) & ~Dialect.killPriv
        answer { () throws(Errno) in
            let caller = caller(umask: mode_t(arguments.umask))
            let (entry, opened) = try Credentials.withCaller(for: caller, isShared: served.isRoot) { () throws(Errno) in
                try fileSystem.create(
                    name(after: MemoryLayout<fuse_create_in>.size), in: inode, mode: mode_t(arguments.mode),
                    flags: flags,
                    for: caller)
            }
            return (entry, choosingPath(opened))
        } with: { entry, opened in
            Created(entry: fuse_entry_out(entry), opened: fuse_open_out(opened))
        } undo: { entry, opened in
            fileSystem.release(opened.handle)
            fileSystem.forget(entry.inode, count: 1)
        }
    }

    /// The reply to FUSE_CREATE: two structures in a row.
    private struct Created: BitwiseCopyable {
        var entry: fuse_entry_out
        var opened: fuse_open_out
    }

    /// Answers a large read without a copy in our memory.
    ///
    /// - Returns: False if it is to be answered as any other.
    private func read(by pipes: inout ReplyPipes) -> Bool {
        let question = argument(as: fuse_read_in.self)
        guard ReplyPipes.sizes.contains(Int(question.size)), served.connection.takesPages else { return false }
        return fileSystem.withFile(backing: FileHandle(rawValue: question.fh)) { file in
            pipes.send(
                Int(question.size), of: file, from: off_t(truncatingIfNeeded: question.offset), to: served.connection,
                unique: header.unique)
        } ?? false
    }

    private func flush() {
        answer { () throws(Errno) in
            try fileSystem.flush(FileHandle(rawValue: argument(as: fuse_flush_in.self).fh), for: caller())
        }
    }

    private var handleToRelease: FileHandle { FileHandle(rawValue: argument(as: fuse_release_in.self).fh) }

    private func release(leaving deferred: inout DeferredReleases) {
        let handle = handleToRelease
        if fileSystem.mayReleaseLater(handle) {
            return deferred.release(handle, of: inode, unique: header.unique)
        }
        fileSystem.release(handle)
        acknowledge()
    }

    // MARK: Directories

    private func opendir() {
        answer { () throws(Errno) in
            try fileSystem.opendir(inode, for: caller())
        } with: { opened in
            fuse_open_out(opened)
        } undo: { opened in
            fileSystem.releasedir(opened.handle)
        }
    }

    // MARK: Replies

    /// Runs an operation and sends what it returns, or its errno.
    private func answer<Result, Body: BitwiseCopyable>(
        _ operation: () throws(Errno) -> Result, with body: (Result) -> Body, undo: (Result) -> Void = { _ in }
    ) {
        do throws(Errno) {
            let result = try operation()
            var reply = Connection.Reply(
                header: fuse_out_header(len: 0, error: 0, unique: header.unique), body: body(result))
            if served.connection.send(&reply) == .noSuchFileOrDirectory { undo(result) }
        } catch {
            acknowledge(error)
        }
    }

    /// Runs an operation that returns nothing.
    private func answer(_ operation: () throws(Errno) -> Void) {
        do throws(Errno) {
            try operation()
            acknowledge()
        } catch {
            acknowledge(error)
        }
    }

    private func acknowledge(_ error: Errno? = nil) {
        served.connection.acknowledge(header.unique, error)
    }
}

extension fuse_entry_out {
    fileprivate init(_ entry: Entry) {
        self.init()
        nodeid = entry.inode.rawValue
        generation = UInt64(entry.generation)
        (entry_valid, entry_valid_nsec) = kernelTime(entry.nameTimeout)
        (attr_valid, attr_valid_nsec) = kernelTime(entry.statusTimeout)
        attr = fuse_attr(entry.status)
    }
}

extension fuse_attr_out {
    fileprivate init(_ reply: StatusReply) {
        self.init()
        (attr_valid, attr_valid_nsec) = kernelTime(reply.timeout)
        attr = fuse_attr(reply.status)
    }
}

extension clinux_fuse_statx_out {
    fileprivate init(_ reply: StatusReply, born birth: timespec?) {
        self.init()
        (attr_valid, attr_valid_nsec) = kernelTime(reply.timeout)
        let status = reply.status
        mask = UInt32(STATX_BASIC_STATS) | (birth == nil ? 0 : UInt32(STATX_BTIME))
        blksize = UInt32(truncatingIfNeeded: status.st_blksize)
        nlink = UInt32(truncatingIfNeeded: status.st_nlink)
        uid = status.st_uid
        gid = status.st_gid
        mode = UInt16(truncatingIfNeeded: status.st_mode)
        ino = UInt64(status.st_ino)
        size = UInt64(bitPattern: Int64(status.st_size))
        blocks = UInt64(bitPattern: Int64(status.st_blocks))
        atime = clinux_fuse_sx_time(status.st_atim)
        btime = clinux_fuse_sx_time(birth ?? timespec())
        ctime = clinux_fuse_sx_time(status.st_ctim)
        mtime = clinux_fuse_sx_time(status.st_mtim)
        rdev_major = clinux_major(status.st_rdev)
        rdev_minor = clinux_minor(status.st_rdev)
    }
}

extension clinux_fuse_sx_time {
    fileprivate init(_ time: timespec) {
        self.init(seconds: Int64(time.tv_sec), nanoseconds: UInt32(truncatingIfNeeded: time.tv_nsec), reserved: 0)
    }
}

extension fuse_attr {
    fileprivate init(_ status: FileStatus) {
        self.init()
        ino = UInt64(status.st_ino)
        size = UInt64(bitPattern: Int64(status.st_size))
        blocks = UInt64(bitPattern: Int64(status.st_blocks))
        atime = UInt64(bitPattern: Int64(status.st_atim.tv_sec))
        mtime = UInt64(bitPattern: Int64(status.st_mtim.tv_sec))
        ctime = UInt64(bitPattern: Int64(status.st_ctim.tv_sec))
        atimensec = UInt32(truncatingIfNeeded: status.st_atim.tv_nsec)
        mtimensec = UInt32(truncatingIfNeeded: status.st_mtim.tv_nsec)
        ctimensec = UInt32(truncatingIfNeeded: status.st_ctim.tv_nsec)
        mode = UInt32(status.st_mode)
        nlink = UInt32(truncatingIfNeeded: status.st_nlink)
        uid = status.st_uid
        gid = status.st_gid
        rdev = UInt32(truncatingIfNeeded: status.st_rdev)
        blksize = UInt32(truncatingIfNeeded: status.st_blksize)
    }
}

extension fuse_open_out {
    fileprivate init(_ opened: OpenReply) {
        self.init()
        fh = opened.handle.rawValue
        switch opened.ioMode {
        case .cached(let isKept): open_flags = isKept ? UInt32(FOPEN_KEEP_CACHE) : 0
        case .direct: open_flags = UInt32(FOPEN_DIRECT_IO)
        case .passthrough(let file, let directIO):
            open_flags = UInt32(clinux_fopen_passthrough) | (directIO ? UInt32(FOPEN_DIRECT_IO) : 0)
            // `backing_id`, since protocol 7.40.
            padding = UInt32(bitPattern: file.rawValue)
        }
        if !opened.needsFlush { open_flags |= UInt32(FOPEN_NOFLUSH) }
        if opened.isStream { open_flags |= UInt32(FOPEN_STREAM) }
    }

    fileprivate init(_ opened: OpenDirectoryReply) {
        self.init()
        fh = opened.handle.rawValue
        if opened.isListingKept { open_flags = UInt32(FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE) }
    }
}

/// A timeout as the protocol has it: whole seconds, and nanoseconds.
///
/// - Parameter seconds: 0 or more.
private func kernelTime(_ seconds: Double) -> (UInt64, UInt32) {
    let whole = seconds.rounded(.down)
    return (UInt64(whole), UInt32((seconds - whole) * 1_000_000_000))
}

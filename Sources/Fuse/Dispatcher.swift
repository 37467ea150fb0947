import CLinux
import Glibc
import SystemPackage

/// Decodes requests, calls the file system, and replies: once to each request, from here alone.
///
/// `Operation.table` says which method answers which opcode. If the kernel does not take a reply, because the caller was
/// killed or the reply could not be copied, the operation's lookups and open files are undone. Any thread may dispatch.
///
/// A request that the kernel sends again, because the process that had read it was killed, takes effect once: see
/// `dispatch`.
///
/// Structures: linux/fuse.h.
final class Dispatcher: Sendable {
    let fileSystem: any FileSystem
    let transport: any Transport
    let pendingReads: PendingReads
    let deferred: DeferredReleases
    let state: ConnectionState
    private let connection: Connection
    private let agreement: Init.Agreement
    private let operations: [Operation?]
    /// Whether threads act with the caller's credentials where that makes a difference.
    private let isRoot = geteuid() == 0

    /// The largest reply the kernel asks for: FUSE_MAX_MAX_PAGES pages.
    static let largestReply = 1 << 20

    init(
        serving fileSystem: any FileSystem, over transport: any Transport, _ connection: Connection,
        agreed agreement: Init.Agreement, state: ConnectionState
    ) {
        self.fileSystem = fileSystem
        self.transport = transport
        self.connection = connection
        self.agreement = agreement
        self.state = state
        pendingReads = PendingReads(over: transport)
        deferred = DeferredReleases(of: fileSystem, over: transport)
        operations = Operation.table(setxattrIsLong: agreement.setxattrIsLong)
    }

    // MARK: Requests

    private func operation(_ header: fuse_in_header) -> Operation? {
        header.opcode < UInt32(operations.count) ? operations[Int(header.opcode)] : nil
    }

    /// Serves a request that is in one piece, as `/dev/fuse` delivers it.
    func dispatch(_ bytes: UnsafeRawBufferPointer, _ buffers: inout WorkerBuffers) {
        guard let header = Message.header(of: bytes) else { return }
        guard let operation = operation(header) else { return reply(to: header, .noFunction) }
        guard let message = Message(bytes, header: header, inputSize: operation.inputSize) else {
            return refuse(header)
        }
        dispatch(message, operation, &buffers)
    }

    /// Serves a request, once.
    ///
    /// One that the kernel sends again may have been finished before: then its stored reply is sent. Or begun: then it
    /// runs again, and an errno that says that it has happened (EEXIST, ENOENT, ENODATA) means success, since the caller
    /// still holds the kernel's lock of the directory. Or neither: then it runs as if it were new.
    private func dispatch(_ message: Message, _ operation: Operation, _ buffers: inout WorkerBuffers) {
        let header = message.header
        var isRepeated = false
        var attempts = 0
        if header.isResent, let earlier = state.inherited(header.firstUnique) {
            if let (error, body) = earlier.reply {
                _ = body.withUnsafeBytes { transport.reply(to: header.unique, error: error, $0) }
                return
            }
            attempts = earlier.attempts
            // It has killed as many processes as began it.
            if attempts >= Self.mostAttempts { return refuse(header) }
            isRepeated = true
        }
        buffers.record?.begin(header.firstUnique, attempts: attempts)
        defer { buffers.record?.end() }
        guard var call = Call(message, operation) else { return refuse(header) }
        call.isRepeated = isRepeated
        if operation.isRecorded { call.record = buffers.record }
        operation.handler(self, call, &buffers)
    }

    /// How many processes may die of one request before it fails.
    private static let mostAttempts = 2

    /// Replies EIO to an incomplete request, if it has a reply.
    private func refuse(_ header: fuse_in_header) {
        switch fuse_opcode(header.opcode) {
        case FUSE_FORGET, FUSE_BATCH_FORGET, FUSE_INTERRUPT: break
        default: reply(to: header, .ioError)
        }
    }

    /// Whether serving a request may wait for a disk, a network or a lock, rather than for memory alone.
    func mayBlock(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let header = Message.header(of: bytes), let operation = operation(header),
            let message = Message(bytes, header: header, inputSize: operation.inputSize),
            let call = Call(message, operation)
        else { return false }
        return switch operation.blocking {
        case .never: false
        case .always: true
        case .byInode:
            // The name in GETXATTR and its kind is an attribute's.
            fileSystem.mayBlock(call.inode, name: operation.namesEntry ? call.name : nil)
        }
    }

    func isForRootDevice(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let header = Message.header(of: bytes) else { return true }
        return fileSystem.isOnRootDevice(InodeNumber(rawValue: header.nodeid))
    }

    // MARK: Names

    func lookup(_ call: Call) {
        replyWithEntry(to: call) { (request) throws(Errno) in
            try fileSystem.lookup(call.name, in: call.inode, for: request)
        }
    }

    func forget(_ call: Call) {
        let count = call.input(as: fuse_forget_in.self).nlookup
        if !deferred.add(.forget(call.inode, count: count)) { fileSystem.forget(call.inode, count: count) }
    }

    func batchForget(_ call: Call) {
        let stride = MemoryLayout<fuse_forget_one>.stride
        for offset in Swift.stride(from: 0, to: call.data.count, by: stride) {
            let one = call.data.loadUnaligned(fromByteOffset: offset, as: fuse_forget_one.self)
            fileSystem.forget(InodeNumber(rawValue: one.nodeid), count: one.nlookup)
        }
    }

    func mknod(_ call: Call) {
        let input = call.input(as: fuse_mknod_in.self)
        replyWithNewEntry(to: call, umask: input.umask) { (request) throws(Errno) in
            try fileSystem.mknod(
                call.name, in: call.inode, mode: mode_t(input.mode), device: dev_t(input.rdev), for: request)
        }
    }

    func mkdir(_ call: Call) {
        let input = call.input(as: fuse_mkdir_in.self)
        replyWithNewEntry(to: call, umask: input.umask) { (request) throws(Errno) in
            try fileSystem.mkdir(call.name, in: call.inode, mode: mode_t(input.mode), for: request)
        }
    }

    func symlink(_ call: Call) {
        replyWithNewEntry(to: call, umask: 0) { (request) throws(Errno) in
            try fileSystem.symlink(to: call.secondName.pointer, named: call.name, in: call.inode, for: request)
        }
    }

    func link(_ call: Call) {
        let target = InodeNumber(rawValue: call.input(as: fuse_link_in.self).oldnodeid)
        replyWithEntry(to: call) { (request) throws(Errno) in
            try made(by: call, for: request, as: target) { () throws(Errno) in
                try fileSystem.link(target, to: call.name, in: call.inode, for: request)
            }
        }
    }

    func unlink(_ call: Call, _ buffers: inout WorkerBuffers) {
        // Some file systems keep the name of an open file.
        if buffers.mayBlock { deferred.runAll() }
        replyEmpty(to: call) { (request) throws(Errno) in
            try fileSystem.unlink(call.name, in: call.inode, for: request)
        }
    }

    func rmdir(_ call: Call, _ buffers: inout WorkerBuffers) {
        if buffers.mayBlock { deferred.runAll() }
        replyEmpty(to: call) { (request) throws(Errno) in
            try fileSystem.rmdir(call.name, in: call.inode, for: request)
        }
    }

    /// FUSE_RENAME, and FUSE_RENAME2 with the flags of renameat2(2).
    ///
    /// Both begin with the new parent.
    func rename(_ call: Call, flags: UInt32) {
        // A file should be closed before it is renamed onto a signal file.
        deferred.runAll()
        let newParent = InodeNumber(rawValue: call.input(as: fuse_rename_in.self).newdir)
        replyEmpty(to: call) { (request) throws(Errno) in
            try fileSystem.rename(
                call.name, in: call.inode, to: call.secondName, in: newParent, flags: flags, for: request)
        }
    }

    func readlink(_ call: Call) {
        do throws(Errno) {
            let target = try fileSystem.readlink(call.inode)
            _ = target.withUnsafeBytes { reply(to: call, $0) }
        } catch {
            reply(to: call, error)
        }
    }

    // MARK: Attributes

    func getattr(_ call: Call) {
        reply(to: call) { () throws(Errno) in
            fuse_attr_out(try fileSystem.getattr(call.inode, for: call.request()))
        }
    }

    /// FUSE_STATX: sent instead of GETATTR since Linux 6.6 when statx(2) asks for the birth time.
    func statx(_ call: Call) {
        reply(to: call) { () throws(Errno) in
            clinux_fuse_statx_out(
                try fileSystem.getattr(call.inode, for: call.request()), born: try fileSystem.birthTime(of: call.inode))
        }
    }

    func setattr(_ call: Call) {
        let input = call.input(as: fuse_setattr_in.self)
        // A change of owner clears the set-id bits by itself, also by root.
        let killPriv = input.valid & UInt32(FATTR_SIZE) != 0 && input.valid & UInt32(FATTR_KILL_SUIDGID) != 0
        let handle = input.valid & UInt32(FATTR_FH) != 0 ? FileHandle(rawValue: input.fh) : nil
        reply(to: call) { () throws(Errno) in
            guard let changes = StatusChanges(input) else { throw .invalidArgument }
            let request = call.request()
            return fuse_attr_out(
                try changing(killPriv: killPriv, for: request) { () throws(Errno) in
                    try fileSystem.setattr(call.inode, changes, handle: handle, for: request)
                })
        }
    }

    func statfs(_ call: Call) {
        reply(to: call) { () throws(Errno) in fuse_statfs_out(try fileSystem.statfs(call.inode)) }
    }

    func setxattr(_ call: Call, flags setxattrFlags: UInt32) {
        let killPriv = setxattrFlags & UInt32(FUSE_SETXATTR_ACL_KILL_SGID) != 0
        let flags = CInt(bitPattern: call.input(as: Operation.ShortSetxattr.self).flags)
        replyEmpty(to: call) { (request) throws(Errno) in
            do throws(Errno) {
                try changing(killPriv: killPriv, for: request) { () throws(Errno) in
                    try fileSystem.setxattr(call.inode, call.name.pointer, value: call.data, flags: flags)
                }
            } catch .fileExists where call.isRepeated {}
        }
    }

    func getxattr(_ call: Call, _ buffers: inout WorkerBuffers) {
        replyWithAttribute(to: call, &buffers) { (room) throws(Errno) in
            try fileSystem.getxattr(call.inode, call.name.pointer, into: room)
        }
    }

    func listxattr(_ call: Call, _ buffers: inout WorkerBuffers) {
        replyWithAttribute(to: call, &buffers) { (room) throws(Errno) in
            try fileSystem.listxattr(call.inode, into: room, for: call.request())
        }
    }

    func removexattr(_ call: Call) {
        replyEmpty(to: call) { (_) throws(Errno) in
            do throws(Errno) {
                try fileSystem.removexattr(call.inode, call.name.pointer)
            } catch .noData where call.isRepeated {}
        }
    }

    // MARK: Files

    func open(_ call: Call) {
        // The kernel wants one I/O mode for all openings of an inode, and the last RELEASE ends the former mode.
        deferred.runAll(of: call.inode)
        let input = call.input(as: fuse_open_in.self)
        reply(to: call) { () throws(Errno) in
            let request = call.request()
            let killPriv = input.open_flags & UInt32(FUSE_OPEN_KILL_SUIDGID) != 0
            return withIOMode(
                try changing(killPriv: killPriv, for: request) { () throws(Errno) in
                    try fileSystem.open(call.inode, flags: CInt(bitPattern: input.flags), for: request)
                })
        } encode: {
            fuse_open_out($0)
        } undo: {
            fileSystem.release($0.handle)
        }
    }

    /// FUSE_CREATE, and FUSE_TMPFILE for a file without a name.
    ///
    /// overlayfs sends the latter without O_TMPFILE.
    func create(_ call: Call, isUnnamed: Bool) {
        let input = call.input(as: fuse_create_in.self)
        let flags = CInt(bitPattern: input.flags) | (isUnnamed ? clinux_tmpfile : 0)
        reply(to: call) { () throws(Errno) in
            let request = call.request(umask: mode_t(input.umask))
            let (entry, opened) = try Credentials.withCaller(for: request, isShared: isRoot) { () throws(Errno) in
                try fileSystem.create(
                    call.name, in: call.inode, mode: mode_t(input.mode), flags: flags, for: request)
            }
            return (entry, withIOMode(opened))
        } encode: { entry, opened in
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

    /// Asks for the I/O mode with the thread's own credentials: the kernel uses a backing file with those.
    private func withIOMode(_ opened: OpenReply) -> OpenReply {
        guard opened.allowsPassthrough else { return opened }
        var opened = opened
        opened.ioMode = fileSystem.ioMode(of: opened.handle)
        return opened
    }

    /// Replies with bytes, with the pages of the backing file, or later through a `PendingRead`.
    func read(_ call: Call, _ buffers: inout WorkerBuffers) {
        let input = call.input(as: fuse_read_in.self)
        let handle = FileHandle(rawValue: input.fh)
        guard let offset = off_t(exactly: input.offset) else { return reply(to: call, .invalidArgument) }
        if SpliceReply.sizes.contains(Int(input.size)), transport.supportsSplice,
            fileSystem.withFile(
                backing: handle,
                { file in
                    buffers.splice.send(
                        Int(input.size), of: file, from: offset, over: transport, to: call.header.unique)
                }) == true
        {
            return
        }
        let capacity = min(Int(input.size), Self.largestReply)
        buffers.withRoom(capacity) { room in
            do throws(Errno) {
                let count = try fileSystem.read(handle, into: room, at: offset, for: call.request())
                reply(to: call, UnsafeRawBufferPointer(rebasing: room.prefix(count)))
            } catch .resourceTemporarilyUnavailable where CInt(bitPattern: input.flags) & O_NONBLOCK == 0 {
                fileSystem.wait(pendingReads.add(call.header.unique, capacity: capacity), on: handle)
            } catch {
                reply(to: call, error)
            }
        }
    }

    func write(_ call: Call) {
        let input = call.input(as: fuse_write_in.self)
        // A page of a mapping may be written through any handle; its offset is where it belongs.
        //
        // A repeated write may be in the file already, where the kernel believes that it belongs.
        let appending =
            CInt(bitPattern: input.flags) & O_APPEND != 0 && input.write_flags & UInt32(FUSE_WRITE_CACHE) == 0
            && !call.isRepeated
        let killPriv = input.write_flags & UInt32(FUSE_WRITE_KILL_SUIDGID) != 0
        replyWithCount(to: call, killPriv: killPriv) { (request) throws(Errno) in
            try fileSystem.write(
                FileHandle(rawValue: input.fh), call.data, at: try Self.offset(input.offset), appending: appending,
                for: request)
        }
    }

    func flush(_ call: Call) {
        replyEmpty(to: call) { (request) throws(Errno) in
            try fileSystem.flush(FileHandle(rawValue: call.input(as: fuse_flush_in.self).fh), for: request)
        }
    }

    func release(_ call: Call) {
        let handle = FileHandle(rawValue: call.input(as: fuse_release_in.self).fh)
        if fileSystem.mayReleaseLater(handle), fileSystem.isOnRootDevice(call.inode),
            deferred.add(.release(handle, of: call.inode, unique: call.header.unique))
        {
            return
        }
        fileSystem.release(handle)
        reply(to: call)
    }

    func fsync(_ call: Call) {
        let input = call.input(as: fuse_fsync_in.self)
        replyEmpty(to: call) { (request) throws(Errno) in
            try fileSystem.fsync(
                FileHandle(rawValue: input.fh), dataOnly: input.fsync_flags & UInt32(FUSE_FSYNC_FDATASYNC) != 0,
                for: request)
        }
    }

    func fallocate(_ call: Call) {
        let input = call.input(as: fuse_fallocate_in.self)
        replyEmpty(to: call) { (request) throws(Errno) in
            // The request does not say whether set-id bits must go; for a caller who is not root they must.
            try changing(killPriv: request.callingUser != 0, for: request) { () throws(Errno) in
                try fileSystem.fallocate(
                    FileHandle(rawValue: input.fh), mode: CInt(bitPattern: input.mode),
                    offset: try Self.offset(input.offset), length: try Self.offset(input.length))
            }
        }
    }

    func lseek(_ call: Call) {
        let input = call.input(as: fuse_lseek_in.self)
        reply(to: call) { () throws(Errno) in
            let offset = try fileSystem.lseek(
                FileHandle(rawValue: input.fh), offset: off_t(bitPattern: UInt(input.offset)),
                whence: CInt(bitPattern: input.whence))
            return fuse_lseek_out(offset: UInt64(bitPattern: Int64(offset)))
        }
    }

    func copyFileRange(_ call: Call) {
        let input = call.input(as: fuse_copy_file_range_in.self)
        replyWithCount(to: call, killPriv: call.request().callingUser != 0) { (_) throws(Errno) in
            try fileSystem.copyFileRange(
                from: FileHandle(rawValue: input.fh_in), at: try Self.offset(input.off_in),
                to: FileHandle(rawValue: input.fh_out), at: try Self.offset(input.off_out),
                count: Int(min(input.len, UInt64(UInt32.max))), flags: CInt(truncatingIfNeeded: input.flags))
        }
    }

    /// Replies with the first `out_size` bytes of the argument, which begins as the caller's.
    func ioctl(_ call: Call, _ buffers: inout WorkerBuffers) {
        let input = call.input(as: fuse_ioctl_in.self)
        let capacity = min(Int(input.out_size), Self.largestReply)
        buffers.withRoom(MemoryLayout<fuse_ioctl_out>.size + max(call.data.count, capacity)) { room in
            // Bytes that the operation leaves alone must not reveal an earlier reply.
            room.initializeMemory(as: UInt8.self, repeating: 0)
            let argument = UnsafeMutableRawBufferPointer(rebasing: room[MemoryLayout<fuse_ioctl_out>.size...])
            argument.copyMemory(from: call.data)
            do throws(Errno) {
                try fileSystem.ioctl(
                    call.inode, FileHandle(rawValue: input.fh),
                    isDirectory: input.flags & UInt32(FUSE_IOCTL_DIR) != 0, input.cmd, argument)
                // `struct fuse_ioctl_out` is all zeros: the result is 0, and there are no more buffers to fetch.
                reply(
                    to: call,
                    UnsafeRawBufferPointer(rebasing: room.prefix(MemoryLayout<fuse_ioctl_out>.size + capacity)))
            } catch {
                reply(to: call, error)
            }
        }
    }

    func poll(_ call: Call) {
        let input = call.input(as: fuse_poll_in.self)
        let wantsNotification = input.flags & UInt32(FUSE_POLL_SCHEDULE_NOTIFY) != 0
        reply(to: call) { () throws(Errno) in
            let events = try fileSystem.poll(
                FileHandle(rawValue: input.fh),
                pollHandle: wantsNotification ? PollHandle(rawValue: input.kh, on: connection) : nil)
            return fuse_poll_out(revents: events, padding: 0)
        }
    }

    // MARK: Directories

    func opendir(_ call: Call) {
        // For the kernel ENOSYS holds for the whole connection: it lists directories without opening them.
        if agreement.listsUnopened { return reply(to: call, .noFunction) }
        reply(to: call) { () throws(Errno) in
            try fileSystem.opendir(call.inode, for: call.request())
        } encode: {
            fuse_open_out($0)
        } undo: {
            fileSystem.releasedir($0.handle)
        }
    }

    /// FUSE_READDIR and FUSE_READDIRPLUS.
    func readdir(_ call: Call, _ buffers: inout WorkerBuffers, plus: Bool) {
        let input = call.input(as: fuse_read_in.self)
        let handle = FileHandle(rawValue: input.fh)
        // Offsets are the file system's own cookies, of any 64 bits.
        let offset = off_t(bitPattern: UInt(input.offset))
        buffers.withRoom(min(Int(input.size), Self.largestReply)) { room in
            var listing = DirectoryReply(room: room)
            do throws(Errno) {
                try fileSystem.readdir(
                    call.inode, handle, from: offset, plus: plus, into: &listing, for: call.request())
            } catch {
                // Entries in the reply are looked up already. The next request meets the error.
                if listing.isEmpty { return reply(to: call, error) }
            }
            if !reply(to: call, UnsafeRawBufferPointer(rebasing: room.prefix(listing.used))) {
                listing.forEachLookup { fileSystem.forget($0, count: 1) }
            }
        }
    }

    func releasedir(_ call: Call) {
        let handle = FileHandle(rawValue: call.input(as: fuse_release_in.self).fh)
        if deferred.add(.releasedir(handle, unique: call.header.unique)) { return }
        fileSystem.releasedir(handle)
        reply(to: call)
    }

    func fsyncdir(_ call: Call) {
        let input = call.input(as: fuse_fsync_in.self)
        replyEmpty(to: call) { (request) throws(Errno) in
            try fileSystem.fsyncdir(
                call.inode, FileHandle(rawValue: input.fh),
                dataOnly: input.fsync_flags & UInt32(FUSE_FSYNC_FDATASYNC) != 0, for: request)
        }
    }

    // MARK: The connection

    /// FUSE_INTERRUPT has no reply of its own.
    func interrupt(_ call: Call) {
        pendingReads.interrupt(call.input(as: fuse_interrupt_in.self).unique, by: call.header.unique)
    }

    /// FUSE_INIT again: the process that had read it was killed before it replied.
    func repeatInit(_ call: Call) {
        agreement.reply.withUnsafeBytes { _ = reply(to: call, $0) }
    }

    /// FUSE_DESTROY: the file system is being unmounted.
    ///
    /// The end of the connection follows.
    func destroy(_ call: Call) {
        reply(to: call)
    }

    // MARK: Credentials

    /// Runs an operation that changes a file's bytes.
    ///
    /// With `killPriv` the set-id bits go.
    private func changing<Result>(
        killPriv: Bool, for request: Request, _ body: () throws(Errno) -> Result
    ) throws(Errno) -> Result {
        // A server that is not root clears them by every change.
        killPriv && isRoot ? try Credentials.killingPrivileges(for: request, body) : try body()
    }

    /// A file offset; EINVAL for one beyond what `off_t` holds.
    private static func offset(_ rawValue: UInt64) throws(Errno) -> off_t {
        guard let offset = off_t(exactly: rawValue) else { throw .invalidArgument }
        return offset
    }

    // MARK: Replies

    /// Replies without a body: success, or an errno.
    private func reply(to header: fuse_in_header, _ error: Errno? = nil) {
        // Nothing to undo if the caller is gone.
        _ = transport.reply(to: header.unique, error: error)
    }

    private func reply(to call: Call, _ error: Errno? = nil) {
        call.record?.complete(error, UnsafeRawBufferPointer(start: nil, count: 0))
        reply(to: call.header, error)
    }

    /// Replies with bytes.
    ///
    /// - Returns: Whether the kernel took the reply.
    @discardableResult
    private func reply(to call: Call, _ body: UnsafeRawBufferPointer) -> Bool {
        call.record?.complete(nil, body)
        guard let failure = transport.reply(to: call.header.unique, error: nil, body) else { return true }
        // ENOENT: the caller was killed. Anything else left the request unanswered, or the kernel ended it with EIO.
        if failure != .noSuchFileOrDirectory { reply(to: call.header, .ioError) }
        return false
    }

    /// Runs an operation, and replies with its result as `encode` lays it out, or with its errno.
    ///
    /// - Parameter undo: Called if the kernel did not take the result.
    private func reply<Result, Body: BitwiseCopyable>(
        to call: Call, _ operation: () throws(Errno) -> Result, encode: (Result) -> Body, undo: (Result) -> Void
    ) {
        do throws(Errno) {
            let result = try operation()
            let isTaken = withUnsafeBytes(of: encode(result)) { reply(to: call, $0) }
            if !isTaken { undo(result) }
        } catch {
            reply(to: call, error)
        }
    }

    private func reply<Body: BitwiseCopyable>(to call: Call, _ operation: () throws(Errno) -> Body) {
        reply(to: call, operation, encode: { $0 }, undo: { _ in })
    }

    private func replyEmpty(to call: Call, _ operation: (Request) throws(Errno) -> Void) {
        do throws(Errno) {
            try operation(call.request())
            reply(to: call)
        } catch {
            reply(to: call, error)
        }
    }

    private func replyWithEntry(to call: Call, umask: UInt32 = 0, _ operation: (Request) throws(Errno) -> Entry) {
        reply(to: call) { () throws(Errno) in
            try operation(call.request(umask: mode_t(umask)))
        } encode: {
            fuse_entry_out($0)
        } undo: {
            fileSystem.forget($0.inode, count: 1)
        }
    }

    /// For operations that make a file: with the caller's umask, and the caller owns it.
    private func replyWithNewEntry(to call: Call, umask: UInt32, _ operation: (Request) throws(Errno) -> Entry) {
        replyWithEntry(to: call, umask: umask) { (request) throws(Errno) in
            try Credentials.withCaller(for: request, isShared: isRoot) { () throws(Errno) in
                try made(by: call, for: request) { () throws(Errno) in try operation(request) }
            }
        }
    }

    /// Runs an operation that makes a name.
    ///
    /// If it is repeated, the name may be there already.
    ///
    /// - Parameter inode: What the name must lead to, if that is known.
    private func made(
        by call: Call, for request: Request, as inode: InodeNumber? = nil, _ operation: () throws(Errno) -> Entry
    ) throws(Errno) -> Entry {
        do throws(Errno) {
            return try operation()
        } catch .fileExists where call.isRepeated {
            let entry = try fileSystem.lookup(call.name, in: call.inode, for: request)
            guard inode ?? entry.inode == entry.inode else {
                fileSystem.forget(entry.inode, count: 1)
                throw .fileExists
            }
            return entry
        }
    }

    private func replyWithCount(to call: Call, killPriv: Bool, _ operation: (Request) throws(Errno) -> Int) {
        reply(to: call) { () throws(Errno) in
            let request = call.request()
            let count = try changing(killPriv: killPriv, for: request) { () throws(Errno) in try operation(request) }
            return fuse_write_out(size: UInt32(clamping: count), padding: 0)
        }
    }

    /// Replies to GETXATTR and LISTXATTR: with the bytes, or with their number if the caller has no room.
    private func replyWithAttribute(
        to call: Call, _ buffers: inout WorkerBuffers, _ fill: (UnsafeMutableRawBufferPointer) throws(Errno) -> Int
    ) {
        let capacity = min(Int(call.input(as: fuse_getxattr_in.self).size), Self.largestReply)
        buffers.withRoom(capacity) { room in
            do throws(Errno) {
                let count = try fill(room)
                if capacity > 0 {
                    reply(to: call, UnsafeRawBufferPointer(rebasing: room.prefix(count)))
                } else {
                    _ = withUnsafeBytes(of: fuse_getxattr_out(size: UInt32(clamping: count), padding: 0)) {
                        reply(to: call, $0)
                    }
                }
            } catch {
                reply(to: call, error)
            }
        }
    }
}

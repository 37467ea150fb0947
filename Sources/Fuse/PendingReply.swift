import CFuse
import Glibc
import SystemPackage

/// A request that waits for its answer: runs the operation and replies, once, with its result or its errno.
///
/// When the kernel discards an answer because the caller was interrupted meanwhile, what the answer stood for (a lookup,
/// an open file) is undone.
struct PendingReply {
    private let request: fuse_req_t
    private let served: Session.Served
    private var fileSystem: any FileSystem { served.fileSystem }
    private var isRoot: Bool { served.isRoot }

    /// The kernel never asks for more at a time (`FUSE_MAX_MAX_PAGES`).
    static let largestReply = 1 << 20

    /// `request` must carry a `Session.Served` as its user data.
    init(_ request: fuse_req_t) {
        self.request = request
        served = Session.Served.of(fuse_req_userdata(request))
    }

    private var caller: Request {
        guard let context = fuse_req_ctx(request)?.pointee else { return Request(user: 0, group: 0, thread: 0) }
        return Request(user: context.uid, group: context.gid, thread: context.pid, umask: context.umask)
    }

    /// Whether the caller is not root, and so may not keep set-id bits on what it changes: for requests that do not say.
    var isForOthers: Bool { caller.callingUser != 0 }

    /// Runs what changes a file's bytes; for a caller who loses set-id bits by that, they go.
    private func changing<Result>(
        _ killPriv: Bool, _ body: () throws(Errno) -> Result
    ) throws(Errno) -> Result {
        // Whoever is not root loses them in any case.
        killPriv && isRoot ? try Credentials.killingPrivileges(for: caller, body) : try body()
    }

    private func fail(_ error: Errno) {
        fuse_reply_err(request, error.rawValue)
    }

    // MARK: Kinds of answers

    func nothing(
        killingPrivileges killPriv: Bool = false, _ operation: (any FileSystem, Request) throws(Errno) -> Void
    ) {
        do throws(Errno) {
            try changing(killPriv) { () throws(Errno) in try operation(fileSystem, caller) }
            fuse_reply_err(request, 0)
        } catch {
            fail(error)
        }
    }

    func entry(_ operation: (any FileSystem, Request) throws(Errno) -> Entry) {
        do throws(Errno) {
            let entry = try operation(fileSystem, caller)
            var parameters = fuse_entry_param(entry)
            if fuse_reply_entry(request, &parameters) == -ENOENT { fileSystem.forget(entry.inode, count: 1) }
        } catch {
            fail(error)
        }
    }

    /// Like `entry`, for an operation that makes a file: with the caller's umask, and theirs it is.
    func newEntry(_ operation: (any FileSystem, Request) throws(Errno) -> Entry) {
        entry { (fileSystem, caller) throws(Errno) in
            try Credentials.withCaller(for: caller, isShared: isRoot) { () throws(Errno) in
                try operation(fileSystem, caller)
            }
        }
    }

    func status(
        killingPrivileges killPriv: Bool = false,
        _ operation: (any FileSystem, Request) throws(Errno) -> StatusReply
    ) {
        do throws(Errno) {
            var reply = try changing(killPriv) { () throws(Errno) in try operation(fileSystem, caller) }
            fuse_reply_attr(request, &reply.status, reply.timeout)
        } catch {
            fail(error)
        }
    }

    func count(
        killingPrivileges killPriv: Bool = false, _ operation: (any FileSystem, Request) throws(Errno) -> Int
    ) {
        do throws(Errno) {
            let count = try changing(killPriv) { () throws(Errno) in try operation(fileSystem, caller) }
            fuse_reply_write(request, count)
        } catch {
            fail(error)
        }
    }

    /// Answers with up to `capacity` bytes that the operation writes.
    func bytes(capacity: Int, _ fill: (any FileSystem, Request, UnsafeMutableRawBufferPointer) throws(Errno) -> Int) {
        ReplyBuffer.withBytes(min(capacity, Self.largestReply)) { room in
            do throws(Errno) {
                let count = try fill(fileSystem, caller, room)
                fuse_reply_buf(request, room.baseAddress?.assumingMemoryBound(to: CChar.self), count)
            } catch {
                fail(error)
            }
        }
    }

    /// Answers read(2), now or, if there is nothing yet and the caller waits for it, when the file system sees to it.
    func read(_ handle: FileHandle, capacity: Int, at offset: off_t, flags: CInt) {
        let capacity = min(capacity, Self.largestReply)
        ReplyBuffer.withBytes(capacity) { room in
            do throws(Errno) {
                let count = try fileSystem.read(handle, into: room, at: offset)
                fuse_reply_buf(request, room.baseAddress?.assumingMemoryBound(to: CChar.self), count)
            } catch .resourceTemporarilyUnavailable where flags & O_NONBLOCK == 0 {
                fileSystem.wait(served.waiting.add(request, capacity: capacity, of: served), on: handle)
            } catch {
                fail(error)
            }
        }
    }

    /// Answers getxattr(2) and listxattr(2): with the bytes, or with their number where `capacity` is 0.
    func attribute(
        capacity: Int, _ fill: (any FileSystem, Request, UnsafeMutableRawBufferPointer) throws(Errno) -> Int
    ) {
        guard capacity == 0 else { return bytes(capacity: capacity, fill) }
        do throws(Errno) {
            fuse_reply_xattr(request, try fill(fileSystem, caller, UnsafeMutableRawBufferPointer(start: nil, count: 0)))
        } catch {
            fail(error)
        }
    }

    func directory(
        capacity: Int, _ list: (any FileSystem, Request, inout DirectoryReply) throws(Errno) -> Void
    ) {
        ReplyBuffer.withBytes(min(capacity, Self.largestReply)) { room in
            var reply = DirectoryReply(request: request, room: room)
            do throws(Errno) {
                try list(fileSystem, caller, &reply)
            } catch {
                // What is in the reply already counts as looked up; the error meets the caller with the next request.
                if reply.isEmpty { return fail(error) }
            }
            let start = room.baseAddress?.assumingMemoryBound(to: CChar.self)
            if fuse_reply_buf(request, start, reply.used) == -ENOENT {
                reply.forEachLookup { fileSystem.forget($0, count: 1) }
            }
        }
    }

    func link(_ operation: (any FileSystem) throws(Errno) -> [UInt8]) {
        do throws(Errno) {
            let target = try operation(fileSystem) + [0]
            target.withUnsafeBytes { target in
                _ = fuse_reply_readlink(request, target.baseAddress?.assumingMemoryBound(to: CChar.self))
            }
        } catch {
            fail(error)
        }
    }

    func fileSystemStatus(_ operation: (any FileSystem) throws(Errno) -> FileSystemStatus) {
        do throws(Errno) {
            var status = try operation(fileSystem)
            fuse_reply_statfs(request, &status)
        } catch {
            fail(error)
        }
    }

    func offset(_ operation: (any FileSystem) throws(Errno) -> off_t) {
        do throws(Errno) {
            fuse_reply_lseek(request, try operation(fileSystem))
        } catch {
            fail(error)
        }
    }

    /// Answers with the first `capacity` bytes of the argument, which begins as `input`.
    func ioctl(
        _ input: UnsafeRawBufferPointer, capacity: Int,
        _ operation: (any FileSystem, UnsafeMutableRawBufferPointer) throws(Errno) -> Void
    ) {
        let capacity = min(capacity, Self.largestReply)
        ReplyBuffer.withBytes(max(input.count, capacity)) { argument in
            // What the operation leaves alone must not tell of an earlier answer.
            argument.initializeMemory(as: UInt8.self, repeating: 0)
            argument.copyMemory(from: input)
            do throws(Errno) {
                try operation(fileSystem, argument)
                fuse_reply_ioctl(request, 0, argument.baseAddress, capacity)
            } catch {
                fail(error)
            }
        }
    }

    /// Answers poll; `pollHandle` is libfuse's handle for a later notification, if somebody waits for one.
    func events(
        pollHandle: OpaquePointer?, _ operation: (any FileSystem, PollHandle?) throws(Errno) -> UInt32
    ) {
        let pollHandle = pollHandle.map { PollHandle(takingOwnershipOf: $0, of: served) }
        do throws(Errno) {
            fuse_reply_poll(request, try operation(fileSystem, pollHandle))
        } catch {
            fail(error)
        }
    }
}

extension fuse_file_info {
    /// Takes out what `Dialect` has put into the flags.
    mutating func removeKillPriv() -> Bool {
        defer { flags &= ~Dialect.killPriv }
        return flags & Dialect.killPriv != 0
    }
}

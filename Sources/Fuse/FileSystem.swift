import Glibc
import SystemPackage

/// A file system: one method for each operation of the FUSE protocol, by libfuse's names.
///
/// Methods return a result or throw the errno for the caller; the `Dispatcher` replies, once. They are called from several
/// threads at a time, also for one inode. Names and byte ranges belong to the request and are gone on return.
///
/// The kernel checks permissions before it sends a request (the mount uses `default_permissions`), and does all file
/// locking by itself. Operations that are not here get ENOSYS, and the kernel behaves as for a file system that cannot:
/// no `access`, `bmap`, locks.
///
/// The corresponding C type is `struct fuse_lowlevel_ops`.
public protocol FileSystem: AnyObject, Sendable {
    /// What this file system wants of the kernel.
    var features: Features { get }

    /// Hands over the kernel's end of the mount, before the first request.
    func connected(to connection: Connection)

    /// Whether an operation on an inode may wait for something outside this process: a disk, another mount, a lock.
    ///
    /// False promises that LOOKUP, GETATTR, SETATTR, OPEN, READ, WRITE, FLUSH, RELEASE and READDIR of the inode are
    /// answered from memory. With a name it is about LOOKUP and CREATE of that name in the directory `inode`. Operations
    /// that change or synchronize the tree may block whatever this says: UNLINK, RENAME, FSYNC, STATFS and their kind.
    ///
    /// Any thread may call this, before each request: it costs a table look-up, and never blocks.
    func mayBlock(_ inode: InodeNumber, name: FileName?) -> Bool

    /// Whether an inode is on the device of the root, rather than on a file system mounted inside.
    ///
    /// Requests for other devices share half of the threads, so that a hung one never holds up the rest of the tree.
    /// As cheap as `mayBlock`.
    func isOnRootDevice(_ inode: InodeNumber) -> Bool

    // MARK: Names

    /// Finds a name in a directory.
    ///
    /// - Throws: ENOENT if it does not exist, so that the kernel caches nothing; or returns `Entry.absent`, so that it does.
    func lookup(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) -> Entry

    /// Returns `count` lookups of an inode, perhaps long after its name is gone: no caller, no reply.
    func forget(_ inode: InodeNumber, count: UInt64)

    /// Creates a file of any type but directory and symbolic link; `mode` holds type and permissions.
    ///
    /// In this and all operations that create something, the thread has the caller's umask, which system calls still have
    /// to apply. If the server is root, the thread has the caller's user and group too.
    func mknod(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, device: dev_t, for request: Request
    ) throws(Errno) -> Entry

    func mkdir(_ name: FileName, in parent: InodeNumber, mode: mode_t, for request: Request) throws(Errno) -> Entry

    func symlink(
        to target: UnsafePointer<CChar>, named name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> Entry

    /// Gives a file a further name. The reply has the inode that it has already.
    func link(_ inode: InodeNumber, to name: FileName, in parent: InodeNumber, for request: Request)
        throws(Errno) -> Entry

    func unlink(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno)

    func rmdir(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno)

    /// Renames with the flags of renameat2(2): `RENAME_NOREPLACE`, `RENAME_EXCHANGE`, `RENAME_WHITEOUT`.
    ///
    /// Afterwards the kernel maps the new name to the *source's* inode.
    func rename(
        _ name: FileName, in parent: InodeNumber, to newName: FileName, in newParent: InodeNumber, flags: UInt32,
        for request: Request
    ) throws(Errno)

    /// The bytes of a symbolic link, without a NUL.
    func readlink(_ inode: InodeNumber) throws(Errno) -> [UInt8]

    // MARK: Attributes

    /// Serves stat(2), and fstat(2) too: the kernel does not say through which open file.
    func getattr(_ inode: InodeNumber, for request: Request) throws(Errno) -> StatusReply

    /// The birth time of an inode, or nil if the backing file system has none.
    func birthTime(of inode: InodeNumber) throws(Errno) -> timespec?

    /// Changes attributes. `handle` is set for ftruncate(2) and its like.
    func setattr(
        _ inode: InodeNumber, _ changes: StatusChanges, handle: FileHandle?, for request: Request
    ) throws(Errno) -> StatusReply

    func statfs(_ inode: InodeNumber) throws(Errno) -> FileSystemStatus

    /// Sets an extended attribute; `flags` are those of setxattr(2).
    func setxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, value: UnsafeRawBufferPointer, flags: CInt
    ) throws(Errno)

    /// Reads an extended attribute into `value`, and returns its size. An empty `value` asks for the size only.
    func getxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, into value: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int

    /// Lists the names of extended attributes, each with its NUL. An empty `names` asks for the size only.
    func listxattr(
        _ inode: InodeNumber, into names: UnsafeMutableRawBufferPointer, for request: Request
    ) throws(Errno) -> Int

    func removexattr(_ inode: InodeNumber, _ name: UnsafePointer<CChar>) throws(Errno)

    // MARK: Files

    /// Opens a file with the flags of open(2): O_TRUNC may be among them, O_CREAT and O_EXCL never are.
    func open(_ inode: InodeNumber, flags: CInt, for request: Request) throws(Errno) -> OpenReply

    /// Creates a regular file and opens it, in one step. With O_TMPFILE among the flags it gets no name.
    func create(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, flags: CInt, for request: Request
    ) throws(Errno) -> (Entry, OpenReply)

    /// The I/O mode of a file that has just been opened and `allowsPassthrough`.
    ///
    /// Called with the thread's own credentials: the kernel uses a backing file with those of the thread that registers it.
    func ioMode(of handle: FileHandle) -> OpenReply.IOMode

    /// Fills `bytes` from `offset` on, and returns how many there were. Fewer than asked for is the end of the file.
    ///
    /// - Throws: EAGAIN if there are no bytes yet. A caller with O_NONBLOCK gets that errno; for others `wait` is called.
    func read(
        _ handle: FileHandle, into bytes: UnsafeMutableRawBufferPointer, at offset: off_t, for request: Request
    ) throws(Errno) -> Int

    /// Lends the descriptor of the backing file if reading it is all that `read` does; else returns nil.
    func withFile<Result>(backing handle: FileHandle, _ body: (CInt) -> Result) -> Result?

    /// Takes over a read that found no bytes yet, to answer it when there are some.
    ///
    /// They may have come meanwhile. No thread waits, and any thread may answer.
    func wait(_ read: PendingRead, on handle: FileHandle)

    /// Writes `bytes` at `offset`, and returns how many were written.
    ///
    /// With `appending` (the file was opened with O_APPEND) they go to the end; `offset` is where the kernel believes it is.
    func write(
        _ handle: FileHandle, _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, for request: Request
    ) throws(Errno) -> Int

    /// Serves each close(2) of a descriptor of this open file. After dup(2) or fork(2) there are several.
    func flush(_ handle: FileHandle, for request: Request) throws(Errno)

    /// Ends an open file after its last close. No client waits for it, and there is no caller.
    func release(_ handle: FileHandle)

    /// Whether an open file may be released after later requests: none of them depends on it.
    func mayReleaseLater(_ handle: FileHandle) -> Bool

    func fsync(_ handle: FileHandle, dataOnly: Bool, for request: Request) throws(Errno)

    func fallocate(_ handle: FileHandle, mode: CInt, offset: off_t, length: off_t) throws(Errno)

    /// Serves SEEK_DATA and SEEK_HOLE. The kernel does the rest of lseek(2) itself.
    func lseek(_ handle: FileHandle, offset: off_t, whence: CInt) throws(Errno) -> off_t

    func copyFileRange(
        from source: FileHandle, at sourceOffset: off_t, to target: FileHandle, at targetOffset: off_t, count: Int,
        flags: CInt
    ) throws(Errno) -> Int

    /// Serves FS_IOC_GETFLAGS and its like, for files and directories.
    ///
    /// - Parameters:
    ///   - handle: Of an open directory, or `unopened`, if `isDirectory`; else of an open file.
    ///   - argument: The memory that `command` reads and writes, of the size the kernel sent.
    /// - Throws: ENOTTY for an unknown command.
    func ioctl(
        _ inode: InodeNumber, _ handle: FileHandle, isDirectory: Bool, _ command: UInt32,
        _ argument: UnsafeMutableRawBufferPointer
    ) throws(Errno)

    /// The result of poll(2) on the file now: a mask of POLLIN and its like.
    ///
    /// Never ENOSYS: the kernel would remember it for the whole connection.
    ///
    /// - Parameter pollHandle: Set if a caller waits for a change. To be kept until it has notified, another one comes, or
    ///   the handle is released.
    func poll(_ handle: FileHandle, pollHandle: PollHandle?) throws(Errno) -> UInt32

    // MARK: Directories

    /// Opens a directory. Not called where directories are listed `unopened`.
    func opendir(_ inode: InodeNumber, for request: Request) throws(Errno) -> OpenDirectoryReply

    /// Lists a directory from `offset` on, 0 or that of an earlier entry; calls `reply.end` at the end.
    ///
    /// - Parameter plus: Whether to look up every entry but `.` and `..` (READDIRPLUS).
    func readdir(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, plus: Bool, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno)

    func releasedir(_ handle: FileHandle)

    func fsyncdir(_ inode: InodeNumber, _ handle: FileHandle, dataOnly: Bool, for request: Request) throws(Errno)
}

extension FileSystem {
    public func mayBlock(_ inode: InodeNumber, name: FileName?) -> Bool { true }
    public func isOnRootDevice(_ inode: InodeNumber) -> Bool { true }
}

/// What a file system wants of the kernel, granted where the kernel offers it.
public struct Features: Sendable {
    /// Whether files and names change through this connection alone.
    ///
    /// The kernel then keeps a file's pages until it is told otherwise. Else it drops them when size or mtime change.
    public var isExclusive: Bool

    /// The number of stacked file systems, this one included, if the kernel may read and write backing files by itself;
    /// nil if not.
    ///
    /// 1 is for ordinary file systems, 2 for an overlayfs, which then cannot use this one as a layer. Needs CAP_SYS_ADMIN.
    public var passthroughDepth: UInt32?

    /// Whether directories need not be opened to be listed: the kernel sends no OPENDIR, RELEASEDIR, or READDIR while it
    /// has a cached listing.
    ///
    /// Needs CAP_DAC_READ_SEARCH: an open directory can still be listed after its permissions changed.
    public var listsUnopened: Bool

    /// Whether the mount may be id-mapped (mount_setattr(2)), since Linux 6.12, with `default_permissions`.
    public var allowsIDMapping: Bool

    public init(
        isExclusive: Bool = false, passthroughDepth: UInt32? = nil, listsUnopened: Bool = false,
        allowsIDMapping: Bool = false
    ) {
        self.isExclusive = isExclusive
        self.passthroughDepth = passthroughDepth
        self.listsUnopened = listsUnopened
        self.allowsIDMapping = allowsIDMapping
    }
}

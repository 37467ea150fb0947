import Glibc
import SystemPackage

/// What a file system answers, one method an operation of the FUSE protocol, by libfuse's names.
///
/// Methods return or throw the errno the caller shall see; `OperationTable` replies, exactly once. They are called from
/// several threads at a time, also for one inode. Names and byte ranges belong to the request and are gone on return.
///
/// The kernel has checked permissions before it asks (the mount uses `default_permissions`), and does all file locking
/// by itself. What is not here is left out of the table, and the kernel answers as it does for a file system that
/// cannot: no `access`, `bmap`, locks.
///
/// The corresponding C type is `struct fuse_lowlevel_ops`.
public protocol FileSystem: AnyObject, Sendable {
    /// What of the kernel's is of use to this file system.
    var features: Features { get }

    /// Hands over the kernel's end, before the first request.
    func connected(to connection: Connection)

    /// Whether an operation on an inode may wait for something outside this process: a disk, another mount, a lock.
    ///
    /// False promises that LOOKUP, GETATTR, SETATTR, OPEN, READ, WRITE, FLUSH, RELEASE and READDIR of the inode are
    /// answered from memory. With a name it is about LOOKUP and CREATE of that name in the directory `inode`. Operations
    /// that change or synchronize the tree may block whatever this says: UNLINK, RENAME, FSYNC, STATFS and their kind.
    ///
    /// Any thread may call this, before each request: it costs a table look-up, and never blocks.
    func mayBlock(_ inode: InodeNumber, name: FileName?) -> Bool

    // MARK: Names

    /// Finds a name in a directory. ENOENT when it is not there.
    func lookup(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) -> Entry

    /// Gives back `count` of the lookups of an inode. Has no caller and no reply; may come long after the name is gone.
    func forget(_ inode: InodeNumber, count: UInt64)

    /// Makes a file of any kind but directory and symbolic link; `mode` holds kind and permissions.
    ///
    /// Here and wherever something is made, the thread has the caller's umask, which is still to be applied: system
    /// calls do so by themselves. If the server is root, it has the caller's user and group for making files, too.
    func mknod(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, device: dev_t, for request: Request
    ) throws(Errno) -> Entry

    func mkdir(_ name: FileName, in parent: InodeNumber, mode: mode_t, for request: Request) throws(Errno) -> Entry

    func symlink(
        to target: UnsafePointer<CChar>, named name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> Entry

    /// Gives a file a further name. The reply is the same inode as before.
    func link(_ inode: InodeNumber, to name: FileName, in parent: InodeNumber, for request: Request)
        throws(Errno) -> Entry

    func unlink(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno)

    func rmdir(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno)

    /// Renames with the flags of renameat2(2): `RENAME_NOREPLACE`, `RENAME_EXCHANGE`, `RENAME_WHITEOUT`.
    ///
    /// Once this has returned, the kernel takes the new name to mean the *source's* inode.
    func rename(
        _ name: FileName, in parent: InodeNumber, to newName: FileName, in newParent: InodeNumber, flags: UInt32,
        for request: Request
    ) throws(Errno)

    /// The bytes of a symbolic link, without a NUL.
    func readlink(_ inode: InodeNumber) throws(Errno) -> [UInt8]

    // MARK: Attributes

    /// Answers stat(2), and fstat(2) too: the kernel does not say through which open file it asks.
    func getattr(_ inode: InodeNumber, for request: Request) throws(Errno) -> StatusReply

    /// When an inode was made, or nil where the file system beneath does not know.
    func birthTime(of inode: InodeNumber) throws(Errno) -> timespec?

    /// Changes attributes; `handle` is there for ftruncate(2) and its kind.
    func setattr(
        _ inode: InodeNumber, _ changes: StatusChanges, handle: FileHandle?, for request: Request
    ) throws(Errno) -> StatusReply

    func statfs(_ inode: InodeNumber) throws(Errno) -> FileSystemStatus

    /// Sets an extended attribute; `flags` are those of setxattr(2).
    func setxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, value: UnsafeRawBufferPointer, flags: CInt
    ) throws(Errno)

    /// Reads an extended attribute into `value` and returns its size. An empty `value` asks for the size alone.
    func getxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, into value: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int

    /// Lists the names of extended attributes, each with its NUL. An empty `names` asks for the size alone.
    func listxattr(
        _ inode: InodeNumber, into names: UnsafeMutableRawBufferPointer, for request: Request
    ) throws(Errno) -> Int

    func removexattr(_ inode: InodeNumber, _ name: UnsafePointer<CChar>) throws(Errno)

    // MARK: Files

    /// Opens with the flags of open(2), `O_TRUNC` among them, but never `O_CREAT` or `O_EXCL`.
    func open(_ inode: InodeNumber, flags: CInt, for request: Request) throws(Errno) -> OpenReply

    /// Makes a regular file and opens it, in one step. With `O_TMPFILE` among the flags it gets no name.
    func create(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, flags: CInt, for request: Request
    ) throws(Errno) -> (Entry, OpenReply)

    /// Which way the bytes of a file go that has just been opened and `allowsPassthrough`.
    ///
    /// Called by a thread that acts for itself, not for the caller: what the kernel is lent it uses in the name of whoever
    /// lends it.
    func ioMode(of handle: FileHandle) -> OpenReply.IOMode

    /// Fills `bytes` from `offset` on, and returns how many there were; fewer than asked is the end of the file.
    ///
    /// EAGAIN when there is nothing yet: a caller that will not wait is told so, for any other `wait` is asked.
    func read(_ handle: FileHandle, into bytes: UnsafeMutableRawBufferPointer, at offset: off_t) throws(Errno) -> Int

    /// Lends a descriptor of what is beneath an open file, if reading there is all that `read` does; else returns nil.
    func withFile<Result>(backing handle: FileHandle, _ body: (CInt) -> Result) -> Result?

    /// Takes over a read that has found nothing yet, to answer it when there is something.
    ///
    /// That may have come meanwhile. No thread waits; whoever answers may be any thread, this one included.
    func wait(_ read: PendingRead, on handle: FileHandle)

    /// Writes `bytes` at `offset`, and returns how many it took. With `appending` (the file was opened with `O_APPEND`)
    /// they go to the end, and `offset` is only where the kernel believes that to be.
    func write(
        _ handle: FileHandle, _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, for request: Request
    ) throws(Errno) -> Int

    /// Answers each close(2) of a descriptor of this open file; with dup(2) there are several.
    func flush(_ handle: FileHandle, for request: Request) throws(Errno)

    /// Ends an open file after its last close. Nobody waits for it, and there is no caller.
    func release(_ handle: FileHandle)

    /// Whether an open file may be released after requests that come later: nothing that others ask for depends on it.
    func mayReleaseLater(_ handle: FileHandle) -> Bool

    func fsync(_ handle: FileHandle, dataOnly: Bool, for request: Request) throws(Errno)

    func fallocate(_ handle: FileHandle, mode: CInt, offset: off_t, length: off_t) throws(Errno)

    /// Answers `SEEK_DATA` and `SEEK_HOLE`; the kernel does the rest of lseek(2) itself.
    func lseek(_ handle: FileHandle, offset: off_t, whence: CInt) throws(Errno) -> off_t

    func copyFileRange(
        from source: FileHandle, at sourceOffset: off_t, to target: FileHandle, at targetOffset: off_t, count: Int,
        flags: CInt
    ) throws(Errno) -> Int

    /// Answers `FS_IOC_GETFLAGS` and its kind, for files and directories; ENOTTY for what it does not know.
    ///
    /// - Parameters:
    ///   - handle: Of an open directory, or `unopened`, if `isDirectory`; else of an open file.
    ///   - argument: What `command` reads and writes, as large as the kernel has made it.
    func ioctl(
        _ inode: InodeNumber, _ handle: FileHandle, isDirectory: Bool, _ command: UInt32,
        _ argument: UnsafeMutableRawBufferPointer
    ) throws(Errno)

    /// What poll(2) would say of the file now, as a mask of `POLLIN` and its kind.
    ///
    /// Never ENOSYS: the kernel would take it for the whole mount and for ever.
    ///
    /// - Parameter waker: Where somebody waits for this to change; to be kept until it has been raised, another one comes
    ///   or the handle is released. Nil when nobody does.
    func poll(_ handle: FileHandle, pollHandle: PollHandle?) throws(Errno) -> UInt32

    // MARK: Directories

    /// Opens a directory: not asked for where directories are listed `unopened`.
    func opendir(_ inode: InodeNumber, for request: Request) throws(Errno) -> OpenDirectoryReply

    /// Lists a directory from `offset` on: 0, or what came with an earlier entry.
    ///
    /// Where there is none the reply is to be told whether that ends a listing that may be kept.
    func readdir(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno)

    /// Lists a directory and looks every entry up but `.` and `..`.
    func readdirplus(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno)

    func releasedir(_ handle: FileHandle)

    func fsyncdir(_ inode: InodeNumber, _ handle: FileHandle, dataOnly: Bool) throws(Errno)
}

extension FileSystem {
    public func mayBlock(_ inode: InodeNumber, name: FileName?) -> Bool { true }
}

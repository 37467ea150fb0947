import Fuse
import Glibc
import Synchronization
import SystemPackage

/// A file system that records its calls, and gives fixed answers, or one errno to everything.
final class RecordingFileSystem: FileSystem {
    private let failure: Errno?
    private let firstFailure: Mutex<Errno?>
    private let isEmpty: Bool
    private let before: @Sendable (String) -> Void
    private let recorded = Mutex<[String]>([])

    /// Reads that wait, in order of arrival.
    let waiting = Mutex<[PendingRead]>([])
    /// The handles of polls, in order of arrival.
    let pollHandles = Mutex<[PollHandle]>([])

    /// - Parameters:
    ///   - failingOnce: What the first call alone throws.
    ///   - isEmpty: Whether reads find no data yet.
    ///   - before: Called before each answer, on the thread that serves the request.
    init(
        failingWith failure: Errno? = nil, failingOnce firstFailure: Errno? = nil, isEmpty: Bool = false,
        features: Features = Features(),
        registeringWithDirectIO registersWithDirectIO: Bool = false, releasingLater isReleasedLater: Bool = true,
        before: @escaping @Sendable (_ call: String) -> Void = { _ in }
    ) {
        self.failure = failure
        self.firstFailure = Mutex(firstFailure)
        self.features = features
        self.registersWithDirectIO = registersWithDirectIO
        self.isReleasedLater = isReleasedLater
        self.isEmpty = isEmpty
        self.before = before
    }

    let features: Features
    private let registersWithDirectIO: Bool
    private let isReleasedLater: Bool
    let connection = Mutex<Connection?>(nil)

    func connected(to connection: Connection) {
        self.connection.withLock { $0 = connection }
    }

    /// One line for each call: the operation and its arguments.
    var calls: [String] { recorded.withLock { $0 } }

    private func record(_ call: String) throws(Errno) {
        recorded.withLock { $0.append(call) }
        before(call)
        let first = firstFailure.withLock { failure in
            defer { failure = nil }
            return failure
        }
        if let failure = first ?? failure { throw failure }
    }

    private func text(_ name: FileName) -> String {
        String(validating: name.bytes, as: UTF8.self) ?? "\(name.copy())"
    }

    private func text(_ caller: Request) -> String { "by \(caller.user):\(caller.group)/\(caller.thread)" }

    /// Requests for this inode and this name need memory only; all others may block.
    static let memoryOnly = InodeNumber(rawValue: 96)
    static let memoryOnlyName = "signal"

    func mayBlock(_ inode: InodeNumber, name: FileName?) -> Bool {
        inode != Self.memoryOnly && name.map(text) != Self.memoryOnlyName
    }

    /// An inode on another device.
    static let otherDevice = InodeNumber(rawValue: 95)

    func isOnRootDevice(_ inode: InodeNumber) -> Bool { inode != Self.otherDevice }

    // MARK: Answers

    static let status: FileStatus = {
        var status = FileStatus()
        status.st_ino = 0x1122_3344_5566_7788
        status.st_size = 5_000_000_000
        status.st_blocks = 77
        status.st_mode = S_IFREG | 0o4751
        status.st_nlink = 3
        status.st_uid = 501
        status.st_gid = 502
        status.st_rdev = 0x0102
        status.st_blksize = 8192
        status.st_atim = timespec(tv_sec: 11, tv_nsec: 12)
        status.st_mtim = timespec(tv_sec: 21, tv_nsec: 22)
        status.st_ctim = timespec(tv_sec: -31, tv_nsec: 32)
        return status
    }()

    static var entry: Entry {
        Entry(
            inode: InodeNumber(rawValue: 1 << 40), generation: 0x8765_4321, status: status, nameTimeout: 1.5,
            statusTimeout: 0.25)
    }

    static var opened: OpenReply {
        OpenReply(handle: FileHandle(rawValue: 1 << 41), ioMode: .direct, needsFlush: false)
    }

    /// An inode whose open files have no position.
    static let stream = InodeNumber(rawValue: 99)

    /// The entries of every directory, by offset; offsets need not be dense.
    static let names: [(name: String, number: ino_t, mode: mode_t, nextOffset: off_t)] = [
        (".", 1, S_IFDIR, 5), ("a", 100, S_IFREG, 70), ("eight888", 101, S_IFLNK, 800),
        (String(repeating: "x", count: 255), 102, S_IFIFO, 9000),
    ]

    // MARK: Names

    func lookup(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) -> Entry {
        try record("lookup \(text(name)) in \(parent.rawValue) \(text(request))")
        return text(name) == "absent" ? .absent(for: 4.5) : Self.entry
    }

    func forget(_ inode: InodeNumber, count: UInt64) {
        try? record("forget \(inode.rawValue) × \(count)")
    }

    func mknod(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, device: dev_t, for request: Request
    ) throws(Errno) -> Entry {
        try record(
            "mknod \(text(name)) in \(parent.rawValue) mode \(String(mode, radix: 8)) device \(device) \(text(request))"
        )
        return Self.entry
    }

    func mkdir(_ name: FileName, in parent: InodeNumber, mode: mode_t, for request: Request) throws(Errno) -> Entry {
        try record("mkdir \(text(name)) in \(parent.rawValue) mode \(String(mode, radix: 8)) \(text(request))")
        return Self.entry
    }

    func symlink(
        to target: UnsafePointer<CChar>, named name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> Entry {
        try record("symlink \(text(name)) in \(parent.rawValue) to \(String(cString: target)) \(text(request))")
        return Self.entry
    }

    func link(
        _ inode: InodeNumber, to name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> Entry {
        try record("link \(inode.rawValue) to \(text(name)) in \(parent.rawValue) \(text(request))")
        return Self.entry
    }

    func unlink(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) {
        try record("unlink \(text(name)) in \(parent.rawValue) \(text(request))")
    }

    func rmdir(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) {
        try record("rmdir \(text(name)) in \(parent.rawValue) \(text(request))")
    }

    func rename(
        _ name: FileName, in parent: InodeNumber, to newName: FileName, in newParent: InodeNumber, flags: UInt32,
        for request: Request
    ) throws(Errno) {
        try record(
            "rename \(text(name)) in \(parent.rawValue) to \(text(newName)) in \(newParent.rawValue) flags \(flags) "
                + text(request))
    }

    func readlink(_ inode: InodeNumber) throws(Errno) -> [UInt8] {
        try record("readlink \(inode.rawValue)")
        return Array("the/target".utf8)
    }

    // MARK: Attributes

    func getattr(_ inode: InodeNumber, for request: Request) throws(Errno) -> StatusReply {
        try record("getattr \(inode.rawValue) \(text(request))")
        return StatusReply(status: Self.status, timeout: 2.75)
    }

    func setattr(
        _ inode: InodeNumber, _ changes: StatusChanges, handle: FileHandle?, for request: Request
    ) throws(Errno) -> StatusReply {
        var call = "setattr \(inode.rawValue)"
        if let mode = changes.mode { call += " mode \(String(mode, radix: 8))" }
        if let user = changes.user { call += " user \(user)" }
        if let group = changes.group { call += " group \(group)" }
        if let size = changes.size { call += " size \(size)" }
        for (name, time) in [("accessed", changes.accessed), ("modified", changes.modified)] {
            switch time {
            case nil: break
            case .now: call += " \(name) now"
            case .at(let time): call += " \(name) \(time.tv_sec).\(time.tv_nsec)"
            }
        }
        if let handle { call += " handle \(handle.rawValue)" }
        try record(call)
        return StatusReply(status: Self.status, timeout: 2.75)
    }

    func birthTime(of inode: InodeNumber) throws(Errno) -> timespec? {
        timespec(tv_sec: 1_700_000_000, tv_nsec: 5)
    }

    func statfs(_ inode: InodeNumber) throws(Errno) -> FileSystemStatus {
        try record("statfs \(inode.rawValue)")
        var status = FileSystemStatus()
        status.f_bsize = 1
        status.f_frsize = 2
        status.f_blocks = 3
        status.f_bfree = 4
        status.f_bavail = 5
        status.f_files = 6
        status.f_ffree = 7
        status.f_namemax = 8
        return status
    }

    func setxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, value: UnsafeRawBufferPointer, flags: CInt
    ) throws(Errno) {
        let value = String(decoding: value, as: UTF8.self)
        try record("setxattr \(inode.rawValue) \(String(cString: name)) = \(value) flags \(flags)")
    }

    func getxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, into value: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        try record("getxattr \(inode.rawValue) \(String(cString: name)) room \(value.count)")
        guard !value.isEmpty else { return 5 }
        guard value.count >= 5 else { throw .outOfRange }
        value.copyBytes(from: "value".utf8)
        return 5
    }

    func listxattr(
        _ inode: InodeNumber, into names: UnsafeMutableRawBufferPointer, for request: Request
    ) throws(Errno) -> Int {
        try record("listxattr \(inode.rawValue) room \(names.count)")
        guard !names.isEmpty else { return 14 }
        guard names.count >= 14 else { throw .outOfRange }
        names.copyBytes(from: "user.a\0user.b\0".utf8)
        return 14
    }

    func removexattr(_ inode: InodeNumber, _ name: UnsafePointer<CChar>) throws(Errno) {
        try record("removexattr \(inode.rawValue) \(String(cString: name))")
    }

    // MARK: Files

    func open(_ inode: InodeNumber, flags: CInt, for request: Request) throws(Errno) -> OpenReply {
        try record("open \(inode.rawValue) flags \(flags) \(text(request))")
        var opened = Self.opened
        opened.isStream = inode == Self.stream
        opened.allowsPassthrough = inode == Self.passthroughFile
        return opened
    }

    func create(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, flags: CInt, for request: Request
    ) throws(Errno) -> (Entry, OpenReply) {
        try record(
            "create \(text(name)) in \(parent.rawValue) mode \(String(mode, radix: 8)) flags \(flags) \(text(request))")
        var opened = Self.opened
        opened.allowsPassthrough = text(name) == "passthrough"
        return (Self.entry, opened)
    }

    /// A directory whose listing the kernel may cache.
    static let kept = InodeNumber(rawValue: 97)

    /// An inode whose open files allow passthrough.
    static let passthroughFile = InodeNumber(rawValue: 98)

    func ioMode(of handle: FileHandle) -> OpenReply.IOMode {
        try? record("I/O mode of \(handle.rawValue)")
        return .passthrough(Connection.BackingID(rawValue: 77), directIO: registersWithDirectIO)
    }

    func read(_ handle: FileHandle, into bytes: UnsafeMutableRawBufferPointer, at offset: off_t, for request: Request)
        throws(Errno) -> Int
    {
        try record("read \(handle.rawValue) at \(offset) room \(bytes.count)")
        if isEmpty { throw .resourceTemporarilyUnavailable }
        let part = "some bytes".utf8.prefix(bytes.count)
        bytes.copyBytes(from: part)
        return part.count
    }

    func withFile<Result>(backing handle: FileHandle, _ body: (CInt) -> Result) -> Result? { nil }

    func wait(_ read: PendingRead, on handle: FileHandle) {
        try? record("wait \(handle.rawValue) room \(read.capacity)")
        waiting.withLock { $0.append(read) }
    }

    func write(
        _ handle: FileHandle, _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, for request: Request
    ) throws(Errno) -> Int {
        let place = appending ? "the end" : "\(offset)"
        try record("write \(handle.rawValue) \(String(decoding: bytes, as: UTF8.self)) at \(place) \(text(request))")
        return bytes.count - 1
    }

    func flush(_ handle: FileHandle, for request: Request) throws(Errno) {
        try record("flush \(handle.rawValue) \(text(request))")
    }

    func mayReleaseLater(_ handle: FileHandle) -> Bool { isReleasedLater }

    func release(_ handle: FileHandle) {
        try? record("release \(handle.rawValue)")
    }

    func fsync(_ handle: FileHandle, dataOnly: Bool, for request: Request) throws(Errno) {
        try record("fsync \(handle.rawValue) \(dataOnly ? "data" : "all") \(text(request))")
    }

    func fallocate(_ handle: FileHandle, mode: CInt, offset: off_t, length: off_t) throws(Errno) {
        try record("fallocate \(handle.rawValue) mode \(mode) at \(offset) length \(length)")
    }

    func lseek(_ handle: FileHandle, offset: off_t, whence: CInt) throws(Errno) -> off_t {
        try record("lseek \(handle.rawValue) to \(offset) whence \(whence)")
        return offset + 1
    }

    func copyFileRange(
        from source: FileHandle, at sourceOffset: off_t, to target: FileHandle, at targetOffset: off_t, count: Int,
        flags: CInt
    ) throws(Errno) -> Int {
        try record(
            "copy \(count) from \(source.rawValue) at \(sourceOffset) to \(target.rawValue) at \(targetOffset) "
                + "flags \(flags)")
        return count - 1
    }

    func ioctl(
        _ inode: InodeNumber, _ handle: FileHandle, isDirectory: Bool, _ command: UInt32,
        _ argument: UnsafeMutableRawBufferPointer
    ) throws(Errno) {
        let bytes = argument.map { String($0, radix: 16) }.joined(separator: " ")
        try record("ioctl \(inode.rawValue) \(handle.rawValue)\(isDirectory ? " directory" : "") \(command) [\(bytes)]")
        if !argument.isEmpty { argument.storeBytes(of: 0xAB, as: UInt8.self) }
    }

    func poll(_ handle: FileHandle, pollHandle: PollHandle?) throws(Errno) -> UInt32 {
        try record("poll \(handle.rawValue)")
        if let pollHandle { pollHandles.withLock { $0.append(pollHandle) } }
        return 0x45
    }

    // MARK: Directories

    func opendir(_ inode: InodeNumber, for request: Request) throws(Errno) -> OpenDirectoryReply {
        try record("opendir \(inode.rawValue) \(text(request))")
        return OpenDirectoryReply(handle: Self.opened.handle, isListingKept: inode == Self.kept)
    }

    func readdir(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, plus: Bool, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno) {
        let operation = plus ? "readdirplus" : "readdir"
        try record("\(operation) \(inode.rawValue) \(handle.rawValue) from \(offset) \(text(request))")
        for entry in Self.names where entry.nextOffset > offset {
            let isAdded = entry.name.withCString { name in
                let name = FileName(borrowing: name)
                guard plus else {
                    return reply.add(name, number: entry.number, mode: entry.mode, nextOffset: entry.nextOffset)
                }
                guard reply.hasRoom(for: name) else { return false }
                return reply.add(name, entry: Self.entry, nextOffset: entry.nextOffset)
            }
            guard isAdded else { return }
        }
        reply.end(isKept: inode == Self.kept)
    }

    func releasedir(_ handle: FileHandle) {
        try? record("releasedir \(handle.rawValue)")
    }

    func fsyncdir(_ inode: InodeNumber, _ handle: FileHandle, dataOnly: Bool, for request: Request) throws(Errno) {
        try record("fsyncdir \(inode.rawValue) \(handle.rawValue) \(dataOnly ? "data" : "all")")
    }
}

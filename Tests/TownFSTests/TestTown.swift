import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage
import Testing

@testable import Fuse
@testable import TownFS

/// A town on a temporary tree, with a clock that moves when told to, and nothing mounted.
///
/// Its operations are called as the kernel would: names are looked up one by one, handles opened and released.
final class TestTown: Sendable {
    /// The temporary tree.
    let tree: String
    let root: Descriptor
    let journal: Journal
    let town: Town
    let fileSystem: TownFileSystem
    private let clock: FakeClock

    init(
        tree: String, patterns: [String], expiry: Town.Expiry, cacheCapacity: Int, journal: Journal?,
        writebackDelay: Duration? = nil, usesHandles: Bool = true, activity: Town.Activity = .observe,
        mirror: (any LivenessMirror)? = nil, sharesBacking: Bool = false
    ) throws {
        self.tree = tree
        clock = FakeClock()
        root = Descriptor(try OwnedDescriptor(opening: tree, in: AT_FDCWD, O_PATH | O_DIRECTORY))
        self.journal = try journal ?? Journal(takingOwnershipOf: Journal.makeMemory())
        var configuration = Town.Configuration(path: tree, patterns: try SignalPatterns(patterns))
        configuration.expiry = expiry
        configuration.descriptorCacheCapacity = cacheCapacity
        configuration.usesHandles = usesHandles
        configuration.sharesBacking = sharesBacking
        configuration.activity = activity
        configuration.sharesSignals = mirror != nil
        if let writebackDelay { configuration.writebackDelay = writebackDelay }
        town = try Town(
            root: root, journal: self.journal, configuration: configuration, log: .silent, mirror: mirror,
            clock: { [clock] in clock.now })
        fileSystem = try TownFileSystem(town) { snapshot in
            TownStatus(
                version: "test", town: snapshot.configuration.path, keeperPid: 1, workerPid: 2, mountedAt: "",
                uptimeSeconds: 0, ttlSeconds: 90, onExpiry: snapshot.configuration.expiry.rawValue,
                signalFiles: .init(alive: snapshot.counts.signals.alive, expired: snapshot.counts.signals.expired),
                runtimes: .init(alive: snapshot.counts.runtimes.alive, expired: snapshot.counts.runtimes.expired),
                documents: snapshot.documents, fileSystem: snapshot.fileSystem)
        }
    }

    var now: WallTime { clock.now.wall }

    func advance(by duration: Duration) { clock.advance(by: duration) }

    // MARK: Paths, as the kernel walks them

    /// Looks a path up, component by component.
    ///
    /// Counts as a lookup of each of them.
    func lookup(_ path: String, by caller: Request = .me) throws(Errno) -> Entry {
        var entry = Entry(inode: .root, status: FileStatus(), nameTimeout: 0, statusTimeout: 0)
        for name in path.split(separator: "/") {
            entry = try fileSystem.lookup(Array(name.utf8), in: entry.inode, by: caller)
        }
        return entry
    }

    func exists(_ path: String, by caller: Request = .me) throws(Errno) -> Bool {
        do throws(Errno) {
            _ = try lookup(path, by: caller)
            return true
        } catch .noSuchFileOrDirectory {
            return false
        }
    }

    func stat(_ path: String, by caller: Request = .me) throws(Errno) -> FileStatus {
        try fileSystem.getattr(lookup(path, by: caller).inode, for: caller).status
    }

    /// The directory and the last name of a path.
    private func place(_ path: String) throws(Errno) -> (parent: InodeNumber, name: [UInt8]) {
        let names = path.split(separator: "/")
        let parent = try lookup(names.dropLast().joined(separator: "/")).inode
        return (parent, Array((names.last ?? "").utf8))
    }

    // MARK: Open files

    /// Opens as open(2) does: looks the name up, and creates it if asked to.
    func open(
        _ path: String, _ flags: CInt = O_RDONLY, mode: mode_t = 0o644, by caller: Request = .me
    ) throws(Errno) -> FileHandle {
        var isMade = false
        if flags & O_CREAT != 0 { isMade = try flags & O_EXCL != 0 ? true : !exists(path, by: caller) }
        if isMade {
            let (parent, name) = try place(path)
            return try fileSystem.create(name, in: parent, flags: flags & ~O_CREAT, mode: mode, by: caller)
        }
        return try fileSystem.open(
            lookup(path, by: caller).inode, flags: flags & ~(O_CREAT | O_EXCL), for: caller
        ).handle
    }

    func write(
        _ text: String, to handle: FileHandle, at offset: off_t = 0, appending: Bool = false, by caller: Request = .me
    ) throws(Errno) {
        let bytes = Array(text.utf8)
        let span = bytes.span
        let count = try span.withUnsafeBytes { (bytes) throws(Errno) in
            try fileSystem.write(handle, bytes, at: offset, appending: appending, for: caller)
        }
        #expect(count == bytes.count)
    }

    /// One read of up to `room` bytes.
    func read(_ handle: FileHandle, at offset: off_t = 0, room: Int = 1 << 17) throws(Errno) -> String {
        var bytes = [UInt8](repeating: 0, count: room)
        var span = bytes.mutableSpan
        let count = try span.withUnsafeMutableBytes { (bytes) throws(Errno) in
            try fileSystem.read(handle, into: bytes, at: offset)
        }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    /// close(2) of the only descriptor.
    func close(_ handle: FileHandle, by caller: Request = .me) throws(Errno) {
        defer { fileSystem.release(handle) }
        try fileSystem.flush(handle, for: caller)
    }

    // MARK: Whole files

    /// Overwrites a file as Go's `os.WriteFile` does, and reports what its close does.
    func write(_ text: String, to path: String, mode: mode_t = 0o644, by caller: Request = .me) throws(Errno) {
        let handle = try open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: mode, by: caller)
        do throws(Errno) {
            if !text.isEmpty { try write(text, to: handle, by: caller) }
        } catch {
            fileSystem.release(handle)
            throw error
        }
        try close(handle, by: caller)
    }

    func read(_ path: String, by caller: Request = .me) throws(Errno) -> String {
        let handle = try open(path, by: caller)
        defer { fileSystem.release(handle) }
        return try read(handle)
    }

    func unlink(_ path: String) throws(Errno) {
        let (parent, name) = try place(path)
        try name.asFileName { (name) throws(Errno) in try fileSystem.unlink(name, in: parent, for: .me) }
    }

    func mkdir(_ path: String) throws(Errno) {
        let (parent, name) = try place(path)
        _ = try name.asFileName { (name) throws(Errno) in
            try fileSystem.mkdir(name, in: parent, mode: 0o755, for: .me)
        }
    }

    func rmdir(_ path: String) throws(Errno) {
        let (parent, name) = try place(path)
        try name.asFileName { (name) throws(Errno) in try fileSystem.rmdir(name, in: parent, for: .me) }
    }

    func rename(_ path: String, to newPath: String, flags: UInt32 = 0, by caller: Request = .me) throws(Errno) {
        // The kernel looks both names up before it asks.
        _ = try lookup(path)
        _ = try exists(newPath)
        let (parent, name) = try place(path)
        let (newParent, newName) = try place(newPath)
        try name.asFileName { (name) throws(Errno) in
            try newName.asFileName { (newName) throws(Errno) in
                try fileSystem.rename(name, in: parent, to: newName, in: newParent, flags: flags, for: caller)
            }
        }
    }

    func link(_ path: String, to newPath: String) throws(Errno) {
        let inode = try lookup(path).inode
        let (parent, name) = try place(newPath)
        _ = try name.asFileName { (name) throws(Errno) in try fileSystem.link(inode, to: name, in: parent, for: .me) }
    }

    func setattr(
        _ path: String, handle: FileHandle? = nil, by caller: Request = .me, _ change: (inout StatusChanges) -> Void
    ) throws(Errno) {
        var changes = StatusChanges()
        change(&changes)
        _ = try fileSystem.setattr(lookup(path, by: caller).inode, changes, handle: handle, for: caller)
    }

    // MARK: Beneath

    /// Writes a file of the backing tree, past the file system under test.
    func writeBeneath(_ text: String, to path: String, mode: mode_t = 0o644) throws {
        let file = try OwnedDescriptor(
            opening: "\(tree)/\(path)", in: AT_FDCWD, O_WRONLY | O_CREAT | O_TRUNC, mode: mode)
        let bytes = Array(text.utf8)
        let count = try retryingInterrupts { Glibc.write(file.rawValue, bytes, bytes.count) }
        try #require(count == bytes.count)
    }

    /// Nil when there is no such file.
    func readBeneath(_ path: String) throws -> String? {
        guard let file = try? OwnedDescriptor(opening: "\(tree)/\(path)", in: AT_FDCWD, O_RDONLY) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 1 << 17)
        let count = try retryingInterrupts { Glibc.read(file.rawValue, &bytes, bytes.count) }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    func statBeneath(_ path: String) throws(Errno) -> FileStatus {
        try FileStatus(of: "\(tree)/\(path)", in: AT_FDCWD)
    }

    func setTimeBeneath(_ path: String, to time: WallTime) throws(Errno) {
        let times = [time.timespec, time.timespec]
        _ = try retryingInterrupts { utimensat(AT_FDCWD, "\(tree)/\(path)", times, 0) }
    }

    /// The names of a backing directory, sorted.
    func namesBeneath(_ path: String) throws -> [String] {
        let directory = Descriptor(
            try OwnedDescriptor(opening: "\(tree)/\(path)", in: AT_FDCWD, O_RDONLY | O_DIRECTORY))
        var names: [String] = []
        try DirectoryStream(directory).forEach(from: 0) { entry in
            if !entry.isDots { names.append(String(decoding: entry.name.bytes, as: UTF8.self)) }
            return true
        }
        return names.sorted()
    }

    /// How many of this process's descriptors are of files in the tree.
    var descriptorCount: Int {
        var count = 0
        for number in 0..<4096 {
            var room = [CChar](repeating: 0, count: 4096)
            let size = Glibc.readlink("/proc/self/fd/\(number)", &room, room.count)
            let isInTree = room.prefix(max(0, size)).map(UInt8.init(bitPattern:)).starts(with: tree.utf8)
            if isInTree { count += 1 }
        }
        return count
    }

    /// Writes everything down, as before an unmount.
    func writeback() {
        town.writeback.writeNow(fileSystem.signals.all(backing: []).flatMap(\.knownFiles))
    }
}

/// Makes a town on a temporary tree for the length of `body`.
///
/// - Parameters:
///   - files: What is in the tree before, by path; directories are made as needed.
///   - journal: That of a former town; nil for an empty one.
func withTown(
    _ files: [String: String] = [:], patterns: [String] = SignalPatterns.defaults, expiry: Town.Expiry = .keep,
    cacheCapacity: Int = 64, journal: Journal? = nil, writebackDelay: Duration? = nil, usesHandles: Bool = true,
    activity: Town.Activity = .observe, mirror: (any LivenessMirror)? = nil, sharesBacking: Bool = false,
    _ body: (TestTown) throws -> Void
) throws {
    try withTemporaryTree { tree in
        for directory in [".runtime/heartbeats", "daemon", "deacon"] { try makeDirectories("\(tree)/\(directory)") }
        for (path, text) in files {
            try makeDirectories("\(tree)/" + path.split(separator: "/").dropLast().joined(separator: "/"))
            let file = try OwnedDescriptor(
                opening: "\(tree)/\(path)", in: AT_FDCWD, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
            let bytes = Array(text.utf8)
            _ = try retryingInterrupts { Glibc.write(file.rawValue, bytes, bytes.count) }
        }
        let town = try TestTown(
            tree: tree, patterns: patterns, expiry: expiry, cacheCapacity: cacheCapacity, journal: journal,
            writebackDelay: writebackDelay, usesHandles: usesHandles, activity: activity, mirror: mirror,
            sharesBacking: sharesBacking)
        defer { _ = town.town.close() }
        try body(town)
    }
}

/// Makes a temporary directory for the length of `body`.
func withTemporaryTree(_ body: (_ path: String) throws -> Void) throws {
    var template = Array("/tmp/pulsefs-test.XXXXXX\0".utf8).map(CChar.init(bitPattern:))
    try #require(mkdtemp(&template) != nil)
    let path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    defer { removeTree(path) }
    try body(path)
}

func makeDirectories(_ path: String) throws {
    var made = ""
    for name in path.split(separator: "/") {
        made += "/\(name)"
        if mkdir(made, 0o755) == -1, Errno.current != .fileExists { throw Errno.current }
    }
}

private func removeTree(_ path: String) {
    let directory = try? OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDONLY | O_DIRECTORY)
    guard let directory else { return }
    removeContents(of: Descriptor(directory))
    rmdir(path)
}

/// By descriptors, as trees may be deeper than a path may be long.
private func removeContents(of directory: Descriptor) {
    _ = try? DirectoryStream(directory).forEach(from: 0) { entry in
        guard !entry.isDots else { return true }
        entry.name.withPointer { name in
            guard unlinkat(directory.rawValue, name, 0) == -1 else { return }
            let below = try? OwnedDescriptor(
                opening: name, in: directory.rawValue, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
            if let below { removeContents(of: Descriptor(below)) }
            unlinkat(directory.rawValue, name, AT_REMOVEDIR)
        }
        return true
    }
}

// MARK: - Callers

extension Request {
    /// The thread that runs the test, or what it passes for.
    static var me: Request {
        let thread = gettid()
        return Request(user: getuid(), group: getgid(), thread: disguises.withLock { $0[thread] } ?? thread)
    }

    private static let disguises = Mutex<[pid_t: pid_t]>([:])

    /// Lets the calling thread pass for a process of its own while `body` runs.
    static func asProcess(_ number: Int, _ body: () -> Void) {
        let thread = gettid()
        // Beyond any that the kernel gives out.
        disguises.withLock { $0[thread] = pid_t(1 << 30 + number) }
        body()
        disguises.withLock { $0[thread] = nil }
    }

    /// A thread of another process: that of process 1.
    static let other = Request(user: getuid(), group: getgid(), thread: 1)
}

// MARK: - Clocks

/// A clock that moves when told to, and starts with the real ones, since real files carry real times.
final class FakeClock: Sendable {
    private let start = Town.Timestamps(wall: .now, instant: .now)
    private let elapsed = Mutex(Duration.zero)

    var now: Town.Timestamps {
        let elapsed = elapsed.withLock { $0 }
        return Town.Timestamps(wall: start.wall + elapsed, instant: start.instant + elapsed)
    }

    func advance(by duration: Duration) {
        elapsed.withLock { $0 += duration }
    }
}

extension Logger {
    static var silent: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }
}

// MARK: - Names

extension [UInt8] {
    /// Lends the bytes as the kernel does.
    func asFileName<Result>(_ body: (FileName) throws(Errno) -> Result) throws(Errno) -> Result {
        try NodeName(self).withPointer { (name) throws(Errno) in try body(FileName(borrowing: name)) }
    }
}

extension TownFileSystem {
    func lookup(_ name: [UInt8], in parent: InodeNumber, by caller: Request = .me) throws(Errno) -> Entry {
        let entry = try name.asFileName { (name) throws(Errno) in try lookup(name, in: parent, for: caller) }
        // As the kernel takes an absence that may be believed for a while.
        guard entry.inode.rawValue != 0 else { throw .noSuchFileOrDirectory }
        return entry
    }

    fileprivate func create(
        _ name: [UInt8], in parent: InodeNumber, flags: CInt, mode: mode_t, by caller: Request
    ) throws(Errno) -> FileHandle {
        try name.asFileName { (name) throws(Errno) in
            try create(name, in: parent, mode: S_IFREG | mode, flags: flags, for: caller).1.handle
        }
    }

    /// How the kernel comes to list a directory.
    enum Opening: CaseIterable {
        case opened, unopened
    }

    /// Lends the handle by which a directory is listed.
    func opening(_ inode: InodeNumber, _ opening: Opening, _ body: (FileHandle) throws -> Void) throws {
        guard opening == .opened else { return try body(.unopened) }
        let handle = try opendir(inode, for: .me).handle
        defer { releasedir(handle) }
        try body(handle)
    }

    /// All answers to a listing, up to its end.
    func listAll(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t = 0, room: Int = 1 << 16,
        withLookup: Bool = false
    ) throws -> [Listed] {
        var all: [Listed] = []
        while case let part = try list(
            inode, handle, from: all.last?.nextOffset ?? offset, room: room, withLookup: withLookup), !part.isEmpty
        { all += part }
        return all
    }

    /// One answer to a listing of up to `room` bytes.
    func list(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t = 0, room: Int = 1 << 16,
        withLookup: Bool = false
    ) throws -> [Listed] {
        try answer(to: inode, handle, from: offset, room: room, withLookup: withLookup) {
            Listed.parse($0, withLookup: withLookup)
        }
    }

    /// How many bytes one answer to a listing has.
    func listedSize(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, withLookup: Bool
    ) throws -> Int {
        try answer(to: inode, handle, from: offset, room: 1 << 16, withLookup: withLookup, \.count)
    }

    private func answer<Result>(
        to inode: InodeNumber, _ handle: FileHandle, from offset: off_t, room: Int, withLookup: Bool,
        _ body: (UnsafeRawBufferPointer) -> Result
    ) throws -> Result {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 8)
        defer { bytes.deallocate() }
        // because libfuse lays entries out without a look at the request.
        var reply = DirectoryReply(request: OpaquePointer(bitPattern: 8)!, room: bytes)
        if withLookup {
            try readdirplus(inode, handle, from: offset, into: &reply, for: .me)
        } else {
            try readdir(inode, handle, from: offset, into: &reply, for: .me)
        }
        return body(UnsafeRawBufferPointer(rebasing: bytes[..<reply.used]))
    }
}

/// One entry of a listing, as it goes over the wire (`struct fuse_dirent`, `struct fuse_direntplus`).
struct Listed: Hashable {
    let name: [UInt8]
    let number: UInt64
    let kind: mode_t
    let nextOffset: off_t
    /// `nodeid`; 0 for an entry without a lookup.
    let inode: UInt64

    var text: String { String(decoding: name, as: UTF8.self) }

    static func parse(_ bytes: UnsafeRawBufferPointer, withLookup: Bool) -> [Listed] {
        var listed: [Listed] = []
        var position = 0
        // Less than an entry is none, as for the kernel.
        while bytes.count - position >= MemoryLayout<fuse_dirent>.size
            + (withLookup ? MemoryLayout<fuse_entry_out>.size : 0)
        {
            var inode: UInt64 = 0
            if withLookup {
                inode = bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)
                position += MemoryLayout<fuse_entry_out>.size
            }
            let size = Int(bytes.loadUnaligned(fromByteOffset: position + 16, as: UInt32.self))
            listed.append(
                Listed(
                    name: Array(bytes[(position + 24)..<(position + 24 + size)]),
                    number: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self),
                    kind: mode_t(bytes.loadUnaligned(fromByteOffset: position + 20, as: UInt32.self)) << 12,
                    nextOffset: bytes.loadUnaligned(fromByteOffset: position + 8, as: off_t.self), inode: inode))
            position += (24 + size + 7) / 8 * 8
        }
        return listed
    }
}

/// A document as Gas Town writes it.
func document(_ command: String, at time: WallTime) -> String {
    #"{"last_command":"\#(command)","timestamp":"\#(time.rfc3339)"}"#
}

/// Runs a question again and again until the answer is yes, for what another thread is about to do.
func eventually(within limit: Duration = .seconds(20), _ isSo: () throws -> Bool) rethrows -> Bool {
    let end = ContinuousClock.now + limit
    while ContinuousClock.now < end {
        if try isSo() { return true }
        sched_yield()
    }
    return false
}

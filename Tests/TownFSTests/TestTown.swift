import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import Fuse
@testable import TownFS

/// A town on a temporary tree, with a fake clock and without a mount.
///
/// Its operations are called as the kernel calls them: names are looked up one by one, handles opened and released.
final class TestTown: Sendable {
    /// The temporary tree.
    let tree: String
    let root: Descriptor
    let journal: Journal
    let town: Town
    /// Only the operations in `TestTown+Operations.swift` call it.
    let fileSystem: TownFileSystem
    private let clock: FakeClock

    convenience init(
        tree: String, patterns: [String], expiry: Town.Expiry, cacheCapacity: Int, journal: Journal?,
        writebackDelay: Duration? = nil, usesHandles: Bool = true, activity: Town.Activity = .observe,
        mirror: (any LivenessMirror)? = nil, sharesBacking: Bool = false, stallLimit: Duration? = nil,
        stateFile: StateFile? = nil
    ) throws {
        var configuration = Town.Configuration(path: tree, patterns: try SignalPatterns(patterns))
        // Processes of tests are young.
        configuration.minimumAgentAge = .zero
        configuration.expiry = expiry
        configuration.descriptorCacheCapacity = cacheCapacity
        configuration.usesHandles = usesHandles
        configuration.sharesBacking = sharesBacking
        configuration.activity = activity
        configuration.sharesSignals = mirror != nil
        // A fake clock moves in leaps.
        configuration.stallLimit = stallLimit
        configuration.stateFile = stateFile
        if let writebackDelay { configuration.writebackDelay = writebackDelay }
        try self.init(
            configuration, clock: .atPresent(),
            journal: journal ?? Journal(takingOwnershipOf: Journal.makeMemory()), mirror: mirror)
    }

    private init(
        _ configuration: Town.Configuration, clock: FakeClock, journal: Journal, mirror: (any LivenessMirror)?
    ) throws {
        tree = configuration.path
        self.clock = clock
        self.journal = journal
        root = Descriptor(try OwnedDescriptor(opening: tree, in: AT_FDCWD, O_PATH | O_DIRECTORY))
        town = try Town(
            root: root, journal: self.journal, configuration: configuration, log: .silent, mirror: mirror,
            clock: { [clock] in Town.Timestamps(clock) })
        fileSystem = try TownFileSystem(town) { TownStatus.Server(version: "test", keeper: 1, scope: "town") }
    }

    /// The town of a worker that takes over from this one's, which serves no request from now on.
    func successor() throws -> TestTown {
        // In real time, its timer would expire runtimes that are the successor's now.
        town.expiry.close()
        return try TestTown(town.configuration, clock: clock, journal: Journal(sharing: journal), mirror: nil)
    }

    /// The town of the next mount, after this one has been closed.
    func next(journal: Journal) throws -> TestTown {
        try TestTown(town.configuration, clock: clock, journal: journal, mirror: nil)
    }

    var now: WallTime { clock.wallTime }

    func advance(by duration: Duration) { clock.advance(by: duration) }

    /// Sets the wall clock, forward or back; monotonic time stays.
    func stepWall(by duration: Duration) { clock.stepWall(by: duration) }

    // MARK: Paths

    /// Looks up a path, one component at a time; each counts as a lookup.
    func lookup(_ path: String, by caller: Request = .me) throws(Errno) -> Entry {
        var entry = Entry(inode: .root, status: FileStatus(), nameTimeout: 0, statusTimeout: 0)
        for name in path.split(separator: "/") {
            entry = try self.lookup(Array(name.utf8), in: entry.inode, by: caller)
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

    /// The parent directory and the last component of a path.
    private func place(_ path: String) throws(Errno) -> (parent: InodeNumber, name: [UInt8]) {
        let names = path.split(separator: "/")
        let parent = try lookup(names.dropLast().joined(separator: "/")).inode
        return (parent, Array((names.last ?? "").utf8))
    }

    // MARK: Open files

    /// Opens as open(2) does: looks up the name and creates the file if `O_CREAT` is set.
    func open(
        _ path: String, _ flags: CInt = O_RDONLY, mode: mode_t = 0o644, by caller: Request = .me
    ) throws(Errno) -> FileHandle {
        var isMade = false
        if flags & O_CREAT != 0 { isMade = try flags & O_EXCL != 0 ? true : !exists(path, by: caller) }
        if isMade {
            let (parent, name) = try place(path)
            return try create(name, in: parent, flags: flags & ~O_CREAT, mode: mode, by: caller)
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
            try fileSystem.read(handle, into: bytes, at: offset, for: .me)
        }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    /// close(2) of the only descriptor: FLUSH, then RELEASE.
    func close(_ handle: FileHandle, by caller: Request = .me) throws(Errno) {
        defer { fileSystem.release(handle) }
        try fileSystem.flush(handle, for: caller)
    }

    // MARK: Whole files

    /// Overwrites a file as Go's `os.WriteFile` does.
    ///
    /// Throws close's error, too.
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
        // The kernel looks up both names first.
        if !caller.isRepeated { _ = try lookup(path) }
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

    // MARK: Backing tree

    /// Writes a file of the backing tree directly.
    func writeBacking(_ text: String, to path: String, mode: mode_t = 0o644) throws {
        let file = try OwnedDescriptor(
            opening: "\(tree)/\(path)", in: AT_FDCWD, O_WRONLY | O_CREAT | O_TRUNC, mode: mode)
        let bytes = Array(text.utf8)
        let count = try retryingInterrupts { Glibc.write(file.rawValue, bytes, bytes.count) }
        try #require(count == bytes.count)
    }

    /// Nil when there is no such file.
    func readBacking(_ path: String) throws -> String? {
        guard let file = try? OwnedDescriptor(opening: "\(tree)/\(path)", in: AT_FDCWD, O_RDONLY) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 1 << 17)
        let count = try retryingInterrupts { Glibc.read(file.rawValue, &bytes, bytes.count) }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    func statBacking(_ path: String) throws(Errno) -> FileStatus {
        try FileStatus(of: "\(tree)/\(path)", in: AT_FDCWD)
    }

    func setBackingTime(_ path: String, to time: WallTime) throws(Errno) {
        let times = [time.timespec, time.timespec]
        _ = try retryingInterrupts { utimensat(AT_FDCWD, "\(tree)/\(path)", times, 0) }
    }

    /// The names of a backing directory, sorted.
    func backingNames(_ path: String) throws -> [String] {
        let directory = Descriptor(
            try OwnedDescriptor(opening: "\(tree)/\(path)", in: AT_FDCWD, O_RDONLY | O_DIRECTORY))
        var names: [String] = []
        try DirectoryStream(directory).forEach(from: 0) { entry in
            if !entry.isDots { names.append(String(decoding: entry.name.bytes, as: UTF8.self)) }
            return true
        }
        return names.sorted()
    }

    /// The number of this process's descriptors of files in the tree.
    var descriptorCount: Int {
        directoryEntries(closing: Glibc.opendir("/proc/self/fd")).count { entry in
            var room = [CChar](repeating: 0, count: 4096)
            let size = Glibc.readlink("/proc/self/fd/\(entry.name)", &room, room.count)
            return room.prefix(max(0, size)).map(UInt8.init(bitPattern:)).starts(with: tree.utf8)
        }
    }

    /// Writes the documents of a killed worker to their backing files, as the keeper does.
    func recover() throws {
        let root = try OwnedDescriptor(opening: tree, in: AT_FDCWD, O_PATH | O_DIRECTORY)
        Recovery(in: BackingTree(takingOwnershipOf: root), journal: journal, stateFile: nil, log: .silent).run()
    }

    /// Writes back all documents, as before an unmount.
    func writeback() {
        town.writeback.writeNow(signals.allFiles(under: []))
    }
}

/// Calls `body` with a town on a temporary tree.
///
/// - Parameters:
///   - files: Files in the tree before the town starts, by path; directories are created as needed.
///   - journal: The journal of an earlier town; nil for an empty one.
func withTown(
    _ files: [String: String] = [:], patterns: [String] = SignalPatterns.defaults, expiry: Town.Expiry = .keep,
    cacheCapacity: Int = 64, journal: Journal? = nil, writebackDelay: Duration? = nil, usesHandles: Bool = true,
    activity: Town.Activity = .observe, mirror: (any LivenessMirror)? = nil, sharesBacking: Bool = false,
    stallLimit: Duration? = nil, stateFile: StateFile? = nil, _ body: (TestTown) throws -> Void
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
            sharesBacking: sharesBacking, stallLimit: stallLimit, stateFile: stateFile)
        defer { _ = town.town.close() }
        try body(town)
    }
}

extension SignalPatterns {
    /// The patterns of Gas Town.
    static let defaults = Preset.gasTown.signals.map(\.pattern)

    init(_ texts: [String]) throws {
        try self.init(try texts.map { try Signal($0) })
    }
}

/// Calls `body` with a temporary directory.
func withTemporaryTree(_ body: (_ path: String) throws -> Void) throws {
    try TemporaryDirectory.with { try body($0.path) }
}

func makeDirectories(_ path: String) throws {
    var made = ""
    for name in path.split(separator: "/") {
        made += "/\(name)"
        if mkdir(made, 0o755) == -1, Errno.current != .fileExists { throw Errno.current }
    }
}

/// A document as Gas Town writes it.
func document(_ command: String, at time: WallTime) -> String {
    #"{"last_command":"\#(command)","timestamp":"\#(time.rfc3339)"}"#
}

import CLinux
import Fuse
import Glibc
import Linux
import Synchronization
import SystemPackage

/// One opening of a file.
///
/// The default of each operation is that of a file which does not support it.
///
/// Any thread may call these, several at a time.
package protocol OpenFile: AnyObject, Sendable {
    /// What the kernel is told when the file is opened.
    func openReply(_ handle: FileHandle) -> OpenReply

    /// The caller's flags of open(2).
    var flags: CInt { get }

    /// The file system user of the caller that opened it.
    var user: uid_t { get }

    /// Called once it has a handle, with the record in which a successor finds it.
    func opened(as record: HandleRecord)

    /// The descriptor that `read` reads from, if reading it is all that `read` does; else nil.
    var backingDescriptor: Descriptor? { get throws(Errno) }

    /// Whether RELEASE may be delayed: no later request depends on it.
    var mayReleaseLater: Bool { get }

    /// Called before `read`, with the request's number, which is the same if a successor repeats it.
    func willRead(_ request: UInt64)
    func read(into bytes: UnsafeMutableRawBufferPointer, at offset: off_t) throws(Errno) -> Int
    func wait(_ read: PendingRead)
    func write(
        _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, by request: Request
    ) throws(Errno) -> Int
    func truncate(to size: off_t, by request: Request) throws(Errno)
    func flush() throws(Errno)
    /// RELEASE.
    func close()
    /// In place of `close`, if no process got the open file.
    func discard()
    func fsync(dataOnly: Bool) throws(Errno)
    func fallocate(mode: CInt, offset: off_t, length: off_t) throws(Errno)
    func lseek(offset: off_t, whence: CInt) throws(Errno) -> off_t
    func ioctl(_ command: UInt32, _ argument: UnsafeMutableRawBufferPointer) throws(Errno)
    func poll(_ pollHandle: PollHandle?) -> UInt32
}

extension OpenFile {
    package var flags: CInt { O_RDONLY }
    package var user: uid_t { 0 }
    package func opened(as record: HandleRecord) {}
    package func willRead(_ request: UInt64) {}
    package var backingDescriptor: Descriptor? { get throws(Errno) { nil } }
    package var mayReleaseLater: Bool { false }

    package func wait(_ read: PendingRead) { read.fail(.resourceTemporarilyUnavailable) }

    package func write(
        _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, by request: Request
    ) throws(Errno) -> Int { throw .badFileDescriptor }

    package func truncate(to size: off_t, by request: Request) throws(Errno) { throw .invalidArgument }
    package func flush() throws(Errno) {}
    package func close() {}
    package func discard() { close() }
    package func fsync(dataOnly: Bool) throws(Errno) {}

    package func fallocate(mode: CInt, offset: off_t, length: off_t) throws(Errno) { throw .notSupported }
    package func lseek(offset: off_t, whence: CInt) throws(Errno) -> off_t { throw .invalidArgument }

    package func ioctl(_ command: UInt32, _ argument: UnsafeMutableRawBufferPointer) throws(Errno) {
        throw .inappropriateIOCTLForDevice
    }

    /// Always ready, as a file on a disk.
    package func poll(_ pollHandle: PollHandle?) -> UInt32 { UInt32(POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM) }
}

/// The state of one file handle: the open file, which a rename may replace.
package final class OpenHandle: Sendable {
    let inode: InodeNumber
    /// The thread that opened it.
    let thread: pid_t

    private struct State {
        var file: any OpenFile
        var record: HandleRecord?
        /// What the kernel was told, once it was.
        var ioMode: OpenReply.IOMode?
        /// What the kernel still writes to by itself, though the name has become a signal file's.
        var leftBehind: LeftBehind?
    }

    /// A file that was open and registered for passthrough when it was renamed onto a signal file.
    struct LeftBehind: Sendable {
        let file: BackingFile
        /// Its content at that time.
        let bytes: [UInt8]
    }

    private let state: Mutex<State>

    init(_ inode: InodeNumber, _ file: any OpenFile, thread: pid_t) {
        self.inode = inode
        self.thread = thread
        state = Mutex(State(file: file))
    }

    var file: any OpenFile { state.withLock { $0.file } }

    /// Nil until it is in the table.
    var handle: FileHandle? { state.withLock { $0.record?.handle } }

    /// Sets the record in which a successor finds the handle.
    func setRecord(_ record: HandleRecord) {
        let file = state.withLock { state in
            state.record = record
            return state.file
        }
        file.opened(as: record)
    }

    /// Records the mode that the kernel is told for a file, for a successor too.
    ///
    /// - Returns: That mode; or one in which every read and write is a request, if the handle has another file by now.
    func setIOMode(_ ioMode: OpenReply.IOMode, for file: any OpenFile) -> OpenReply.IOMode {
        state.withLock { state in
            var ioMode = ioMode
            if state.file !== file {
                ioMode =
                    if case .passthrough(let file, _) = ioMode { .passthrough(file, directIO: true) } else { .direct }
            }
            state.ioMode = ioMode
            state.record?.set(ioMode)
            return ioMode
        }
    }

    /// Whether `setIOMode` was called.
    var hasIOMode: Bool { state.withLock { $0.ioMode != nil } }

    /// Replaces the open file, because it was renamed onto a signal file or away from one.
    ///
    /// - Parameter bytes: The content of the former file, if it becomes a signal file.
    func replaceFile(with newFile: any OpenFile, leaving bytes: [UInt8]? = nil) {
        // The former file is released outside the lock: it may own a descriptor.
        let former = state.withLock { state in
            if let bytes, case .passthrough(_, directIO: false) = state.ioMode, let file = state.file as? BackingFile,
                file.isWritable
            {
                state.leftBehind = LeftBehind(file: file, bytes: bytes)
                (newFile as? SignalOpenFile)?.expectLeftBehind()
            }
            defer { state.file = newFile }
            return (state.file, state.record)
        }
        if let record = former.1 { newFile.opened(as: record) }
        withExtendedLifetime(former) {}
    }

    var mayReleaseLater: Bool {
        let (file, hasLeftBehind) = state.withLock { ($0.file, $0.leftBehind != nil) }
        return !hasLeftBehind && file.mayReleaseLater
    }

    func discard() { file.discard() }

    func close() {
        let (file, leftBehind) = state.withLock { ($0.file, $0.leftBehind) }
        if let leftBehind { (file as? SignalOpenFile)?.adoptContent(of: leftBehind) }
        file.close()
    }
}

/// A file system that keeps its open files in a table: a request with a file handle goes to the open file.
package protocol HandleFileSystem: FileSystem {
    var files: HandleTable<OpenHandle> { get }
    var directories: DirectoryHandles { get }

    /// Ends an open file that no process got.
    func discard(_ opened: OpenHandle)
}

extension HandleFileSystem {
    package func discard(_ opened: OpenHandle) { opened.discard() }

    /// Puts an open file into the table.
    func reply(_ inode: InodeNumber, _ file: any OpenFile, for request: Request) -> OpenReply {
        let content = HandleRecords.Content(
            handle: .unopened, inode: inode, flags: file.flags, user: file.user, thread: request.thread,
            request: request.unique)
        if let unanswered = files.removeUnanswered(request) { discard(unanswered) }
        let opened = OpenHandle(inode, file, thread: request.thread)
        let record = files.insert(opened, as: content)
        opened.setRecord(record)
        return file.openReply(record.handle)
    }

    /// Puts an open directory into the table.
    func handle(of directory: OpenDirectory, _ inode: InodeNumber, for request: Request) -> FileHandle {
        let content = HandleRecords.Content(
            handle: .unopened, inode: inode, request: request.unique, kind: .directory)
        _ = directories.opened.removeUnanswered(request)
        return directories.opened.insert(directory, as: content).handle
    }

    package func read(
        _ handle: FileHandle, into bytes: UnsafeMutableRawBufferPointer, at offset: off_t, for request: Request
    ) throws(Errno) -> Int {
        let file = try files[handle].file
        file.willRead(request.unique)
        return try file.read(into: bytes, at: offset)
    }

    package func withFile<Result>(backing handle: FileHandle, _ body: (CInt) -> Result) -> Result? {
        guard let descriptor = try? files[handle].file.backingDescriptor else { return nil }
        return withExtendedLifetime(descriptor) { body(descriptor.rawValue) }
    }

    package func wait(_ read: PendingRead, on handle: FileHandle) {
        do throws(Errno) {
            try files[handle].file.wait(read)
        } catch {
            read.fail(error)
        }
    }

    package func write(
        _ handle: FileHandle, _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool,
        for request: Request
    ) throws(Errno) -> Int {
        try files[handle].file.write(bytes, at: offset, appending: appending, by: request)
    }

    package func flush(_ handle: FileHandle, for request: Request) throws(Errno) {
        try files[handle].file.flush()
    }

    package func mayReleaseLater(_ handle: FileHandle) -> Bool {
        (try? files[handle])?.mayReleaseLater ?? false
    }

    package func fsync(_ handle: FileHandle, dataOnly: Bool, for request: Request) throws(Errno) {
        try files[handle].file.fsync(dataOnly: dataOnly)
    }

    package func fallocate(
        _ handle: FileHandle, mode: CInt, offset: off_t, length: off_t
    ) throws(Errno) {
        try files[handle].file.fallocate(mode: mode, offset: offset, length: length)
    }

    package func lseek(_ handle: FileHandle, offset: off_t, whence: CInt) throws(Errno) -> off_t {
        try files[handle].file.lseek(offset: offset, whence: whence)
    }

    package func copyFileRange(
        from source: FileHandle, at sourceOffset: off_t, to target: FileHandle, at targetOffset: off_t, count: Int,
        flags: CInt
    ) throws(Errno) -> Int {
        // EXDEV makes the kernel copy by reading and writing; ENOSYS would make it do so for every file.
        let file = try files[target].file
        guard let input = try files[source].file.backingDescriptor, let output = try file.backingDescriptor
        else { throw .improperLink }
        var from = sourceOffset
        var to = targetOffset
        return try Credentials.withUser((file as? BackingFile)?.user ?? 0) { () throws(Errno) in
            try retryingInterrupts {
                copy_file_range(input.rawValue, &from, output.rawValue, &to, count, UInt32(bitPattern: flags))
            }
        }
    }

    package func poll(_ handle: FileHandle, pollHandle: PollHandle?) throws(Errno) -> UInt32 {
        try files[handle].file.poll(pollHandle)
    }

    package func releasedir(_ handle: FileHandle) { _ = directories.opened.remove(handle) }
}

/// A table from file handles to what they stand for.
package final class HandleTable<Opened: AnyObject & Sendable>: Sendable {
    private struct Entry {
        let opened: Opened
        /// Its place in `records`.
        let slot: UInt32?
    }

    private struct State {
        var opened: [FileHandle: Entry] = [:]
        /// What earlier processes have opened, by request: if it comes again, the kernel does not know the handle.
        var restored: [UInt64: FileHandle] = [:]
        var next: UInt64
    }

    private let state: Mutex<State>
    private let records: HandleRecords?

    /// - Parameter records: Where a successor finds the handles. If this is the successor, `restore` must follow.
    init(records: HandleRecords? = nil) {
        self.records = records
        // 0 is `FileHandle.unopened`.
        state = Mutex(State(next: 1 + (records?.firstHandle ?? 0)))
    }

    /// - Parameter content: What a successor must know of it.
    func insert(_ opened: Opened, as content: HandleRecords.Content? = nil) -> HandleRecord {
        let handle = state.withLock { state in
            defer { state.next += 1 }
            return FileHandle(rawValue: state.next)
        }
        var content = content
        content?.handle = handle
        let slot = content.flatMap { records?.add($0) }
        state.withLock { $0.opened[handle] = Entry(opened: opened, slot: slot) }
        return HandleRecord(handle: handle, slot: slot, in: records)
    }

    /// Puts back what an earlier process had opened.
    @discardableResult
    func restore(_ opened: Opened, as content: HandleRecords.Content, slot: UInt32) -> HandleRecord {
        state.withLock { state in
            state.opened[content.handle] = Entry(opened: opened, slot: slot)
            state.restored[content.request] = content.handle
        }
        return HandleRecord(handle: content.handle, slot: slot, in: records)
    }

    /// Removes what an earlier process has opened for a request that it has not answered.
    func removeUnanswered(_ request: Request) -> Opened? {
        guard request.isRepeated, let handle = state.withLock({ $0.restored.removeValue(forKey: request.unique) })
        else { return nil }
        return remove(handle)
    }

    /// EBADF for a handle that was never given out, or has been released.
    subscript(_ handle: FileHandle) -> Opened {
        get throws(Errno) {
            guard let entry = state.withLock({ $0.opened[handle] }) else { throw .badFileDescriptor }
            return entry.opened
        }
    }

    func remove(_ handle: FileHandle) -> Opened? {
        guard let entry = state.withLock({ $0.opened.removeValue(forKey: handle) }) else { return nil }
        if let slot = entry.slot { records?.remove(slot) }
        return entry.opened
    }

    var all: [Opened] { state.withLock { $0.opened.values.map(\.opened) } }

    var entries: [(handle: FileHandle, opened: Opened)] {
        state.withLock { $0.opened.map { ($0, $1.opened) } }
    }

    var count: Int { state.withLock { $0.opened.count } }
}

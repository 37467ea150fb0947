import Fuse
import Glibc
import Synchronization
import SystemPackage

extension TreeFileSystem {
    /// Takes over what an earlier process had open.
    func restore(_ records: HandleRecords) {
        nodes.restoreSignals { name, directory in
            SignalFile(name: name, in: directory, town: town, isRemoved: true)
        }
        nodes.restoreDescriptors()
        // Reading it takes milliseconds, and most mounts have no signal file open.
        lazy var saved = SignalOpenFile.Saved(in: town.journal.log)
        for (slot, content) in records.restored where !PulseInodes.contains(content.inode) {
            switch content.kind {
            case .directory:
                guard let directory = try? reopenedDirectory(content.inode) else { continue }
                directories.opened.restore(directory, as: content, slot: slot)
            case .file:
                // The kernel was not told of it yet, and opens it again.
                guard let ioMode = content.ioMode else {
                    records.remove(slot)
                    continue
                }
                let file = signalFile(content, records.key(of: content.handle), saved: { saved }) ?? reopened(content)
                let opened = OpenHandle(content.inode, file, thread: content.thread)
                _ = opened.setIOMode(ioMode, for: file)
                opened.setRecord(files.restore(opened, as: content, slot: slot))
                let identity = (try? nodes.node(content.inode))?.identity
                ioModes.restore(content, ioMode, identity)
            }
        }
    }

    private func signalFile(
        _ content: HandleRecords.Content, _ key: HandleKey, saved: () -> SignalOpenFile.Saved
    ) -> SignalOpenFile? {
        guard case .signal(let file, let parent) = try? inodeKind(content.inode) else { return nil }
        let opened = SignalOpenFile.restored(key, from: saved(), of: file, on: content.inode, in: parent)
        return opened.map { file.register($0) }
    }

    /// On another file system than the root's, which may hang, the first request opens it.
    private func reopenedDirectory(_ inode: InodeNumber) throws(Errno) -> OpenDirectory {
        guard !isOnRootDevice(inode) else { return try openDirectory(inode) }
        return OpenDirectory { [self] () throws(Errno) in try openDirectory(inode) }
    }

    private func reopened(_ content: HandleRecords.Content) -> any OpenFile {
        guard !isOnRootDevice(content.inode) else { return openAgain(content) }
        return LateFile(flags: content.flags, user: content.user) { [self] in openAgain(content) }
    }

    private func openAgain(_ content: HandleRecords.Content) -> any OpenFile {
        if let opened = keptHandles.take(content.handle) {
            return BackingFile(opened, flags: content.flags, user: content.user, in: backingContext)
        }
        do throws(Errno) {
            let path = try nodes.descriptor(of: content.inode)
            if Self.onlyReads(content.flags) {
                return BackingFile(reading: path, user: content.user, in: backingContext)
            }
            // Truncated already.
            let opened = try Self.reopen(path, content.flags & ~O_TRUNC)
            return BackingFile(opened, flags: content.flags, user: content.user, in: backingContext)
        } catch {
            return UnreachableFile(failure: error)
        }
    }
}

/// An open file that the first request opens again, as that may have to wait.
private final class LateFile: OpenFile {
    let flags: CInt
    let user: uid_t
    private let open: @Sendable () -> any OpenFile
    private let opened = Mutex<(any OpenFile)?>(nil)

    init(flags: CInt, user: uid_t, open: @escaping @Sendable () -> any OpenFile) {
        self.flags = flags
        self.user = user
        self.open = open
    }

    private var file: any OpenFile {
        if let known = opened.withLock({ $0 }) { return known }
        // Of two threads that come here at once, one opens in vain.
        let file = open()
        return opened.withLock { opened in
            opened = opened ?? file
            return opened ?? file
        }
    }

    var backingDescriptor: Descriptor? { get throws(Errno) { try file.backingDescriptor } }
    func openReply(_ handle: FileHandle) -> OpenReply { OpenReply(handle: handle) }
    func read(into bytes: UnsafeMutableRawBufferPointer, at offset: off_t) throws(Errno) -> Int {
        try file.read(into: bytes, at: offset)
    }
    func write(
        _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, by request: Request
    ) throws(Errno) -> Int {
        try file.write(bytes, at: offset, appending: appending, by: request)
    }
    func truncate(to size: off_t, by request: Request) throws(Errno) { try file.truncate(to: size, by: request) }
    func flush() throws(Errno) { try file.flush() }
    func close() { opened.withLock { $0 }?.close() }
    func fsync(dataOnly: Bool) throws(Errno) { try file.fsync(dataOnly: dataOnly) }
    func fallocate(mode: CInt, offset: off_t, length: off_t) throws(Errno) {
        try file.fallocate(mode: mode, offset: offset, length: length)
    }
    func lseek(offset: off_t, whence: CInt) throws(Errno) -> off_t { try file.lseek(offset: offset, whence: whence) }
    func ioctl(_ command: UInt32, _ argument: UnsafeMutableRawBufferPointer) throws(Errno) {
        try file.ioctl(command, argument)
    }
}

/// An open file that a successor could not open again.
///
/// The kernel goes on reading and writing a file that is registered for passthrough.
private final class UnreachableFile: OpenFile {
    private let failure: Errno

    init(failure: Errno) {
        self.failure = failure
    }

    var backingDescriptor: Descriptor? { get throws(Errno) { throw failure } }
    func openReply(_ handle: FileHandle) -> OpenReply { OpenReply(handle: handle) }
    func read(into bytes: UnsafeMutableRawBufferPointer, at offset: off_t) throws(Errno) -> Int { throw failure }
    func write(
        _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, by request: Request
    ) throws(Errno) -> Int { throw failure }
    func fsync(dataOnly: Bool) throws(Errno) { throw failure }
}

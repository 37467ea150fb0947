import Fuse
import Glibc
import SystemPackage

extension TreeFileSystem {
    /// Takes over what an earlier process had open.
    func restore(_ records: HandleRecords) {
        nodes.restoreSignals { name, directory in
            SignalFile(name: name, in: directory, town: town, isRemoved: true)
        }
        nodes.restoreDescriptors()
        let saved = SignalOpenFile.Saved(in: town.journal.log)
        for (slot, content) in records.restored where !PulseInodes.contains(content.inode) {
            switch content.kind {
            case .directory:
                guard let directory = try? openDirectory(content.inode) else { continue }
                directories.opened.restore(directory, as: content, slot: slot)
            case .file:
                // The kernel was not told of it yet, and opens it again.
                guard let ioMode = content.ioMode else {
                    records.remove(slot)
                    continue
                }
                let file = signalFile(content, saved) ?? openAgain(content)
                let opened = OpenHandle(content.inode, file, thread: content.thread)
                _ = opened.setIOMode(ioMode, for: file)
                opened.setRecord(files.restore(opened, as: content, slot: slot))
                let identity = (try? nodes.node(content.inode))?.identity
                ioModes.restore(content.inode, ioMode, file as? BackingFile, identity)
            }
        }
    }

    private func signalFile(_ content: HandleRecords.Content, _ saved: SignalOpenFile.Saved) -> SignalOpenFile? {
        guard case .signal(let file, let parent) = try? inodeKind(content.inode) else { return nil }
        let opened = SignalOpenFile.restored(content.handle, from: saved, of: file, on: content.inode, in: parent)
        return opened.map { file.register($0) }
    }

    private func openAgain(_ content: HandleRecords.Content) -> any OpenFile {
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

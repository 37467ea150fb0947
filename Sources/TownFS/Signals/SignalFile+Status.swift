import Fuse
import Glibc
import SystemPackage

/// stat(2) and fstat(2).
///
/// FUSE_GETATTR of an fstat has no file handle. So the caller selects the open file: one with an unread snapshot or an
/// uncommitted draft on that inode, of the same thread, else of the same process, else, with a snapshot, of an
/// ancestor. No process has two unread snapshots of different sizes on one inode: the second open gets ESTALE, the
/// kernel looks the name up again, and that lookup returns an inode for this open file alone (`SeparateInodes`).
extension SignalFile {
    /// The file's status as this caller sees it.
    ///
    /// - Parameters:
    ///   - inode: The inode of the request; nil if the kernel does not know it yet.
    ///   - parent: The directory of the backing file.
    /// - Throws: ENOENT if there is no such file, or if it has expired and `--on-expiry=absent` is given.
    func status(
        for request: Request, on inode: InodeNumber?, in parent: ParentDirectory
    ) throws(Errno) -> StatusReply {
        let handles = commitFlushed(by: request)
        try refreshFromTouches(in: parent)
        let (presence, revision) = state.withLock { ($0.presence, $0.revision) }
        let current = Result { () throws(Errno) in try currentStatus(presence, in: parent) }
        let agreed = try? current.get()
        let same = handles.filter { $0.inode == inode }
        if let status = status(for: request, among: same, unlessOfSize: agreed?.st_size) {
            state.withLock { $0.caching.recordDisagreement() }
            return StatusReply(status: status, timeout: 0)
        }
        let status = try current.get()
        let mayBeKept =
            town.configuration.isExclusive && !refreshesOnActivity
            && permitCaching(of: inode, status, revision, for: request)
        return StatusReply(status: status, timeout: mayBeKept ? Self.attributeTimeout : 0)
    }

    /// Whether the kernel may cache a status: all open files agree with it, and no reader is concurrent with a writer.
    private func permitCaching(
        of inode: InodeNumber?, _ status: FileStatus, _ revision: UInt64, for request: Request
    ) -> Bool {
        let now = town.now.instant
        return state.withLock { state in
            guard state.revision == revision, state.handles.allSatisfy({ $0.agrees(with: status) }) else {
                state.caching.recordDisagreement()
                return false
            }
            state.caching.recordReply(of: inode, revision: revision, to: request.thread, at: now)
            guard !state.caching.isContended(for: request.thread, at: now),
                !state.handles.contains(where: { state.caching.isContended(for: $0.thread, at: now) })
            else { return false }
            state.caching.sendValid(of: inode, for: Self.attributeTimeout, at: now)
            return true
        }
    }

    /// The status of the open file that the caller selects, if it differs from the common one.
    private func status(
        for request: Request, among handles: [SignalOpenFile], unlessOfSize size: off_t?
    ) -> FileStatus? {
        // A size that a read may follow outranks the size of a draft.
        let ofThread = handles.filter { $0.thread == request.thread && $0.isInUse }
        if let own = ofThread.last(where: \.isUnread) ?? ofThread.last { return own.status(unlessOfSize: size) }
        guard handles.contains(where: { $0.status(unlessOfSize: size) != nil }) else { return nil }
        guard request.thread != 0, let process = ProcessFiles(number: request.thread).process() else { return nil }
        let own = handles.filter { $0.process == process && $0.isInUse }
        // A reading thread must not see the draft of another thread.
        if let reader = own.last(where: \.isUnread) ?? own.last { return reader.status(unlessOfSize: size) }
        let readers = handles.filter(\.isUnread)
        for ancestor in Ancestors(of: process) {
            guard let reader = readers.last(where: { $0.process == ancestor }) else { continue }
            return reader.status(unlessOfSize: size)
        }
        return nil
    }

    /// Whether an fstat by this caller could select another open file of the inode, with another size.
    func isAmbiguous(_ size: off_t, for request: Request, among handles: [SignalOpenFile]) -> Bool {
        let others = handles.filter { $0.isUnread && $0.snapshotSize != size }
        guard !others.isEmpty else { return false }
        guard request.thread != 0 else { return others.contains { $0.thread == 0 } }
        guard let process = ProcessFiles(number: request.thread).process() else { return false }
        if others.contains(where: { $0.process == process }) { return true }
        return Ancestors(of: process).contains { ancestor in others.contains { $0.process == ancestor } }
    }
}

/// The processes that a process is descended from, nearest first, without init.
private struct Ancestors: Sequence, IteratorProtocol {
    private var process: pid_t
    private var remaining = CallerTable.maximumAncestors

    init(of process: pid_t) {
        self.process = process
    }

    mutating func next() -> pid_t? {
        guard remaining > 0, let parent = ProcessFiles(number: process).stat()?.parent, parent > 1 else { return nil }
        remaining -= 1
        process = parent
        return parent
    }
}

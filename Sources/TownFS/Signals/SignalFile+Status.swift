import Fuse
import Glibc
import Synchronization
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
    func status(for request: Request, on inode: InodeNumber?, in parent: ParentDirectory) throws(Errno) -> StatusReply {
        let handles = commitFlushed(by: request)
        try refreshFromTouches(in: parent)
        let (presence, revision) = state.withLock { ($0.presence, $0.revision) }
        let current = Result { () throws(Errno) in try status(of: presence, in: parent) }
        let agreed = try? current.get()
        let same = handles.filter { $0.inode == inode }
        if let status = status(for: request, among: same, unlessOfSize: agreed?.st_size) {
            return StatusReply(status: status, timeout: 0)
        }
        guard let status = try current.get() else { throw .noSuchFileOrDirectory }
        let mayBeKept =
            town.configuration.isExclusive && !refreshesOnActivity
            && permitCaching(of: inode, status, revision, for: request)
        return StatusReply(status: status, timeout: mayBeKept ? Self.attributeTimeout : 0)
    }

    /// Commits what the caller has truncated and closed: the kernel sends RELEASE later than the caller's next request.
    ///
    /// - Returns: The handles that are open.
    @discardableResult
    func commitFlushed(by request: Request) -> [SignalOpenFile] {
        let handles = state.withLock { $0.handles }
        for handle in handles where handle.thread == request.thread { handle.commitFlushed() }
        return handles
    }

    /// The status of a file that the caller, or another process of the same user, is creating; nil otherwise.
    ///
    /// The kernel asks for it before it opens a file that another process created first. Callers of other pid namespaces
    /// have no number to tell them apart, so the user decides. A lookup does not find the file meanwhile.
    func statusWhileCreating(for request: Request) -> FileStatus? {
        guard case .creating(let ownership) = state.withLock({ $0.presence }), ownership.user == request.callingUser
        else { return nil }
        return status(of: emptyContent(ownership))
    }

    /// Whether the kernel may cache a status: all open files agree with it, and no reader is concurrent with a writer.
    private func permitCaching(
        of inode: InodeNumber?, _ status: FileStatus, _ revision: UInt64, for request: Request
    ) -> Bool {
        let now = town.now.instant
        return state.withLock { state in
            guard state.revision == revision, !state.caching.isContended(for: request.thread, at: now),
                state.handles.allSatisfy({
                    $0.agrees(with: status) && !state.caching.isContended(for: $0.thread, at: now)
                })
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
        let others = handles.filter { $0.isUnread && $0.snapshot.status.st_size != size }
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

/// Opens of signal files that need their own inode, by thread.
///
/// After ESTALE the kernel repeats an open once, and looks all names of the path up again (LOOKUP_REVAL). Lookups by
/// that thread return a new inode of the same file with an entry timeout of 0, and the second open is of that inode.
/// Later lookups return the first inode, which owns locks (flock(2), fcntl(2)) and watches (inotify(7)).
final class SeparateInodes: Sendable {
    private struct Pending {
        let file: SignalFile
        var inode: InodeNumber?
    }

    private let pending = Mutex<[pid_t: Pending]>([:])
    /// The size of `pending`, so that most lookups need no lock.
    private let count = Atomic(0)

    /// Entries of killed threads stay until there are so many.
    private static let capacity = 1024

    /// Records an open that gets ESTALE.
    func begin(_ file: SignalFile, for thread: pid_t) {
        pending.withLock { pending in
            if pending.count >= Self.capacity { pending = [:] }
            pending[thread] = Pending(file: file)
            count.store(pending.count, ordering: .relaxed)
        }
    }

    /// Records a successful open.
    func end(for thread: pid_t) {
        guard count.load(ordering: .relaxed) > 0 else { return }
        pending.withLock { pending in
            pending[thread] = nil
            count.store(pending.count, ordering: .relaxed)
        }
    }

    /// Whether the last open of a file by a thread got ESTALE, so that this is the kernel's last attempt.
    func isPending(_ file: SignalFile, for thread: pid_t) -> Bool {
        count.load(ordering: .relaxed) > 0 && pending.withLock { $0[thread]?.file === file }
    }

    /// The inode for the open of a thread.
    ///
    /// - Parameter remember: Counts a lookup of the inode of an earlier lookup, or of a new one if the kernel forgot that.
    func lookup(
        _ file: SignalFile, for thread: pid_t, remember: (InodeNumber?) -> InodeNumber
    ) -> InodeNumber {
        let inode = remember(pending.withLock { $0[thread]?.inode })
        pending.withLock { pending in
            if pending[thread]?.file === file { pending[thread]?.inode = inode }
        }
        return inode
    }
}

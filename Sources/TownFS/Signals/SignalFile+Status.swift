import Fuse
import Glibc
import Linux
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
            state.withLock { $0.caching.recordDisagreement() }
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
    /// Not what the caller still has open: a shell closes a duplicate, and the C library asks for the status of standard
    /// output before it writes.
    ///
    /// - Returns: The handles that are open.
    @discardableResult
    func commitFlushed(by request: Request) -> [SignalOpenFile] {
        let handles = state.withLock { $0.handles }
        // Callers of other pid namespaces have no number, and cannot be looked at.
        guard request.thread != 0 else { return handles }
        let flushed = handles.filter { $0.thread == request.thread && $0.isFlushed }
        // If its descriptors cannot be read, RELEASE commits.
        guard !flushed.isEmpty, ProcessFiles(number: request.thread).hasOpen(name.bytes) == false else {
            return handles
        }
        for handle in flushed { handle.commitFlushed() }
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
        let others = handles.filter { $0.isUnread && $0.snapshot.status.st_size != size }
        guard !others.isEmpty else { return false }
        guard request.thread != 0 else { return others.contains { $0.thread == 0 } }
        guard let process = ProcessFiles(number: request.thread).process() else { return false }
        if others.contains(where: { $0.process == process }) { return true }
        return Ancestors(of: process).contains { ancestor in others.contains { $0.process == ancestor } }
    }
}

extension ProcessFiles {
    /// Whether the process has a file of this name open, in any directory; nil if its descriptors cannot be read.
    ///
    /// Calls no file system.
    fileprivate func hasOpen(_ name: [UInt8]) -> Bool? {
        guard let directory = opendir("/proc/\(number)/fd") else { return nil }
        let end = [UInt8(ascii: "/")] + name
        // Another file was renamed over it since.
        let replacedEnd = end + " (deleted)".utf8
        var room = [CChar](repeating: 0, count: Int(PATH_MAX))
        return directoryEntries(closing: directory).contains { entry in
            let count = readlink("/proc/\(number)/fd/\(entry.name)", &room, room.count)
            let target = room.prefix(max(0, count))
            return [end, replacedEnd].contains { end in
                target.suffix(end.count).elementsEqual(end) { UInt8(bitPattern: $0) == $1 }
            }
        }
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

/// Decides whether the kernel may cache the attributes of a signal file.
///
/// fstat(2) must return the size of the snapshot that the next read returns. The kernel changes cached attributes in
/// steps. An open with O_TRUNC and a write set the size before they invalidate the cache (`fuse_truncate_update_attr`,
/// `fuse_write_update_attr` in fs/fuse/file.c). A refresh validates the cache before it stores the size
/// (`fuse_change_attributes_i` in fs/fuse/inode.c). An fstat in between returns a wrong size. So nothing is cached
/// while a reader and a writer are concurrent: each fstat is then a request, and the kernel returns the size in its
/// reply.
///
/// They are concurrent while the writer has the file open (`SignalFile` knows that), and for a short time after another
/// thread's change: replies on their way to the kernel are stored by then. The first reply after a write is a change,
/// too: it is the one that brings a new size. One thread that writes and reads in turn is not concurrent: it is not in
/// fstat(2) while it writes.
struct AttributeCaching {
    private struct Change {
        let thread: pid_t
        let time: ContinuousClock.Instant
    }

    /// Which size the kernel has stored.
    private struct Reply: Equatable {
        let inode: InodeNumber?
        let revision: UInt64
    }

    /// Much longer than it takes to store a reply, and shorter than the time between most touches.
    private static let period = Duration.milliseconds(20)
    /// How long after a change an open file's process is read at once: its opening thread may end before the next one.
    private static let busyPeriod = Duration.seconds(1)

    private var lastChange: Change?
    /// The last change by a thread other than that of the last change.
    private var otherChange: ContinuousClock.Instant?
    /// The last reply that all open files agreed with; nil after one that they did not agree with.
    private var lastReply: Reply?
    /// The end of validity of cached attributes by inode; nil for an inode that the kernel did not know yet.
    private var validUntil: [InodeNumber?: ContinuousClock.Instant] = [:]

    /// The kernel counts in jiffies.
    private static let leeway = Duration.milliseconds(100)

    mutating func recordChange(by thread: pid_t, at now: ContinuousClock.Instant) {
        if let lastChange, lastChange.thread != thread || thread == 0 { otherChange = lastChange.time }
        lastChange = Change(thread: thread, time: now)
        lastReply = nil
    }

    /// Records a reply that all open files agree with.
    mutating func recordReply(
        of inode: InodeNumber?, revision: UInt64, to thread: pid_t, at now: ContinuousClock.Instant
    ) {
        let reply = Reply(inode: inode, revision: revision)
        guard lastReply != reply else { return }
        recordChange(by: thread, at: now)
        lastReply = reply
    }

    /// Records that the kernel may store another size than that of the last reply.
    mutating func recordDisagreement() {
        lastReply = nil
    }

    /// Whether another thread has changed the cached size a moment ago.
    ///
    /// All threads of other pid namespaces have the number 0.
    func isContended(for thread: pid_t, at now: ContinuousClock.Instant) -> Bool {
        hasChange(byOtherThan: thread, within: Self.period, of: now)
    }

    /// Whether another thread has changed the file within the last second.
    func isBusy(for thread: pid_t, at now: ContinuousClock.Instant) -> Bool {
        hasChange(byOtherThan: thread, within: Self.busyPeriod, of: now)
    }

    private func hasChange(
        byOtherThan thread: pid_t, within period: Duration, of now: ContinuousClock.Instant
    ) -> Bool {
        guard let lastChange else { return false }
        let isOwn = lastChange.thread == thread && thread != 0
        return (isOwn ? otherChange : lastChange.time).map { now - $0 < period } ?? false
    }

    /// Records a reply with a timeout.
    mutating func sendValid(of inode: InodeNumber?, for timeout: Double, at now: ContinuousClock.Instant) {
        if validUntil.count > 1 { validUntil = validUntil.filter { now < $0.value } }
        validUntil[inode] = now + .seconds(timeout) + Self.leeway
    }

    /// Whether cached attributes may be valid.
    ///
    /// The caller then sends FUSE_NOTIFY_INVAL_INODE. That raises the attribute version, so the kernel does not store
    /// replies to earlier requests.
    mutating func removeInvalidation(of inode: InodeNumber, at now: ContinuousClock.Instant) -> Bool {
        let isValid = [inode, nil].contains { validUntil[$0].map { now < $0 } ?? false }
        validUntil[inode] = nil
        return isValid
    }
}

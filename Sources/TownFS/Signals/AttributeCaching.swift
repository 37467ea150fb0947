import Fuse
import Glibc

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

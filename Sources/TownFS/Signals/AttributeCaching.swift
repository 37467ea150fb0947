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
/// They are concurrent if another thread had the file open for writing within the last second. One thread that writes
/// and reads in turn is not: it is not in fstat(2) while it writes.
struct AttributeCaching {
    private struct LastWriter {
        let thread: pid_t
        let time: ContinuousClock.Instant
    }

    private static let period = Duration.seconds(1)

    private var lastWriter: LastWriter?
    /// The last write by a thread other than the last writer.
    private var otherWriter: ContinuousClock.Instant?
    /// The end of validity of cached attributes by inode; nil for an inode that the kernel did not know yet.
    private var validUntil: [InodeNumber?: ContinuousClock.Instant] = [:]

    /// The kernel counts in jiffies.
    private static let leeway = Duration.milliseconds(100)

    mutating func recordWriter(_ thread: pid_t, at now: ContinuousClock.Instant) {
        if let lastWriter, lastWriter.thread != thread || thread == 0 { otherWriter = lastWriter.time }
        lastWriter = LastWriter(thread: thread, time: now)
    }

    /// Whether another thread has written within the last second.
    ///
    /// All threads of other pid namespaces have the number 0.
    func isContended(for thread: pid_t, at now: ContinuousClock.Instant) -> Bool {
        func isRecent(_ time: ContinuousClock.Instant?) -> Bool { time.map { now - $0 < Self.period } ?? false }
        guard let lastWriter else { return false }
        let isOwn = lastWriter.thread == thread && thread != 0
        return isRecent(isOwn ? otherWriter : lastWriter.time)
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

import Fuse
import Glibc

/// Whether the kernel may keep the attributes of a signal file, and whether it may have some.
///
/// fstat(2) on a file that is open for reading has to tell the size of that opening's snapshot. The kernel answers it from
/// its cache where it may, and changes what is cached in several steps: an open with `O_TRUNC` and a write set the size
/// before they drop the cache (`fuse_truncate_update_attr`, `fuse_write_update_attr` in fs/fuse/file.c), and a refresh
/// makes the cache valid before it stores the size (`fuse_change_attributes_i` in fs/fuse/inode.c). An fstat in between
/// tells a size of no document. So while a reader and a writer meet, nothing is cached: each fstat is a request, and the
/// reply to that is passed on as it is.
///
/// They meet if the file has been open for writing by another thread within the last second. A thread that writes and reads
/// in turn meets nobody: it is not in fstat(2) while it writes.
struct AttributeCaching {
    private struct Writer {
        let thread: pid_t
        let time: ContinuousClock.Instant
    }

    private static let period = Duration.seconds(1)

    private var lastWriter: Writer?
    /// When a thread other than the last writer's has last written.
    private var otherWriter: ContinuousClock.Instant?
    /// Until when the kernel may take the attributes of an inode for valid; nil stands for one that it did not know then.
    private var validUntil: [InodeNumber?: ContinuousClock.Instant] = [:]

    /// For the kernel's clock, which counts in steps.
    private static let leeway = Duration.milliseconds(100)

    mutating func recordWriter(_ thread: pid_t, at now: ContinuousClock.Instant) {
        if let lastWriter, lastWriter.thread != thread || thread == 0 { otherWriter = lastWriter.time }
        lastWriter = Writer(thread: thread, time: now)
    }

    /// Whether somebody else than a thread has just written.
    ///
    /// Threads of other pid namespaces all have the number 0.
    func isContended(for thread: pid_t, at now: ContinuousClock.Instant) -> Bool {
        func isRecent(_ time: ContinuousClock.Instant?) -> Bool { time.map { now - $0 < Self.period } ?? false }
        guard let lastWriter else { return false }
        let isOwn = lastWriter.thread == thread && thread != 0
        return isRecent(isOwn ? otherWriter : lastWriter.time)
    }

    /// Records that a reply lets the kernel keep attributes.
    mutating func sendValid(of inode: InodeNumber?, for timeout: Double, at now: ContinuousClock.Instant) {
        if validUntil.count > 1 { validUntil = validUntil.filter { now < $0.value } }
        validUntil[inode] = now + .seconds(timeout) + Self.leeway
    }

    /// Whether the kernel has to be told that what it has is not valid, and takes that to be done.
    ///
    /// Replies that are on their way then are not stored any more: the notification raises the inode's attribute version.
    mutating func takeInvalidation(of inode: InodeNumber, at now: ContinuousClock.Instant) -> Bool {
        let isValid = [inode, nil].contains { validUntil[$0].map { now < $0 } ?? false }
        validUntil[inode] = nil
        return isValid
    }
}

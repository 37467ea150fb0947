import CLinux

/// Tells the kernel to ask again about a file that a caller polls.
///
/// One notification per poll is enough. More do no harm, nor does one after the file was closed. Any thread may notify,
/// but not while it holds a lock.
///
/// The corresponding message is `FUSE_NOTIFY_POLL`.
public struct PollHandle: Sendable {
    /// `kh` in linux/fuse.h.
    private let rawValue: UInt64
    private let connection: Connection

    init(rawValue: UInt64, on connection: Connection) {
        self.rawValue = rawValue
        self.connection = connection
    }

    public func notify() {
        connection.notify(FUSE_NOTIFY_POLL, fuse_notify_poll_wakeup_out(kh: rawValue))
    }
}

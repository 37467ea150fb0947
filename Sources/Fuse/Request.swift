import Glibc

/// Who asks: the caller's identity as the kernel put it into the request's header.
public struct Request: Sendable {
    /// Effective user and group of the caller (`fsuid`, `fsgid`).
    public let user: uid_t
    public let group: gid_t

    /// The calling *thread*, in the pid namespace of whoever opened `/dev/fuse`; 0 when it lives in another namespace.
    ///
    /// The thread waits for the answer, so it exists while an operation runs, unless the operation is `release` or
    /// `forget`, which have no caller.
    public let thread: pid_t

    /// The caller's umask; known, and of use, only where something is made.
    public let umask: mode_t

    public init(user: uid_t, group: gid_t, thread: pid_t, umask: mode_t = 0) {
        self.user = user
        self.group = group
        self.thread = thread
        self.umask = umask
    }
}

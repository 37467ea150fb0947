import Glibc
import Linux

/// Who asks: the caller's identity as the kernel put it into the request's header.
public struct Request: Sendable {
    /// User and group of the caller (`fsuid`, `fsgid`), mapped where the mount is id-mapped.
    ///
    /// `UInt32.max` where the kernel does not name them: with `Features.allowsIDMapping`, in all requests that make
    /// nothing. See `callingUser`.
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

    /// The caller's user, read from `/proc` if the kernel does not name it; `UInt32.max` if it cannot be seen.
    public var callingUser: uid_t { user == .max ? fileSystemID("Uid:") : user }

    /// The caller's group, in the same way.
    public var callingGroup: gid_t { group == .max ? fileSystemID("Gid:") : group }

    private func fileSystemID(_ key: String) -> UInt32 {
        // Real, effective, saved and file system id: proc(5).
        ProcFS.field(key, in: "/proc/\(thread)/status")?.last.flatMap { UInt32($0) } ?? .max
    }
}

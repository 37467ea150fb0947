import Glibc
import Linux

/// A file system's name for one of its inodes towards the kernel (`nodeid` in linux/fuse.h).
///
/// A counter into the file system's own table: never an address, never reused during a mount. It is not `st_ino`, which
/// is whatever `getattr` reports.
public struct InodeNumber: Hashable, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// The mountpoint, which the kernel knows without a lookup (`FUSE_ROOT_ID`).
    public static let root = InodeNumber(rawValue: 1)
}

/// A file system's name for one open file or directory towards the kernel (`fh` in linux/fuse.h).
///
/// A counter into a table, never reused during a mount.
public struct FileHandle: Hashable, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// The handle in requests for a directory that was not opened (`Features.listsUnopened`).
    public static let unopened = FileHandle(rawValue: 0)
}

/// One component of a path as the kernel sent it: 1 to 255 bytes, any but `/` and NUL.
///
/// Borrowed from the request, and gone when the operation returns: keep `copy()`. Names are bytes; decode them only to
/// show them.
public struct FileName {
    /// The bytes and their terminating NUL, for system calls.
    public let pointer: UnsafePointer<CChar>

    /// Wraps a NUL-terminated string that outlives the value.
    public init(borrowing pointer: UnsafePointer<CChar>) { self.pointer = pointer }

    /// The bytes without the NUL.
    public var bytes: UnsafeBufferPointer<UInt8> {
        let count = strlen(pointer)
        return UnsafeBufferPointer(start: UnsafeRawPointer(pointer).assumingMemoryBound(to: UInt8.self), count: count)
    }

    /// A copy of the bytes without the NUL.
    public func copy() -> [UInt8] { Array(bytes) }
}

/// The caller of an operation, as the kernel put it into the request's header.
public struct Request: Sendable {
    /// User and group of the caller (`fsuid`, `fsgid`), mapped if the mount is id-mapped.
    ///
    /// With `Features.allowsIDMapping` they are `UInt32.max` in all requests that create nothing. See `callingUser`.
    public let user: uid_t
    public let group: gid_t

    /// The calling *thread*, in the pid namespace of the process that opened `/dev/fuse`; 0 from another namespace.
    ///
    /// The thread waits for the reply, so it exists while an operation runs. `release` and `forget` have no caller.
    public let thread: pid_t

    /// The caller's umask: known only where something is created.
    public let umask: mode_t

    /// The request's number, unique within the connection; 0 if there is none.
    public let unique: UInt64

    /// Whether an earlier process has begun the operation and was killed: it may or may not have happened.
    public let isRepeated: Bool

    public init(
        user: uid_t, group: gid_t, thread: pid_t, umask: mode_t = 0, unique: UInt64 = 0, isRepeated: Bool = false
    ) {
        self.user = user
        self.group = group
        self.thread = thread
        self.umask = umask
        self.unique = unique
        self.isRepeated = isRepeated
    }

    /// The caller's user, read from `/proc` if it is not in the request; `UInt32.max` if it cannot be seen.
    public var callingUser: uid_t { user == .max ? fileSystemID("Uid:") : user }

    /// The caller's group, likewise.
    public var callingGroup: gid_t { group == .max ? fileSystemID("Gid:") : group }

    private func fileSystemID(_ key: String) -> UInt32 {
        // Real, effective, saved and file system id: proc(5).
        ProcFS.field(key, in: "/proc/\(thread)/status")?.last.flatMap { UInt32($0) } ?? .max
    }
}

import Glibc

/// stat(2)'s answer.
///
/// The name keeps it apart from the function of the same spelling.
public typealias FileStatus = stat

/// statvfs(3)'s answer.
public typealias FileSystemStatus = statvfs

/// The answer to a lookup, and to everything that makes a name: which inode it is, and for how long the kernel may
/// believe that without asking again.
///
/// Every entry that reaches the kernel counts as one lookup, to be given back by `forget`.
public struct Entry {
    public var inode: InodeNumber
    public var status: FileStatus
    /// Seconds for which the name may be taken to mean this inode.
    public var nameTimeout: Double
    /// Seconds for which `status` may be taken as true.
    public var statusTimeout: Double

    public init(inode: InodeNumber, status: FileStatus, nameTimeout: Double, statusTimeout: Double) {
        self.inode = inode
        self.status = status
        self.nameTimeout = nameTimeout
        self.statusTimeout = statusTimeout
    }
}

/// The answer to `getattr` and `setattr`.
public struct StatusReply {
    public var status: FileStatus
    /// Seconds for which `status` may be taken as true.
    public var timeout: Double

    public init(status: FileStatus, timeout: Double) {
        self.status = status
        self.timeout = timeout
    }
}

/// The answer to `open`, `opendir` and, beside an entry, `create`.
public struct OpenReply {
    public var handle: FileHandle
    /// Every read and write becomes a request of its own; the page cache is left out (`FOPEN_DIRECT_IO`).
    public var usesDirectIO: Bool
    /// Whether `flush` shall be called at each close; without it the kernel need not ask (`FOPEN_NOFLUSH`).
    public var needsFlush: Bool
    /// Whether it has no position, as a pipe has none, and reads of it may wait (`FOPEN_STREAM`).
    ///
    /// Not for directories.
    public var isStream: Bool

    public init(
        handle: FileHandle, usesDirectIO: Bool = false, needsFlush: Bool = true, isStream: Bool = false
    ) {
        self.handle = handle
        self.usesDirectIO = usesDirectIO
        self.needsFlush = needsFlush
        self.isStream = isStream
    }
}

/// What `setattr` is asked to change; nil is "leave it".
public struct StatusChanges: Sendable {
    /// A time to set: the clock's now at the moment of the change, or a given one.
    public enum Time: Sendable {
        case now
        case at(timespec)
    }

    public var mode: mode_t?
    public var user: uid_t?
    public var group: gid_t?
    /// In bytes.
    public var size: off_t?
    public var accessed: Time?
    public var modified: Time?

    /// Whether nothing is to be set: what chown(2) to -1 and -1 asks for, which is a change all the same.
    public var isEmpty: Bool {
        mode == nil && user == nil && group == nil && size == nil && accessed == nil && modified == nil
    }

    public init() {}
}

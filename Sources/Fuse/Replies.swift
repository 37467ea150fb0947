import Glibc

/// The result of stat(2): the name keeps it apart from the function of the same spelling.
public typealias FileStatus = stat

/// The result of statvfs(3).
public typealias FileSystemStatus = statvfs

/// The reply to `lookup` and to operations that create a name: an inode, and how long the kernel may cache it.
///
/// Every entry that reaches the kernel counts as one lookup, to be returned by `forget`, unless it is `absent`.
public struct Entry {
    public var inode: InodeNumber
    /// Distinguishes the inode from others that had its number in earlier mounts; part of its file handle
    /// (`name_to_handle_at`).
    ///
    /// Constant for an inode during a mount; 0 for the root. The kernel keeps 32 bits.
    public var generation: UInt32
    public var status: FileStatus
    /// Entry timeout: seconds for which the kernel may map the name to this inode.
    public var nameTimeout: Double
    /// Attribute timeout: seconds for which the kernel may cache `status`.
    public var statusTimeout: Double

    public init(
        inode: InodeNumber, generation: UInt32 = 0, status: FileStatus, nameTimeout: Double, statusTimeout: Double
    ) {
        self.inode = inode
        self.generation = generation
        self.status = status
        self.nameTimeout = nameTimeout
        self.statusTimeout = statusTimeout
    }

    /// A negative entry, which the kernel may cache for some seconds: no such name, and no lookup to count.
    public static func absent(for seconds: Double) -> Entry {
        Entry(inode: InodeNumber(rawValue: 0), status: FileStatus(), nameTimeout: seconds, statusTimeout: 0)
    }
}

/// The reply to `getattr` and `setattr`.
public struct StatusReply {
    public var status: FileStatus
    /// Attribute timeout in seconds.
    public var timeout: Double

    public init(status: FileStatus, timeout: Double) {
        self.status = status
        self.timeout = timeout
    }
}

/// The reply to `open` and, beside an entry, to `create`.
public struct OpenReply {
    /// How the kernel reads and writes an open file.
    ///
    /// All openings of an inode must agree: if one is `passthrough`, all are, with the same file; else each is `cached` or
    /// `direct`.
    public enum IOMode: Sendable, Equatable {
        /// Through the page cache. If `isKept`, pages of an earlier opening stay valid.
        case cached(isKept: Bool)
        /// Every read and write is a request (`FOPEN_DIRECT_IO`).
        case direct
        /// The kernel reads, writes and maps the backing file (`FOPEN_PASSTHROUGH`). With `directIO` it only maps it.
        case passthrough(Connection.BackingID, directIO: Bool = false)
    }

    public var handle: FileHandle
    public var ioMode: IOMode
    /// Whether `ioMode(of:)` is to be asked for another mode.
    public var allowsPassthrough: Bool
    /// Whether each close calls `flush`; if not, the kernel need not ask (`FOPEN_NOFLUSH`).
    public var needsFlush: Bool
    /// Whether the file has no position, like a pipe, and its reads may wait (`FOPEN_STREAM`).
    ///
    /// Otherwise the kernel holds the open file's position lock while a read waits, and another reader of the same
    /// descriptor could not even be killed.
    public var isStream: Bool

    public init(
        handle: FileHandle, ioMode: IOMode = .cached(isKept: false), allowsPassthrough: Bool = false,
        needsFlush: Bool = true, isStream: Bool = false
    ) {
        self.handle = handle
        self.ioMode = ioMode
        self.allowsPassthrough = allowsPassthrough
        self.needsFlush = needsFlush
        self.isStream = isStream
    }
}

/// The reply to `opendir`.
public struct OpenDirectoryReply {
    public var handle: FileHandle
    /// Whether the kernel may cache the listing for this and later openings (`FOPEN_CACHE_DIR`, `FOPEN_KEEP_CACHE`), until
    /// it creates or removes a name in the directory.
    public var isListingKept: Bool

    public init(handle: FileHandle, isListingKept: Bool = false) {
        self.handle = handle
        self.isListingKept = isListingKept
    }
}

/// The changes that `setattr` asks for; nil leaves an attribute as it is.
public struct StatusChanges: Sendable {
    /// A time to set: the clock's at the moment of the change, or a given one.
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

    /// Whether nothing is set: chown(2) to -1 and -1 asks for that, and it still updates ctime.
    public var isEmpty: Bool {
        mode == nil && user == nil && group == nil && size == nil && accessed == nil && modified == nil
    }

    public init() {}
}

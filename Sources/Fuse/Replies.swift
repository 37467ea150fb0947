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
/// Every entry that reaches the kernel counts as one lookup, to be given back by `forget`, unless it is `absent`.
public struct Entry {
    public var inode: InodeNumber
    /// Tells the inode from those that had its number in earlier mounts; part of its file handle (`name_to_handle_at`).
    ///
    /// The same for an inode as long as the mount lasts; 0 for the root. The kernel keeps 32 bits.
    public var generation: UInt32
    public var status: FileStatus
    /// Seconds for which the name may be taken to mean this inode.
    public var nameTimeout: Double
    /// Seconds for which `status` may be taken as true.
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
}

extension Entry {
    /// The answer to a lookup of what is not there, which the kernel may go on to believe for some seconds.
    ///
    /// Counts as no lookup.
    public static func absent(for seconds: Double) -> Entry {
        Entry(inode: InodeNumber(rawValue: 0), status: FileStatus(), nameTimeout: seconds, statusTimeout: 0)
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

/// The answer to `open` and, beside an entry, `create`.
public struct OpenReply {
    /// Which way the bytes of an open file go.
    ///
    /// All that have one inode open at a time have to agree: if one of them is `passthrough`, all are, and the same file; else each
    /// is `cached` or `direct`.
    public enum IOMode: Sendable, Equatable {
        /// Through the kernel's page cache, in requests; what an earlier opening left there counts if it `isKept`.
        case cached(isKept: Bool)
        /// Every read and write is a request of its own (`FOPEN_DIRECT_IO`).
        case direct
        /// Past us: the kernel reads, writes and maps the file beneath (`FOPEN_PASSTHROUGH`); if `directIO`, it only maps.
        case passthrough(Connection.BackingID, directIO: Bool = false)
    }

    public var handle: FileHandle
    public var ioMode: IOMode
    /// Whether `ioMode(of:)` is to be asked for another way.
    public var allowsPassthrough: Bool
    /// Whether `flush` shall be called at each close; without it the kernel need not ask (`FOPEN_NOFLUSH`).
    public var needsFlush: Bool
    /// Whether it has no position, as a pipe has none, and reads of it may wait (`FOPEN_STREAM`).
    ///
    /// Without, the kernel would hold a lock of the open file while a read of it waits, and whoever shares the descriptor
    /// and reads, too, could not even be killed.
    public var isStream: Bool

    public init(
        handle: FileHandle, ioMode: IOMode = .cached(isKept: false), allowsPassthrough: Bool = false,
        needsFlush: Bool = true,
        isStream: Bool = false
    ) {
        self.handle = handle
        self.ioMode = ioMode
        self.allowsPassthrough = allowsPassthrough
        self.needsFlush = needsFlush
        self.isStream = isStream
    }
}

/// The answer to `opendir`.
public struct OpenDirectoryReply {
    public var handle: FileHandle
    /// Whether the kernel may keep the listing, for this and later openings (`FOPEN_CACHE_DIR`, `FOPEN_KEEP_CACHE`), until
    /// it makes or removes a name in the directory itself.
    public var isListingKept: Bool

    public init(handle: FileHandle, isListingKept: Bool = false) {
        self.handle = handle
        self.isListingKept = isListingKept
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

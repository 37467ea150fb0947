/// What a file system calls one of its inodes when it talks to the kernel (`nodeid` in linux/fuse.h).
///
/// A counter into the file system's own table: never an address, never given out twice in one mount. It is not `st_ino`,
/// which is whatever `getattr` reports.
public struct InodeNumber: Hashable, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// The mountpoint itself; the kernel knows it without a lookup (`FUSE_ROOT_ID`).
    public static let root = InodeNumber(rawValue: 1)
}

/// What a file system calls one open file or directory when it talks to the kernel (`fh` in linux/fuse.h).
///
/// A counter into a table, like `InodeNumber`, and likewise never given out twice in one mount.
public struct FileHandle: Hashable, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// No opening: that of directories which the kernel lists without asking for one (`Features.listsUnopened`).
    public static let unopened = FileHandle(rawValue: 0)
}

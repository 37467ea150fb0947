/// What a file system wants of the kernel; granted where the kernel can.
public struct Features: Sendable {
    /// Whether files and names change through this connection alone, so that what the kernel has of a file stays good until
    /// it is told otherwise.
    ///
    /// Else the kernel drops a file's pages when its size or time of modification is not what it was.
    public var isExclusive: Bool

    /// Up to how many file systems may be stacked on each other, this one included, if the kernel shall read and write files
    /// beneath by itself; nil if it shall not.
    ///
    /// 1 is for ordinary file systems, 2 for an overlayfs, which then cannot have this one for a layer of its own. Takes
    /// CAP_SYS_ADMIN.
    public var passthroughDepth: UInt32?

    /// Whether directories need not be opened to be listed: the kernel then asks for neither the one nor the other as long as it
    /// has a listing that it may keep.
    ///
    /// Takes CAP_DAC_READ_SEARCH, as a directory that somebody has open goes on being listed though its permissions change.
    public var listsUnopened: Bool

    /// Whether id-mapped mounts of this file system may be made (Linux 6.12), as container runtimes do.
    ///
    /// Takes `default_permissions`. The kernel then names user and group only in requests that make something: see
    /// `Request.user`.
    public var allowsIDMapping: Bool

    public init(
        isExclusive: Bool = false, passthroughDepth: UInt32? = nil, listsUnopened: Bool = false,
        allowsIDMapping: Bool = false
    ) {
        self.isExclusive = isExclusive
        self.passthroughDepth = passthroughDepth
        self.listsUnopened = listsUnopened
        self.allowsIDMapping = allowsIDMapping
    }
}

/// What a file system wants of the kernel.
///
/// Granted where the kernel offers it.
public struct Features: Sendable {
    /// Whether files and names change through this connection alone.
    ///
    /// The kernel then keeps a file's pages until it is told otherwise. Else it drops them when size or mtime change.
    public var isExclusive: Bool

    /// The number of stacked file systems, this one included, if the kernel may read and write backing files by itself;
    /// nil if not.
    ///
    /// 1 is for ordinary file systems, 2 for an overlayfs, which then cannot use this one as a layer. Needs CAP_SYS_ADMIN.
    public var passthroughDepth: UInt32?

    /// Whether directories need not be opened to be listed: the kernel sends no OPENDIR, RELEASEDIR, or READDIR while it
    /// has a cached listing.
    ///
    /// Needs CAP_DAC_READ_SEARCH: an open directory can still be listed after its permissions changed.
    public var listsUnopened: Bool

    /// Whether the mount may be id-mapped (mount_setattr(2)), since Linux 6.12.
    ///
    /// Needs `default_permissions`.
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

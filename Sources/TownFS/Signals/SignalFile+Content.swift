import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// The content of a signal file, and what stat(2) shows of it.
extension SignalFile {
    /// Mode and owner; the file type is not in `mode`.
    struct Ownership: Hashable, Sendable {
        /// Without set-id bits: a document is no program, and writes would have to clear them.
        var mode: mode_t { didSet { mode &= Self.modeBits } }
        var user: uid_t
        var group: gid_t

        private static let modeBits: mode_t = 0o1777

        init(mode: mode_t, user: uid_t, group: gid_t) {
            self.mode = mode & Self.modeBits
            self.user = user
            self.group = group
        }

        init(_ status: FileStatus) {
            self.init(mode: status.st_mode, user: status.st_uid, group: status.st_gid)
        }
    }

    /// The content of a file that was touched.
    struct Content: Sendable {
        var document: Document
        /// The time of the last touch.
        var modified: WallTime
        /// `st_ctime`.
        var changed: WallTime
        var ownership: Ownership
        /// The deadline of the last touch.
        var deadline: ContinuousClock.Instant
        /// `st_mtim` of the backing file that this document is known to follow; nil if there is none.
        ///
        /// Compared for equality only, as wall clocks are set back.
        var backingTime: WallTime?
        /// The number of the FUSE request that touched it last; 0 if there is none.
        var request: UInt64 = 0
    }

    /// The content of a file that was created and not written.
    func emptyContent(_ ownership: Ownership) -> Content {
        let now = town.now
        return Content(
            document: Document(), modified: now.wall, changed: now.wall, ownership: ownership, deadline: now.instant)
    }

    /// The content of the backing file, if nothing was committed yet.
    ///
    /// A file that is no document or cannot be read is empty.
    func backingContentIfNeeded(in parent: ParentDirectory) throws(Errno) -> Content? {
        guard state.withLock({ $0.presence.isBacking }) else { return nil }
        let directory = try parent.descriptor
        guard let status = try name.status(in: directory.rawValue), status.isRegularFile else { return nil }
        let bytes = (try? BackingDocument.open(name, in: directory.rawValue)?.bytes()) ?? []
        return Content(
            document: Document(bytes), modified: WallTime(status.st_mtim), changed: WallTime(status.st_ctim),
            ownership: Ownership(status), deadline: town.now.instant, backingTime: WallTime(status.st_mtim))
    }

    /// The committed content, or that of the backing file.
    ///
    /// - Throws: ENOENT if there is no such file, EFBIG if the backing file is larger than a document.
    func currentContent(in parent: ParentDirectory) throws(Errno) -> Content {
        if let content = state.withLock({ $0.presence.content }), isShown(content) { return content }
        guard let content = try backingContentIfNeeded(in: parent) else { throw .noSuchFileOrDirectory }
        return content
    }

    // MARK: Status

    /// The status that every process sees.
    ///
    /// - Throws: ENOENT if there is no such file, or if it has expired and `--on-expiry=absent` is given.
    func status(in parent: ParentDirectory) throws(Errno) -> FileStatus {
        guard let status = try status(of: state.withLock { $0.presence }, in: parent) else {
            throw .noSuchFileOrDirectory
        }
        return status
    }

    /// The same; nil if there is no such file.
    func status(of presence: Presence, in parent: ParentDirectory) throws(Errno) -> FileStatus? {
        switch presence {
        case .backing:
            let directory = try parent.descriptor
            guard let real = try name.status(in: directory.rawValue), real.isRegularFile, isShown(real) else {
                return nil
            }
            return status(of: real)
        case .committed(let content): return isShown(content) ? status(of: content) : nil
        case .creating, .unlinked: return nil
        }
    }

    func status(of content: Content) -> FileStatus {
        var status = FileStatus()
        status.st_ino = number
        status.st_mode = S_IFREG | (content.ownership.mode & 0o7777)
        status.st_nlink = 1
        status.st_uid = content.ownership.user
        status.st_gid = content.ownership.group
        status.st_size = off_t(content.document.bytes.count)
        status.st_blksize = 4096
        status.st_blocks = (status.st_size + 511) / 512
        status.st_mtim = content.modified.timespec
        status.st_atim = content.modified.timespec
        status.st_ctim = content.changed.timespec
        return status
    }

    func status(of real: FileStatus) -> FileStatus {
        var status = real
        status.st_ino = number
        status.st_nlink = 1
        return status
    }

    /// 48 bits of the path's hash in a range that disk file systems do not reach.
    static func inodeNumber(of path: [UInt8]) -> ino_t { 0x7075_0000_0000_0000 | ino_t(path.fnv1a >> 16) }
}

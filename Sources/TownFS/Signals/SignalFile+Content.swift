import Fuse
import Glibc
import Liveness

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
        /// Wall clocks are set back. This time is compared for equality only.
        var backingTime: WallTime?
    }

    // MARK: As stat(2) tells

    /// 48 bits of the path's FNV-1a hash in a range that disk file systems do not reach.
    static func inodeNumber(of path: [UInt8]) -> ino_t {
        let hash = path.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return 0x7075_0000_0000_0000 | ino_t(hash >> 16)
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
}

extension SignalFile.Ownership {
    /// For a file that was created by a touch alone.
    static func ordinary(of request: Request) -> Self {
        Self(mode: 0o644, user: request.callingUser, group: request.callingGroup)
    }
}

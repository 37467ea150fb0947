import FoundationEssentials
import Fuse
import Glibc
import SystemPackage

/// `.pulse`: what pulsefs says of itself, in files below the town root that no listing shows.
///
/// Found by name alone, so that nothing that walks the town meets it. Inode numbers are fixed, in a range of their own.
final class PulseDirectory: Sendable {
    static let name = Array(".pulse".utf8)
    static let directory = InodeNumber(rawValue: 2)
    static let statusFile = InodeNumber(rawValue: 3)
    /// The first number that is not one of these.
    static let firstFreeInode: UInt64 = 1024

    /// `st_ino` of the directory; its files follow.
    ///
    /// Beyond what disk file systems and signal files use.
    private static let firstNumber: ino_t = 0x7070_0000_0000_0000

    private static let statusName = Array("status.json".utf8)

    private let user = getuid()
    private let group = getgid()
    private let mounted = WallClockSeconds.now
    private let status: @Sendable () -> TownStatus

    init(status: @escaping @Sendable () -> TownStatus) {
        self.status = status
    }

    private static func number(of inode: InodeNumber) -> ino_t { firstNumber + ino_t(inode.rawValue) }

    static func contains(_ inode: InodeNumber) -> Bool {
        inode == directory || inode == statusFile
    }

    /// The inode of a name in `.pulse`.
    ///
    /// ENOENT.
    func lookup(_ name: FileName) throws(Errno) -> InodeNumber {
        guard name.bytes.elementsEqual(Self.statusName) else { throw .noSuchFileOrDirectory }
        return Self.statusFile
    }

    /// The names in `.pulse`.
    var entries: [(name: [UInt8], number: ino_t)] { [(Self.statusName, Self.number(of: Self.statusFile))] }

    /// - Parameter size: Of the text that the caller has open, if they have; it differs from moment to moment.
    func status(of inode: InodeNumber, size: Int? = nil) throws(Errno) -> FileStatus {
        var status = FileStatus()
        status.st_uid = user
        status.st_gid = group
        status.st_ino = Self.number(of: inode)
        status.st_blksize = 4096
        status.st_atim = timespec(tv_sec: mounted, tv_nsec: 0)
        if inode == Self.directory {
            status.st_mode = S_IFDIR | 0o555
            status.st_nlink = 2
            status.st_mtim = status.st_atim
        } else {
            status.st_mode = S_IFREG | 0o444
            status.st_nlink = 1
            let size = if let size { size } else { try text().count }
            status.st_size = off_t(size)
            status.st_mtim = timespec(tv_sec: WallClockSeconds.now, tv_nsec: 0)
        }
        status.st_ctim = status.st_mtim
        return status
    }

    /// The status as JSON, as of now, ending in a line feed.
    func text() throws(Errno) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        // A status has only numbers and strings, so that this does not happen.
        guard let json = try? encoder.encode(status()) else { throw .ioError }
        return json + [UInt8(ascii: "\n")]
    }
}

private enum WallClockSeconds {
    static var now: Int { time(nil) }
}

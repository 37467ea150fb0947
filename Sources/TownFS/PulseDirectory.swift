import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// `.pulse`: what pulsefs says of itself and of runtimes, in files below the town root that no listing shows.
///
///     .pulse/status.json
///     .pulse/runtimes/mayor.json
///     .pulse/runtimes/gastown/polecats/furiosa.json     a runtime id with slashes lies in directories
///
/// Found by name alone, so that nothing that walks the town meets it. Files are made up when they are opened or asked
/// about; a directory is there while a runtime is beneath it.
final class PulseDirectory: Sendable {
    static let name = Array(".pulse".utf8)
    static let directory = InodeNumber(rawValue: 2)
    static let statusFile = InodeNumber(rawValue: 3)
    static let runtimes = InodeNumber(rawValue: 4)
    /// The first number that is not one of these.
    static let firstFreeInode: UInt64 = 1024

    /// What an inode of `.pulse` stands for.
    enum Place: Hashable {
        case top
        case status
        /// A directory, by what the ids of all runtimes in it begin with: empty, or ending in a slash.
        case runtimes(String)
        case runtime(RuntimeID)
    }

    private struct Known {
        var places: [InodeNumber: (place: Place, lookups: UInt64)] = [:]
        var inodes: [Place: InodeNumber] = [:]
        var next: UInt64 = 1
    }

    /// The lower half of each number that is given out here, and of none that `NodeTable` gives out.
    private static let mark: UInt64 = 0xffff_ffff

    /// `st_ino` of all of it: a range beyond what disk file systems and signal files use, and a hash of the path.
    private static let firstNumber: ino_t = 0x7070_0000_0000_0000

    private static let statusName = "status.json"
    private static let runtimesName = "runtimes"
    private static let suffix = ".json"

    private let user = getuid()
    private let group = getgid()
    private let mounted = WallTime.now.timespec
    private let known = Mutex(Known())
    private let liveness: InMemoryLivenessStore
    private let status: @Sendable () -> TownStatus
    private let report: @Sendable (RuntimeID) -> RuntimeReport?

    /// - Parameters:
    ///   - status: The town's, as of now.
    ///   - report: A runtime's, as of now; nil for one that is not known.
    init(
        of liveness: InMemoryLivenessStore, status: @escaping @Sendable () -> TownStatus,
        report: @escaping @Sendable (RuntimeID) -> RuntimeReport?
    ) {
        self.liveness = liveness
        self.status = status
        self.report = report
    }

    // MARK: Inodes

    static func contains(_ inode: InodeNumber) -> Bool {
        (directory.rawValue..<firstFreeInode).contains(inode.rawValue) || inode.rawValue & mark == mark
    }

    /// ESTALE for one that the kernel has forgotten.
    private func place(_ inode: InodeNumber) throws(Errno) -> Place {
        switch inode {
        case Self.directory: return .top
        case Self.statusFile: return .status
        case Self.runtimes: return .runtimes("")
        default:
            guard let place = known.withLock({ $0.places[inode]?.place }) else { throw .staleNFSFileHandle }
            return place
        }
    }

    /// The inode of a place, counting a lookup.
    private func inode(of place: Place) -> InodeNumber {
        switch place {
        case .top: return Self.directory
        case .status: return Self.statusFile
        case .runtimes(""): return Self.runtimes
        case .runtimes, .runtime:
            return known.withLock { known in
                if let inode = known.inodes[place] {
                    known.places[inode]?.lookups += 1
                    return inode
                }
                let inode = InodeNumber(rawValue: known.next << 32 | Self.mark)
                known.next += 1
                known.inodes[place] = inode
                known.places[inode] = (place, 1)
                return inode
            }
        }
    }

    /// Takes back lookups, as the kernel does when it drops an inode.
    func forget(_ inode: InodeNumber, count: UInt64) {
        known.withLock { known in
            guard let (place, lookups) = known.places[inode] else { return }
            if lookups > count {
                known.places[inode]?.lookups -= count
            } else {
                known.places[inode] = nil
                known.inodes[place] = nil
            }
        }
    }

    // MARK: Names

    /// The inode of a name, counting a lookup.
    ///
    /// ENOENT, ENOTDIR.
    func lookup(_ name: FileName, in parent: InodeNumber) throws(Errno) -> InodeNumber {
        inode(of: try self.place(String(decoding: name.bytes, as: UTF8.self), in: try self.place(parent)))
    }

    private func place(_ name: String, in parent: Place) throws(Errno) -> Place {
        switch parent {
        case .status, .runtime: throw .notDirectory
        case .top:
            if name == Self.statusName { return .status }
            if name == Self.runtimesName { return .runtimes("") }
            throw .noSuchFileOrDirectory
        case .runtimes(let prefix):
            if name.hasSuffix(Self.suffix), let id = try? RuntimeID(prefix + name.dropLast(Self.suffix.utf8.count)),
                liveness.record(of: id) != nil
            {
                return .runtime(id)
            }
            guard liveness.hasRuntimes(beneath: prefix + name + "/") else { throw .noSuchFileOrDirectory }
            return .runtimes(prefix + name + "/")
        }
    }

    struct ListedName: Hashable {
        let name: String
        let isDirectory: Bool
        let number: ino_t
    }

    /// The names in a directory, in order.
    ///
    /// ENOTDIR.
    func entries(of inode: InodeNumber) throws(Errno) -> [ListedName] {
        let parent = try place(inode)
        switch parent {
        case .status, .runtime: throw .notDirectory
        case .top:
            return [.runtimes(""), .status].map(listed)
        case .runtimes(let prefix):
            var places: Set<Place> = []
            for id in liveness.runtimes(beneath: prefix) {
                let rest = id.description.dropFirst(prefix.count)
                if let slash = rest.firstIndex(of: "/") {
                    places.insert(.runtimes(prefix + rest[...slash]))
                } else {
                    places.insert(.runtime(id))
                }
            }
            return places.map(listed).sorted { $0.name < $1.name }
        }
    }

    private func listed(_ place: Place) -> ListedName {
        let path = Self.path(of: place)
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        return ListedName(name: name, isDirectory: Self.isDirectory(place), number: Self.number(of: place))
    }

    private static func path(of place: Place) -> String {
        switch place {
        case .top: ""
        case .status: statusName
        case .runtimes(let prefix): "\(runtimesName)/\(prefix)"
        case .runtime(let id): "\(runtimesName)/\(id)\(suffix)"
        }
    }

    private static func isDirectory(_ place: Place) -> Bool {
        switch place {
        case .top, .runtimes: true
        case .status, .runtime: false
        }
    }

    private static func number(of place: Place) -> ino_t {
        firstNumber | SignalFile.inodeNumber(of: Array(path(of: place).utf8)) & 0xffff_ffff_ffff
    }

    // MARK: Files

    /// - Parameter size: Of the text that the caller has open, if they have; it differs from moment to moment.
    func status(of inode: InodeNumber, size: Int? = nil) throws(Errno) -> FileStatus {
        let place = try place(inode)
        var status = FileStatus()
        status.st_uid = user
        status.st_gid = group
        status.st_ino = Self.number(of: place)
        status.st_blksize = 4096
        status.st_atim = mounted
        status.st_mtim = mounted
        if Self.isDirectory(place) {
            if case .runtimes(let prefix) = place, !prefix.isEmpty, !liveness.hasRuntimes(beneath: prefix) {
                throw .staleNFSFileHandle
            }
            status.st_mode = S_IFDIR | 0o555
            status.st_nlink = 2
        } else {
            status.st_mode = S_IFREG | 0o444
            status.st_nlink = 1
            let size = if let size { size } else { try text(of: place).count }
            status.st_size = off_t(size)
            status.st_mtim = modified(place)
        }
        status.st_ctim = status.st_mtim
        return status
    }

    /// When what a file tells of has last happened.
    private func modified(_ place: Place) -> timespec {
        guard case .runtime(let id) = place else { return WallTime.now.timespec }
        return liveness.record(of: id)?.touch.receivedAt.timespec ?? mounted
    }

    /// A file's text, as of now, ending in a line feed.
    ///
    /// EISDIR, and ESTALE for a runtime that is not known any more.
    func text(of inode: InodeNumber) throws(Errno) -> [UInt8] {
        try text(of: place(inode))
    }

    private func text(of place: Place) throws(Errno) -> [UInt8] {
        switch place {
        case .top, .runtimes: throw .isDirectory
        case .status: return try PulseText.json(status())
        case .runtime(let id):
            guard let report = report(id) else { throw .staleNFSFileHandle }
            return try report.text()
        }
    }
}

import Fuse
import Glibc
import Liveness
import SystemPackage

/// `.pulse`: what pulsefs says of itself and of runtimes, in files below the town root that no listing shows.
///
///     .pulse/status.json
///     .pulse/metrics                                    the same, for Prometheus
///     .pulse/runtimes/mayor.json
///     .pulse/runtimes/gastown/polecats/furiosa.json     a runtime id with slashes lies in directories
///     .pulse/alive/mayor                                there while it is alive, see `AliveDirectory`
///     .pulse/events                                     what happens, see `EventStream`
///
/// Found by name alone, so that nothing that walks the town meets it. Files are made up when they are opened or asked
/// about; a directory is there while a runtime is beneath it.
final class PulseDirectory: Sendable {
    static let name = Array(".pulse".utf8)

    private let user = getuid()
    private let group = getgid()
    private let mounted = WallTime.now.timespec
    private let inodes: PulseInodes
    private let alive: AliveDirectory
    private let town: Town
    private let status: @Sendable () -> TownStatus

    /// - Parameter status: The town's, as of now.
    init(of town: Town, under cover: SignalMount, status: @escaping @Sendable () -> TownStatus) {
        self.town = town
        inodes = if case .pulse = cover { PulseInodes(top: .root) } else { PulseInodes() }
        self.status = status
        alive = AliveDirectory(of: town)
    }

    private var liveness: InMemoryLivenessStore { town.liveness }

    // MARK: Inodes

    /// Whether an inode is of `.pulse`.
    func contains(_ inode: InodeNumber) -> Bool { inodes.contains(inode) }

    /// Whether it is `.pulse` itself.
    func isTop(_ inode: InodeNumber) -> Bool { inode == inodes.top }

    /// ESTALE for one that the kernel has forgotten.
    private func place(_ inode: InodeNumber) throws(Errno) -> PulseNode {
        guard let place = inodes.place(of: inode) else { throw .staleNFSFileHandle }
        return place
    }

    /// Takes back lookups, as the kernel does when it drops an inode.
    func forget(_ inode: InodeNumber, count: UInt64) {
        inodes.forget(inode, count: count)
    }

    // MARK: Names

    /// The inode of a name, counting a lookup.
    ///
    /// ENOENT, ENOTDIR.
    func lookup(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) -> InodeNumber {
        alive.settle(for: request)
        return inodes.look(up: try place(name.text, in: try place(parent)))
    }

    private func place(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        switch parent {
        case .status, .metrics, .events, .eventsFrom, .runtime, .living: throw .notDirectory
        case .livingBeneath, .way: return try alive.place(name, in: parent)
        case .top:
            let known: [PulseNode] = [.status, .metrics, .events, .runtimes(""), .livingBeneath("")]
            if let place = known.first(where: { $0.name == name }) { return place }
            let beginning = "\(PulseNode.eventsName)\(PulseNode.at)"
            guard name.hasPrefix(beginning), let number = UInt64(name.dropFirst(beginning.count)),
                PulseNode.eventsFrom(number).name == name, town.events.hasBegun(number)
            else { throw .noSuchFileOrDirectory }
            return .eventsFrom(number)
        case .runtimes(let prefix):
            if name.hasSuffix(PulseNode.suffix),
                let id = try? RuntimeID(prefix + name.dropLast(PulseNode.suffix.utf8.count)),
                liveness.record(of: id) != nil
            {
                return .runtime(id)
            }
            guard liveness.hasRuntimes(backing: prefix + name + "/") else { throw .noSuchFileOrDirectory }
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
        try places(in: place(inode)).map { name, place in
            ListedName(name: name, isDirectory: place.isDirectory, number: PulseInodes.number(of: place))
        }
    }

    private func places(in parent: PulseNode) throws(Errno) -> [(name: String, place: PulseNode)] {
        switch parent {
        case .status, .metrics, .events, .eventsFrom, .runtime, .living: throw .notDirectory
        case .livingBeneath, .way: return alive.entries(of: parent)
        case .top:
            // As a mount of its own it is listed in the town root, and who walks the town shall meet nothing in it.
            if inodes.top == .root { return [] }
            return [.livingBeneath(""), .events, .metrics, .runtimes(""), .status].map { ($0.name, $0) }
        case .runtimes(let prefix):
            var places: Set<PulseNode> = []
            let listing = liveness.listing(of: prefix)
            for (path, _) in listing.directories { places.insert(.runtimes(path)) }
            for (id, _) in listing.runtimes { places.insert(.runtime(id)) }
            return places.map { ($0.name, $0) }.sorted { $0.name < $1.name }
        }
    }

    // MARK: Attributes

    /// - Parameter opened: What the caller has open of it, if anything: its size differs from moment to moment, and one
    ///   that has just been made is there for its maker alone.
    func status(of inode: InodeNumber, opened: OpenFile.Target? = nil) throws(Errno) -> FileStatus {
        let place = try place(inode)
        var status = FileStatus()
        status.st_uid = user
        status.st_gid = group
        status.st_ino = PulseInodes.number(of: place)
        status.st_blksize = 4096
        status.st_atim = mounted
        status.st_mtim = modified(place)
        status.st_ctim = status.st_mtim
        if place.isDirectory {
            guard isThere(place) else { throw .staleNFSFileHandle }
            status.st_mode = S_IFDIR | place.permissions
            status.st_nlink = 2
        } else {
            status.st_mode = S_IFREG | place.permissions
            status.st_nlink = 1
            status.st_size = off_t(try size(of: place, opened: opened))
        }
        return status
    }

    private func isThere(_ place: PulseNode) -> Bool {
        switch place {
        case .runtimes(let prefix): prefix.isEmpty || liveness.hasRuntimes(backing: prefix)
        case .livingBeneath, .way, .living: alive.isThere(place)
        default: true
        }
    }

    private func size(of place: PulseNode, opened: OpenFile.Target?) throws(Errno) -> Int {
        switch (place, opened) {
        // Endless, and without a size as a pipe is.
        case (.events, _), (.eventsFrom, _): 0
        case (_, .text(let text)): text.count
        case (_, .alive(let handle)): handle.text.count
        default: try text(of: place).count
        }
    }

    /// When what a file tells of has last happened.
    private func modified(_ place: PulseNode) -> timespec {
        switch place {
        case .runtime(let id), .living(let id): liveness.record(of: id)?.touch.receivedAt.timespec ?? mounted
        case .status, .metrics, .events, .eventsFrom: WallTime.now.timespec
        case .top, .runtimes, .livingBeneath, .way: mounted
        }
    }

    // MARK: Files

    /// Opens a file with the flags of open(2).
    ///
    /// EISDIR, EACCES, ENFILE, and ESTALE for a runtime that is not known any more.
    func open(_ inode: InodeNumber, flags: CInt, for request: Request) throws(Errno) -> OpenFile.Target {
        let place = try place(inode)
        switch place {
        case .living(let id):
            guard alive.isThere(place) else { throw .staleNFSFileHandle }
            let text = try text(of: place)
            return .alive(alive.open(id, text: text, isTouching: flags & O_TRUNC != 0, for: request))
        case .events, .eventsFrom:
            guard flags & O_ACCMODE == O_RDONLY else { throw .permissionDenied }
            guard case .eventsFrom(let number) = place else { return .events(try town.events.open(from: nil)) }
            return .events(try town.events.open(from: number))
        default:
            guard flags & O_ACCMODE == O_RDONLY else { throw .permissionDenied }
            return .text(try text(of: place))
        }
    }

    /// A file's text, as of now, ending in a line feed.
    private func text(of place: PulseNode) throws(Errno) -> [UInt8] {
        switch place {
        case .top, .runtimes, .livingBeneath, .way: throw .isDirectory
        case .events, .eventsFrom: throw .invalidArgument
        case .status: return try PulseText.json(status())
        case .metrics: return PrometheusExposition.text(of: status(), in: town)
        case .runtime(let id), .living(let id):
            guard let record = liveness.record(of: id) else { throw .staleNFSFileHandle }
            let report = RuntimeReport(
                id, record, at: town.now.instant, host: town.configuration.host, root: town.processes.root(of: id))
            return try report.text()
        }
    }

    // MARK: Changes, in `alive`, and forgetting in `runtimes`

    /// Makes a file of `alive`, which is there for others when it is closed.
    ///
    /// EPERM elsewhere; EINVAL, ENAMETOOLONG.
    func create(
        _ name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> (InodeNumber, FileStatus, AliveHandle) {
        let parent = try changeable(parent)
        guard case .living(let id) = try alive.named(name.text, in: parent) else { throw .invalidArgument }
        let place = PulseNode.living(id)
        let inode = inodes.look(up: place)
        let handle = alive.open(id, text: [], isTouching: true, for: request)
        return (inode, try status(of: inode, opened: .alive(handle)), handle)
    }

    /// The same and closed at once, as mknod(2) does: the inode counts a lookup.
    func make(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) -> InodeNumber {
        let (inode, _, handle) = try create(name, in: parent, for: request)
        alive.close(handle)
        return inode
    }

    /// The inode of a new directory of `alive`, counting a lookup.
    func makeDirectory(_ name: FileName, in parent: InodeNumber) throws(Errno) -> InodeNumber {
        inodes.look(up: try alive.makeDirectory(name.text, in: try changeable(parent)))
    }

    func removeDirectory(_ name: FileName, in parent: InodeNumber) throws(Errno) {
        inodes.detach(try alive.removeDirectory(name.text, in: try changeable(parent)))
    }

    /// Forgets a runtime: in `alive` one that is alive, in `runtimes` any that is known.
    func remove(_ name: FileName, in parent: InodeNumber) throws(Errno) {
        let directory = try place(parent)
        guard case .runtimes = directory else {
            return inodes.detach(try alive.remove(name.text, in: try changeable(parent)))
        }
        let place = try place(name.text, in: directory)
        guard case .runtime(let id) = place else { throw .isDirectory }
        liveness.forget(id)
        inodes.detach(place)
    }

    /// Takes a change of times for a touch; other changes are refused, but for a size of 0, which is one, too.
    func change(
        _ inode: InodeNumber, _ changes: StatusChanges, handle: AliveHandle?, for request: Request
    ) throws(Errno) {
        let place = try changeable(inode)
        guard let id = AliveDirectory.id(of: place), changes.mode == nil, changes.user == nil, changes.group == nil
        else { throw .notPermitted }
        if let size = changes.size {
            guard case .living = place, size == 0 else { throw .invalidArgument }
            if let handle {
                try handle.truncate(to: size)
            } else {
                alive.touch(id, by: alive.process(of: request))
            }
        }
        // The time of access alone is no sign of life.
        guard changes.modified != nil else { return }
        alive.touch(id, by: alive.process(of: request))
        alive.noteTouch(of: id)
    }

    /// Judges what has been written to a file of `alive`, at each close.
    ///
    /// EINVAL.
    func flush(_ handle: AliveHandle) throws(Errno) { try alive.flush(handle) }

    func close(_ handle: AliveHandle) { alive.close(handle) }

    /// EPERM for what is not of `alive`.
    private func changeable(_ inode: InodeNumber) throws(Errno) -> PulseNode {
        let place = try place(inode)
        switch place {
        case .livingBeneath, .way, .living: return place
        default: throw .notPermitted
        }
    }
}

extension FileName {
    /// Of `.pulse`, where all names are text; what is not becomes one that nothing has.
    fileprivate var text: String { String(decoding: bytes, as: UTF8.self) }
}

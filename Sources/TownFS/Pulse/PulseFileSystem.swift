import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

/// `.pulse`: the state of pulsefs and of runtimes, in files of the town root that no listing shows.
///
///     .pulse/status.json
///     .pulse/metrics                                    the same, for Prometheus
///     .pulse/runtimes/mayor.json
///     .pulse/runtimes/gastown/polecats/furiosa.json     a runtime id with slashes lies in directories
///     .pulse/runtimes/%2Fhome/x.json                    one that cannot be a path is encoded, see `RuntimeDirectory`
///     .pulse/alive/mayor                                exists while it is alive, see `AliveDirectory`
///     .pulse/events                                     see `EventStream`
///
/// It is found by name alone: no program that walks the town meets it. The content of a file is made when it is opened
/// or its status is read. A directory exists while there is a runtime in it.
package final class PulseFileSystem: HandleFileSystem {
    static let name = Array(".pulse".utf8)

    /// See `TreeFileSystem.generation`.
    private let generation: UInt32
    private let user = getuid()
    private let group = getgid()
    private let inodes: PulseInodes
    private let content: PulseContent
    private let alive: AliveDirectory
    private let town: Town
    private let signals: SignalDirectory
    package let files: HandleTable<OpenHandle>
    package let directories: DirectoryHandles
    /// The poll(2) calls that wait since an earlier process.
    private let restoredPolls = Mutex<[UInt64]>([])

    /// - Parameters:
    ///   - signals: All of the town: fsync(2) of `.pulse` writes their documents back.
    ///   - top: The inode of `.pulse`: the root where it is a mount of its own.
    ///   - records: Where a successor finds open files. If they hold some, this is the successor.
    ///   - files, directories: Those of the tree, if it is in one mount with `.pulse`.
    ///   - treeCounts: The inodes and open files of the mounts of the town's tree.
    ///   - server: The part of `status.json` that only the process knows.
    init(
        of town: Town, signals: SignalDirectory, top: InodeNumber = PulseInodes.top, generation: UInt32,
        records: HandleRecords?, files: HandleTable<OpenHandle>, directories: DirectoryHandles,
        treeCounts: @escaping @Sendable () -> TownStatus.FileSystem,
        server: @escaping @Sendable () -> TownStatus.Server
    ) {
        self.town = town
        self.signals = signals
        self.generation = generation
        self.files = files
        self.directories = directories
        let inodes = PulseInodes(top: top, log: town.journal.log)
        self.inodes = inodes
        alive = AliveDirectory(of: town)
        content = PulseContent(of: town, signals: signals, server: server) { [files] in
            var counts = treeCounts()
            counts.inodes += inodes.count
            // A mount of its own has handles of its own.
            if inodes.top == .root { counts.openFiles += files.count }
            return counts
        }
        if let records { restore(records) }
    }

    /// For a mount of `.pulse` alone.
    package var features: Features {
        let isExclusive = !town.configuration.sharesBacking
        return Features(isExclusive: isExclusive, listsUnopened: isExclusive)
    }

    package func connected(to connection: Connection) {
        // They may have been due before; the kernel polls again.
        for pollHandle in restoredPolls.withLock({ $0 }) { PollHandle(rawValue: pollHandle, on: connection).notify() }
    }

    package func mayBlock(_ inode: InodeNumber, name: FileName?) -> Bool { false }

    private var liveness: InMemoryLivenessStore { town.liveness }

    /// ESTALE for an inode that the kernel has forgotten.
    private func node(_ inode: InodeNumber) throws(Errno) -> PulseNode {
        guard let node = inodes.node(of: inode) else { throw .staleNFSFileHandle }
        return node
    }

    /// EPERM for a node that is not in `alive`.
    private func nodeInAlive(_ inode: InodeNumber) throws(Errno) -> PulseNode {
        let node = try node(inode)
        switch node {
        case .aliveDirectory, .alias, .alive: return node
        default: throw .notPermitted
        }
    }

    // MARK: Names

    /// `.pulse` itself, as a name in the root of the town.
    func rootEntry(for request: Request) throws(Errno) -> Entry {
        try entry(inodes.top, for: request)
    }

    package func lookup(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) -> Entry {
        alive.commitFlushed(by: request)
        return try entry(inodes.lookup(try node(name.text, in: try node(parent))), for: request)
    }

    /// - Parameter inode: Counted as looked up.
    private func entry(_ inode: InodeNumber, for request: Request) throws(Errno) -> Entry {
        do throws(Errno) {
            return entry(inode, try status(of: inode, for: request))
        } catch {
            inodes.forget(inode, count: 1)
            throw error == .staleNFSFileHandle ? .noSuchFileOrDirectory : error
        }
    }

    /// Without timeouts, as entries change without the kernel.
    private func entry(_ inode: InodeNumber, _ status: FileStatus) -> Entry {
        Entry(inode: inode, generation: generation, status: status, nameTimeout: 0, statusTimeout: 0)
    }

    private func node(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        switch parent {
        case .status, .metrics, .events, .eventsFrom, .runtime, .alive: throw .notDirectory
        case .aliveDirectory, .alias: return try alive.node(name, in: parent)
        case .top:
            let known: [PulseNode] = [.status, .metrics, .events, .runtimes(.top), .aliveDirectory(.top)]
            if let node = known.first(where: { $0.name == name }) { return node }
            let prefix = "\(PulseNode.events.name)\(PulseNode.at)"
            guard name.hasPrefix(prefix), let number = UInt64(name.dropFirst(prefix.count)),
                PulseNode.eventsFrom(number).name == name, town.events.hasBegun(number)
            else { throw .noSuchFileOrDirectory }
            return .eventsFrom(number)
        case .runtimes(let directory):
            if let id = directory.id(ofReport: name), liveness.record(of: id) != nil { return .runtime(id) }
            guard let child = directory.directory(ofReports: name), liveness.hasRuntimes(in: child.prefix) else {
                throw .noSuchFileOrDirectory
            }
            return .runtimes(child)
        }
    }

    package func forget(_ inode: InodeNumber, count: UInt64) {
        inodes.forget(inode, count: count)
        directories.listings.forget(inode)
    }

    // MARK: Attributes

    package func getattr(_ inode: InodeNumber, for request: Request) throws(Errno) -> StatusReply {
        StatusReply(status: try status(of: inode, opened: openFile(inode, for: request), for: request), timeout: 0)
    }

    /// The file that the caller's process has open, so that fstat(2) agrees with read(2); of a file of `alive` that is
    /// being created, that of any process.
    private func openFile(_ inode: InodeNumber, for request: Request) -> (any PulseTextFile)? {
        let opened = files.all.filter { $0.inode == inode }
        let own = opened.first { ProcessIdentity.isSame($0.thread, request.thread) }
        return (own ?? opened.first { $0.file is AliveOpenFile })?.file as? any PulseTextFile
    }

    /// - Parameter opened: Its size is the file's. Others have another, and one that is being created does not exist.
    /// - Throws: ESTALE for a node that does not exist any more.
    private func status(
        of inode: InodeNumber, opened: (any PulseTextFile)? = nil, for request: Request
    ) throws(Errno) -> FileStatus {
        let node = try node(inode)
        var status = FileStatus()
        status.st_uid = user
        status.st_gid = group
        status.st_ino = node.number
        status.st_blksize = 4096
        status.st_atim = content.mounted
        status.st_mtim = content.modified(node)
        status.st_ctim = status.st_mtim
        status.st_mode = (node.isDirectory ? S_IFDIR : S_IFREG) | node.permissions
        status.st_nlink = node.isDirectory ? 2 : 1
        switch node {
        case .top: break
        case .runtimes(let directory):
            guard directory == .top || liveness.hasRuntimes(in: directory.prefix) else { throw .staleNFSFileHandle }
        case .aliveDirectory, .alias:
            guard alive.exists(node) else { throw .staleNFSFileHandle }
        // Events have no end, and no size, as a pipe has none.
        case .events, .eventsFrom: break
        case .status, .metrics, .runtime, .alive:
            let text = if let opened { opened.text } else { try content.text(of: node, for: request) }
            status.st_size = off_t(text.count)
        }
        return status
    }

    package func birthTime(of inode: InodeNumber) throws(Errno) -> timespec? { nil }

    /// A change of times in `alive` is a touch.
    ///
    /// - Throws: EPERM for any other change, except a size of 0.
    package func setattr(
        _ inode: InodeNumber, _ changes: StatusChanges, handle: FileHandle?, for request: Request
    ) throws(Errno) -> StatusReply {
        let node = try nodeInAlive(inode)
        guard let id = AliveDirectory.id(of: node), changes.mode == nil, changes.user == nil, changes.group == nil
        else { throw .notPermitted }
        if let size = changes.size {
            guard case .alive = node, size == 0 else { throw .invalidArgument }
            if let handle {
                try files[handle].file.truncate(to: size, by: request)
            } else {
                alive.touch(id, by: alive.process(of: request), in: request.unique)
            }
        }
        // A change of the access time alone is no touch.
        if changes.modified != nil {
            alive.touch(id, by: alive.process(of: request), in: request.unique)
            alive.supersede(id)
        }
        return try getattr(inode, for: request)
    }

    package func statfs(_ inode: InodeNumber) throws(Errno) -> FileSystemStatus {
        var status = FileSystemStatus()
        _ = try retryingInterrupts { fstatvfs(town.root.rawValue, &status) }
        return status
    }

    // MARK: Files

    /// - Throws: EISDIR, EACCES, ENFILE, and ESTALE for a runtime that is not known any more.
    package func open(_ inode: InodeNumber, flags: CInt, for request: Request) throws(Errno) -> OpenReply {
        return reply(inode, try openFile(of: node(inode), flags: flags, for: request), for: request)
    }

    private func openFile(
        of node: PulseNode, flags: CInt, for request: Request
    ) throws(Errno) -> any OpenFile {
        let file: any OpenFile
        switch node {
        case .alive(let id):
            guard alive.exists(node) else { throw .staleNFSFileHandle }
            let text = try content.text(of: node, for: request)
            file = alive.open(id, text: text, isTouch: flags & O_TRUNC != 0, for: request)
        case _ where flags & O_ACCMODE != O_RDONLY: throw .permissionDenied
        case .events: file = try town.events.open(from: nil)
        case .eventsFrom(let number): file = try town.events.open(from: number)
        default: file = Report(try content.text(of: node, for: request))
        }
        return file
    }

    /// Takes over what an earlier process had open.
    private func restore(_ records: HandleRecords) {
        restoredPolls.withLock { $0 = records.restored.map(\.content.pollHandle).filter { $0 != 0 } }
        for (slot, opened) in records.restored where inodes.top == .root || PulseInodes.contains(opened.inode) {
            guard let node = try? node(opened.inode) else { continue }
            switch opened.kind {
            case .directory:
                guard let directory = try? openDirectory(opened.inode) else { continue }
                directories.opened.restore(directory, as: opened, slot: slot)
            case .file:
                let request = Request(user: opened.user, group: 0, thread: opened.thread)
                let file: any OpenFile
                do throws(Errno) {
                    switch node {
                    case .events, .eventsFrom:
                        let reader = try town.events.open(from: opened.position)
                        reader.restore(lastRead: opened.lastRead, from: opened.lastPosition)
                        file = reader
                    default: file = try openFile(of: node, flags: opened.flags & ~O_TRUNC, for: request)
                    }
                } catch {
                    continue
                }
                let handle = OpenHandle(opened.inode, file, thread: opened.thread)
                handle.setRecord(files.restore(handle, as: opened, slot: slot))
            }
        }
    }

    /// A file whose content was made when it was opened.
    private final class Report: PulseTextFile {
        let text: [UInt8]

        init(_ text: [UInt8]) { self.text = text }

        func openReply(_ handle: FileHandle) -> OpenReply {
            OpenReply(handle: handle, ioMode: .direct, needsFlush: false)
        }
    }

    package func ioMode(of handle: FileHandle) -> OpenReply.IOMode { .direct }

    package func release(_ handle: FileHandle) {
        files.remove(handle)?.close()
    }

    // MARK: Changes: touching in `alive`, and forgetting in `alive` and `runtimes`

    /// Creates a file of `alive`; for other processes it exists once it is closed.
    ///
    /// - Throws: EPERM elsewhere; EINVAL, ENAMETOOLONG.
    package func create(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, flags: CInt, for request: Request
    ) throws(Errno) -> (Entry, OpenReply) {
        // Without a name it would be no runtime's.
        guard flags & clinux_tmpfile != clinux_tmpfile else { throw .notSupported }
        let (entry, file) = try create(name, in: parent, for: request)
        return (entry, reply(entry.inode, file, for: request))
    }

    private func create(
        _ name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> (Entry, AliveOpenFile) {
        guard case .alive(let id) = try alive.named(name.text, in: try nodeInAlive(parent)) else {
            throw .invalidArgument
        }
        let inode = inodes.lookup(.alive(id))
        let file = alive.open(id, text: [], isTouch: true, for: request)
        return (entry(inode, try status(of: inode, opened: file, for: request)), file)
    }

    package func mknod(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, device: dev_t, for request: Request
    ) throws(Errno) -> Entry {
        guard mode & S_IFMT == S_IFREG else { throw .notPermitted }
        let (created, file) = try create(name, in: parent, for: request)
        file.close()
        return try entry(created.inode, for: request)
    }

    package func mkdir(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, for request: Request
    ) throws(Errno) -> Entry {
        try entry(inodes.lookup(try alive.makeDirectory(name.text, in: try nodeInAlive(parent))), for: request)
    }

    package func rmdir(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) {
        inodes.detach(try alive.removeDirectory(name.text, in: try nodeInAlive(parent)))
    }

    /// Forgets a runtime: in `alive` one that is alive, in `runtimes` any that is known.
    package func unlink(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) {
        let directory = try node(parent)
        guard case .runtimes = directory else {
            return inodes.detach(try alive.remove(name.text, in: try nodeInAlive(parent)))
        }
        let node = try node(name.text, in: directory)
        guard case .runtime(let id) = node else { throw .isDirectory }
        liveness.forget(id)
        inodes.detach(node)
    }

    // MARK: Directories

    package func opendir(_ inode: InodeNumber, for request: Request) throws(Errno) -> OpenDirectoryReply {
        OpenDirectoryReply(handle: handle(of: try openDirectory(inode), inode, for: request))
    }

    /// - Throws: ENOTDIR.
    private func openDirectory(_ inode: InodeNumber) throws(Errno) -> OpenDirectory {
        let entries = try entries(of: node(inode)).map { name, node in
            OpenDirectory.Listed(
                name: NodeName(Array(name.utf8)), number: node.number, kind: node.isDirectory ? S_IFDIR : S_IFREG)
        }
        return OpenDirectory(listing: { () throws(Errno) in entries })
    }

    private func entries(of parent: PulseNode) throws(Errno) -> [(name: String, node: PulseNode)] {
        switch parent {
        case .status, .metrics, .events, .eventsFrom, .runtime, .alive: throw .notDirectory
        case .aliveDirectory, .alias: return alive.entries(of: parent)
        case .top:
            // A mount of its own is listed in the town root. A program that walks the town finds nothing in it.
            if inodes.top == .root { return [] }
            return [.aliveDirectory(.top), .events, .metrics, .runtimes(.top), .status].map { ($0.name, $0) }
        case .runtimes(let directory):
            let listing = liveness.listing(of: directory.prefix)
            let nodes =
                listing.directories.map { PulseNode.runtimes(RuntimeDirectory(validated: $0.path)) }
                + listing.runtimes.map { .runtime($0.id) }
            return nodes.map { ($0.name, $0) }
        }
    }

    package func readdir(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, plus: Bool, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno) {
        try directories.list(
            inode, handle, from: offset, plus: plus, into: &reply, isKept: { false },
            open: { () throws(Errno) in try openDirectory(inode) },
            lookup: { (name) throws(Errno) in try lookup(name, in: inode, for: request) })
    }

    /// Of `.pulse` itself: writes every document back.
    package func fsyncdir(
        _ inode: InodeNumber, _ handle: FileHandle, dataOnly: Bool, for request: Request
    ) throws(Errno) {
        guard inode == inodes.top else { return }
        town.logWriteback(for: request)
        if let failure = town.writeback.writeNow(signals.allFiles(under: [])) { throw failure }
    }

    // MARK: Not supported

    package func symlink(
        to target: UnsafePointer<CChar>, named name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> Entry { throw .notPermitted }

    package func link(
        _ inode: InodeNumber, to name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> Entry { throw .notPermitted }

    package func rename(
        _ name: FileName, in parent: InodeNumber, to newName: FileName, in newParent: InodeNumber, flags: UInt32,
        for request: Request
    ) throws(Errno) { throw .notPermitted }

    package func readlink(_ inode: InodeNumber) throws(Errno) -> [UInt8] { throw .invalidArgument }

    package func setxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, value: UnsafeRawBufferPointer, flags: CInt
    ) throws(Errno) { throw .notSupported }

    package func getxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, into value: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int { throw .noData }

    package func listxattr(
        _ inode: InodeNumber, into names: UnsafeMutableRawBufferPointer, for request: Request
    ) throws(Errno) -> Int { 0 }

    package func removexattr(_ inode: InodeNumber, _ name: UnsafePointer<CChar>) throws(Errno) { throw .noData }

    package func ioctl(
        _ inode: InodeNumber, _ handle: FileHandle, isDirectory: Bool, _ command: UInt32,
        _ argument: UnsafeMutableRawBufferPointer
    ) throws(Errno) { throw .inappropriateIOCTLForDevice }
}

extension FileName {
    /// All names in `.pulse` are UTF-8; any other name becomes one that does not exist, as none contains a NUL.
    fileprivate var text: String { String(validating: bytes, as: UTF8.self) ?? "\0" }
}

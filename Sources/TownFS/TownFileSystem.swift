import CLinux
import Fuse
import Glibc
import Liveness
import Logging
import SystemPackage

/// The file system of a town: everything passes through to the backing tree, except signal files and `.pulse`.
///
/// Whether a name is a signal file is decided once, at lookup, by its directory (`SignalDirectory`); from then on its
/// node says so. The operations are in extensions by topic: names, attributes, files, directories.
package final class TownFileSystem: FileSystem {
    /// For how many seconds the kernel may believe what it was told of signal files, when it may at all.
    static let signalTimeout = 1.0

    /// For how many seconds the kernel may believe what it was told of backing files, and that there are none of a name.
    ///
    /// The mount covers its own source, and so nothing changes but through the kernel, which then knows. Only processes that
    /// were there before the mount still reach the files beneath, and whoever has another way to them.
    let backingTimeout: Double

    let town: Town
    let cover: SignalMount
    let nodes: NodeStore
    let signals: SignalDirectories
    let pulse: PulseDirectory
    let others: DeviceInodeMap
    let files = HandleTable<OpenFile>()
    let directories = HandleTable<OpenDirectory>()
    let listings = Listings()
    let ioModes: IOModes
    let aliases: AliasedDirectories
    let separateInodes = SeparateInodes()
    package let features: Features
    /// Tells the inode numbers of one mount from those of another, which start at the same number.
    let generation = UInt32.random(in: 1...UInt32.max)

    /// - Parameter describe: Fills in what only the process knows (version, pids, uptime) of the status in `.pulse`.
    package convenience init(
        _ town: Town, describe: @escaping @Sendable (Snapshot) -> TownStatus
    ) throws(Errno) {
        try self.init(
            town, covering: .town, root: town.root, signals: SignalDirectories(town: town), describe: describe)
    }

    /// - Parameters:
    ///   - root: What this mount covers, opened before.
    ///   - signals: All of the town.
    ///   - others: Counts what other mounts of the town have open.
    init(
        _ town: Town, covering cover: SignalMount, root: Descriptor, signals: SignalDirectories,
        others: @escaping @Sendable () -> TownStatus.FileSystem = { TownStatus.FileSystem(inodes: 0, openFiles: 0) },
        describe: @escaping @Sendable (Snapshot) -> TownStatus
    ) throws(Errno) {
        self.town = town
        self.cover = cover
        self.signals = signals
        backingTimeout = town.configuration.sharesBacking ? 1 : 86_400
        let kind = try root.fileSystemKind
        features = Features(
            isExclusive: !town.configuration.sharesBacking,
            passthroughDepth: town.configuration.usesPassthrough ? (kind.isOverlay ? 2 : 1) : nil,
            // Where others may put another directory in the place of one, its opening is when the kernel hears of it.
            listsUnopened: !town.configuration.sharesBacking)
        ioModes = IOModes(keepsPages: !town.configuration.sharesBacking)
        let identity = try ExtendedStatus(of: root.rawValue).identity
        aliases = AliasedDirectories(in: root)
        self.others = DeviceInodeMap(rootDevice: identity.device, isRootLocal: kind.isLocalDisk)
        nodes = NodeStore(
            root: root, identity: identity, signals: signals.directory(under: cover),
            firstInode: PulseInodes.firstFree, cacheCapacity: town.configuration.descriptorCacheCapacity,
            reliesOnBirths: !kind.isOverlay,
            handles: town.configuration.usesHandles ? ExportHandle.FileSystem(of: root) : nil)
        var startupScan = StartupScan(of: town)
        startupScan.recall(cover, in: root, signals)
        pulse = PulseDirectory(of: town, under: cover) { [town, nodes, files] in
            var inUse = others()
            inUse.inodes += nodes.count
            inUse.openFiles += files.count
            var status = describe(
                Snapshot(
                    configuration: town.configuration, counts: town.liveness.counts(),
                    documents: TownStatus.Documents(
                        touches: town.counters.touches, refused: town.counters.refused,
                        fromFuture: town.counters.fromFuture, notWrittenDown: town.writeback.pendingCount),
                    fileSystem: inUse,
                    activity: TownStatus.ActivityTally(
                        mode: town.configuration.activity.rawValue, observed: town.counters.touches(by: .activity),
                        dropped: town.counters.activityDropped),
                    rootProcesses: town.processes.rootCount,
                    mirror: town.mirror?.status))
            status.expiryLagSeconds = town.liveness.tally.expiryLag.map { $0 / .seconds(1) }
            status.events = TownStatus.Events(
                lastSeq: town.liveness.lastEvent, readers: town.events.readerCount, lost: town.events.lost)
            return status
        }
    }

    package func connected(to connection: Connection) {
        ioModes.connect(to: connection)
    }

    /// What the file system knows of its state.
    package struct Snapshot: Sendable {
        package let configuration: Town.Configuration
        package let counts: LivenessTable.Counts
        package let documents: TownStatus.Documents
        package let fileSystem: TownStatus.FileSystem
        package let activity: TownStatus.ActivityTally
        package let rootProcesses: Int
        package let mirror: MirrorStatus?
    }

    // MARK: Finding the way

    /// A directory in which a request names something.
    struct Directory {
        let inode: InodeNumber
        let descriptor: Descriptor
        let signals: SignalDirectory?
        let isAliased: Bool
    }

    /// What a name in a directory means.
    enum NameKind {
        case backing
        /// A signal file, or the name of one where nothing is yet.
        case signal(SignalDirectory)
        /// `.pulse` in the root, or anything in `.pulse`.
        case pulse
    }

    /// The directory of an inode, for making, removing and finding names in.
    ///
    /// ENOTDIR for what cannot hold any.
    func directory(_ inode: InodeNumber) throws(Errno) -> Directory {
        let node = try nodes.node(inode)
        guard node.signalFile == nil else { throw .notDirectory }
        return Directory(
            inode: inode, descriptor: try nodes.descriptor(of: inode), signals: node.signals, isAliased: node.isAliased)
    }

    /// Decides what a name in a directory means.
    ///
    /// Something else than a regular file beneath is no signal file.
    func nameKind(of name: FileName, in directory: Directory) throws(Errno) -> NameKind {
        if directory.inode == .root, case .town = cover, name.bytes.elementsEqual(PulseDirectory.name) { return .pulse }
        guard let signals = directory.signals, signals.isSignal(name) else { return .backing }
        do throws(Errno) {
            let status = try FileStatus(of: name.pointer, in: directory.descriptor.rawValue)
            return status.isRegularFile ? .signal(signals) : .backing
        } catch .noSuchFileOrDirectory {
            return .signal(signals)
        }
    }

    // MARK: Entries

    /// Looks a backing file up, counting it.
    func entry(ofBacking name: FileName, in directory: Directory) throws(Errno) -> Entry {
        let moment = nodes.moment
        let found = try ExtendedStatus(of: name.pointer, in: directory.descriptor.rawValue)
        return entry(ofBacking: NodeName(name), in: directory, found, seenAt: moment)
    }

    /// - Parameter moment: One before `found` was found under the name.
    func entry(
        ofBacking name: NodeName, in directory: Directory, _ found: ExtendedStatus,
        seenAt moment: NodeStore.RenameGeneration
    ) -> Entry {
        let status = found.status
        let below = status.isDirectory ? signals.directory(name, in: directory.signals) : nil
        let isAliased = found.isDirectory && (directory.isAliased || aliases.contains(found))
        let (inode, mayBeMapped) = nodes.remember(
            found, named: name, in: directory.inode, signals: below, isAliased: isAliased, seenAt: moment)
        guard !isAliased, !directory.isAliased else {
            return Entry(
                inode: inode, generation: generation, status: others.shown(status), nameTimeout: 0, statusTimeout: 0)
        }
        return Entry(
            inode: inode, generation: generation, status: others.shown(status),
            nameTimeout: nameTimeout(name, status, in: directory.signals),
            statusTimeout: statusTimeout(status, in: directory.signals, below: below, mayBeMapped: mayBeMapped))
    }

    /// For how long a name may be taken to mean a backing file: not for long where it may come to mean a signal file.
    ///
    /// That is beside signal files, and of a file with several names anywhere: when its directory is renamed to where signal
    /// files lie, the inode may be known by another of its names.
    private func nameTimeout(_ name: NodeName, _ status: FileStatus, in directory: SignalDirectory?) -> Double {
        let isShortLived =
            directory?.scope.hasSignals == true
            || status.isRegularFile && status.st_nlink > 1 && town.configuration.patterns.canEnd(in: name.bytes)
        return isShortLived ? min(Self.signalTimeout, backingTimeout) : backingTimeout
    }

    /// For how long a backing file's status may be believed.
    ///
    /// Not at all beside signal files: it may be about to be renamed onto one, and the kernel would go on telling its own
    /// size and times for the signal file's. Not for long if it is a directory of such: documents are written down in it.
    /// Nor when it has set-id bits, which a write may take away without the kernel's asking for more than times and size.
    /// Nor once it may have been mapped for writing without our knowing.
    func statusTimeout(
        _ status: FileStatus, in directory: SignalDirectory?, below: SignalDirectory?, mayBeMapped: Bool
    ) -> Double {
        guard status.isRegularFile else {
            return below?.scope.hasSignals == true ? min(Self.signalTimeout, backingTimeout) : backingTimeout
        }
        let isVolatile =
            directory?.scope.hasSignals == true || status.st_mode & (S_ISUID | S_ISGID) != 0 || mayBeMapped
        return isVolatile ? 0 : backingTimeout
    }

    /// Looks a signal file up, counting it.
    func entry(of file: SignalFile, in directory: Directory, status: StatusReply) -> Entry {
        let inode = nodes.remember(file, named: file.name, in: directory.inode)
        // Names come and go through the kernel, which so knows of it; only expiry and other hosts do not.
        let isLasting = town.configuration.isExclusive
        return Entry(
            inode: inode, generation: generation, status: status.status, nameTimeout: isLasting ? backingTimeout : 0,
            statusTimeout: status.timeout)
    }

    /// Looks a signal file up for an opening that needs an inode of its own, counting that.
    ///
    /// The name leads to it just once: whoever looks next finds the first inode.
    func separateEntry(
        of file: SignalFile, in directory: Directory, for request: Request
    ) throws(Errno) -> Entry {
        let status = try file.status(in: directory.descriptor)
        let inode = separateInodes.lookup(file, for: request.thread) { known in
            nodes.remember(separately: file, known, named: file.name, in: directory.inode)
        }
        return Entry(inode: inode, generation: generation, status: status, nameTimeout: 0, statusTimeout: 0)
    }

    /// - Parameter inode: Looked up, and counted.
    func entry(ofPulse inode: InodeNumber) throws(Errno) -> Entry {
        do throws(Errno) {
            // Who is in it comes and goes without the kernel's doing.
            return Entry(
                inode: inode, generation: generation, status: try pulse.status(of: inode), nameTimeout: 0,
                statusTimeout: 0)
        } catch {
            pulse.forget(inode, count: 1)
            throw error == .staleNFSFileHandle ? .noSuchFileOrDirectory : error
        }
    }

    // MARK: What is whose

    /// What an inode is, for operations on files rather than names.
    enum InodeKind {
        case backing
        /// With the real directory beneath its own.
        case signal(SignalFile, Descriptor)
        case pulse
    }

    func inodeKind(_ inode: InodeNumber) throws(Errno) -> InodeKind {
        if pulse.contains(inode) { return .pulse }
        let node = try nodes.node(inode)
        guard let file = node.signalFile else { return .backing }
        return .signal(file, try nodes.descriptor(of: node.parent))
    }
}

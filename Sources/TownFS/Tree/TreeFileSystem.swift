import CLinux
import Fuse
import Glibc
import Liveness
import Logging
import SystemPackage

/// The backing tree of a mount, with signal files in it.
///
/// Whether a name is a signal file is decided once, at lookup, by its directory (`SignalDirectory`). From then on its
/// node says so. The operations are in extensions by topic: names, attributes, files, directories.
package final class TreeFileSystem: HandleFileSystem {
    /// How long the kernel may cache attributes and names of backing files, in seconds.
    ///
    /// The mount covers its own source, so all changes come through the kernel. Processes that opened files before the
    /// mount, and mounts of the source elsewhere, are the exceptions.
    var backingTimeout: Double { town.sharesBacking ? 1 : 86_400 }

    let town: Town
    let nodes: NodeStore
    let signals: SignalDirectory
    let devices: DeviceInodeMap
    package let files: HandleTable<OpenHandle>
    package let directories: DirectoryHandles
    let ioModes: IOModes
    let keptHandles: KeptHandles
    let backingContext: BackingFile.Context
    /// A name that no listing of the root shows.
    let hiddenName: [UInt8]?
    package let features: Features
    /// Tells the inode numbers of one mount from those of another, which start at the same number.
    let generation: UInt32
    let separateInodes = SeparateInodes()
    let aliases: AliasedDirectories

    /// - Parameters:
    ///   - path: The directory that the mount covers; empty for the whole town.
    ///   - root: That directory, opened before the mount.
    ///   - signals: The root of the town's.
    ///   - state: Where a successor finds inodes and open files. If it holds some, this is the successor.
    init(
        _ town: Town, covering path: [UInt8], root: Descriptor, signals: SignalDirectory,
        hiding hiddenName: [UInt8]? = nil, state: SharedState? = nil, handles records: HandleRecords? = nil
    ) throws(Errno) {
        self.town = town
        self.signals = signals
        self.hiddenName = hiddenName
        generation = state?.inodeGeneration ?? .random(in: 1...UInt32.max)
        files = HandleTable(records: records)
        directories = DirectoryHandles(records: records)
        keptHandles = KeptHandles(in: state?.descriptors)
        let kind = try root.fileSystemKind
        features = Features(
            isExclusive: !town.configuration.sharesBacking,
            passthroughDepth: town.configuration.usesPassthrough ? (kind.isOverlay ? 2 : 1) : nil,
            // If others may replace a directory, the kernel has to learn of that when it is opened.
            listsUnopened: !town.configuration.sharesBacking,
            allowsIDMapping: town.configuration.allowsIDMapping)
        ioModes = IOModes(keepsPages: !town.configuration.sharesBacking)
        let identity = try ExtendedStatus(of: root.rawValue).identity
        aliases = AliasedDirectories(in: root)
        devices = DeviceInodeMap(rootDevice: identity.device, isRootLocal: kind.isLocalDisk)
        backingContext = BackingFile.Context(processes: town.processes, devices: devices)
        let covered = signals.descendant(path)
        nodes = NodeStore(
            root: root, identity: identity, signals: covered,
            firstInode: PulseInodes.firstFree, cacheCapacity: town.configuration.descriptorCacheCapacity,
            reliesOnBirths: !kind.isOverlay,
            handles: town.configuration.usesHandles ? ExportHandle.FileSystem(of: root) : nil,
            records: state?.nodes(), keeping: state?.descriptors)
        if let records, !records.isNew { restore(records) }
        // A record that was forgotten must not come back.
        if town.scannedBefore.contains(path) { return }
        var startupScan = StartupScan(of: town)
        if let covered { startupScan.run(in: root, covered) }
        town.journal.recordScan(of: path)
    }

    package func connected(to connection: Connection) { ioModes.connect(to: connection) }

    package func mayBlock(_ inode: InodeNumber, name: FileName?) -> Bool {
        if town.isDetached { return true }
        // ESTALE needs no I/O.
        guard let node = try? nodes.node(inode) else { return false }
        guard let name else { return node.signalFile?.isInMemory != true }
        return node.signals?.known(NodeName(name))?.isNameInMemory != true
    }

    package func isOnRootDevice(_ inode: InodeNumber) -> Bool {
        guard let identity = (try? nodes.node(inode))?.identity else { return true }
        return devices.isRoot(identity.device)
    }

    /// For `.pulse/status.json`.
    var counts: TownStatus.FileSystem { TownStatus.FileSystem(inodes: nodes.count, openFiles: files.count) }

    // MARK: Finding the way

    /// A directory in which a request names something.
    struct Directory {
        let inode: InodeNumber
        let location: ParentDirectory
        let signals: SignalDirectory?
        let isAliased: Bool

        var descriptor: Descriptor { get throws(Errno) { try location.descriptor } }
    }

    /// The meaning of a name in a directory.
    enum NameKind {
        case backing
        /// A signal file, or the name of one that does not exist.
        case signal(SignalDirectory)
    }

    /// The directory in which a request names something; ENOTDIR for a signal file.
    func directory(_ inode: InodeNumber) throws(Errno) -> Directory {
        let node = try nodes.node(inode)
        guard node.signalFile == nil else { throw .notDirectory }
        let location: ParentDirectory
        if let descriptor = node.descriptor {
            location = .open(descriptor)
        } else if node.signals?.scope.hasSignals == true {
            // A name in it may be answered from memory.
            location = .node(inode, in: nodes)
        } else {
            location = .open(try nodes.descriptor(of: inode))
        }
        return Directory(inode: inode, location: location, signals: node.signals, isAliased: node.isAliased)
    }

    /// The meaning of a name; ENOENT for temporary files of write-back.
    ///
    /// A backing file that is no regular file is no signal file.
    func nameKind(of name: FileName, in directory: Directory) throws(Errno) -> NameKind {
        guard let signals = directory.signals else { return .backing }
        if BackingDocument.isTemporary(name.bytes, in: signals.scope) { throw .noSuchFileOrDirectory }
        guard signals.isSignal(name.bytes) else { return .backing }
        if signals.known(NodeName(name))?.isNameInMemory == true { return .signal(signals) }
        do throws(Errno) {
            let descriptor = try directory.descriptor
            let status = try FileStatus(of: name.pointer, in: descriptor.rawValue)
            return status.isRegularFile ? .signal(signals) : .backing
        } catch .noSuchFileOrDirectory {
            return .signal(signals)
        }
    }

    // MARK: Entries

    /// Looks a backing file up, and counts that.
    func entry(ofBacking name: FileName, in directory: Directory) throws(Errno) -> Entry {
        let renameGeneration = nodes.renameGeneration
        let descriptor = try directory.descriptor
        let found = try ExtendedStatus(of: name.pointer, in: descriptor.rawValue)
        return entry(ofBacking: NodeName(name), in: directory, found, seenAt: renameGeneration)
    }

    /// - Parameter renameGeneration: From before `found` was found under the name.
    func entry(
        ofBacking name: NodeName, in directory: Directory, _ found: ExtendedStatus,
        seenAt renameGeneration: NodeStore.RenameGeneration
    ) -> Entry {
        let status = found.status
        let lower = status.isDirectory ? directory.signals?.child(name) : nil
        let isAliased = found.isDirectory && (directory.isAliased || aliases.contains(found))
        let (inode, mayBeMapped) = nodes.remember(
            found, named: name, in: directory.inode, signals: lower, isAliased: isAliased, seenAt: renameGeneration)
        let isCached = !isAliased && !directory.isAliased
        return Entry(
            inode: inode, generation: generation, status: devices.shown(status),
            nameTimeout: isCached ? nameTimeout(name, status, in: directory.signals) : 0,
            statusTimeout: isCached
                ? statusTimeout(status, in: directory.signals, lower: lower, mayBeMapped: mayBeMapped) : 0)
    }

    /// How long the kernel may cache a name: not long if it may come to mean a signal file.
    ///
    /// That is the case beside signal files, and for a file with several names: if its directory is renamed to where
    /// signal files can lie, the inode may be known by another name. A directory never becomes a signal file.
    private func nameTimeout(_ name: NodeName, _ status: FileStatus, in directory: SignalDirectory?) -> Double {
        let isShortLived =
            directory?.scope.hasSignals == true && !status.isDirectory
            || status.isRegularFile && status.st_nlink > 1 && town.configuration.patterns.canEnd(in: name.bytes)
        return isShortLived ? min(SignalFile.attributeTimeout, backingTimeout) : backingTimeout
    }

    /// How long the kernel may cache the attributes of a backing file.
    ///
    /// Not at all beside signal files: the file may be renamed onto one, and the kernel would keep its size and times.
    /// Not if it has set-id bits, which a write clears without the kernel's knowing. Not if it may be mapped for
    /// writing. Not long for a directory of signal files, as documents are written back in it.
    func statusTimeout(
        _ status: FileStatus, in directory: SignalDirectory?, lower: SignalDirectory?, mayBeMapped: Bool
    ) -> Double {
        guard status.isRegularFile else {
            return lower?.scope.hasSignals == true ? min(SignalFile.attributeTimeout, backingTimeout) : backingTimeout
        }
        let isVolatile =
            directory?.scope.hasSignals == true || status.st_mode & (S_ISUID | S_ISGID) != 0 || mayBeMapped
        return isVolatile ? 0 : backingTimeout
    }

    /// Looks a signal file up, and counts that.
    func entry(of file: SignalFile, in directory: Directory, status: StatusReply) -> Entry {
        let inode = nodes.remember(file, named: file.name, in: directory.inode)
        // Names change through the kernel, except by expiry and other hosts.
        let isLasting = town.configuration.isExclusive
        return Entry(
            inode: inode, generation: generation, status: status.status, nameTimeout: isLasting ? backingTimeout : 0,
            statusTimeout: status.timeout)
    }

    /// Looks a signal file up for an open that needs its own inode; the next lookup returns the first one.
    func separateEntry(
        of file: SignalFile, in directory: Directory, for request: Request
    ) throws(Errno) -> Entry {
        let status = try file.status(in: directory.location)
        let inode = separateInodes.lookup(file, for: request.thread) { known in
            nodes.remember(separately: file, known, named: file.name, in: directory.inode)
        }
        return Entry(inode: inode, generation: generation, status: status, nameTimeout: 0, statusTimeout: 0)
    }

    // MARK: What is whose

    /// The meaning of an inode.
    enum InodeKind {
        case backing
        case signal(SignalFile, ParentDirectory)
    }

    func inodeKind(_ inode: InodeNumber) throws(Errno) -> InodeKind {
        let node = try nodes.node(inode)
        guard let file = node.signalFile else { return .backing }
        return .signal(file, .node(node.parent, in: nodes))
    }
}

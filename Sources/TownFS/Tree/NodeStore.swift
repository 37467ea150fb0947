import CLinux
import Fuse
import Glibc
import Linux
import Synchronization
import SystemPackage

/// All inodes that the kernel knows, and how to reach their files.
///
/// A file is reached by names from the nearest ancestor that has an `O_PATH` descriptor or an export handle. No step
/// follows a symbolic link, and each result is compared with the recorded identity: a race in the backing tree leads
/// neither out of the town nor to another file. `cacheCapacity` nodes have a cached descriptor, evicted first in, first
/// out. An unlinked file keeps its descriptor until the kernel forgets it.
///
/// The lock covers memory only. System calls run between two critical sections, and the second one checks again.
final class NodeStore: Sendable {
    /// A name in a directory.
    struct Place {
        let parent: InodeNumber
        let directory: Descriptor
        let name: NodeName
    }

    struct State {
        var nodes: NodeTable
        /// The inode of each signal file: the last one that was renamed onto it, or its first.
        var bySignal: [ObjectIdentifier: InodeNumber] = [:]
        /// The descriptor cache: evicted in order of insertion.
        var ring: [InodeNumber?]
        var hand = 0
        /// The maximum number of nodes since the last `malloc_trim`.
        var peak = 0
        /// Devices that support `security.capability`, as an absent one showed.
        var devicesWithAttributes: Set<dev_t> = []
    }

    private let state: Mutex<State>

    /// Nil if there will be no successor.
    private let kept: KeptDescriptors?

    /// Nil if export handles cannot be opened.
    private let handles: ExportHandle.FileSystem?

    /// Whether a file's creation time never changes.
    private let reliesOnBirths: Bool

    /// Number of recorded renames.
    private let renameCount = Atomic<UInt64>(0)

    /// Held from the rename(2) call until the store has recorded it.
    let renames = RenameGate()

    /// - Parameters:
    ///   - firstInode: The first number to give out; smaller ones belong to the caller, except the root's.
    ///   - records: Where a successor finds the nodes. If they hold nodes already, this is the successor: `restoreSignals`
    ///     must follow.
    ///   - reliesOnBirths: False if a file's creation time may change, as when overlayfs copies it up.
    init(
        root: Descriptor, identity: FileIdentity, signals: SignalDirectory?, firstInode: UInt64, cacheCapacity: Int,
        reliesOnBirths: Bool = true, handles: ExportHandle.FileSystem? = nil, records: NodeRecords? = nil,
        keeping kept: KeptDescriptors? = nil
    ) {
        self.handles = handles
        self.kept = kept
        self.reliesOnBirths = reliesOnBirths
        let node = Node(
            nameKind: .backing(identity), parent: .root, name: NodeName([]), lookups: 1, isDirectory: true,
            signals: signals, descriptor: root, isPinned: true)
        var nodes: NodeTable
        if let records, records.isInUse {
            nodes = NodeTable(restoring: records, firstInode: firstInode)
            nodes[.root]?.descriptor = root
            nodes[.root]?.signals = signals
        } else {
            nodes = NodeTable(firstInode: firstInode, records: records)
            nodes.insert(node, as: .root)
            nodes.index(.root)
        }
        state = Mutex(State(nodes: nodes, ring: Array(repeating: nil, count: max(1, cacheCapacity))))
    }

    // MARK: Nodes

    /// The node of an inode number; ESTALE if there is none.
    func node(_ inode: InodeNumber) throws(Errno) -> Node {
        guard let node = state.withLock({ $0.nodes[inode] }) else { throw .staleNFSFileHandle }
        return node
    }

    /// Records that a shared mapping may change a file from now on; false if that was recorded before.
    func markMapped(of inode: InodeNumber) -> Bool {
        state.withLock { state in
            guard let node = state.nodes[inode], !node.mayBeMapped else { return false }
            state.nodes[inode]?.mayBeMapped = true
            return true
        }
    }

    // MARK: Taking over

    /// Gives restored nodes their signal directories and signal files.
    ///
    /// - Parameter unlinked: Makes the signal file of an inode that no name leads to any more.
    func restoreSignals(unlinked: (NodeName, SignalDirectory) -> SignalFile) {
        state.withLock { state in
            var waiting: [InodeNumber] = [.root]
            while let directory = waiting.popLast() {
                guard let signals = state.nodes[directory]?.signals else { continue }
                for inode in state.nodes.children(of: directory) {
                    guard let node = state.nodes[inode] else { continue }
                    if node.isDirectory, !node.isPinned {
                        state.nodes[inode]?.signals = signals.child(node.name)
                        waiting.append(inode)
                    } else if node.isSignal {
                        let file = node.isCurrent ? signals.file(node.name) : unlinked(node.name, signals)
                        state.nodes[inode]?.restore(file)
                        if node.isCurrent { state.bySignal[ObjectIdentifier(file)] = inode }
                    }
                }
            }
        }
    }

    /// Gives unlinked files the descriptors that were kept for them.
    func restoreDescriptors() {
        guard let kept else { return }
        state.withLock { state in
            var pinned: [InodeNumber] = []
            state.nodes.forEach { inode, node in if node.isPinned, inode != .root { pinned.append(inode) } }
            for inode in pinned {
                guard let descriptor = kept.remove(inode) else { continue }
                state.nodes[inode]?.descriptor = descriptor
                state.nodes[inode]?.isKept = true
            }
        }
    }

    /// Has a new keeper hold all descriptors that the former one held.
    func keepAgain() {
        let descriptors = state.withLock { state in
            var descriptors: [(InodeNumber, Descriptor)] = []
            state.nodes.forEach { inode, node in
                if node.isKept, let descriptor = node.descriptor { descriptors.append((inode, descriptor)) }
            }
            return descriptors
        }
        for (inode, descriptor) in descriptors { kept?.keep(descriptor, of: inode) }
    }

    /// Has the keeper hold the descriptor of an unlinked file for a successor.
    func keep(_ inode: InodeNumber) {
        guard let kept else { return }
        let descriptor: Descriptor? = state.withLock { state in
            guard let node = state.nodes[inode], node.isPinned, !node.isKept, let descriptor = node.descriptor else {
                return nil
            }
            state.nodes[inode]?.isKept = true
            return descriptor
        }
        if let descriptor { kept.keep(descriptor, of: inode) }
    }

    // MARK: Capabilities

    /// Whether a file is known to have no `security.capability`: asked before writes and chown(2).
    func hasNoCapability(_ inode: InodeNumber) -> Bool {
        state.withLock { $0.nodes[inode]?.capability == .absent }
    }

    /// Records that a file has no capability.
    func setCapabilityAbsent(_ inode: InodeNumber) {
        state.withLock { state in
            guard let node = state.nodes[inode], node.capability == .unknown else { return }
            state.nodes[inode]?.capability = .absent
            if let device = node.identity?.device { state.devicesWithAttributes.insert(device) }
        }
    }

    /// Records that a file may get a capability.
    ///
    /// Call it before the system call, so that an earlier answer no longer counts.
    func setCapabilityPossible(_ inode: InodeNumber) {
        state.withLock { $0.nodes[inode]?.capability = .possible }
    }

    /// Records that a file was just created, so it has no capability if its file system supports them.
    func markCreated(_ inode: InodeNumber) {
        state.withLock { state in
            guard let node = state.nodes[inode], node.capability == .unknown, let device = node.identity?.device,
                state.devicesWithAttributes.contains(device)
            else { return }
            state.nodes[inode]?.capability = .absent
        }
    }

    /// All inodes that the kernel knows, and the names under which it does; the root has none.
    var names: [(inode: InodeNumber, parent: InodeNumber, name: NodeName)] {
        state.withLock { state in
            var names: [(InodeNumber, InodeNumber, NodeName)] = []
            state.nodes.forEach { names.append(($0, $1.parent, $1.name)) }
            return names
        }
    }

    /// Number of inodes that the kernel knows.
    var count: Int { state.withLock { $0.nodes.count } }

    /// An `O_PATH` descriptor of a backing file or directory.
    ///
    /// - Throws: ESTALE if another file is in its place; ENOENT if its name or an ancestor was removed past the mount.
    func descriptor(of inode: InodeNumber) throws(Errno) -> Descriptor {
        // Nearly every search succeeds at once.
        if let found = try? search(for: inode) { return found }
        // A rename may have moved a file on the path during the search.
        for _ in 0..<Self.mostSearches {
            let ended = renames.ended
            let files = try state.withLock { (state) throws(Errno) in try state.path(to: inode) }.steps.map(\.identity)
            try renames.waitForRenames(of: files)
            do throws(Errno) {
                return try retryingWithFewerDescriptors { () throws(Errno) in try search(for: inode) }
            } catch {
                guard renames.ended != ended || renames.isRenaming(files) else { throw error }
            }
        }
        return try search(for: inode)
    }

    /// Drops the cached descriptor of an inode that has a name.
    func dropDescriptor(of inode: InodeNumber) {
        // Closed outside the lock.
        let dropped = state.withLock { $0.dropDescriptor(of: inode) }
        withExtendedLifetime(dropped) {}
    }

    /// Runs `body`; after EMFILE, empties the descriptor cache and runs it again.
    func retryingWithFewerDescriptors<Result>(_ body: () throws(Errno) -> Result) throws(Errno) -> Result {
        do throws(Errno) {
            return try body()
        } catch .tooManyOpenFiles {
            var dropped = state.withLock { $0.dropDescriptors() }
            guard !dropped.isEmpty else { throw .tooManyOpenFiles }
            dropped = []
            return try body()
        }
    }

    /// While other threads rename directories on the path all the time.
    private static let mostSearches = 100

    private func search(for inode: InodeNumber) throws(Errno) -> Descriptor {
        let path = try state.withLock { (state) throws(Errno) in try state.path(to: inode) }
        if case .descriptor(let descriptor) = path.start, path.steps.isEmpty { return descriptor }
        let found: Descriptor
        do throws(Errno) {
            found = try walk(path)
        } catch {
            guard case .handle = path.start else { throw error }
            // A handle may fail where names do not, as on a copied file system.
            found = try walk(state.withLock { (state) throws(Errno) in try state.path(to: inode, byHandle: false) })
        }
        let evicted = state.withLock { $0.keep(found, for: inode, identity: path.end) }
        if let evicted { saveHandle(of: evicted) }
        return found
    }

    /// Saves an export handle of an evicted descriptor, which shortens later walks.
    private func saveHandle(of evicted: Evicted) {
        guard !evicted.hasHandle, let handle = handles?.handle(of: evicted.descriptor, evicted.identity) else { return }
        state.withLock { state in
            guard state.nodes[evicted.inode]?.identity == evicted.identity else { return }
            state.nodes[evicted.inode]?.handle = handle
        }
    }

    /// The current status of a backing file or directory.
    func status(of inode: InodeNumber) throws(Errno) -> FileStatus {
        let node = try node(inode)
        if let descriptor = node.descriptor { return try FileStatus(of: descriptor.rawValue) }
        // One fstatat(2) in the parent is cheaper than opening the file.
        if let directory = try? descriptor(of: node.parent) {
            let found = try? node.name.withPointer { (name) throws(Errno) in
                try ExtendedStatus(of: name, in: directory.rawValue)
            }
            if let found, node.matches(found) { return found.status }
        }
        let descriptor = try descriptor(of: inode)
        return try FileStatus(of: descriptor.rawValue)
    }

    // MARK: Lookup counts

    /// A point in the order of renames.
    struct RenameGeneration {
        fileprivate let renames: UInt64
    }

    /// Read this before the system call that looks up a name for `remember`.
    var renameGeneration: RenameGeneration { RenameGeneration(renames: renameCount.load(ordering: .acquiring)) }

    /// Counts a lookup of a backing file, and returns its inode number.
    ///
    /// If a removed file's number was reused, the new file gets a new inode.
    ///
    /// - Parameter generation: Read before the lookup. The kernel holds no lock while it looks up a known name again, so a
    ///   rename may have moved the file since.
    func remember(
        _ found: ExtendedStatus, named name: NodeName, in parent: InodeNumber, signals: SignalDirectory?,
        isAliased: Bool = false, seenAt generation: RenameGeneration
    ) -> (inode: InodeNumber, mayBeMapped: Bool) {
        let identity = found.identity
        let birth = reliesOnBirths ? found.birth : nil
        var removed: [Node] = []
        return state.withLock { state in
            guard let known = state.nodes.inode(of: identity), let node = state.nodes[known],
                known == .root || node.matches(found)
            else {
                let inode = state.add(
                    .backing(identity), named: name, in: parent, isDirectory: found.status.isDirectory,
                    signals: signals)
                state.nodes.index(inode)
                state.nodes[inode]?.birth = birth
                if isAliased { state.nodes[inode]?.isAliased = true }
                return (inode, false)
            }
            state.nodes[known]?.lookups += 1
            state.nodes[known]?.birth = birth
            if isAliased { state.nodes[known]?.isAliased = true }
            if known != .root, node.renameGeneration <= generation.renames {
                state.place(known, at: name, in: parent, signals: signals, removing: &removed)
            }
            return (known, node.mayBeMapped)
        }
    }

    /// Counts a lookup of an `O_TMPFILE` file, which only its descriptor leads to.
    func remember(
        unnamed found: ExtendedStatus, in parent: InodeNumber, descriptor: Descriptor
    ) -> InodeNumber {
        let identity = found.identity
        return state.withLock { state in
            let inode = state.add(.backing(identity), named: NodeName([]), in: parent)
            state.nodes.index(inode)
            state.nodes[inode]?.birth = reliesOnBirths ? found.birth : nil
            state.nodes[inode]?.descriptor = descriptor
            state.nodes[inode]?.isPinned = true
            return inode
        }
    }

    /// Counts a lookup of a signal file, and returns its inode number.
    func remember(_ file: SignalFile, named name: NodeName, in parent: InodeNumber) -> InodeNumber {
        state.withLock { state in
            if let known = state.bySignal[ObjectIdentifier(file)] {
                state.nodes[known]?.lookups += 1
                return known
            }
            let inode = state.add(.signal(file), named: name, in: parent)
            state.setInode(inode, of: file)
            return inode
        }
    }

    /// Counts a lookup of a signal file as an inode other than its first: `known`, if an earlier lookup returned that.
    func remember(
        separately file: SignalFile, _ known: InodeNumber?, named name: NodeName, in parent: InodeNumber
    ) -> InodeNumber {
        state.withLock { state in
            if let known, state.nodes[known]?.signalFile === file {
                state.nodes[known]?.lookups += 1
                return known
            }
            return state.add(.signal(file), named: name, in: parent, signals: nil)
        }
    }

    /// Reduces an inode's lookup count, and removes the node at 0.
    ///
    /// The kernel may forget an inode long after its name is gone. A count that is too large is treated as the rest.
    ///
    /// - Returns: Whether the lookup count is 0 now.
    func forget(_ inode: InodeNumber, count: UInt64) -> Bool {
        // Destroyed outside the lock, as that may close descriptors.
        var removed: [Node] = []
        let (isForgotten, hasShrunk, isKept) = state.withLock { state in
            guard inode != .root, let node = state.nodes[inode] else { return (false, false, false) }
            let lookups = node.lookups - min(count, node.lookups)
            state.nodes[inode]?.lookups = lookups
            state.removeIfUnused(inode, into: &removed)
            return (lookups == 0, state.hasShrunk(), lookups == 0 && node.isKept)
        }
        if isKept { kept?.drop(inode) }
        // The C library keeps freed memory otherwise.
        if hasShrunk { malloc_trim(0) }
        return isForgotten
    }

    // MARK: Name changes

    /// Keeps a file reachable when the name by which it is known is about to be removed.
    ///
    /// Call it before the system call that removes the name, and `unpin` if that fails.
    ///
    /// - Returns: False if nothing had to be done.
    func pin(_ identity: FileIdentity, at place: Place) -> Bool {
        enum Need { case none, descriptor, met }
        let need: Need = state.withLock { state in
            guard let inode = state.nodes.inode(of: identity), let node = state.nodes[inode] else { return .none }
            // It is known by another of its names.
            guard !node.isPinned, node.parent == place.parent, node.name == place.name else { return .none }
            // An open file's inode number cannot be reused.
            guard node.descriptor != nil else { return .descriptor }
            state.nodes[inode]?.isPinned = true
            return .met
        }
        guard need == .descriptor else { return need == .met }
        let opened = place.name.withPointer { name in
            try? OwnedDescriptor(opening: name, in: place.directory.rawValue, O_PATH | O_NOFOLLOW)
        }
        guard let opened else { return false }
        let descriptor = Descriptor(opened)
        guard (try? ExtendedStatus(of: descriptor.rawValue).identity) == identity else { return false }
        var dropped: Descriptor?
        let isPinned = state.withLock { state in
            guard let inode = state.nodes.inode(of: identity), let node = state.nodes[inode] else { return false }
            dropped = node.descriptor
            state.nodes[inode]?.descriptor = descriptor
            state.nodes[inode]?.isPinned = true
            return true
        }
        withExtendedLifetime(dropped) {}
        return isPinned
    }

    /// Undoes a `pin` that returned true.
    func unpin(_ identity: FileIdentity) {
        var dropped: Descriptor?
        state.withLock { state in
            guard let inode = state.nodes.inode(of: identity) else { return }
            dropped = state.nodes[inode]?.descriptor
            state.nodes[inode]?.descriptor = nil
            state.nodes[inode]?.isPinned = false
        }
        withExtendedLifetime(dropped) {}
    }

    /// Records a rename of a backing file.
    func move(
        _ identity: FileIdentity, to name: NodeName, in parent: InodeNumber, signals: SignalDirectory?
    ) {
        var removed: [Node] = []
        state.withLock { state in
            guard let inode = state.nodes.inode(of: identity) else { return }
            state.place(inode, at: name, in: parent, signals: signals, removing: &removed)
            state.nodes[inode]?.renameGeneration = renameCount.add(1, ordering: .acquiringAndReleasing).newValue
        }
    }

    /// Where a backing file was last seen, if the kernel knows it.
    func place(of identity: FileIdentity) -> (parent: InodeNumber, name: NodeName)? {
        state.withLock { state in
            state.nodes.inode(of: identity).flatMap { state.nodes[$0] }.map { ($0.parent, $0.name) }
        }
    }

    /// The inode of a backing file, if the kernel knows it.
    func inode(of identity: FileIdentity) -> InodeNumber? { state.withLock { $0.nodes.inode(of: identity) } }

    /// The inode of a signal file, if the kernel knows it.
    func inode(of file: SignalFile) -> InodeNumber? { state.withLock { $0.bySignal[ObjectIdentifier(file)] } }

    /// Makes an inode that of a signal file.
    func assign(_ inode: InodeNumber, to file: SignalFile, named name: NodeName, in parent: InodeNumber) {
        var dropped: Descriptor?
        var removed: [Node] = []
        state.withLock { state in
            guard let node = state.nodes[inode] else { return }
            state.nodes.unindex(inode)
            state.removeSignal(node.signalFile, of: inode)
            dropped = node.descriptor
            state.place(inode, at: name, in: parent, signals: nil, removing: &removed)
            state.nodes[inode]?.nameKind = .signal(file)
            state.nodes[inode]?.descriptor = nil
            state.nodes[inode]?.isPinned = false
            state.setInode(inode, of: file)
        }
        withExtendedLifetime(dropped) {}
    }

    /// Makes a signal file's inode that of the backing file that holds its document.
    func assign(_ inode: InodeNumber, to identity: FileIdentity, named name: NodeName, in parent: InodeNumber) {
        var removed: [Node] = []
        state.withLock { state in
            guard let former = state.nodes[inode]?.signalFile else { return }
            state.removeSignal(former, of: inode)
            state.place(inode, at: name, in: parent, signals: nil, removing: &removed)
            state.nodes[inode]?.nameKind = .backing(identity)
            state.nodes.index(inode)
        }
    }

    /// Gives a signal file a new inode at its next lookup, as the kernel has unlinked this one.
    func detach(_ file: SignalFile) {
        state.withLock { $0.setInode(nil, of: file) }
    }

    /// A file under a directory that has moved.
    struct MovedEntry {
        let inode: InodeNumber
        let name: NodeName
        let parent: InodeNumber
        /// The parent's; nil if no signal file can lie there.
        let signals: SignalDirectory?
    }

    /// Updates `Node.signals` of all known nodes under a directory that has moved, parents before children.
    ///
    /// - Returns: Entries that are or were signal files; directories that can hold some either now or could before.
    func updateSignals(under top: InodeNumber) -> (movedEntries: [MovedEntry], directories: [InodeNumber]) {
        state.withLock { state in
            var waiting = state.nodes.children(of: top)
            var movedEntries: [MovedEntry] = []
            var directories: [InodeNumber] = []
            while let inode = waiting.popLast() {
                guard let node = state.nodes[inode] else { continue }
                let parent = state.nodes[node.parent]?.signals
                if node.isDirectory {
                    let signals = parent?.child(node.name)
                    if (node.signals?.scope.hasSignals == true) != (signals?.scope.hasSignals == true) {
                        directories.append(inode)
                    }
                    state.nodes[inode]?.signals = signals
                    waiting += state.nodes.children(of: inode)
                    continue
                }
                // The inode of an unlinked signal file no longer has this name, and stays what it is.
                let isUnlinked = node.signalFile.map { state.bySignal[ObjectIdentifier($0)] != inode } ?? false
                if !isUnlinked, node.signalFile != nil || parent?.scope.matches(node.name.bytes) == true {
                    movedEntries.append(
                        MovedEntry(inode: inode, name: node.name, parent: node.parent, signals: parent))
                }
            }
            return (movedEntries, directories)
        }
    }
}

extension NodeStore {
    /// Opens each step of a path; ESTALE if one leads to another file than recorded.
    private func walk(_ path: NodePath) throws(Errno) -> Descriptor {
        var reached: Descriptor
        switch path.start {
        case .descriptor(let descriptor): reached = descriptor
        case .handle(let handle, let step):
            guard let handles else { throw .staleNFSFileHandle }
            reached = try handle.open(in: handles)
            guard try step.matches(ExtendedStatus(of: reached.rawValue)) else { throw .staleNFSFileHandle }
        }
        for step in path.steps {
            let opened = try step.name.withPointer { (name) throws(Errno) in
                try OwnedDescriptor(opening: name, in: reached.rawValue, O_PATH | O_NOFOLLOW)
            }
            reached = Descriptor(opened)
            guard try step.matches(ExtendedStatus(of: reached.rawValue)) else { throw .staleNFSFileHandle }
        }
        return reached
    }
}

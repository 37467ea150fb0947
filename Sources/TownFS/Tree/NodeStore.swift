import CLinux
import Fuse
import Glibc
import Linux
import Synchronization
import SystemPackage

/// Every inode that the kernel knows, and the ways back to their files.
///
/// A file is found again by its parent's descriptor and its name, or by an `O_PATH` descriptor reached by walking down
/// from the nearest ancestor that has one, or a kernel handle in the place of one that had to go. Each step refuses symbolic links, and what it finds is compared with the
/// identity on record: no race beneath can lead out of the town or to another file. Descriptors are kept for
/// `cacheCapacity` nodes, first come, first dropped; only files without a name hold theirs until they are forgotten.
///
/// The lock is held over memory only; system calls happen between two holdings of it, and the second checks again.
final class NodeStore: Sendable {
    /// A way to a name: the directory's descriptor and the name in it.
    struct Place {
        let parent: InodeNumber
        let directory: Descriptor
        let name: NodeName
    }

    struct State {
        var nodes: NodeTable
        /// The inode that a lookup of a signal file answers with: the last that was renamed onto it, or its first.
        var bySignal: [ObjectIdentifier: InodeNumber] = [:]
        /// Which node's descriptor is dropped when the cache comes round to its slot.
        var ring: [InodeNumber?]
        var hand = 0
        /// The most nodes there have been since memory was last given back.
        var peak = 0
        /// Devices on which a file has said that it has no capability.
        var devicesWithAttributes: Set<dev_t> = []
    }

    private let state: Mutex<State>

    /// Where handles can be opened.
    private let handles: ExportHandle.FileSystem?

    /// Whether a file keeps its birth for as long as it lives.
    private let reliesOnBirths: Bool

    /// How many renames the store has been told of.
    private let renameCount = Atomic<UInt64>(0)

    /// For whoever renames files: held from the system call until the store knows.
    let renames = RenameGate()

    /// - Parameters:
    ///   - firstInode: The first number to give out; those below are the caller's own, except the root's.
    ///   - reliesOnBirths: False where a file's birth may change, as when an overlayfs copies it up.
    init(
        root: Descriptor, identity: FileIdentity, signals: SignalDirectory?, firstInode: UInt64, cacheCapacity: Int,
        reliesOnBirths: Bool = true, handles: ExportHandle.FileSystem? = nil
    ) {
        self.handles = handles
        self.reliesOnBirths = reliesOnBirths
        let node = Node(
            nameKind: .backing(identity), parent: .root, name: NodeName([]), lookups: 1, isDirectory: true,
            signals: signals, descriptor: root, isPinned: true)
        var nodes = NodeTable(firstInode: firstInode)
        nodes.insert(node, as: .root)
        nodes.index(.root)
        state = Mutex(State(nodes: nodes, ring: Array(repeating: nil, count: max(1, cacheCapacity))))
    }

    // MARK: Looking

    /// What the kernel means by an inode number.
    ///
    /// ESTALE when it is none of ours.
    func node(_ inode: InodeNumber) throws(Errno) -> Node {
        guard let node = state.withLock({ $0.nodes[inode] }) else { throw .staleNFSFileHandle }
        return node
    }

    /// Notes that a file may be changed through a mapping from now on.
    ///
    /// - Returns: Whether that is news.
    func noteMapping(of inode: InodeNumber) -> Bool {
        state.withLock { state in
            guard let node = state.nodes[inode], !node.mayBeMapped else { return false }
            state.nodes[inode]?.mayBeMapped = true
            return true
        }
    }

    // MARK: Capabilities

    /// Whether a file has no `security.capability`, for which the kernel asks before many a write and change of owner.
    func hasNoCapability(_ inode: InodeNumber) -> Bool {
        state.withLock { $0.nodes[inode]?.capability == .absent }
    }

    /// Notes that a file has been asked and has none.
    func noteNoCapability(_ inode: InodeNumber) {
        state.withLock { state in
            guard let node = state.nodes[inode], node.capability == .unknown else { return }
            state.nodes[inode]?.capability = .absent
            if let device = node.identity?.device { state.devicesWithAttributes.insert(device) }
        }
    }

    /// Notes that a file may get one.
    ///
    /// To be called before that happens: an answer from before it counts for nothing from then on.
    func noteCapability(_ inode: InodeNumber) {
        state.withLock { $0.nodes[inode]?.capability = .possible }
    }

    /// Notes that a file has just been made through the kernel: it has no capability, and will say so, if its file system
    /// knows of such things.
    func noteNew(_ inode: InodeNumber) {
        state.withLock { state in
            guard let node = state.nodes[inode], node.capability == .unknown, let device = node.identity?.device,
                state.devicesWithAttributes.contains(device)
            else { return }
            state.nodes[inode]?.capability = .absent
        }
    }

    /// All inodes that the kernel knows, and the names under which it does.
    ///
    /// The root has no name.
    var names: [(inode: InodeNumber, parent: InodeNumber, name: NodeName)] {
        state.withLock { state in
            var names: [(InodeNumber, InodeNumber, NodeName)] = []
            state.nodes.forEach { names.append(($0, $1.parent, $1.name)) }
            return names
        }
    }

    /// How many inodes the kernel knows.
    var count: Int { state.withLock { $0.nodes.count } }

    /// An `O_PATH` descriptor of a backing file or directory.
    ///
    /// - Throws: ESTALE when it cannot be found where it was, or another file is there now; ENOENT when its name or a
    ///   directory above it has been removed beneath the mount.
    func descriptor(of inode: InodeNumber) throws(Errno) -> Descriptor {
        // Nearly every search succeeds at once.
        if let found = try? search(for: inode) { return found }
        // A rename may have moved a file on the path during the search.
        for _ in 0..<Self.mostSearches {
            let ended = renames.ended
            let files = try state.withLock { (state) throws(Errno) in try state.way(to: inode) }.steps.map(\.identity)
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
        let way = try state.withLock { (state) throws(Errno) in try state.way(to: inode) }
        if case .descriptor(let descriptor) = way.start, way.steps.isEmpty { return descriptor }
        let found: Descriptor
        do throws(Errno) {
            found = try walk(way)
        } catch {
            guard case .handle = way.start else { throw error }
            // A handle may fail where names do not, as on a file system that has been copied and mounted again.
            found = try walk(state.withLock { (state) throws(Errno) in try state.way(to: inode, byHandle: false) })
        }
        let evicted = state.withLock { $0.keep(found, for: inode, identity: way.end) }
        if let evicted { leaveHandle(of: evicted) }
        return found
    }

    /// Makes the way back short to a directory whose descriptor has had to go.
    private func leaveHandle(of evicted: Evicted) {
        guard !evicted.hasHandle, let handle = handles?.handle(of: evicted.descriptor, evicted.identity) else { return }
        state.withLock { state in
            guard state.nodes[evicted.inode]?.identity == evicted.identity else { return }
            state.nodes[evicted.inode]?.handle = handle
        }
    }

    /// The status of a backing file or directory as it is now.
    func status(of inode: InodeNumber) throws(Errno) -> FileStatus {
        let node = try node(inode)
        if let descriptor = node.descriptor { return try FileStatus(of: descriptor.rawValue) }
        // Cheaper than opening the file itself, which may never be wanted; whatever is odd goes the long way.
        if let directory = try? descriptor(of: node.parent) {
            let found = try? node.name.withPointer { (name) throws(Errno) in
                try ExtendedStatus(of: name, in: directory.rawValue)
            }
            if let found, node.isOf(found) { return found.status }
        }
        return try FileStatus(of: descriptor(of: inode).rawValue)
    }

    // MARK: Remembering and forgetting

    /// A point in the order of renames, for whoever is about to look at names.
    struct RenameGeneration {
        fileprivate let renames: UInt64
    }

    /// To be asked for before a look at a name whose outcome goes to `remember`.
    var moment: RenameGeneration { RenameGeneration(renames: renameCount.load(ordering: .acquiring)) }

    /// Counts a lookup of a backing file found under a name, and returns its inode number.
    ///
    /// A file that was removed beneath, and whose number another one has now, is left to those who still have it.
    ///
    /// - Parameter moment: One before the look at the name. The kernel holds no lock when it looks a name up that it
    ///   knows already: by the time that we come here, a rename may have put the file elsewhere.
    func remember(
        _ found: ExtendedStatus, named name: NodeName, in parent: InodeNumber, signals: SignalDirectory?,
        isAliased: Bool = false, seenAt moment: RenameGeneration
    ) -> (inode: InodeNumber, mayBeMapped: Bool) {
        let identity = found.identity
        let birth = reliesOnBirths ? found.birth : nil
        var removed: [Node] = []
        return state.withLock { state in
            guard let known = state.nodes.inode(of: identity), let node = state.nodes[known],
                known == .root || node.isOf(found)
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
            if known != .root, node.placed <= moment.renames {
                state.place(known, at: name, in: parent, signals: signals, removing: &removed)
            }
            return (known, node.mayBeMapped)
        }
    }

    /// Counts a lookup of a file that has no name: its descriptor is the only way to it.
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
            state.bySignal[ObjectIdentifier(file)] = inode
            return inode
        }
    }

    /// Counts a lookup of a signal file as an inode other than its first.
    ///
    /// - Parameter known: That inode, if an earlier lookup returned it.
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

    /// Drops `count` kernel references to an inode and lets go of it with the last one.
    ///
    /// The kernel may forget an inode long after its name is gone, so names play no part here. A count above what is
    /// held is treated as all of it: bad input must not bring the mount down.
    ///
    /// - Returns: Whether the kernel knows nothing more of it.
    func forget(_ inode: InodeNumber, count: UInt64) -> Bool {
        // Removed nodes are destroyed outside the lock: with them go descriptors, and close(2) is a system call.
        var removed: [Node] = []
        let (isForgotten, hasShrunk) = state.withLock { state in
            guard inode != .root, let node = state.nodes[inode] else { return (false, false) }
            let lookups = node.lookups - min(count, node.lookups)
            state.nodes[inode]?.lookups = lookups
            state.removeIfUnused(inode, into: &removed)
            return (lookups == 0, state.hasShrunk())
        }
        // The C library keeps freed memory for itself, unless told to give it back.
        if hasShrunk { malloc_trim(0) }
        return isForgotten
    }

    // MARK: Names that change

    /// Keeps a file reachable although the name (`name` in `parent`) under which it is known is about to go.
    ///
    /// Does nothing for what the kernel does not know. Call it before the system call that removes the name, and `unpin`
    /// when that fails.
    ///
    /// - Returns: Whether that made a difference.
    func pin(_ identity: FileIdentity, at place: Place) -> Bool {
        enum Need { case none, descriptor, met }
        let need: Need = state.withLock { state in
            guard let inode = state.nodes.inode(of: identity), let node = state.nodes[inode] else { return .none }
            // By another of its names it will be found as before.
            guard !node.isPinned, node.parent == place.parent, node.name == place.name else { return .none }
            // As long as it is open, no other file can have its number.
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

    /// Takes back a `pin` that made a difference: the name has stayed, and leads to the file as before.
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

    /// Notes that a backing file is now known by another name.
    func move(
        _ identity: FileIdentity, to name: NodeName, in parent: InodeNumber, signals: SignalDirectory?
    ) {
        var removed: [Node] = []
        state.withLock { state in
            guard let inode = state.nodes.inode(of: identity) else { return }
            state.place(inode, at: name, in: parent, signals: signals, removing: &removed)
            state.nodes[inode]?.placed = renameCount.add(1, ordering: .acquiringAndReleasing).newValue
        }
    }

    /// The inode of a backing file, if the kernel knows it.
    func inode(of identity: FileIdentity) -> InodeNumber? {
        state.withLock { $0.nodes.inode(of: identity) }
    }

    /// The inode of a signal file, if the kernel knows it.
    func inode(of file: SignalFile) -> InodeNumber? {
        state.withLock { $0.bySignal[ObjectIdentifier(file)] }
    }

    /// Turns an inode into a signal file's: from now on the kernel takes this number for it.
    func assign(_ inode: InodeNumber, to file: SignalFile, named name: NodeName, in parent: InodeNumber) {
        var dropped: Descriptor?
        var removed: [Node] = []
        state.withLock { state in
            guard let node = state.nodes[inode] else { return }
            state.nodes.unindex(inode)
            if let former = node.signalFile, state.bySignal[ObjectIdentifier(former)] == inode {
                state.bySignal[ObjectIdentifier(former)] = nil
            }
            dropped = node.descriptor
            state.place(inode, at: name, in: parent, signals: nil, removing: &removed)
            state.nodes[inode]?.nameKind = .signal(file)
            state.nodes[inode]?.descriptor = nil
            state.nodes[inode]?.isPinned = false
            state.bySignal[ObjectIdentifier(file)] = inode
        }
        withExtendedLifetime(dropped) {}
    }

    /// Turns a signal file's inode into that of a backing file, into which its document has been written.
    func assign(_ inode: InodeNumber, to identity: FileIdentity, named name: NodeName, in parent: InodeNumber) {
        var removed: [Node] = []
        state.withLock { state in
            guard let former = state.nodes[inode]?.signalFile else { return }
            if state.bySignal[ObjectIdentifier(former)] == inode { state.bySignal[ObjectIdentifier(former)] = nil }
            state.place(inode, at: name, in: parent, signals: nil, removing: &removed)
            state.nodes[inode]?.nameKind = .backing(identity)
            state.nodes.index(inode)
        }
    }

    /// Lets the next lookup of a signal file begin with a new inode: the kernel has seen this one unlinked.
    func detach(_ file: SignalFile) {
        state.withLock { $0.bySignal[ObjectIdentifier(file)] = nil }
    }

    /// A file under a directory that has moved.
    struct MovedEntry {
        let inode: InodeNumber
        let name: NodeName
        let parent: InodeNumber
        /// The parent's; nil if no signal file can lie there.
        let signals: SignalDirectory?
    }

    /// Updates `Node.signals` of all known nodes under a directory that has moved.
    ///
    /// Visits the nodes under `top` only, parents before children.
    ///
    /// - Returns: Entries that are or were signal files, and directories that can hold some now or could before, not both.
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
    /// Walks.
    ///
    /// ESTALE when another file was met than the one on record.
    private func walk(_ way: NodePath) throws(Errno) -> Descriptor {
        var reached: Descriptor
        switch way.start {
        case .descriptor(let descriptor): reached = descriptor
        case .handle(let handle, let step):
            guard let handles else { throw .staleNFSFileHandle }
            reached = try handle.open(in: handles)
            guard try step.isOf(ExtendedStatus(of: reached.rawValue)) else { throw .staleNFSFileHandle }
        }
        for step in way.steps {
            let opened = try step.name.withPointer { (name) throws(Errno) in
                try OwnedDescriptor(opening: name, in: reached.rawValue, O_PATH | O_NOFOLLOW)
            }
            reached = Descriptor(opened)
            guard try step.isOf(ExtendedStatus(of: reached.rawValue)) else { throw .staleNFSFileHandle }
        }
        return reached
    }
}

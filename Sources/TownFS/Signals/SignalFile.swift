import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// One signal file.
///
///     open for writing ──▶ SignalOpenFile (a draft) ──close──▶ commit ──▶ Touch ──▶ liveness table
///     open for reading ◀── snapshot of the committed document ◀───┘ └───▶ journal, write-back
///
/// It serves the backing file until the first touch, and its own content after that. An unlinked file stays unlinked: a
/// later file of the same name is another object.
///
/// Lock order: `judging` of a `SignalOpenFile`, then this one's, then those of the state of a `SignalOpenFile`, the
/// directory, journal and table. Backing files are read and written without any of them but the first.
final class SignalFile: Sendable {
    /// How long the kernel may cache attributes, where it may at all, in seconds.
    static let attributeTimeout = 1.0

    enum Presence {
        /// Not touched since the mount: the backing file is the file, if it exists.
        case backing
        /// Created and not closed yet; only its creator sees it.
        case creating(Ownership)
        case committed(Content)
        case unlinked

        var isBacking: Bool { if case .backing = self { true } else { false } }
        var isCreating: Bool { if case .creating = self { true } else { false } }
        var isUnlinked: Bool { if case .unlinked = self { true } else { false } }
        var content: Content? { if case .committed(let content) = self { content } else { nil } }
    }

    struct State {
        var presence: Presence
        /// Counts changes of the content.
        var revision: UInt64 = 0
        /// The revision in the backing file.
        var clean: UInt64 = 0
        /// The revision that was synced to the disk.
        var synced: UInt64 = 0
        var isWritingBack = false
        /// The source of the last committed document.
        var source: DocumentSource?
        /// Open files, oldest first.
        var handles: [SignalOpenFile] = []
        var caching = AttributeCaching()

        /// Replaces the presence and cancels a pending write-back.
        mutating func replacePresence(with other: Presence) {
            presence = other
            revision += 1
        }
    }

    let name: NodeName
    /// Relative to the town root.
    let path: [UInt8]
    let directory: SignalDirectory
    /// `st_ino`: a hash of the path, the same in every mount.
    let number: ino_t
    let format: SignalFormat
    /// How long a touch proves life.
    let ttl: Duration
    /// The runtime that `{id}` of its pattern names.
    private let namedOwner: RuntimeID?
    /// Whether its path names the runtime that it belongs to.
    let hasOwner: Bool
    let town: Town
    /// Only for this type's extensions.
    let state: Mutex<State>

    /// - Parameter isRemoved: For a directory that was removed: no file can be created in it.
    init(name: NodeName, in directory: SignalDirectory, town: Town, isRemoved: Bool = false) {
        state = Mutex(State(presence: isRemoved ? .unlinked : .backing))
        self.name = name
        self.directory = directory
        self.town = town
        let name = name.bytes
        path = directory.path(of: name)
        number = Self.inodeNumber(of: path)
        // In a removed directory nothing matches.
        let match = directory.scope.match(name)
        let signal = match?.signal
        format = SignalFormat(signal ?? Signal(document: ""), fileName: name)
        ttl = signal?.ttl ?? town.configuration.ttl
        namedOwner = match?.runtime
        hasOwner = namedOwner != nil || SessionNames.owner(of: path, SessionNames()) != nil
    }

    /// The runtime that its path names, whichever process writes it; nil if it has many writers.
    ///
    /// A heartbeat's session stands for its agent, also if `{id}` matches it.
    var owner: RuntimeID? { hasOwner ? town.callers.owner(of: path) ?? namedOwner : nil }

    /// The caller of a request on the file, with the runtime of its touch; see `CallerTable`.
    func attributedCaller(
        _ thread: pid_t, after former: AttributedCaller? = nil, isWaiting: Bool = true
    ) -> AttributedCaller? {
        town.callers.attributedCaller(thread, owner: owner, after: former, isWaiting: isWaiting)
    }

    // MARK: State

    /// Whether GETATTR, OPEN, READ, WRITE, FLUSH and RELEASE of the inode are answered from memory.
    var isInMemory: Bool {
        state.withLock { state in
            switch state.presence {
            case .committed, .creating: !state.handles.contains { $0.mayReadBackingFile }
            case .backing, .unlinked: false
            }
        }
    }

    /// Whether LOOKUP of the name is answered from memory.
    var isNameInMemory: Bool {
        state.withLock { if case .committed(let content) = $0.presence { isShown(content) } else { false } }
    }

    /// Nil while the backing file is the file.
    var committedOwnership: Ownership? { state.withLock { $0.presence.content?.ownership } }

    var isRemoved: Bool { state.withLock { $0.presence.isUnlinked } }

    /// Whether the file was created and not closed yet.
    var isBeingCreated: Bool { state.withLock { $0.presence.isCreating } }

    /// What the directory it lies in should list.
    enum Listing {
        case shown
        /// What the backing directory lists: nothing was ever touched.
        case asBacking
        case hidden
    }

    var listing: Listing {
        state.withLock { state in
            switch state.presence {
            case .backing: .asBacking
            case .committed(let content): isShown(content) ? .shown : .hidden
            case .creating, .unlinked: .hidden
            }
        }
    }

    /// Whether tools see the file: it has not expired, or `--on-expiry=keep` is given.
    func isShown(_ content: Content) -> Bool {
        if town.configuration.expiry == .keep { return true }
        let now = town.now.instant
        // After a stall, the record's deadline may be later.
        return now < content.deadline || town.liveness.record(ofSignal: path)?.isAlive(at: now) == true
    }

    func isShown(_ status: FileStatus) -> Bool {
        town.configuration.expiry == .keep || town.now.wall - WallTime(status.st_mtim) < ttl
    }

    // MARK: Opening

    /// The result of an attempt to open the file.
    enum Opening {
        /// - Parameter invalidatesAttributes: Whether to send FUSE_NOTIFY_INVAL_INODE before the reply.
        case opened(SignalOpenFile, invalidatesAttributes: Bool)
        /// An fstat could not tell this open file from another of the same process: it needs its own inode.
        case needsSeparateInode
    }

    /// Opens the file as it is: a snapshot for reading, a draft for writing.
    ///
    /// - Parameters:
    ///   - inode: The inode that the kernel opens.
    ///   - maySeparate: Whether the result may be `needsSeparateInode`.
    func open(
        flags: CInt, for request: Request, on inode: InodeNumber, maySeparate: Bool, in parent: ParentDirectory
    ) throws(Errno) -> Opening {
        let others = commitFlushed(by: request)
        try refreshFromTouches(in: parent)
        // O_TRUNC and O_WRONLY leave nothing to read.
        let isForReading = flags & O_ACCMODE != O_WRONLY && flags & O_TRUNC == 0
        while true {
            let (presence, revision, handles) = state.withLock { ($0.presence, $0.revision, $0.handles) }
            let snapshot = try snapshot(of: presence, flags: flags, for: request, among: others, in: parent)
            let handle = SignalOpenFile(of: self, on: inode, flags: flags, snapshot: snapshot, by: request, in: parent)
            if isForReading, maySeparate {
                let same = handles.filter { $0.inode == inode }
                if isAmbiguous(snapshot.status.st_size, for: request, among: same) { return .needsSeparateInode }
            }
            let readers = handles.filter(\.isUnread)
            let now = town.now.instant
            // A later GETATTR must know of this open file: the kernel would cache its reply, and the reader of this
            // snapshot would see another size.
            let invalidates: Bool? = state.withLock { state in
                guard state.revision == revision else { return nil }
                let isMeeting: Bool
                if handle.isWritable {
                    isMeeting = state.handles.contains { other in
                        readers.contains { $0 === other } || !handles.contains { $0 === other }
                    }
                    state.caching.recordChange(by: request.thread, at: now)
                } else {
                    isMeeting =
                        state.caching.isContended(for: request.thread, at: now)
                        || state.handles.contains { $0.isWritable && $0.thread != request.thread }
                }
                state.handles.append(handle)
                return isMeeting && state.caching.removeInvalidation(of: inode, at: now)
            }
            guard let invalidates else { continue }
            // The opening threads may end before the first fstat.
            if handle.isWritable {
                for reader in readers { _ = reader.process }
            } else if state.withLock({ $0.caching.isBusy(for: request.thread, at: now) }) {
                _ = handle.process
            }
            return .opened(handle, invalidatesAttributes: invalidates)
        }
    }

    /// - Parameter handles: The open files.
    private func snapshot(
        of presence: Presence, flags: CInt, for request: Request, among handles: [SignalOpenFile],
        in parent: ParentDirectory
    ) throws(Errno) -> SignalOpenFile.Snapshot {
        switch presence {
        case .backing:
            let directory = try parent.descriptor
            guard let file = try BackingDocument.open(name, in: directory.rawValue), isShown(file.status) else { break }
            return try SignalOpenFile.Snapshot(of: file, as: self)
        case .committed(let content) where isShown(content):
            return SignalOpenFile.Snapshot(of: content, as: self)
        case .creating(let ownership):
            // The creator finds the file by its name. A process that lost the race to create it gets the inode of the
            // winner from the kernel, and opens that for writing.
            guard
                handles.contains(where: { $0.showsFileBeingCreated(to: request) })
                    || flags & O_ACCMODE != O_RDONLY && ownership.user == request.callingUser
            else { break }
            return SignalOpenFile.Snapshot(of: emptyContent(ownership), as: self)
        case .committed, .unlinked: break
        }
        throw .noSuchFileOrDirectory
    }

    /// Creates the file.
    ///
    /// Other processes do not see it until its content is committed: no reader meets an empty file.
    ///
    /// - Returns: Nil if this file was unlinked: the new file is another object.
    /// - Throws: EEXIST. Without O_EXCL ESTALE instead: the kernel looks the name up again and checks whether the caller
    ///   may open the file that another process created. EACCES if another user is creating it.
    func create(
        _ ownership: Ownership, flags: CInt, for request: Request, in parent: ParentDirectory
    ) throws(Errno) -> SignalOpenFile? {
        guard try status(of: state.withLock { $0.presence }, in: parent) == nil else {
            throw flags & O_EXCL == 0 ? .staleNFSFileHandle : .fileExists
        }
        let snapshot = SignalOpenFile.Snapshot(of: emptyContent(ownership), as: self)
        // Creating the file counts as writing to it, whatever the access mode.
        let writing = flags & ~O_ACCMODE | O_RDWR | O_TRUNC
        let handle = SignalOpenFile(of: self, on: nil, flags: writing, snapshot: snapshot, by: request, in: parent)
        return try state.withLock { (state) throws(Errno) in
            switch state.presence {
            case .unlinked: return nil
            case .creating where flags & O_EXCL != 0: throw .fileExists
            // Only its creator decides what it becomes.
            case .creating(let maker) where maker.user != request.user: throw .permissionDenied
            case .committed(let content) where isShown(content): throw .staleNFSFileHandle
            case .backing: state.presence = .creating(ownership)
            case .creating, .committed: break
            }
            state.handles.append(handle)
            return handle
        }
    }

    /// The open file of a process that had another file open when that was renamed over this one.
    ///
    /// Later writes change the content of that file and are committed at close.
    func adopt(
        _ content: Content, on inode: InodeNumber, by request: Request, in parent: ParentDirectory
    ) -> SignalOpenFile {
        let snapshot = SignalOpenFile.Snapshot(of: content, as: self)
        return register(
            SignalOpenFile(
                of: self, on: inode, adopting: content.document.bytes, snapshot: snapshot, by: request, in: parent))
    }

    /// The open file of a process that had the file open when its directory was renamed.
    func adopt(_ handle: SignalOpenFile, in parent: ParentDirectory) -> SignalOpenFile {
        register(SignalOpenFile(handle, of: self, in: parent))
    }

    @discardableResult
    func register(_ handle: SignalOpenFile) -> SignalOpenFile {
        state.withLock { $0.handles.append(handle) }
        return handle
    }

    /// Mode and owner of a file that is being created; nil for any other.
    var ownershipWhileCreating: Ownership? {
        state.withLock { if case .creating(let ownership) = $0.presence { ownership } else { nil } }
    }

    /// Goes on with a creation that an earlier process has begun.
    func restoreCreation(_ ownership: Ownership) {
        state.withLock { state in
            if case .backing = state.presence { state.presence = .creating(ownership) }
        }
    }

    /// Forgets an open file that was closed; a file that was created and never committed does not exist then.
    func deregister(_ handle: SignalOpenFile) {
        state.withLock { state in
            state.handles.removeAll { $0 === handle }
            if state.presence.isCreating, state.handles.isEmpty { state.presence = .backing }
        }
    }
}

/// The backing directory of a signal file, found when an operation needs it.
///
/// Most operations on a committed file are answered from memory. They must not wait for the backing tree.
enum ParentDirectory: Sendable {
    case open(Descriptor)
    case node(InodeNumber, in: NodeStore)

    var descriptor: Descriptor {
        get throws(Errno) {
            switch self {
            case .open(let descriptor): descriptor
            case .node(let inode, let nodes): try nodes.descriptor(of: inode)
            }
        }
    }
}

import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// One signal file: what tools read from it, and what becomes of what they write.
///
///     open for writing ──▶ SignalOpenFile (a draft of its own) ──close──▶ commit ──▶ Touch ──▶ liveness table
///     open for reading ◀── snapshot of the last committed document ◀───────┘ └───▶ journal, write-down
///
/// It serves the real file beneath until the first touch, and its own content from then on. Removed, it stays removed:
/// a later file of the same name is another object, so that a writer who still holds this one open writes to nothing,
/// as with any unlinked file.
///
/// Lock order: a `SignalOpenFile`'s, then this one's, then those of journal, table and write-down. Real files are read
/// and written with none of them held.
final class SignalFile: Sendable {
    /// How long the kernel may cache attributes, where it may at all, in seconds.
    static let attributeTimeout = 1.0

    enum Presence {
        /// Not touched since the mount: the real file is the file, if there is one.
        case backing
        /// Made by somebody who has not closed it yet; nobody else sees it.
        case creating(Ownership)
        case committed(Content)
        case unlinked
    }

    struct State {
        var presence: Presence
        /// Counts changes of the content, to tell whether what was written down is still the latest.
        var revision: UInt64 = 0
        /// The revision that the real file holds.
        var clean: UInt64 = 0
        /// The revision that is on the disk, come what may.
        var synced: UInt64 = 0
        var isWritingDown = false
        /// Open files that may see this one differently from others, oldest first.
        var handles: [SignalOpenFile] = []

        /// Puts something else in the place of the content, which is then not to be written down any more.
        mutating func setAside(_ other: Presence) {
            presence = other
            revision += 1
        }
    }

    let name: NodeName
    /// Relative to the town root.
    let path: [UInt8]
    let directory: SignalDirectory
    /// `st_ino`: made from the path, so that it is the same in every mount and whatever is renamed over the name.
    let number: ino_t
    let kind: SignalKind
    /// Whether it is one runtime's own, by its path.
    let hasOwner: Bool
    let town: Town
    /// Not for others than this type, whose parts lie in several files.
    let state: Mutex<State>

    /// - Parameter isRemoved: For a directory that has gone: nothing can be made in it.
    init(name: NodeName, in directory: SignalDirectory, town: Town, isRemoved: Bool = false) {
        state = Mutex(State(presence: isRemoved ? .unlinked : .backing))
        self.name = name
        self.directory = directory
        self.town = town
        let name = name.bytes
        path = directory.path(of: name)
        number = Self.inodeNumber(of: path)
        kind = SignalKind(fileName: name)
        hasOwner = SessionNames.owner(of: path, SessionNames()) != nil
    }

    var isRemoved: Bool {
        state.withLock { if case .unlinked = $0.presence { true } else { false } }
    }

    // MARK: Looking

    /// The file's status as this caller sees it: of what they have open and not read or not closed yet, if anything.
    ///
    /// That is how an fstat agrees with the reads that follow it: the kernel does not say which open file it is about.
    /// It may keep the answer only while all see the same. Whatever ends that state lets the kernel know by itself: a
    /// write, a truncating open, a change of attributes, or a rename makes it ask again.
    ///
    /// - Parameter parent: The real directory beneath the file's.
    /// - Throws: ENOENT when there is no such file, or its record has expired and that is to mean absence.
    func status(for request: Request, in parent: Descriptor) throws(Errno) -> StatusReply {
        let handles = settle(for: request)
        try catchUp(in: parent)
        let presence = state.withLock { $0.presence }
        let current = Result { () throws(Errno) in try currentStatus(presence, in: parent) }
        let agreed = try? current.get()
        // What this thread has opened last, then what its process has: threads may do one thing each.
        let own = handles.last { $0.thread == request.thread && $0.isInUse }
        for handle in own.map({ [$0] }) ?? handles.reversed() {
            if let status = handle.status(seenBy: request, unlessOfSize: agreed?.st_size) {
                return StatusReply(status: status, timeout: 0)
            }
        }
        let status = try current.get()
        guard town.configuration.isExclusive, !refreshesOnActivity, handles.allSatisfy({ $0.agrees(with: status) })
        else {
            return StatusReply(status: status, timeout: 0)
        }
        return StatusReply(status: status, timeout: Self.attributeTimeout)
    }

    /// Lets a caller who emptied the file and closed it see that as done, though the kernel has not said so yet.
    ///
    /// - Returns: The handles that are open.
    @discardableResult
    private func settle(for request: Request) -> [SignalOpenFile] {
        let handles = state.withLock { $0.handles }
        for handle in handles where handle.thread == request.thread { handle.settle() }
        return handles
    }

    /// The status of a file that is being made by the caller, or by another process of the same user: nil if it is not.
    ///
    /// For whoever has been given it by the kernel, who asks before it opens what somebody else was faster to make, and
    /// whose number is not known in another pid namespace. Nobody finds it by its name for that.
    func awaitedStatus(for request: Request) -> FileStatus? {
        guard case .creating(let ownership) = state.withLock({ $0.presence }), ownership.user == request.callingUser else {
            return nil
        }
        return status(of: nothing(ownership))
    }

    /// The status that everybody sees.
    func status(in parent: Descriptor) throws(Errno) -> FileStatus {
        try currentStatus(state.withLock { $0.presence }, in: parent)
    }

    func currentStatus(_ presence: Presence, in parent: Descriptor) throws(Errno) -> FileStatus {
        switch presence {
        case .backing:
            let real = try name.withPointer { (name) throws(Errno) in try FileStatus(of: name, in: parent.rawValue) }
            guard real.isRegularFile, isShown(real) else { throw .noSuchFileOrDirectory }
            return status(of: real)
        case .committed(let content):
            guard isShown(content) else { throw .noSuchFileOrDirectory }
            return status(of: content)
        case .creating, .unlinked:
            throw .noSuchFileOrDirectory
        }
    }

    /// What the directory it lies in should list.
    enum Listing {
        case shown
        /// Whatever the real directory says: nothing was ever touched.
        case asBeneath
        case hidden
    }

    var listing: Listing {
        state.withLock { state in
            switch state.presence {
            case .backing: .asBeneath
            case .committed(let content): isShown(content) ? .shown : .hidden
            case .creating, .unlinked: .hidden
            }
        }
    }

    func isShown(_ content: Content) -> Bool {
        town.configuration.expiry == .keep || town.now.instant < content.deadline
    }

    func isShown(_ status: FileStatus) -> Bool {
        town.configuration.expiry == .keep || town.now.wall - WallTime(status.st_mtim) < town.configuration.ttl
    }

    // MARK: Opening

    /// Opens the file as it is: a snapshot for reading, a draft for writing.
    func open(flags: CInt, for request: Request, in parent: Descriptor) throws(Errno) -> SignalOpenFile {
        let handles = settle(for: request)
        try catchUp(in: parent)
        while true {
            let (presence, revision) = state.withLock { ($0.presence, $0.revision) }
            let snapshot = try snapshot(of: presence, flags: flags, for: request, among: handles, in: parent)
            let handle = SignalOpenFile(of: self, flags: flags, snapshot: snapshot, by: request, in: parent)
            // Whoever asks for the status after the next touch has to know of this opening: the kernel would keep the answer, and
            // tell it to whoever has the former document to read.
            let isOfNow = state.withLock { state in
                guard state.revision == revision else { return false }
                state.handles.append(handle)
                return true
            }
            if isOfNow { return handle }
        }
    }

    /// - Parameter handles: Those that are open.
    private func snapshot(
        of presence: Presence, flags: CInt, for request: Request, among handles: [SignalOpenFile], in parent: Descriptor
    ) throws(Errno) -> SignalOpenFile.Snapshot {
        switch presence {
        case .backing:
            guard let file = try BackingDocument.open(name, in: parent.rawValue), isShown(file.status) else {
                throw .noSuchFileOrDirectory
            }
            return SignalOpenFile.Snapshot(of: file, as: self)
        case .committed(let content) where isShown(content):
            return SignalOpenFile.Snapshot(of: content, as: self)
        case .creating(let ownership) where handles.contains(where: { $0.showsWhatIsAwaited(to: request) }):
            // Who made the file finds it by its name, too.
            return SignalOpenFile.Snapshot(of: nothing(ownership), as: self)
        case .creating(let ownership) where flags & O_ACCMODE != O_RDONLY && ownership.user == request.callingUser:
            // Who would make the file while somebody else does is given theirs by the kernel.
            return SignalOpenFile.Snapshot(of: nothing(ownership), as: self)
        case .committed, .creating, .unlinked:
            throw .noSuchFileOrDirectory
        }
    }

    /// Makes the file, or opens it if somebody else was faster.
    ///
    /// Nobody else sees it until what is written to it is committed: readers never meet an empty file.
    ///
    /// - Returns: Nil when this one has been removed: the file to be made is another then.
    func create(
        _ ownership: Ownership, flags: CInt, for request: Request, in parent: Descriptor
    ) throws(Errno) -> SignalOpenFile? {
        let isThere = try exists(for: request, in: parent)
        if isThere {
            // Somebody was faster, and whether this caller may open theirs is for the kernel to say. ESTALE makes it look.
            throw flags & O_EXCL == 0 ? .staleNFSFileHandle : .fileExists
        }
        let snapshot = SignalOpenFile.Snapshot(of: nothing(ownership), as: self)
        // To make the file is to write to it, if nothing, whatever the caller may do with the descriptor.
        let writing = flags & ~O_ACCMODE | O_RDWR | O_TRUNC
        let handle = SignalOpenFile(of: self, flags: writing, snapshot: snapshot, by: request, in: parent)
        return try state.withLock { (state) throws(Errno) in
            switch state.presence {
            case .unlinked: return nil
            case .creating where flags & O_EXCL != 0: throw .fileExists
            // Nobody but its maker has a say in what it becomes.
            case .creating(let maker) where maker.user != request.user: throw .permissionDenied
            case .committed(let content) where isShown(content): throw .staleNFSFileHandle
            case .backing: state.presence = .creating(ownership)
            case .creating, .committed: break
            }
            state.handles.append(handle)
            return handle
        }
    }

    private func exists(for request: Request, in parent: Descriptor) throws(Errno) -> Bool {
        do throws(Errno) {
            _ = try currentStatus(state.withLock { $0.presence }, in: parent)
            return true
        } catch .noSuchFileOrDirectory {
            return false
        }
    }

    /// What is in a file that somebody has made and not written to yet.
    private func nothing(_ ownership: Ownership) -> Content {
        let now = town.now
        return Content(
            document: Document(), modified: now.wall, changed: now.wall, ownership: ownership, deadline: now.instant)
    }

    /// An open file for somebody who had another file open when it was renamed over this one.
    ///
    /// What they go on to write is added to what they have written, and judged when they close.
    func adopt(_ content: Content, by request: Request, in parent: Descriptor) -> SignalOpenFile {
        register(
            SignalOpenFile(
                of: self, adopting: content.document.bytes,
                snapshot: SignalOpenFile.Snapshot(of: content, as: self), by: request, in: parent))
    }

    /// Takes over an open file from the signal file that was here under another path.
    func takeOver(_ handle: SignalOpenFile, in parent: Descriptor) -> SignalOpenFile {
        register(SignalOpenFile(handle, of: self, in: parent))
    }

    private func register(_ handle: SignalOpenFile) -> SignalOpenFile {
        state.withLock { $0.handles.append(handle) }
        return handle
    }

    /// Forgets an open file that has been closed.
    ///
    /// A file that was made and never committed was never there.
    func deregister(_ handle: SignalOpenFile) {
        state.withLock { state in
            state.handles.removeAll { $0 === handle }
            if case .creating = state.presence, state.handles.isEmpty { state.presence = .backing }
        }
    }
}

import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// One signal file: what tools read from it, and what becomes of what they write.
///
///     open for writing ──▶ SignalHandle (a draft of its own) ──close──▶ commit ──▶ Touch ──▶ liveness table
///     open for reading ◀── snapshot of the last committed document ◀───────┘ └───▶ journal, write-down
///
/// It serves the real file beneath until the first touch, and its own content from then on. Removed, it stays removed:
/// a later file of the same name is another object, so that a writer who still holds this one open writes to nothing,
/// as with any unlinked file.
///
/// Lock order: a `SignalHandle`'s, then this one's, then those of journal, table and write-down. Real files are read
/// and written with none of them held.
final class SignalFile: Sendable {
    private enum Presence {
        /// Not touched since the mount: the real file is the file, if there is one.
        case beneath
        /// Made by somebody who has not closed it yet; nobody else sees it.
        case awaited(Ownership)
        case present(Content)
        case removed
    }

    private struct State {
        var presence: Presence
        /// Counts changes of the content, to tell whether what was written down is still the latest.
        var revision: UInt64 = 0
        /// The revision that the real file holds.
        var settled: UInt64 = 0
        var isWritingDown = false
        /// Open files that may see this one differently from others, oldest first.
        var handles: [SignalHandle] = []

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
    private let runtime: RuntimeID?
    private let town: Town
    private let state: Mutex<State>

    /// - Parameter isRemoved: For a directory that has gone: nothing can be made in it.
    init(name: NodeName, in directory: SignalDirectory, town: Town, isRemoved: Bool = false) {
        state = Mutex(State(presence: isRemoved ? .removed : .beneath))
        self.name = name
        self.directory = directory
        self.town = town
        let name = name.bytes
        path = directory.path.isEmpty ? name : directory.path + [UInt8(ascii: "/")] + name
        number = Self.inodeNumber(of: path)
        kind = SignalKind(fileName: name)
        runtime = RuntimeID(heartbeatPath: path)
    }

    var isRemoved: Bool {
        state.withLock { if case .removed = $0.presence { true } else { false } }
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
        let presence = state.withLock { $0.presence }
        let current = Result { () throws(Errno) in try currentStatus(presence, in: parent) }
        let agreed = try? current.get()
        for handle in handles.reversed() {
            if let status = handle.status(seenBy: request, unlessOfSize: agreed?.st_size) {
                return StatusReply(status: status, timeout: 0)
            }
        }
        let status = try current.get()
        guard town.configuration.expiry == .keep, handles.allSatisfy({ $0.agrees(with: status) }) else {
            return StatusReply(status: status, timeout: 0)
        }
        let isOurs = if case .present = presence { true } else { false }
        return StatusReply(status: status, timeout: isOurs ? Self.settledTimeout : TownFileSystem.backingTimeout)
    }

    /// For how many seconds the kernel may believe what it was told of content that nobody is changing.
    private static let settledTimeout = 3600.0

    /// Lets a caller who emptied the file and closed it see that as done, though the kernel has not said so yet.
    ///
    /// - Returns: The handles that are open.
    @discardableResult
    private func settle(for request: Request) -> [SignalHandle] {
        let handles = state.withLock { $0.handles }
        for handle in handles where handle.thread == request.thread { handle.settle() }
        return handles
    }

    /// The status that everybody sees.
    func status(in parent: Descriptor) throws(Errno) -> FileStatus {
        try currentStatus(state.withLock { $0.presence }, in: parent)
    }

    private func currentStatus(_ presence: Presence, in parent: Descriptor) throws(Errno) -> FileStatus {
        switch presence {
        case .beneath:
            guard let file = try RealFile.open(name, in: parent.rawValue), isShown(file.status) else {
                throw .noSuchFileOrDirectory
            }
            return status(of: file.status)
        case .present(let content):
            guard isShown(content) else { throw .noSuchFileOrDirectory }
            return status(of: content)
        case .awaited, .removed:
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
            case .beneath: .asBeneath
            case .present(let content): isShown(content) ? .shown : .hidden
            case .awaited, .removed: .hidden
            }
        }
    }

    private func isShown(_ content: Content) -> Bool {
        town.configuration.expiry == .keep || town.now.instant < content.deadline
    }

    private func isShown(_ status: FileStatus) -> Bool {
        town.configuration.expiry == .keep || town.now.wall - WallTime(status.st_mtim) < town.configuration.ttl
    }

    // MARK: Opening

    /// Opens the file as it is: a snapshot for reading, a draft for writing.
    func open(flags: CInt, for request: Request, in parent: Descriptor) throws(Errno) -> SignalHandle {
        let handles = settle(for: request)
        let presence = state.withLock { $0.presence }
        let snapshot: SignalHandle.Snapshot
        switch presence {
        case .beneath:
            guard let file = try RealFile.open(name, in: parent.rawValue), isShown(file.status) else {
                throw .noSuchFileOrDirectory
            }
            snapshot = SignalHandle.Snapshot(of: file, as: self)
        case .present(let content) where isShown(content):
            snapshot = SignalHandle.Snapshot(of: content, as: self)
        case .awaited(let ownership) where handles.contains(where: { $0.isOpened(by: request) }):
            // Who made the file finds it by its name, too.
            snapshot = SignalHandle.Snapshot(of: nothing(ownership), as: self)
        case .present, .awaited, .removed:
            throw .noSuchFileOrDirectory
        }
        return register(SignalHandle(of: self, flags: flags, snapshot: snapshot, by: request, in: parent))
    }

    /// Makes the file, or opens it if somebody else was faster.
    ///
    /// Nobody else sees it until what is written to it is committed: readers never meet an empty file.
    func create(
        _ ownership: Ownership, flags: CInt, for request: Request, in parent: Descriptor
    ) throws(Errno) -> SignalHandle {
        do throws(Errno) {
            let opened = try open(flags: flags, for: request, in: parent)
            guard flags & O_EXCL == 0 else {
                opened.close()
                throw .fileExists
            }
            return opened
        } catch .noSuchFileOrDirectory {}
        let isFirst = state.withLock { state in
            switch state.presence {
            case .beneath:
                state.presence = .awaited(ownership)
                return true
            case .awaited: return flags & O_EXCL == 0
            case .present, .removed: return true
            }
        }
        guard isFirst else { throw .fileExists }
        let snapshot = SignalHandle.Snapshot(of: nothing(ownership), as: self)
        // To make the file is to write to it, if nothing, whatever the caller may do with the descriptor.
        let writing = flags & ~O_ACCMODE | O_RDWR | O_TRUNC
        return register(SignalHandle(of: self, flags: writing, snapshot: snapshot, by: request, in: parent))
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
    func adopt(_ content: Content, by request: Request, in parent: Descriptor) -> SignalHandle {
        register(
            SignalHandle(
                of: self, adopting: content.document.bytes,
                snapshot: SignalHandle.Snapshot(of: content, as: self), by: request, in: parent))
    }

    private func register(_ handle: SignalHandle) -> SignalHandle {
        state.withLock { $0.handles.append(handle) }
        return handle
    }

    /// Forgets an open file that has been closed.
    ///
    /// A file that was made and never committed was never there.
    func deregister(_ handle: SignalHandle) {
        state.withLock { state in
            state.handles.removeAll { $0 === handle }
            if case .awaited = state.presence, state.handles.isEmpty { state.presence = .beneath }
        }
    }

    // MARK: Committing

    /// Judges bytes as the file's new document, and takes them for a touch.
    ///
    /// - Parameter replacement: Mode and owner of a file that was renamed over this one.
    /// - Throws: EINVAL when they are no document: the last one stays. EFBIG when they are too many.
    func commit(
        _ bytes: [UInt8], source: Touch.Source, by request: Request, in parent: Descriptor,
        replacement: Ownership? = nil
    ) throws(Errno) {
        let former = try contentBeneathIfNeeded(in: parent)
        try change(by: request, former: former, source: source, replacement: replacement) {
            (previous, now) throws(Document.Rejection) in
            let judgement = try Document.judge(bytes, receivedAt: now, previous: previous, kind: kind)
            if judgement.outcome == .timestampFromFuture { town.counters.noteFromFuture() }
            return judgement.document
        }
    }

    /// Takes a setting of the file's times for a touch: the document stays but for its timestamp.
    func touch(by request: Request, in parent: Descriptor) throws(Errno) {
        let former = try contentBeneathIfNeeded(in: parent)
        try change(by: request, former: former, source: .attributes, replacement: nil) {
            (previous, now) throws(Document.Rejection) in
            try Document.refreshed(previous, at: now, kind: kind)
        }
    }

    /// Takes an emptied draft that may yet be written to for a touch, and leaves the document alone.
    ///
    /// Does nothing where there is no document yet: nobody shall find an empty one.
    func touchKeepingDocument(by request: Request, in parent: Descriptor) throws(Errno) {
        let former = try contentBeneathIfNeeded(in: parent)
        let hasDocument = state.withLock { state in
            if case .present = state.presence { true } else { former != nil }
        }
        guard hasDocument else { return }
        try change(by: request, former: former, source: .written, replacement: nil) { previous, _ in
            previous ?? Document()
        }
    }

    private func change(
        by request: Request, former: Content?, source: Touch.Source, replacement: Ownership?,
        _ judge: (_ previous: Document?, _ now: WallTime) throws(Document.Rejection) -> Document
    ) throws(Errno) {
        let now = town.now
        let journaled: Bool?
        do throws(Document.Rejection) {
            journaled = try state.withLock { (state) throws(Document.Rejection) -> Bool? in
                let previous: Content?
                var ownership: Ownership
                switch state.presence {
                case .removed: return nil
                case .awaited(let chosen): (previous, ownership) = (nil, chosen)
                case .present(let content): (previous, ownership) = (content, content.ownership)
                case .beneath: (previous, ownership) = (former, former?.ownership ?? .ordinary(of: request))
                }
                if let replacement { ownership = replacement }
                let document = try judge(previous?.document, now.wall)
                let content = Content(
                    document: document, modified: now.wall, changed: now.wall, ownership: ownership,
                    deadline: now.instant + town.configuration.ttl)
                state.presence = .present(content)
                state.revision += 1
                town.liveness.touch(
                    Touch(
                        signal: path, runtime: runtime, receivedAt: now.wall, at: now.instant,
                        ttl: town.configuration.ttl, document: document, source: source))
                return town.journal.append(.content(content), at: path)
            }
        } catch {
            throw refuse(error, by: request)
        }
        // A removed file is written to in vain, as any unlinked file is.
        guard let journaled else { return }
        town.counters.noteTouch()
        scheduleWriteDown(isJournaled: journaled)
    }

    /// Counts and logs what is no document, and returns what its writer is told.
    func refuse(_ rejection: Document.Rejection, by request: Request) -> Errno {
        town.counters.noteRefused()
        town.refusals.note(rejection, of: path, by: request)
        return rejection == .tooLarge ? .fileTooLarge : .invalidArgument
    }

    /// Sees to it that a change reaches the real file: soon, or at once if the journal has no room to keep it till then.
    private func scheduleWriteDown(isJournaled: Bool) {
        town.writeDown.note(self)
        if !isJournaled { town.writeDown.writeNow([self]) }
    }

    /// What the real file holds, when nothing has been touched yet.
    ///
    /// A file that is no document holds nothing.
    private func contentBeneathIfNeeded(in parent: Descriptor) throws(Errno) -> Content? {
        let isNeeded = state.withLock { if case .beneath = $0.presence { true } else { false } }
        guard isNeeded, let file = try RealFile.open(name, in: parent.rawValue) else { return nil }
        let status = file.status
        let bytes = (try? file.bytes()) ?? []
        return Content(
            document: Document(bytes), modified: WallTime(status.st_mtim), changed: WallTime(status.st_ctim),
            ownership: Ownership(mode: status.st_mode & 0o7777, user: status.st_uid, group: status.st_gid),
            deadline: town.now.instant)
    }

    /// Changes mode or owner, which touches nothing.
    ///
    /// - Returns: False when there is no content to carry them: the real file must.
    func changeOwnership(_ change: (inout Ownership) -> Void) -> Bool {
        var isKept = true
        let now = town.now
        let journaled: Bool? = state.withLock { state in
            switch state.presence {
            case .present(var content):
                change(&content.ownership)
                content.changed = now.wall
                state.presence = .present(content)
                state.revision += 1
                return town.journal.append(.content(content), at: path)
            case .awaited(var ownership):
                change(&ownership)
                state.presence = .awaited(ownership)
            case .beneath, .removed:
                isKept = false
            }
            return nil
        }
        if let journaled { scheduleWriteDown(isJournaled: journaled) }
        return isKept
    }

    // MARK: Going away

    /// Removes the file, here and beneath.
    ///
    /// - Throws: ENOENT when it was not there, or what keeps the real file from being removed; then it stays.
    func remove(in parent: Descriptor) throws(Errno) {
        let isAwaited = state.withLock { if case .awaited = $0.presence { true } else { false } }
        if !isAwaited { _ = try status(in: parent) }
        let (former, isWritingDown) = state.withLock { state in
            defer { state.setAside(.removed) }
            _ = town.journal.append(.removed, at: path)
            return (state.presence, state.isWritingDown)
        }
        // What is being written now would be there again once the real file is gone. The name leads here meanwhile.
        if isWritingDown { town.writeDown.writeNow([self]) }
        do throws(Errno) {
            try removeBeneath(in: parent)
        } catch {
            restore(former)
            throw error
        }
        town.liveness.forget(signal: path)
        if let runtime { town.liveness.forget(runtime) }
        directory.drop(self)
    }

    private func restore(_ former: Presence) {
        let journaled: Bool? = state.withLock { state in
            state.setAside(former)
            if case .present(let content) = former { return town.journal.append(.content(content), at: path) }
            _ = town.journal.append(.settled, at: path)
            return nil
        }
        if let journaled { scheduleWriteDown(isJournaled: journaled) }
    }

    /// Notes that the file's directory is no longer at its path, and the real file has gone with it.
    ///
    /// Another signal file begins where it is now, if one can lie there. Who still has this one open writes to nothing:
    /// by its path, it must not come back.
    ///
    /// - Returns: What the real file does not hold yet.
    func leave() -> Content? {
        let unsettled: Content? = state.withLock { state in
            defer {
                state.setAside(.removed)
                _ = town.journal.append(.settled, at: path)
            }
            guard case .present(let content) = state.presence, state.revision != state.settled else { return nil }
            return content
        }
        town.liveness.forget(signal: path)
        return unsettled
    }

    private func removeBeneath(in parent: Descriptor) throws(Errno) {
        do throws(Errno) {
            _ = try name.withPointer { (name) throws(Errno) in
                try retryingInterrupts { unlinkat(parent.rawValue, name, 0) }
            }
        } catch .noSuchFileOrDirectory {}
    }

    /// What a copy of the file would hold: its content, or that of the real file beneath.
    ///
    /// - Throws: ENOENT when there is no such file, EFBIG when the real one is larger than a document.
    func currentContent(in parent: Descriptor) throws(Errno) -> Content {
        let presence = state.withLock { $0.presence }
        if case .present(let content) = presence, isShown(content) { return content }
        guard case .beneath = presence, let content = try contentBeneathIfNeeded(in: parent) else {
            throw .noSuchFileOrDirectory
        }
        return content
    }

    // MARK: Writing down

    /// The content and its revision, for being written to the real file; nil when there is none.
    func beginWriteDown() -> (content: Content, revision: UInt64)? {
        state.withLock { state in
            guard case .present(let content) = state.presence else { return nil }
            state.isWritingDown = true
            return (content, state.revision)
        }
    }

    /// Notes that a write-down has ended.
    ///
    /// False when there is, or may be, more to write.
    func endWriteDown(of revision: UInt64, succeeded: Bool) -> Bool {
        state.withLock { state in
            state.isWritingDown = false
            if case .removed = state.presence { return true }
            guard succeeded, state.revision == revision else { return false }
            state.settled = revision
            _ = town.journal.append(.settled, at: path)
            return true
        }
    }
}

import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

/// One opening of a signal file: a snapshot to read, and a draft to write.
///
/// The snapshot is taken at open and never changes: any number of reads return one whole document. Other processes do
/// not see the draft until it is committed at close.
final class SignalOpenFile: OpenFile {
    /// A committed document, or the backing file, which is replaced and never written in place.
    struct Snapshot: Sendable {
        fileprivate enum Source: Sendable {
            case document([UInt8])
            case backing(Descriptor)
        }

        fileprivate let source: Source
        let status: FileStatus

        /// Nil for a large backing file.
        var document: [UInt8]? { if case .document(let bytes) = source { bytes } else { nil } }

        /// For a successor.
        init(document: [UInt8], status: FileStatus) {
            source = .document(document)
            self.status = status
        }

        /// For a successor: the backing file as it is now, which may have been replaced since.
        init(backing file: SignalFile, status: FileStatus, in parent: ParentDirectory) throws(Errno) {
            let directory = try parent.descriptor
            source = .backing(Descriptor(try file.name.open(in: directory.rawValue, O_RDONLY | O_NOFOLLOW)))
            self.status = status
        }

        init(of content: SignalFile.Content, as file: SignalFile) {
            source = .document(content.document.bytes)
            status = file.status(of: content)
        }

        /// Reads the document into memory, so that later reads do not wait for the backing file.
        ///
        /// A larger file is read when the caller reads it.
        init(of real: consuming BackingDocument, as file: SignalFile) throws(Errno) {
            status = file.status(of: real.status)
            if status.st_size <= Document.maximumSize, let bytes = try? real.bytes(), bytes.count == status.st_size {
                source = .document(bytes)
            } else {
                source = .backing(Descriptor(real.releaseDescriptor()))
            }
        }

        fileprivate var isBacking: Bool { if case .backing = source { true } else { false } }
    }

    enum Verdict {
        case unjudged
        case committed
        /// Rejected. `atClose` if a close(2) has reported it: most writers have no descriptor left then.
        case refused(Errno, atClose: Bool)
        /// Truncated and closed once. More may be written through another descriptor: a shell closes a duplicate before it
        /// writes. Committed at RELEASE.
        case flushed

        var isCommitted: Bool { if case .committed = self { true } else { false } }
        var isRefusedAtClose: Bool { if case .refused(_, atClose: true) = self { true } else { false } }
    }

    struct Draft {
        var bytes: [UInt8]
        /// The modification time that its writer has set since the last write.
        var modified: WallTime?
        /// Whether it was written to, and not only truncated.
        var isWritten = false
        /// Whether the last write was too large: `bytes` is not what the writer meant.
        var isTooLarge = false
        var verdict = Verdict.unjudged
        /// Counts changes: a verdict holds for one revision.
        var revision = 0

        mutating func resize(to size: Int) {
            if bytes.count > size {
                bytes.removeLast(bytes.count - size)
            } else {
                bytes.append(contentsOf: repeatElement(0, count: size - bytes.count))
            }
        }
    }

    private struct State {
        var inode: InodeNumber?
        /// The process of the opening thread, once it was read from `/proc`.
        var process: pid_t?
        var draft: Draft?
        /// The process that changed the draft last; at close no process may be looked at.
        var attributedCaller: AttributedCaller?
        var hasReadToTheEnd = false
        /// Whether `adoptContent` will read a file that the kernel writes to by itself.
        var hasLeftBehind = false
        /// Nil until it has a handle.
        var key: HandleKey?
    }

    let file: SignalFile
    /// Taken at open; its size is that of the file for the opener until it has read it.
    let snapshot: Snapshot
    /// The thread that opened it.
    let thread: pid_t
    /// Of open(2).
    let flags: CInt
    private let request: Request
    /// The directory of the backing file.
    private let parent: ParentDirectory
    private let state: Mutex<State>
    /// Held while the draft is judged and committed, before all other locks.
    ///
    /// RELEASE and the closing process's next request may come at once, and so may the closes of two duplicates.
    private let judging = Mutex(())

    private init(
        _ file: SignalFile, flags: CInt, _ snapshot: Snapshot, by request: Request, in parent: ParentDirectory,
        _ state: State
    ) {
        self.file = file
        self.flags = flags
        self.snapshot = snapshot
        self.request = request
        self.parent = parent
        self.state = Mutex(state)
        thread = request.thread
    }

    convenience init(
        of file: SignalFile, on inode: InodeNumber?, flags: CInt, snapshot: Snapshot, by request: Request,
        in parent: ParentDirectory
    ) {
        var state = State(inode: inode)
        if flags & O_TRUNC != 0, flags & O_ACCMODE != O_RDONLY {
            state.draft = Draft(bytes: [])
            state.attributedCaller = file.attributedCaller(request.thread)
        }
        self.init(file, flags: flags, snapshot, by: request, in: parent, state)
    }

    /// For a file that was renamed over the signal file, and may still be written to.
    convenience init(
        of file: SignalFile, on inode: InodeNumber, adopting bytes: [UInt8], snapshot: Snapshot, by request: Request,
        in parent: ParentDirectory
    ) {
        let draft = Draft(bytes: bytes, isWritten: true, verdict: .committed)
        self.init(file, flags: O_RDWR, snapshot, by: request, in: parent, State(inode: inode, draft: draft))
    }

    /// The same opening for another signal file, after a rename of the directory.
    convenience init(_ former: SignalOpenFile, of file: SignalFile, in parent: ParentDirectory) {
        var state = former.state.withLock { $0 }
        // The caller's working directory at that time is not known any more.
        state.attributedCaller = state.attributedCaller.map { attributedCaller in
            AttributedCaller(
                caller: attributedCaller.caller,
                attribution: Attribution(
                    of: attributedCaller.caller.claims, owner: file.owner, sessions: file.town.callers.sessionNames))
        }
        self.init(file, flags: former.flags, former.snapshot, by: former.request, in: parent, state)
    }

    /// For a successor.
    convenience init(
        restoring file: SignalFile, on inode: InodeNumber, flags: CInt, _ snapshot: Snapshot, _ draft: Draft?,
        by request: Request, in parent: ParentDirectory
    ) {
        var state = State(inode: inode, draft: draft)
        if draft != nil {
            // The caller may be in execve(2), closing the file: then it cannot be read, and is unknown.
            state.attributedCaller = file.attributedCaller(request.thread, isWaiting: false)
        }
        self.init(file, flags: flags, snapshot, by: request, in: parent, state)
    }

    func opened(as record: HandleRecord) {
        guard let key = record.key else { return }
        let draft = state.withLock { state in
            state.key = key
            return state.draft
        }
        var entries = EntryBuffer()
        Self.putOpening(
            of: key, flags: flags, request, snapshot, creating: file.ownershipWhileCreating, into: &entries)
        if let draft {
            Self.put(draft, of: key, into: &entries)
            // An adopted draft is the document already: a successor must not commit it at RELEASE.
            if draft.verdict.isCommitted {
                Self.put(draft.verdict, on: draft.revision, of: key, into: &entries)
            }
        }
        save(entries)
    }

    private func save(_ entries: borrowing EntryBuffer) {
        // Without room, a successor takes the file for closed.
        if !file.town.journal.append(entries) { file.town.log.warning("no memory to save open files") }
    }

    /// Whether a close may commit something.
    var isWritable: Bool { flags & O_ACCMODE != O_RDONLY }
    private var isReadable: Bool { flags & O_ACCMODE != O_WRONLY }

    /// The inode that was opened; nil until a file that is being created has one.
    var inode: InodeNumber? { state.withLock { $0.inode } }

    /// Sets the inode of a file that this open file created.
    func assign(_ inode: InodeNumber) {
        state.withLock { $0.inode = inode }
    }

    /// Whether an operation on it may wait for the backing tree.
    var mayReadBackingFile: Bool { snapshot.isBacking || state.withLock { $0.hasLeftBehind } }

    /// Announces a later `adoptContent`.
    func expectLeftBehind() { state.withLock { $0.hasLeftBehind = true } }

    /// The draft, unless it is committed.
    var uncommitted: [UInt8]? {
        state.withLock { $0.draft.flatMap { $0.verdict.isCommitted ? nil : $0.bytes } }
    }

    /// Whether the draft was written to.
    var hasBeenWritten: Bool { state.withLock { $0.draft?.isWritten ?? false } }

    /// The file's status for the process that has just opened it.
    var ownStatus: FileStatus {
        var status = snapshot.status
        if let draft = state.withLock({ $0.draft }) { status.st_size = off_t(draft.bytes.count) }
        return status
    }

    /// The process of the thread that opened it; nil if the thread ended before the first call, or has no number here.
    var process: pid_t? {
        if let known = state.withLock({ $0.process }) { return known }
        guard thread != 0, let process = ProcessFiles(number: thread).process() else { return nil }
        state.withLock { $0.process = process }
        return process
    }

    /// Whether it has a snapshot that has not been read to its end.
    var isUnread: Bool { isReadable && state.withLock { $0.draft == nil && !$0.hasReadToTheEnd } }

    /// Whether the caller sees the file that this has created and not committed: only its creator does.
    ///
    /// Callers of other pid namespaces have no number and cannot be told apart. After a close has rejected the draft
    /// the file does not exist, though RELEASE comes later.
    func showsFileBeingCreated(to request: Request) -> Bool {
        let isRefused = state.withLock { $0.draft?.verdict.isRefusedAtClose ?? false }
        return !isRefused && thread != 0 && ProcessIdentity.isSame(thread, request.thread)
    }

    func openReply(_ handle: FileHandle) -> OpenReply {
        OpenReply(handle: handle, ioMode: .direct, allowsPassthrough: true, needsFlush: isWritable)
    }

    // MARK: Reading

    func read(into room: UnsafeMutableRawBufferPointer, at offset: off_t) throws(Errno) -> Int {
        let draft = state.withLock { state in
            if offset >= snapshot.status.st_size - off_t(room.count) { state.hasReadToTheEnd = true }
            return state.draft?.bytes
        }
        if let draft { return room.copy(draft, from: offset) }
        switch snapshot.source {
        case .document(let bytes): return room.copy(bytes, from: offset)
        case .backing(let descriptor):
            return try retryingInterrupts { pread(descriptor.rawValue, room.baseAddress, room.count, offset) }
        }
    }

    /// Answers `SEEK_DATA` and `SEEK_HOLE` for a file without holes.
    func lseek(offset: off_t, whence: CInt) throws(Errno) -> off_t {
        let size = state.withLock { $0.draft.map { off_t($0.bytes.count) } } ?? snapshot.status.st_size
        guard offset >= 0, offset < size else { throw .noSuchAddressOrDevice }
        return whence == clinux_seek_hole ? size : offset
    }

    /// The file's status through this open file, if it differs from the common one: until the snapshot was read, and
    /// while the draft is not committed.
    ///
    /// - Parameter size: The size that other processes see; nil if they see no file.
    func status(unlessOfSize others: off_t?) -> FileStatus? {
        let size: off_t? = state.withLock { state in
            if let draft = state.draft {
                // A reader of another process must not see the size of half a document.
                guard thread != 0, !draft.verdict.isRefusedAtClose else { return nil }
                return draft.verdict.isCommitted && others != nil ? nil : off_t(draft.bytes.count)
            }
            return (state.hasReadToTheEnd || !isReadable) && others != nil ? nil : snapshot.status.st_size
        }
        guard let size, size != others else { return nil }
        var status = snapshot.status
        status.st_size = size
        status.st_blocks = (size + 511) / 512
        if file.isRemoved { status.st_nlink = 0 }
        return status
    }

    /// Whether something is to be read or committed yet.
    var isInUse: Bool {
        state.withLock { state in
            guard let verdict = state.draft?.verdict else { return isReadable && !state.hasReadToTheEnd }
            return !verdict.isCommitted && !verdict.isRefusedAtClose
        }
    }

    /// Whether this and all other processes see the same, now and later.
    func agrees(with current: FileStatus) -> Bool {
        let own = snapshot.status
        return !isWritable && own.st_size == current.st_size && WallTime(own.st_mtim) == WallTime(current.st_mtim)
    }

    // MARK: Writing

    /// Writes to the draft.
    ///
    /// - Throws: EFBIG beyond the size of a document.
    func write(
        _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, by request: Request
    ) throws(Errno) -> Int {
        try change(as: attributedCaller(request)) { (draft) throws(Errno) in
            let start = appending ? draft.bytes.count : Int(offset)
            guard start >= 0, start <= Document.maximumSize, bytes.count <= Document.maximumSize - start else {
                throw .fileTooLarge
            }
            let end = start + bytes.count
            if draft.bytes.count < end { draft.resize(to: end) }
            draft.bytes.replaceSubrange(start..<end, with: bytes)
            draft.isWritten = true
        }
        return bytes.count
    }

    /// Truncates the draft.
    func truncate(to size: off_t, by request: Request) throws(Errno) {
        guard size >= 0, size <= Document.maximumSize else { throw .fileTooLarge }
        try change(as: attributedCaller(request)) { $0.resize(to: Int(size)) }
    }

    /// Adopts what the kernel has written by itself to a file that was registered for passthrough when it was renamed
    /// here.
    func adoptContent(of left: OpenHandle.LeftBehind) {
        // If it cannot be read, the content from the time of the rename stays.
        guard let bytes = try? BackingDocument(left.file.path.ownedReopened(O_RDONLY)).bytes(), bytes != left.bytes
        else { return }
        try? change { draft in
            draft.bytes = bytes
            draft.isWritten = true
        }
    }

    /// The process whose touch a change of the draft will be.
    private func attributedCaller(_ request: Request) -> AttributedCaller? {
        file.attributedCaller(request.thread, after: state.withLock { $0.attributedCaller })
    }

    private func change(
        as attributedCaller: AttributedCaller? = nil, _ body: (inout Draft) throws(Errno) -> Void
    ) throws(Errno) {
        // Before the lock: it may be a system call.
        let initial = try state.withLock { $0.draft == nil } ? snapshotBytes() : []
        try state.withLock { (state) throws(Errno) in
            var draft = state.draft ?? Draft(bytes: initial)
            do throws(Errno) {
                try body(&draft)
                draft.isTooLarge = false
            } catch {
                // There is no draft yet: the file stays as it is.
                guard state.draft != nil else { throw error }
                draft.isTooLarge = true
            }
            draft.modified = nil
            draft.verdict = .unjudged
            draft.revision += 1
            state.draft = draft
            if let key = state.key {
                var entries = EntryBuffer()
                Self.put(draft, of: key, into: &entries)
                save(entries)
            }
            if let attributedCaller { state.attributedCaller = attributedCaller }
            if draft.isTooLarge { throw .fileTooLarge }
        }
    }

    private func snapshotBytes() throws(Errno) -> [UInt8] {
        switch snapshot.source {
        case .document(let bytes): return bytes
        case .backing(let descriptor):
            guard snapshot.status.st_size <= Document.maximumSize else { throw .fileTooLarge }
            return try BackingDocument.bytes(of: descriptor.rawValue, atMost: Int(snapshot.status.st_size))
        }
    }

    // MARK: Closing

    /// Commits the draft, at each close(2).
    ///
    /// - Throws: EINVAL if it is no document; again at the next close, unless more was written.
    func flush() throws(Errno) {
        do throws(Errno) {
            try judge(isLast: false)
        } catch {
            state.withLock { state in
                if case .refused = state.draft?.verdict { setVerdict(.refused(error, atClose: true), &state) }
            }
            throw error
        }
    }

    /// Commits the draft as a close does, and writes the document to the backing file and the disk.
    func fsync(dataOnly: Bool) throws(Errno) {
        try judge(isLast: false)
        if let failure = file.town.writeback.writeNow([file], isSynced: true) { throw failure }
    }

    /// Commits the draft after the last close.
    func close() {
        // There is no caller, and no reply. The rejection was counted and logged.
        try? judge(isLast: true)
        discard()
    }

    package func discard() {
        file.deregister(self)
        let (key, hasDraft) = state.withLock { ($0.key, $0.draft != nil) }
        guard let key else { return }
        var entries = EntryBuffer()
        Self.remove(key, hasDraft: hasDraft, from: &entries)
        save(entries)
    }

    /// Whether the draft was truncated, and closed once without being written to.
    var isFlushed: Bool { state.withLock { if case .flushed = $0.draft?.verdict { true } else { false } } }

    /// Commits such a draft, before the process that closed it looks at the file.
    func commitFlushed() {
        if isFlushed { try? judge(isLast: true) }
    }

    /// Sets the modification time of a draft that was written to and not closed yet: its close is the touch.
    ///
    /// - Parameter modified: Nil for now.
    /// - Returns: Whether there is such a draft.
    func setModified(_ modified: WallTime?, evenIfEmpty: Bool) -> Bool {
        state.withLock { state in
            guard var draft = state.draft, draft.isWritten || evenIfEmpty && draft.bytes.isEmpty else { return false }
            switch draft.verdict {
            case .unjudged: break
            case .flushed where !draft.isWritten: break
            case .committed, .refused, .flushed: return false
            }
            draft.modified = modified
            draft.revision += 1
            state.draft = draft
            if let key = state.key {
                var entries = EntryBuffer()
                Self.put(draft, of: key, into: &entries)
                save(entries)
            }
            return true
        }
    }

    /// Drops a truncated draft that was not written to, as its caller has touched the file by its times.
    func supersede() {
        state.withLock { state in
            guard let draft = state.draft, draft.bytes.isEmpty, !draft.isWritten else { return }
            setVerdict(.committed, &state)
        }
    }

    private func setVerdict(_ verdict: Verdict, _ state: inout State) {
        state.draft?.verdict = verdict
        guard let key = state.key, let revision = state.draft?.revision else { return }
        var entries = EntryBuffer()
        Self.put(verdict, on: revision, of: key, into: &entries)
        save(entries)
    }

    private func judge(isLast: Bool) throws(Errno) {
        try judging.withLock { (_) throws(Errno) in try judgeAlone(isLast: isLast) }
    }

    private func judgeAlone(isLast: Bool) throws(Errno) {
        let (draft, attributedCaller, key) = state.withLock { ($0.draft, $0.attributedCaller, $0.key) }
        guard let draft else { return }
        switch draft.verdict {
        case .committed: return
        case .refused(let error, _): throw error
        case .flushed where !isLast: return
        case .flushed, .unjudged: break
        }
        var verdict = Verdict.committed
        do throws(Errno) {
            if draft.isTooLarge { throw file.refuse(.tooLarge, by: request) }
            if draft.bytes.isEmpty, !draft.isWritten, !isLast {
                verdict = .flushed
            } else {
                try file.commit(
                    draft.bytes, modified: draft.modified, source: .written, by: request, as: attributedCaller,
                    in: parent
                ) { entries in
                    if let key { Self.put(.committed, on: draft.revision, of: key, into: &entries) }
                }
            }
        } catch {
            verdict = .refused(error, atClose: false)
        }
        state.withLock { state in
            guard state.draft?.revision == draft.revision else { return }
            // A commit has saved it together with the touch.
            if case .refused = verdict { setVerdict(verdict, &state) } else { state.draft?.verdict = verdict }
        }
        if case .refused(let error, _) = verdict { throw error }
    }
}

import Fuse
import Glibc
import Liveness
import Logging
import Synchronization
import SystemPackage

/// Changes of the content: touches, documents of other hosts, mode and owner.
extension SignalFile {
    // MARK: Touches

    /// Commits bytes as the file's new document, which is a touch.
    ///
    /// - Parameters:
    ///   - modified: The modification time of a file of kind `mtime`; nil for now.
    ///   - attributedCaller: The process that wrote them; nil if unknown.
    ///   - replacement: Mode and owner of a file that was renamed over this one.
    ///   - successor: A new file that takes the name; this one is unlinked then.
    ///   - save: Adds what is to be saved together with the touch.
    /// - Returns: False if the file was unlinked: nothing is committed.
    /// - Throws: EINVAL if they are no document, EFBIG if they are too many. The last document stays.
    @discardableResult
    func commit(
        _ bytes: [UInt8], modified: WallTime? = nil, source: Touch.Source, by request: Request,
        as attributedCaller: AttributedCaller?, in parent: ParentDirectory, replacement: Ownership? = nil,
        successor: SignalFile? = nil, saving save: (inout EntryBuffer) -> Void = { _ in }
    ) throws(Errno) -> Bool {
        // Looked at before the lock, as that reads `/proc`.
        let process = format.process(in: bytes).map {
            town.processes.examine($0, writtenBy: request, at: town.now.wall)
        }
        return try change(
            source, by: request, as: attributedCaller, in: parent, naming: process, modified: modified,
            replacement: replacement, successor: successor, saving: save
        ) { (previous, now) throws(Document.Rejection) in
            try format.judge(bytes, receivedAt: now, previous: previous, modified: modified)
        }
    }

    /// Commits a change of the file's times, which is a touch: of a document, only the timestamp changes.
    ///
    /// Does nothing for a file that is being created and was written to, or that the caller has written to and not closed:
    /// the close is the touch.
    ///
    /// - Parameter modified: The new time; nil for now.
    func touch(modified: WallTime?, by request: Request, in parent: ParentDirectory) throws(Errno) {
        let handles = state.withLock { $0.handles }
        let own = handles.filter { $0.thread == request.thread }
        // What was truncated is empty then, unless the kind keeps the content.
        let keepsContent = isBeingCreated || format.kind == .document || format.kind == .json
        // No short cut: each has its time set.
        let isWriting = own.map { $0.setModified(modified, evenIfEmpty: !keepsContent) }.contains(true)
        if isWriting || isBeingCreated && handles.contains(where: \.hasBeenWritten) { return }
        try change(.attributes, by: request, as: attributedCaller(request.thread), in: parent, modified: modified) {
            (previous, now) throws(Document.Rejection) in
            try format.refreshed(previous, at: now, modified: modified)
        }
        // touch(1) sets the times of the file that it has created and not written to.
        for handle in own { handle.supersede() }
    }

    /// - Parameters:
    ///   - process: The state of the process that the content names.
    ///   - modified: The modification time that the caller sets.
    ///   - judge: Returns the new content and what it tells.
    /// - Returns: Whether there was a change.
    @discardableResult
    private func change(
        _ source: Touch.Source, by request: Request, as attributedCaller: AttributedCaller?, in parent: ParentDirectory,
        naming process: NamedProcessState? = nil, modified: WallTime? = nil,
        replacement: Ownership? = nil, successor: SignalFile? = nil,
        saving save: (inout EntryBuffer) -> Void = { _ in },
        _ judge: (_ previous: Document?, _ now: WallTime) throws(Document.Rejection) -> SignalFormat.Judgement
    ) throws(Errno) -> Bool {
        if request.isRepeated, wasTouched(by: request) {
            // The worker may have ended before it watched the process.
            if let process, let owner { town.processes.watch(process, for: owner) }
            return true
        }
        let former = try backingContentIfNeeded(in: parent)
        let attributed = attributedCaller?.attribution ?? town.callers.attribution(of: nil, owner: owner)
        let now = town.now
        let change: (notification: InMemoryLivenessStore.Notification, attribution: Attribution)?
        do throws(Document.Rejection) {
            change = try state.withLock { (state) throws(Document.Rejection) in
                let previous: Content?
                var ownership: Ownership
                switch state.presence {
                case .unlinked: return nil
                case .creating(let chosen): (previous, ownership) = (nil, chosen)
                case .committed(let content): (previous, ownership) = (content, content.ownership)
                case .backing: (previous, ownership) = (former, former?.ownership ?? .ordinary(of: request))
                }
                if let replacement { ownership = replacement }
                let judgement = try judge(previous?.document, now.wall)
                if judgement.isFromFuture { town.counters.countFromFuture() }
                var document = judgement.document
                document.source = self.source(&state, ownership)
                var attribution = attributed.consulting(judgement.runtime)
                // A process that writes of itself writes for itself, whatever else its environment says.
                if case .running(let named, _) = process, case .onBehalf(let runtime, let evidence, _) = attribution,
                    named.pid == attributedCaller?.caller.process.pid
                {
                    attribution = .runtime(runtime, by: evidence)
                }
                var touch = Touch(
                    signal: path, runtime: attribution.runtime, receivedAt: now.wall,
                    at: now.instant, ttl: ttl, document: document, source: source, evidence: attribution.evidence,
                    writer: attribution.writer, process: attributedCaller?.caller.process, request: request.unique)
                touch.moveBack(by: now.wall - judgement.aliveAt)
                touch.announcedTTL = judgement.announcedTTL(receivedAt: now.wall)
                if case .running = process { touch.isHeld = true }
                let content = Content(
                    document: document, modified: format.kind == .mtime ? modified ?? now.wall : now.wall,
                    changed: now.wall, ownership: ownership, deadline: touch.deadline,
                    backingTime: previous?.backingTime, request: request.unique)
                if let successor {
                    // Complete before it can be found by name.
                    successor.state.withLock { $0.replacePresence(with: .committed(content)) }
                    guard directory.replace(self, with: successor) else { return nil }
                    state.replacePresence(with: .unlinked)
                } else {
                    state.replacePresence(with: .committed(content))
                }
                state.caching.recordChange(by: request.thread, at: now.instant)
                let notification = town.liveness.apply(touch) {
                    town.livenessLog.save(.content(content), at: path, and: save)
                }
                return (notification, attribution)
            }
        } catch {
            throw refuse(error, by: request)
        }
        guard let change else { return false }
        town.liveness.notify(change.notification)
        town.counters.countTouch(source)
        town.counters.count(change.attribution)
        if let runtime = change.attribution.runtime, let process {
            town.processes.watch(process, for: runtime)
        }
        if change.attribution.writer != nil {
            town.processes.recordActivity(request)
        } else if let attributedCaller, let runtime = change.attribution.runtime {
            town.processes.recordTouch(of: runtime, by: attributedCaller.caller)
        }
        // A touch that is lost with this process must not be reported as done.
        guard (successor ?? self).scheduleWriteback(isJournaled: change.notification.isSaved) else {
            throw .socketNotConnected
        }
        return true
    }

    /// Counts and logs a rejected document, and returns the errno for its writer.
    func refuse(_ rejection: Document.Rejection, by request: Request) -> Errno {
        town.counters.countRefused()
        town.rejections.record(rejection, of: path, by: request)
        return rejection == .tooLarge ? .fileTooLarge : .invalidArgument
    }

    /// Whether a file of this mode and owner must be another object when it is renamed over this one.
    ///
    /// A process that opened the file under the former mode or owner must not read the new content.
    func needsSuccessor(for replacement: Ownership, in parent: ParentDirectory) -> Bool {
        let presence = state.withLock { $0.presence }
        if case .creating(let ownership) = presence { return ownership != replacement }
        guard let status = try? status(of: presence, in: parent) else { return false }
        return Ownership(status) != replacement
    }

    // MARK: Refreshes

    /// Whether touches elsewhere change the document: a runtime's own heartbeat with `--activity=beat`.
    ///
    /// Tools that know only the file read the later of its timestamp and the runtime's last touch. They do not kill a
    /// busy runtime.
    var refreshesOnActivity: Bool { hasOwner && town.configuration.activity == .beat }

    /// Sets the document's timestamp to the runtime's last touch, if that is later and not ahead of the clock.
    ///
    /// The result is committed and written back: what tools have read is still there after an unmount or a crash.
    func refreshFromTouches(in parent: ParentDirectory) throws(Errno) {
        guard refreshesOnActivity, let owner,
            let record = town.liveness.record(of: owner),
            record.exit == nil, record.touch.writer == nil
        else { return }
        let former = try backingContentIfNeeded(in: parent)
        let time = record.touch.receivedAt
        let changed = town.now.wall
        commitWithoutTouch { state in
            guard var content = state.presence.isBacking ? former : state.presence.content, time > content.modified,
                content.document.timestamp.map({ $0 < time }) ?? true,
                let document = (try? format.refreshed(content.document, at: time))?.document
            else { return nil }
            content.document = document
            content.modified = time
            content.changed = changed
            content.deadline = max(content.deadline, record.deadline)
            return content
        }
    }

    // MARK: Other hosts

    /// Commits a document of another host, unless a later one is known here.
    ///
    /// It is validated as if it had been written here, at the time of the touch. Open files keep what they have.
    ///
    /// - Returns: Nil if the file was unlinked meanwhile.
    func receive(_ touch: Touch, in parent: ParentDirectory) throws(Errno) -> Void? {
        let judgement = touch.document.flatMap { document in
            try? format.judge(document.bytes, receivedAt: touch.receivedAt, previous: nil)
        }
        guard let document = judgement?.document else { return () }
        let former = try backingContentIfNeeded(in: parent)
        // A file that exists only because another host wrote it belongs to the owner of the directory.
        let directory = try parent.descriptor
        let owner = try FileStatus(of: directory.rawValue)
        let ordinary = Ownership(mode: 0o644, user: owner.st_uid, group: owner.st_gid)
        let changed = town.now.wall
        var isUnlinked = false
        commitWithoutTouch { state in
            var ownership = former?.ownership ?? ordinary
            var backingTime = former?.backingTime
            switch state.presence {
            case .unlinked:
                isUnlinked = true
                return nil
            case .creating(let makers): ownership = makers
            case .committed(let content):
                // Its record may have been swept.
                if town.liveness.record(ofSignal: path) == nil, content.modified >= touch.receivedAt { return nil }
                (ownership, backingTime) = (content.ownership, content.backingTime)
            case .backing:
                if let former, former.modified >= touch.receivedAt { return nil }
            }
            // Under the lock: file and table must agree on which touch was last.
            var received = touch
            received.document = document
            received.document?.source = source(&state, ownership)
            let age = format.kind == .mtime ? received.lateness : .zero
            let content = Content(
                document: document, modified: received.receivedAt + (.zero - age), changed: changed,
                ownership: ownership, deadline: received.deadline, backingTime: backingTime)
            let isNews = town.liveness.receive(received) { town.livenessLog.save(event(of: content), at: path) }
            return isNews ? content : nil
        }
        return isUnlinked ? nil : ()
    }

    // MARK: Mode and owner

    /// Changes mode or owner, which is no touch.
    ///
    /// - Returns: What carries them now.
    func changeOwnership(_ change: (inout Ownership) -> Void) -> OwnershipCarrier {
        var carrier = OwnershipCarrier.content
        let changed = town.now.wall
        commitWithoutTouch { state in
            switch state.presence {
            case .committed(var content):
                change(&content.ownership)
                content.changed = changed
                return content
            case .creating(var ownership):
                change(&ownership)
                state.presence = .creating(ownership)
            case .backing: carrier = .backingDocument
            case .unlinked: carrier = .nothing
            }
            return nil
        }
        return carrier
    }

    enum OwnershipCarrier {
        case content
        /// The backing file, as nothing was committed yet.
        case backingDocument
        /// The file is unlinked; its name may be another file's.
        case nothing
    }

    // MARK: Committing

    /// The source of a document that is committed now.
    private func source(_ state: inout State, _ ownership: Ownership) -> DocumentSource {
        if let source = state.source, source.ownership == ownership { return source }
        let source = DocumentSource(path: path, ownership: ownership)
        state.source = source
        return source
    }

    /// Commits a content, and schedules its write-back; a read-only mount shows it and does not write it back.
    ///
    /// - Parameter decide: Returns the new content, or nil for no change.
    private func commitWithoutTouch(_ decide: (inout State) -> Content?) {
        let isJournaled: Bool? = state.withLock { state in
            guard let content = decide(&state) else { return nil }
            state.replacePresence(with: .committed(content))
            let isJournaled = town.journal.append(event(of: content), at: path)
            return town.configuration.isReadOnly ? nil : isJournaled
        }
        if let isJournaled { scheduleWriteback(isJournaled: isJournaled) }
    }

    /// The journal's entry of a content that was not touched here.
    private func event(of content: Content) -> Journal.Event {
        town.configuration.isReadOnly ? .written(content) : .content(content)
    }

    /// Schedules a write-back, or writes at once if the journal is full or others read the backing file.
    ///
    /// - Returns: False if the town is closed, and the change will not reach the backing file.
    @discardableResult
    func scheduleWriteback(isJournaled: Bool) -> Bool {
        guard town.writeback.schedule(self) else { return false }
        if !isJournaled || town.isDetached { town.writeback.writeNow([self]) }
        return true
    }
}

extension SignalFile.Ownership {
    /// For a file that was created by a touch alone.
    fileprivate static func ordinary(of request: Request) -> Self {
        Self(mode: 0o644, user: request.callingUser, group: request.callingGroup)
    }
}

/// Logs rejected documents, once per writer and file.
///
/// A broken tool writes every few seconds. One line is enough to find it.
final class RejectionLog: Sendable {
    private struct Writer: Hashable {
        let thread: pid_t
        let user: uid_t
        let path: [UInt8]
    }

    /// How many writers are remembered; when there are more, all are forgotten.
    private static let capacity = 1024

    private let known = Mutex<Set<Writer>>([])
    private let log: Logger

    init(log: Logger) {
        self.log = log
    }

    func record(_ rejection: Document.Rejection, of path: [UInt8], by request: Request) {
        let isNew = known.withLock { known in
            if known.count >= Self.capacity { known.removeAll() }
            return known.insert(Writer(thread: request.thread, user: request.user, path: path)).inserted
        }
        guard isNew else { return }
        log.warning(
            "refused a write to \(String(printable: path)): \(rejection)",
            metadata: ["thread": "\(request.thread)", "user": "\(request.user)"])
    }
}

import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

extension SignalFile {
    /// Commits bytes as the file's new document, which is a touch.
    ///
    /// - Parameters:
    /// - attributedCaller: The process that wrote them; nil if unknown.
    /// - replacement: Mode and owner of a file that was renamed over this one.
    /// - successor: A new file that takes the name; this one is unlinked then.
    /// - Returns: False if the file was unlinked: nothing is committed.
    /// - Throws: EINVAL if they are no document, EFBIG if they are too many. The last document stays.
    @discardableResult
    func commit(
        _ bytes: [UInt8], source: Touch.Source, by request: Request, as attributedCaller: AttributedCaller?,
        in parent: ParentDirectory,
        replacement: Ownership? = nil, successor: SignalFile? = nil
    ) throws(Errno) -> Bool {
        let former = try backingContentIfNeeded(in: parent)
        return try change(
            by: request, as: attributedCaller, former: former, source: source, replacement: replacement,
            successor: successor
        ) {
            (previous, now) throws(Document.Rejection) in
            let judgement = try Document.judge(bytes, receivedAt: now, previous: previous, kind: kind)
            if judgement.outcome == .timestampFromFuture { town.counters.countFromFuture() }
            return (judgement.document, isWritten: judgement.outcome != .empty)
        }
    }

    /// Commits a change of the file's times, which is a touch: only the timestamp in the document changes.
    ///
    /// Does nothing for a file that is being created and was written to: its close is a touch.
    func touch(by request: Request, in parent: ParentDirectory) throws(Errno) {
        if isBeingCreated, state.withLock({ $0.handles }).contains(where: \.hasBeenWritten) { return }
        let former = try backingContentIfNeeded(in: parent)
        let attributedCaller = town.callers.attributedCaller(request.thread, of: path)
        try change(by: request, as: attributedCaller, former: former, source: .attributes, replacement: nil) {
            (previous, now) throws(Document.Rejection) in
            (try Document.refreshed(previous, at: now, kind: kind), isWritten: false)
        }
    }

    /// Commits an empty draft as a touch and keeps the document, as more may be written through another descriptor.
    ///
    /// Does nothing if there is no document: no reader meets an empty one.
    func touchKeepingDocument(by request: Request, as attributedCaller: AttributedCaller?, in parent: ParentDirectory)
        throws(Errno)
    {
        let former = try backingContentIfNeeded(in: parent)
        let hasDocument = state.withLock { state in
            if case .committed = state.presence { true } else { former != nil }
        }
        guard hasDocument else { return }
        try change(by: request, as: attributedCaller, former: former, source: .written, replacement: nil) {
            previous, _ in
            (previous ?? Document(), isWritten: false)
        }
    }

    /// - Parameter judge: Returns the new document, and whether the caller wrote it.
    @discardableResult
    private func change(
        by request: Request, as attributedCaller: AttributedCaller?, former: Content?, source: Touch.Source,
        replacement: Ownership?,
        successor: SignalFile? = nil,
        _ judge: (_ previous: Document?, _ now: WallTime) throws(Document.Rejection) -> (Document, isWritten: Bool)
    ) throws(Errno) -> Bool {
        let attributed = attributedCaller?.attribution ?? town.callers.attribution(of: nil, signal: path)
        let now = town.now
        let change: (isJournaled: Bool, notification: InMemoryLivenessStore.Notification, attribution: Attribution)?
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
                var (document, isWritten) = try judge(previous?.document, now.wall)
                document.source = self.source(&state, ownership)
                let attribution = isWritten ? attributed.consulting(document) : attributed
                let content = Content(
                    document: document, modified: now.wall, changed: now.wall, ownership: ownership,
                    deadline: now.instant + town.configuration.ttl, backingTime: previous?.backingTime)
                if let successor {
                    // Complete before it can be found by name.
                    successor.state.withLock { $0.replacePresence(with: .committed(content)) }
                    guard directory.replace(self, with: successor) else { return nil }
                    state.replacePresence(with: .unlinked)
                } else {
                    state.presence = .committed(content)
                    state.revision += 1
                }
                state.caching.recordChange(by: request.thread, at: now.instant)
                let notification = town.liveness.apply(
                    Touch(
                        signal: path, runtime: attribution.runtime, receivedAt: now.wall, at: now.instant,
                        ttl: town.configuration.ttl, document: document, source: source,
                        evidence: attribution.evidence, process: attributedCaller?.caller.process))
                return (town.journal.append(.content(content), at: path), notification, attribution)
            }
        } catch {
            throw refuse(error, by: request)
        }
        // An unlinked file accepts writes, and nothing comes of them.
        guard let change else { return false }
        town.liveness.notify(change.notification)
        town.counters.countTouch(source)
        town.counters.count(change.attribution)
        if let attributedCaller, let runtime = change.attribution.runtime {
            town.processes.recordTouch(of: runtime, by: attributedCaller.caller)
        }
        // A touch that is lost with this process must not be reported as done.
        guard (successor ?? self).scheduleWriteback(isJournaled: change.isJournaled) else { throw .socketNotConnected }
        return true
    }

    /// Whether a file of this mode and owner must be another object when it is renamed over this one.
    ///
    /// A process that opened the file under the former mode or owner must not read the new content.
    func needsSuccessor(for replacement: Ownership, in parent: ParentDirectory) -> Bool {
        let presence = state.withLock { $0.presence }
        if case .creating(let ownership) = presence { return ownership != replacement }
        guard let status = try? currentStatus(presence, in: parent) else { return false }
        return Ownership(mode: status.st_mode & 0o7777, user: status.st_uid, group: status.st_gid) != replacement
    }

    /// Counts and logs a rejected document, and returns the errno for its writer.
    func refuse(_ rejection: Document.Rejection, by request: Request) -> Errno {
        town.counters.countRefused()
        town.rejections.record(rejection, of: path, by: request)
        return rejection == .tooLarge ? .fileTooLarge : .invalidArgument
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

    /// The content of the backing file, if nothing was committed yet.
    ///
    /// A file that is no document or cannot be read is empty.
    func backingContentIfNeeded(in parent: ParentDirectory) throws(Errno) -> Content? {
        let isNeeded = state.withLock { if case .backing = $0.presence { true } else { false } }
        guard isNeeded else { return nil }
        let directory = try parent.descriptor
        let status: FileStatus
        do throws(Errno) {
            status = try name.withPointer { (name) throws(Errno) in try FileStatus(of: name, in: directory.rawValue) }
        } catch .noSuchFileOrDirectory {
            return nil
        }
        guard status.isRegularFile else { return nil }
        let bytes = (try? BackingDocument.open(name, in: directory.rawValue)?.bytes()) ?? []
        return Content(
            document: Document(bytes), modified: WallTime(status.st_mtim), changed: WallTime(status.st_ctim),
            ownership: Ownership(mode: status.st_mode & 0o7777, user: status.st_uid, group: status.st_gid),
            deadline: town.now.instant, backingTime: WallTime(status.st_mtim))
    }

    /// Changes mode or owner, which is no touch.
    ///
    /// - Returns: What carries them now.
    func changeOwnership(_ change: (inout Ownership) -> Void) -> OwnershipCarrier {
        var carrier = OwnershipCarrier.content
        let now = town.now
        let journaled: Bool? = state.withLock { state in
            switch state.presence {
            case .committed(var content):
                change(&content.ownership)
                content.changed = now.wall
                state.presence = .committed(content)
                state.revision += 1
                return town.journal.append(.content(content), at: path)
            case .creating(var ownership):
                change(&ownership)
                state.presence = .creating(ownership)
            case .backing:
                carrier = .backingDocument
            case .unlinked:
                carrier = .nothing
            }
            return nil
        }
        if let journaled { scheduleWriteback(isJournaled: journaled) }
        return carrier
    }

    enum OwnershipCarrier {
        case content
        /// The backing file, as nothing was committed yet.
        case backingDocument
        /// The file is unlinked; its name may be another file's.
        case nothing
    }
}

/// A runtime's own heartbeat with `--activity=beat`: tools that know only the file read the later of its timestamp and
/// the runtime's last touch. They do not kill a busy runtime.
extension SignalFile {
    /// Whether touches elsewhere change the document.
    var refreshesOnActivity: Bool { hasOwner && town.configuration.activity == .beat }

    /// Sets the document's timestamp to the runtime's last touch, if that is later.
    ///
    /// The result is committed and written back: what tools have read is still there after an unmount or a crash.
    func refreshFromTouches(in parent: ParentDirectory) throws(Errno) {
        guard refreshesOnActivity, let owner = town.callers.owner(of: path),
            let record = town.liveness.record(of: owner),
            record.exit == nil
        else { return }
        let former = try backingContentIfNeeded(in: parent)
        let changed = town.now.wall
        let journaled: Bool? = state.withLock { state in
            let content: Content
            switch state.presence {
            case .committed(let current): content = current
            case .backing: if let former { content = former } else { return nil }
            case .creating, .unlinked: return nil
            }
            guard let refreshed = content.refreshed(by: record, kind: kind, changed: changed) else { return nil }
            state.presence = .committed(refreshed)
            state.revision += 1
            // A read-only mount shows the change and leaves the backing file alone.
            return town.configuration.isReadOnly ? nil : town.journal.append(.content(refreshed), at: path)
        }
        if let journaled { scheduleWriteback(isJournaled: journaled) }
    }
}

extension SignalFile.Content {
    /// Nil if the last touch is no later than the document's timestamp, or if that is ahead of the clock.
    fileprivate func refreshed(by record: Record, kind: SignalKind, changed: WallTime) -> Self? {
        let time = record.touch.receivedAt
        guard time > modified, document.timestamp.map({ $0 < time }) ?? true,
            let document = try? Document.refreshed(document, at: time, kind: kind)
        else { return nil }
        var refreshed = self
        refreshed.document = document
        refreshed.modified = time
        refreshed.changed = changed
        refreshed.deadline = max(deadline, record.deadline)
        return refreshed
    }
}

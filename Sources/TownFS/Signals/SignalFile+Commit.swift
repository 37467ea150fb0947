import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

extension SignalFile {
    /// Judges bytes as the file's new document, and takes them for a touch.
    ///
    /// - Parameters:
    ///   - author: Who wrote them, whoever it was that closed the file; nil if that is not known.
    ///   - replacement: Mode and owner of a file that was renamed over this one.
    ///   - successor: The file of this name from then on, a new one, this one being unlinked by that.
    /// - Returns: False when the file has been removed: nothing comes of the bytes then.
    /// - Throws: EINVAL when they are no document: the last one stays. EFBIG when they are too many.
    @discardableResult
    func commit(
        _ bytes: [UInt8], source: Touch.Source, by request: Request, as attributedCaller: AttributedCaller?,
        in parent: Descriptor,
        replacement: Ownership? = nil, successor: SignalFile? = nil
    ) throws(Errno) -> Bool {
        let former = try contentBeneathIfNeeded(in: parent)
        return try change(
            by: request, as: attributedCaller, former: former, source: source, replacement: replacement,
            successor: successor
        ) {
            (previous, now) throws(Document.Rejection) in
            let judgement = try Document.judge(bytes, receivedAt: now, previous: previous, kind: kind)
            if judgement.outcome == .timestampFromFuture { town.counters.noteFromFuture() }
            return (judgement.document, isWritten: judgement.outcome != .empty)
        }
    }

    /// Takes a setting of the file's times for a touch: the document stays but for its timestamp.
    ///
    /// For a file that is just being made and has been written to, that says no more than the close which is to come.
    func touch(by request: Request, in parent: Descriptor) throws(Errno) {
        if isAwaited, state.withLock({ $0.handles }).contains(where: \.hasBeenWritten) { return }
        let former = try contentBeneathIfNeeded(in: parent)
        let attributedCaller = town.callers.attributedCaller(request.thread, of: path)
        try change(by: request, as: attributedCaller, former: former, source: .attributes, replacement: nil) {
            (previous, now) throws(Document.Rejection) in
            (try Document.refreshed(previous, at: now, kind: kind), isWritten: false)
        }
    }

    /// Takes an emptied draft that may yet be written to for a touch, and leaves the document alone.
    ///
    /// Does nothing where there is no document yet: nobody shall find an empty one.
    func touchKeepingDocument(by request: Request, as attributedCaller: AttributedCaller?, in parent: Descriptor)
        throws(Errno)
    {
        let former = try contentBeneathIfNeeded(in: parent)
        let hasDocument = state.withLock { state in
            if case .committed = state.presence { true } else { former != nil }
        }
        guard hasDocument else { return }
        try change(by: request, as: attributedCaller, former: former, source: .written, replacement: nil) {
            previous, _ in
            (previous ?? Document(), isWritten: false)
        }
    }

    /// - Parameter judge: Says what the document is from now on, and whether it is the caller's own words.
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
                let (document, isWritten) = try judge(previous?.document, now.wall)
                let attribution = isWritten ? attributed.consulting(document) : attributed
                let content = Content(
                    document: document, modified: now.wall, changed: now.wall, ownership: ownership,
                    deadline: now.instant + town.configuration.ttl, backingTime: previous?.backingTime)
                if let successor {
                    // Whole before anybody finds it.
                    successor.state.withLock { $0.setAside(.committed(content)) }
                    guard directory.replace(self, with: successor) else { return nil }
                    state.setAside(.unlinked)
                } else {
                    state.presence = .committed(content)
                    state.revision += 1
                }
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
        // A removed file is written to in vain, as any unlinked file is.
        guard let change else { return false }
        town.liveness.notify(change.notification)
        town.counters.countTouch(source)
        town.counters.note(change.attribution)
        if let attributedCaller, let runtime = change.attribution.runtime {
            town.processes.noteTouch(of: runtime, by: attributedCaller.caller)
        }
        // Nobody may take a touch for done that is lost with this process.
        guard (successor ?? self).scheduleWriteDown(isJournaled: change.isJournaled) else { throw .socketNotConnected }
        return true
    }

    /// Whether a file of this mode and owner that is renamed over this one has to be another file.
    ///
    /// Whoever was let in by the former mode or owner must not be let into what comes: as with any file, they keep the
    /// one that they had.
    func needsSuccessor(for replacement: Ownership, in parent: Descriptor) -> Bool {
        let presence = state.withLock { $0.presence }
        if case .creating(let ownership) = presence { return ownership != replacement }
        guard let status = try? currentStatus(presence, in: parent) else { return false }
        return Ownership(mode: status.st_mode & 0o7777, user: status.st_uid, group: status.st_gid) != replacement
    }

    /// Counts and logs what is no document, and returns what its writer is told.
    func refuse(_ rejection: Document.Rejection, by request: Request) -> Errno {
        town.counters.noteRefused()
        town.rejections.note(rejection, of: path, by: request)
        return rejection == .tooLarge ? .fileTooLarge : .invalidArgument
    }

    /// Has a change written back: later, or now if the journal had no room for it or others read the backing file.
    ///
    /// - Returns: False if the town is closed, and the change will not reach the backing file.
    @discardableResult
    func scheduleWriteDown(isJournaled: Bool) -> Bool {
        guard town.writeback.note(self) else { return false }
        if !isJournaled || town.isDetached { town.writeback.writeNow([self]) }
        return true
    }

    /// What the real file holds, when nothing has been touched yet.
    ///
    /// A file that is no document, or that may not be read, holds nothing.
    func contentBeneathIfNeeded(in parent: Descriptor) throws(Errno) -> Content? {
        let isNeeded = state.withLock { if case .backing = $0.presence { true } else { false } }
        guard isNeeded else { return nil }
        let status: FileStatus
        do throws(Errno) {
            status = try name.withPointer { (name) throws(Errno) in try FileStatus(of: name, in: parent.rawValue) }
        } catch .noSuchFileOrDirectory {
            return nil
        }
        guard status.isRegularFile else { return nil }
        let bytes = (try? BackingDocument.open(name, in: parent.rawValue)?.bytes()) ?? []
        return Content(
            document: Document(bytes), modified: WallTime(status.st_mtim), changed: WallTime(status.st_ctim),
            ownership: Ownership(mode: status.st_mode & 0o7777, user: status.st_uid, group: status.st_gid),
            deadline: town.now.instant, backingTime: WallTime(status.st_mtim))
    }

    /// Changes mode or owner, which touches nothing.
    ///
    /// - Returns: What carries them.
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
        if let journaled { scheduleWriteDown(isJournaled: journaled) }
        return carrier
    }

    enum OwnershipCarrier {
        case content
        /// There is no content yet: the real file must.
        case backingDocument
        /// The file is unlinked. What has its name now is another's.
        case nothing
    }
}

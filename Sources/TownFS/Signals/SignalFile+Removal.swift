import Glibc
import Liveness
import Synchronization
import SystemPackage

/// Ends of a file, and the write-back of its content.
extension SignalFile {
    // MARK: Unlinking

    /// Removes the file and the backing file.
    ///
    /// - Throws: ENOENT if it did not exist. If the backing file cannot be removed, the file stays.
    func remove(in parent: ParentDirectory) throws(Errno) {
        if !isBeingCreated { _ = try status(in: parent) }
        let (former, isWritingBack) = state.withLock { state in
            let former = state.presence
            return (former, unlink(&state))
        }
        do throws(Errno) {
            try removeBackingFile(in: parent, isWritingBack: isWritingBack)
        } catch {
            restore(former)
            throw error
        }
        town.liveness.forget(signal: path)
        if let owner { town.liveness.forget(owner) }
        endRemoval()
    }

    /// Removes the file because another host unlinked it, unless it was touched later.
    ///
    /// - Parameter time: When it was unlinked, by this host's clock.
    func receiveForget(stamp: HLCTimestamp, at time: WallTime, in parent: ParentDirectory) throws(Errno) {
        guard !town.configuration.isReadOnly else { return }
        let former = try backingContentIfNeeded(in: parent)
        let isWritingBack: Bool? = state.withLock { state in
            switch state.presence {
            case .unlinked: return nil
            // A file restored since, with its former times, is not the one that was unlinked.
            case .backing: if let former, max(former.modified, former.changed) > time { return nil }
            case .creating, .committed: break
            }
            let isCreating = state.presence.isCreating
            let isNews = town.liveness.receiveForget(.signal(SignalPath(bytes: path)), stamp: stamp) {
                if !isCreating { town.livenessLog.save(.unlinked, at: path) }
            }
            guard isNews else { return nil }
            // Its creator is about to commit something later.
            return isCreating ? nil : unlink(&state)
        }
        guard let isWritingBack else { return }
        try removeBackingFile(in: parent, isWritingBack: isWritingBack)
        endRemoval()
    }

    /// - Returns: Whether a write-back is in progress.
    private func unlink(_ state: inout State) -> Bool {
        state.replacePresence(with: .unlinked)
        _ = town.journal.append(.unlinked, at: path)
        return state.isWritingBack
    }

    private func removeBackingFile(in parent: ParentDirectory, isWritingBack: Bool) throws(Errno) {
        // A write-back in progress would create the backing file again. The name leads to this object until then.
        if isWritingBack { town.writeback.writeNow([self]) }
        let directory = try parent.descriptor
        do throws(Errno) {
            try name.unlink(in: directory.rawValue)
        } catch .noSuchFileOrDirectory {}
    }

    /// Another file may take the name now: recovery must not remove it.
    private func endRemoval() {
        _ = town.journal.append(.clean, at: path)
        directory.drop(self)
    }

    private func restore(_ former: Presence) {
        let isJournaled: Bool? = state.withLock { state in
            state.replacePresence(with: former)
            if let content = former.content { return town.journal.append(.content(content), at: path) }
            _ = town.journal.append(.clean, at: path)
            return nil
        }
        if let isJournaled { scheduleWriteback(isJournaled: isJournaled) }
    }

    /// Unlinks the object of a file that was never touched or opened here: nothing has to be remembered about it.
    ///
    /// - Returns: Whether that was the case. A later caller gets a new object.
    func retire() -> Bool {
        state.withLock { state in
            guard state.presence.isBacking, state.handles.isEmpty else { return false }
            state.replacePresence(with: .unlinked)
            return true
        }
    }

    /// Unlinks the object because its directory has left its path, with the backing file in it.
    ///
    /// The file may become another signal file at its new path. A process that still has this one open writes to an
    /// unlinked file.
    ///
    /// - Returns: The content, if the backing file is behind.
    func leave() -> Content? {
        let dirty = state.withLock { state in
            let dirty = state.revision != state.clean ? state.presence.content : nil
            state.replacePresence(with: .unlinked)
            _ = town.journal.append(.clean, at: path)
            return dirty
        }
        // On other hosts the directory may still be where it was.
        town.liveness.drop(signal: path)
        return dirty
    }

    // MARK: Write-back

    /// The content and its revision, to be written back; nil if the backing file is up to date.
    ///
    /// - Parameter isSynced: Whether it must be synced to the disk, too.
    func beginWriteback(isSynced: Bool) -> (content: Content, revision: UInt64)? {
        state.withLock { state in
            guard let content = state.presence.content, state.revision != (isSynced ? state.synced : state.clean) else {
                return nil
            }
            state.isWritingBack = true
            return (content, state.revision)
        }
    }

    /// Ends a write-back.
    ///
    /// - Parameter backingTime: `st_mtim` of the backing file that was written; nil if a newer one was left alone.
    /// - Returns: False if there is, or may be, more to write.
    func endWriteback(of revision: UInt64, isSynced: Bool, succeeded: Bool, backingTime: WallTime?) -> Bool {
        state.withLock { state in
            state.isWritingBack = false
            if state.presence.isUnlinked { return true }
            if let backingTime, var content = state.presence.content {
                content.backingTime = backingTime
                state.presence = .committed(content)
                // A recovery must know it of a later document, too.
                if state.revision != revision { _ = town.journal.append(.content(content), at: path) }
            }
            guard succeeded, state.revision == revision else { return false }
            state.clean = revision
            if isSynced { state.synced = revision }
            if let content = state.presence.content { _ = town.journal.append(.written(content), at: path) }
            return true
        }
    }
}

import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

extension SignalFile {
    // MARK: Going away

    /// Removes the file and the backing file.
    ///
    /// - Throws: ENOENT if it did not exist. If the backing file cannot be removed, the file stays.
    func remove(in parent: ParentDirectory) throws(Errno) {
        if !isBeingCreated { _ = try status(in: parent) }
        let (former, isWritingBack) = state.withLock { state in
            defer { state.replacePresence(with: .unlinked) }
            _ = town.journal.append(.unlinked, at: path)
            return (state.presence, state.isWritingBack)
        }
        // A write-back in progress would create the backing file again. The name leads to this object until then.
        if isWritingBack { town.writeback.writeNow([self]) }
        do throws(Errno) {
            try removeBackingFile(in: parent)
        } catch {
            restore(former)
            throw error
        }
        town.liveness.forget(signal: path)
        if let owner = town.callers.owner(of: path) { town.liveness.forget(owner) }
        // Another file may take the name. Recovery must not remove it.
        _ = town.journal.append(.clean, at: path)
        directory.drop(self)
    }

    /// Whether the file was created and not closed yet.
    var isBeingCreated: Bool {
        state.withLock { if case .creating = $0.presence { true } else { false } }
    }

    /// Unlinks the object of a file that was never touched or opened here: nothing has to be remembered about it.
    ///
    /// - Returns: Whether that was the case. A later caller gets a new object.
    func retire() -> Bool {
        state.withLock { state in
            guard case .backing = state.presence, state.handles.isEmpty else { return false }
            state.replacePresence(with: .unlinked)
            return true
        }
    }

    private func restore(_ former: Presence) {
        let journaled: Bool? = state.withLock { state in
            state.replacePresence(with: former)
            if case .committed(let content) = former { return town.journal.append(.content(content), at: path) }
            _ = town.journal.append(.clean, at: path)
            return nil
        }
        if let journaled { scheduleWriteback(isJournaled: journaled) }
    }

    /// Unlinks the object because its directory has left its path, with the backing file in it.
    ///
    /// The file may become another signal file at its new path. A process that still has this one open writes to an
    /// unlinked file.
    ///
    /// - Returns: The content, if the backing file is behind.
    func leave() -> Content? {
        let unsettled: Content? = state.withLock { state in
            defer {
                state.replacePresence(with: .unlinked)
                _ = town.journal.append(.clean, at: path)
            }
            guard case .committed(let content) = state.presence, state.revision != state.clean else { return nil }
            return content
        }
        // On other hosts the directory may still be where it was.
        town.liveness.drop(signal: path)
        return unsettled
    }

    func removeBackingFile(in parent: ParentDirectory) throws(Errno) {
        let directory = try parent.descriptor
        do throws(Errno) {
            _ = try name.withPointer { (name) throws(Errno) in
                try retryingInterrupts { unlinkat(directory.rawValue, name, 0) }
            }
        } catch .noSuchFileOrDirectory {}
    }

    /// The committed content, or that of the backing file.
    ///
    /// - Throws: ENOENT if there is no such file, EFBIG if the backing file is larger than a document.
    func currentContent(in parent: ParentDirectory) throws(Errno) -> Content {
        let presence = state.withLock { $0.presence }
        if case .committed(let content) = presence, isShown(content) { return content }
        guard case .backing = presence, let content = try backingContentIfNeeded(in: parent) else {
            throw .noSuchFileOrDirectory
        }
        return content
    }

    // MARK: Writing down

    /// The content and its revision, to be written back; nil if the backing file is up to date.
    ///
    /// - Parameter isDurable: Whether it must be synced to the disk, too.
    func beginWriteback(isSynced: Bool) -> (content: Content, revision: UInt64)? {
        state.withLock { state in
            let written = isSynced ? state.synced : state.clean
            guard case .committed(let content) = state.presence, state.revision != written else { return nil }
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
            if case .unlinked = state.presence { return true }
            if let backingTime, case .committed(var content) = state.presence {
                content.backingTime = backingTime
                state.presence = .committed(content)
                // A recovery must know it of a later document, too.
                if state.revision != revision { _ = town.journal.append(.content(content), at: path) }
            }
            guard succeeded, state.revision == revision else { return false }
            state.clean = revision
            if isSynced { state.synced = revision }
            _ = town.journal.append(.clean, at: path)
            return true
        }
    }
}

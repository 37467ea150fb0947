import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

extension SignalFile {
    // MARK: Going away

    /// Removes the file, here and beneath.
    ///
    /// - Throws: ENOENT when it was not there, or what keeps the real file from being removed; then it stays.
    func remove(in parent: Descriptor) throws(Errno) {
        if !isAwaited { _ = try status(in: parent) }
        let (former, isWritingDown) = state.withLock { state in
            defer { state.setAside(.unlinked) }
            _ = town.journal.append(.unlinked, at: path)
            return (state.presence, state.isWritingDown)
        }
        // What is being written now would be there again once the real file is gone. The name leads here meanwhile.
        if isWritingDown { town.writeback.writeNow([self]) }
        do throws(Errno) {
            try removeBeneath(in: parent)
        } catch {
            restore(former)
            throw error
        }
        town.liveness.forget(signal: path)
        if let owner = town.callers.owner(of: path) { town.liveness.forget(owner) }
        // The name may be anything from now on, and no recovery shall remove that.
        _ = town.journal.append(.clean, at: path)
        directory.drop(self)
    }

    /// Whether somebody has made the file and not closed it yet.
    var isAwaited: Bool {
        state.withLock { if case .creating = $0.presence { true } else { false } }
    }

    /// Removes a file to which nothing was ever done here: to know of it is of no use.
    ///
    /// - Returns: Whether it was such a file. Whoever was about to make something of it takes another.
    func retire() -> Bool {
        state.withLock { state in
            guard case .backing = state.presence, state.handles.isEmpty else { return false }
            state.setAside(.unlinked)
            return true
        }
    }

    private func restore(_ former: Presence) {
        let journaled: Bool? = state.withLock { state in
            state.setAside(former)
            if case .committed(let content) = former { return town.journal.append(.content(content), at: path) }
            _ = town.journal.append(.clean, at: path)
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
                state.setAside(.unlinked)
                _ = town.journal.append(.clean, at: path)
            }
            guard case .committed(let content) = state.presence, state.revision != state.clean else { return nil }
            return content
        }
        // Elsewhere, the directory may still be where it was.
        town.liveness.drop(signal: path)
        return unsettled
    }

    func removeBeneath(in parent: Descriptor) throws(Errno) {
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
        if case .committed(let content) = presence, isShown(content) { return content }
        guard case .backing = presence, let content = try contentBeneathIfNeeded(in: parent) else {
            throw .noSuchFileOrDirectory
        }
        return content
    }

    // MARK: Writing down

    /// The content and its revision, for being written to the real file; nil when that holds it.
    ///
    /// - Parameter isDurable: Whether it shall be on the disk, too: what was written for less than that is not.
    func beginWriteDown(isDurable: Bool) -> (content: Content, revision: UInt64)? {
        state.withLock { state in
            let written = isDurable ? state.synced : state.clean
            guard case .committed(let content) = state.presence, state.revision != written else { return nil }
            state.isWritingDown = true
            return (content, state.revision)
        }
    }

    /// Ends a write-back.
    ///
    /// - Parameter backingTime: `st_mtim` of the backing file that was written; nil if a newer one was left alone.
    /// - Returns: False if there is, or may be, more to write.
    func endWriteDown(of revision: UInt64, isDurable: Bool, succeeded: Bool, backingTime: WallTime?) -> Bool {
        state.withLock { state in
            state.isWritingDown = false
            if case .unlinked = state.presence { return true }
            if let backingTime, case .committed(var content) = state.presence {
                content.backingTime = backingTime
                state.presence = .committed(content)
                // A recovery must know it of a later document, too.
                if state.revision != revision { _ = town.journal.append(.content(content), at: path) }
            }
            guard succeeded, state.revision == revision else { return false }
            state.clean = revision
            if isDurable { state.synced = revision }
            _ = town.journal.append(.clean, at: path)
            return true
        }
    }
}

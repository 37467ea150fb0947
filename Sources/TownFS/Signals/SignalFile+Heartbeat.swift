import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// A runtime's own heartbeat, where work counts as a beat (`--activity=beat`): tools that know only the file read in it
/// the later of its own timestamp and the last sign of life of that runtime, and do not kill who is busy.
extension SignalFile {
    /// Whether it may change without anybody's writing to it.
    var refreshesOnActivity: Bool { hasOwner && town.configuration.activity == .beat }

    /// Gives the document the time of the last sign of life, if that is later.
    ///
    /// From then on it is the file's content, which is written down like any other: what tools have read they find again
    /// after an unmount or a crash.
    func catchUp(in parent: ParentDirectory) throws(Errno) {
        guard refreshesOnActivity, let owner = town.callers.owner(of: path),
            let record = town.liveness.record(of: owner),
            record.exit == nil
        else { return }
        let former = try contentBeneathIfNeeded(in: parent)
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
            // A mount that may not change the town shows it and leaves the real file alone.
            return town.configuration.isReadOnly ? nil : town.journal.append(.content(refreshed), at: path)
        }
        if let journaled { scheduleWriteDown(isJournaled: journaled) }
    }
}

extension SignalFile.Content {
    /// Nil if the last sign of life is no later than what the document says itself, or its writer's clock is ahead.
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

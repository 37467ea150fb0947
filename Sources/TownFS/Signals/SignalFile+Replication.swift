import Fuse
import Glibc
import Liveness
import SystemPackage

/// Changes from other hosts that share the town.
extension SignalFile {
    /// Commits a document of another host, unless a later one is known here.
    ///
    /// It is validated as if it had been written here, at the time of the touch. Open files keep what they have.
    ///
    /// - Returns: Nil if the file was unlinked meanwhile.
    func receive(_ touch: Touch, in parent: ParentDirectory) throws(Errno) -> Void? {
        var touch = touch
        let judgement = touch.document.flatMap { document in
            try? Document.judge(document.bytes, receivedAt: touch.receivedAt, previous: nil, kind: kind)
        }
        guard let document = judgement?.document else { return () }
        touch.document = document
        let received = touch
        let former = try backingContentIfNeeded(in: parent)
        let ofDirectory = try Ownership(ofOthersIn: parent.descriptor)
        let now = town.now
        let (isThere, journaled): (Bool, Bool?) = state.withLock { state in
            let ownership: Ownership
            var backingTime = former?.backingTime
            switch state.presence {
            case .unlinked: return (false, nil)
            case .creating(let makers): ownership = makers
            case .committed(let content):
                // Its record may have been swept.
                if town.liveness.record(ofSignal: path) == nil, content.modified >= received.receivedAt {
                    return (true, nil)
                }
                ownership = content.ownership
                backingTime = content.backingTime
            case .backing:
                if let former, former.modified >= received.receivedAt { return (true, nil) }
                ownership = former?.ownership ?? ofDirectory
            }
            // Under the lock: file and table must agree on which touch was last.
            var received = received
            received.document?.source = source(&state, ownership)
            guard town.liveness.receive(received) else { return (true, nil) }
            let content = Content(
                document: document, modified: received.receivedAt, changed: now.wall, ownership: ownership,
                deadline: received.deadline, backingTime: backingTime)
            state.presence = .committed(content)
            state.revision += 1
            // A read-only mount shows the change and leaves the backing file alone.
            if town.configuration.isReadOnly { return (true, nil) }
            return (true, town.journal.append(.content(content), at: path))
        }
        if let journaled { scheduleWriteback(isJournaled: journaled) }
        return isThere ? () : nil
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
            guard town.liveness.receiveForget(.signal(SignalPath(bytes: path)), stamp: stamp) else { return nil }
            // Its creator is about to commit something later.
            if case .creating = state.presence { return nil }
            state.replacePresence(with: .unlinked)
            _ = town.journal.append(.unlinked, at: path)
            return state.isWritingBack
        }
        guard let isWritingBack else { return }
        // A write-back in progress would create the backing file again.
        if isWritingBack { town.writeback.writeNow([self]) }
        try removeBackingFile(in: parent)
        _ = town.journal.append(.clean, at: path)
        directory.drop(self)
    }
}

extension SignalFile.Ownership {
    /// For a file that exists only because another host wrote it: it belongs to the owner of the directory.
    fileprivate init(ofOthersIn directory: Descriptor) throws(Errno) {
        let status = try FileStatus(of: directory.rawValue)
        self.init(mode: 0o644, user: status.st_uid, group: status.st_gid)
    }
}

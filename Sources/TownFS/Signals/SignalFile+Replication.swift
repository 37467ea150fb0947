import Fuse
import Glibc
import Liveness
import SystemPackage

/// What others who share the town's name do to the file.
extension SignalFile {
    /// Takes in a document written elsewhere, unless something later is known here.
    ///
    /// It is judged as if it had been written here, at the time of the touch: whoever writes to the mirror's server writes
    /// to this file, too. Who has the file open goes on with what they have.
    ///
    /// - Returns: Nil when the file has been removed meanwhile.
    func receive(_ touch: Touch, in parent: Descriptor) throws(Errno) -> Void? {
        var touch = touch
        let judgement = touch.document.flatMap { document in
            try? Document.judge(document.bytes, receivedAt: touch.receivedAt, previous: nil, kind: kind)
        }
        guard let document = judgement?.document else { return () }
        touch.document = document
        let received = touch
        let former = try contentBeneathIfNeeded(in: parent)
        let ofDirectory = try Ownership(ofOthersIn: parent)
        let now = town.now
        let (isThere, journaled): (Bool, Bool?) = state.withLock { state in
            let ownership: Ownership
            var backingTime = former?.backingTime
            switch state.presence {
            case .unlinked: return (false, nil)
            case .creating(let makers): ownership = makers
            case .committed(let content):
                // Its record may have been swept since.
                if town.liveness.record(ofSignal: path) == nil, content.modified >= received.receivedAt {
                    return (true, nil)
                }
                ownership = content.ownership
                backingTime = content.backingTime
            case .backing:
                if let former, former.modified >= received.receivedAt { return (true, nil) }
                ownership = former?.ownership ?? ofDirectory
            }
            // Under the lock, so that file and table agree on which came last.
            guard town.liveness.receive(received) else { return (true, nil) }
            let content = Content(
                document: document, modified: received.receivedAt, changed: now.wall, ownership: ownership,
                deadline: received.deadline, backingTime: backingTime)
            state.presence = .committed(content)
            state.revision += 1
            // A mount that may not change the town shows it and leaves the real file alone.
            if town.configuration.isReadOnly { return (true, nil) }
            return (true, town.journal.append(.content(content), at: path))
        }
        if let journaled { scheduleWriteDown(isJournaled: journaled) }
        return isThere ? () : nil
    }

    /// Removes the file because it was unlinked elsewhere, unless it was touched later.
    ///
    /// - Parameter time: When it was unlinked, by our clock.
    func receiveForget(stamp: HLCTimestamp, at time: WallTime, in parent: Descriptor) throws(Errno) {
        guard !town.configuration.isReadOnly else { return }
        let former = try contentBeneathIfNeeded(in: parent)
        let isWritingDown: Bool? = state.withLock { state in
            switch state.presence {
            case .unlinked: return nil
            // Restored since, with the times of before, it is not what was unlinked.
            case .backing: if let former, max(former.modified, former.changed) > time { return nil }
            case .creating, .committed: break
            }
            guard town.liveness.receiveForget(.signal(SignalPath(bytes: path)), stamp: stamp) else { return nil }
            // Its maker is about to write what is later than this.
            if case .creating = state.presence { return nil }
            state.setAside(.unlinked)
            _ = town.journal.append(.unlinked, at: path)
            return state.isWritingDown
        }
        guard let isWritingDown else { return }
        // What is being written now would be there again once the real file is gone.
        if isWritingDown { town.writeback.writeNow([self]) }
        try removeBeneath(in: parent)
        _ = town.journal.append(.clean, at: path)
        directory.drop(self)
    }
}

extension SignalFile.Ownership {
    /// That of a file that is here only because somebody wrote it elsewhere: whoever has the directory may write it.
    fileprivate init(ofOthersIn directory: Descriptor) throws(Errno) {
        let status = try FileStatus(of: directory.rawValue)
        self.init(mode: 0o644, user: status.st_uid, group: status.st_gid)
    }
}

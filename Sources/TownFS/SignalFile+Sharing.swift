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
    func receive(_ touch: Touch, in parent: Descriptor) -> Void? {
        var touch = touch
        let judgement = touch.document.flatMap { document in
            try? Document.judge(document.bytes, receivedAt: touch.receivedAt, previous: nil, kind: kind)
        }
        guard let document = judgement?.document else { return () }
        touch.document = document
        let received = touch
        let former = try? contentBeneathIfNeeded(in: parent)
        let (isThere, journaled): (Bool, Bool?) = state.withLock { state in
            let ownership: Ownership
            switch state.presence {
            case .removed: return (false, nil)
            // Its maker is about to write what is later than this.
            case .awaited: return (true, nil)
            case .present(let content): ownership = content.ownership
            case .beneath:
                if let former, former.modified >= touch.receivedAt { return (true, nil) }
                ownership = former?.ownership ?? .ofOthers
            }
            // Under the lock, so that file and table agree on which came last.
            guard town.liveness.receive(received) else { return (true, nil) }
            let content = Content(
                document: document, modified: touch.receivedAt, changed: town.now.wall, ownership: ownership,
                deadline: touch.deadline)
            state.presence = .present(content)
            state.revision += 1
            return (true, town.journal.append(.content(content), at: path))
        }
        if let journaled { scheduleWriteDown(isJournaled: journaled) }
        return isThere ? () : nil
    }

    /// Removes the file because it was unlinked elsewhere, unless it was touched later.
    func receiveForget(stamp: Stamp, in parent: Descriptor) throws(Errno) -> Void? {
        let former = try? contentBeneathIfNeeded(in: parent)
        if let former, former.modified > stamp.time { return () }
        guard town.liveness.receiveForget(.signal(SignalPath(bytes: path)), stamp: stamp) else { return () }
        do throws(Errno) {
            try remove(in: parent, isLocal: false)
        } catch .noSuchFileOrDirectory {}
        return ()
    }
}

extension SignalFile.Ownership {
    /// That of a file that is here only because somebody wrote it elsewhere: the town's own user's.
    fileprivate static var ofOthers: Self {
        Self(mode: 0o644, user: geteuid(), group: getegid())
    }
}

import Fuse
import Glibc
import Liveness
import SystemPackage

/// A runtime's own heartbeat, where work counts as a beat (`--activity=beat`): tools that know only the file read in it
/// the later of its own timestamp and the last sign of life of that runtime, and do not kill who is busy.
///
/// What is kept and written down stays what the runtime wrote.
extension SignalFile {
    /// Whether it may change without anybody's writing to it.
    var beats: Bool { hasOwner && town.configuration.activity == .beat }

    /// The content with a sign of life that is later than it; nil if there is none.
    func livelier(than content: Content) -> Content? {
        guard let record = signOfLife(after: content.modified),
            let document = try? Document.refreshed(content.document, at: record.touch.receivedAt, kind: kind)
        else { return nil }
        // Its writer's clock may be ahead.
        if let own = content.document.timestamp, own >= record.touch.receivedAt { return nil }
        var content = content
        content.document = document
        content.modified = record.touch.receivedAt
        content.changed = max(content.changed, record.touch.receivedAt)
        content.deadline = max(content.deadline, record.deadline)
        return content
    }

    /// The same of a real file that nobody has touched since the mount.
    ///
    /// One that is too large for a document is left alone.
    func livelier(than real: FileStatus, in parent: Descriptor) throws(Errno) -> Content? {
        guard signOfLife(after: WallTime(real.st_mtim)) != nil, real.st_size <= Document.maximumSize,
            let content = try contentBeneathIfNeeded(in: parent)
        else { return nil }
        return livelier(than: content)
    }

    private func signOfLife(after time: WallTime) -> Record? {
        guard beats, let owner = town.callers.owner(of: path), let record = town.liveness.record(of: owner),
            record.exit == nil, record.touch.receivedAt > time
        else { return nil }
        return record
    }
}

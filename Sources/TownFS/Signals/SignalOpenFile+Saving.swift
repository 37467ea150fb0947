import Fuse
import Glibc
import Liveness
import Logging
import SystemPackage

/// Open signal files in the log: what a successor needs of each, under its `HandleKey`.
///
/// Three entries, as they change at different times: the opening with its snapshot, the draft, and the verdict on a
/// revision of the draft. A verdict is saved together with the touch that it stands for, so that a repeated FLUSH does
/// not touch again.
extension SignalOpenFile {
    private static func put(_ kind: SharedLog.Kind, of handle: HandleKey, into entries: inout EntryBuffer) {
        entries.begin(kind)
        entries.put(handle.mount)
        entries.put(handle.handle)
        entries.endKey()
    }

    /// - Parameter creating: Mode and owner of a file that this opening has created.
    static func putOpening(
        of handle: HandleKey, flags: CInt, _ request: Request, _ snapshot: Snapshot, creating: SignalFile.Ownership?,
        into entries: inout EntryBuffer
    ) {
        // Nothing reads the snapshot of a file that is open for writing alone, but a change of a part of it.
        let isOverwritten = flags & O_TRUNC != 0 && flags & O_ACCMODE == O_WRONLY
        let bytes = isOverwritten ? [] : snapshot.document
        put(Journal.Kind.opening, of: handle, into: &entries)
        entries.put(flags)
        entries.put(request.user)
        entries.put(request.group)
        entries.put(request.thread)
        withUnsafeBytes(of: snapshot.status) { entries.put($0) }
        entries.put(creating == nil ? 0 : 1 as UInt8)
        entries.put(creating ?? SignalFile.Ownership(mode: 0, user: 0, group: 0))
        entries.put(bytes == nil ? 0 : 1 as UInt8)
        if let bytes { entries.put(bytes) }
        entries.end()
    }

    static func put(_ draft: Draft, of handle: HandleKey, into entries: inout EntryBuffer) {
        put(Journal.Kind.draft, of: handle, into: &entries)
        entries.put(UInt64(draft.revision))
        entries.put(draft.isWritten ? 1 : 0 as UInt8)
        entries.put(draft.isTooLarge ? 1 : 0 as UInt8)
        entries.put(draft.modified == nil ? 0 : 1 as UInt8)
        entries.put(draft.modified ?? .goZero)
        entries.put(draft.bytes)
        entries.end()
    }

    static func put(_ verdict: Verdict, on revision: Int, of handle: HandleKey, into entries: inout EntryBuffer) {
        put(Journal.Kind.verdict, of: handle, into: &entries)
        entries.put(UInt64(revision))
        let (code, error): (UInt8, CInt) =
            switch verdict {
            case .unjudged, .flushed: (0, 0)
            case .committed: (1, 0)
            case .refused(let error, atClose: false): (3, error.rawValue)
            case .refused(let error, atClose: true): (4, error.rawValue)
            }
        entries.put(code)
        entries.put(error)
        entries.end()
    }

    static func remove(_ handle: HandleKey, hasDraft: Bool, from entries: inout EntryBuffer) {
        withUnsafeBytes(of: (handle.mount.littleEndian, handle.handle.littleEndian)) { key in
            entries.remove(Journal.Kind.opening, key: key)
            guard hasDraft else { return }
            entries.remove(Journal.Kind.draft, key: key)
            entries.remove(Journal.Kind.verdict, key: key)
        }
    }

    // MARK: Restoring

    /// All open signal files in the log, by handle.
    struct Saved {
        fileprivate var openings: [HandleKey: [UInt8]]
        fileprivate var drafts: [HandleKey: [UInt8]]
        fileprivate var verdicts: [HandleKey: [UInt8]]

        init(in log: SharedLog) {
            func entries(_ kind: SharedLog.Kind) -> [HandleKey: [UInt8]] {
                var found: [HandleKey: [UInt8]] = [:]
                for (key, value) in log.entries(kind) {
                    if let key = HandleKey(key) { found[key] = value }
                }
                return found
            }
            openings = entries(Journal.Kind.opening)
            drafts = entries(Journal.Kind.draft)
            verdicts = entries(Journal.Kind.verdict)
        }
    }

    /// An opening of an earlier process; nil if the log does not hold it.
    static func restored(
        _ handle: HandleKey, from saved: Saved, of file: SignalFile, on inode: InodeNumber, in parent: ParentDirectory
    ) -> SignalOpenFile? {
        guard let opening = saved.openings[handle] else { return nil }
        return opening.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            do throws(ByteReader.Malformed) {
                let flags = try reader.number(CInt.self)
                let request = Request(
                    user: try reader.number(uid_t.self), group: try reader.number(gid_t.self),
                    thread: try reader.number(pid_t.self))
                let status = try reader.bytes(MemoryLayout<FileStatus>.size).loadUnaligned(as: FileStatus.self)
                let isCreating = try reader.number(UInt8.self) == 1
                let ownership = try reader.ownership()
                let hasDocument = try reader.number(UInt8.self) == 1
                let snapshot: Snapshot
                if hasDocument {
                    snapshot = Snapshot(document: Array(reader.rest), status: status)
                } else if let other = try? Snapshot(backing: file, status: status, in: parent) {
                    snapshot = other
                } else {
                    return nil
                }
                let draft = try saved.drafts[handle].map { (draft) throws(ByteReader.Malformed) in
                    try restored(draft, saved.verdicts[handle])
                }
                if isCreating { file.restoreCreation(ownership) }
                return SignalOpenFile(
                    restoring: file, on: inode, flags: flags, snapshot, draft, by: request, in: parent)
            } catch {
                return nil
            }
        }
    }

    private static func restored(_ draft: [UInt8], _ verdict: [UInt8]?) throws(ByteReader.Malformed) -> Draft {
        var draft = try read(draft) { (reader) throws(ByteReader.Malformed) in
            let revision = Int(try reader.number(UInt64.self))
            let isWritten = try reader.number(UInt8.self) == 1
            let isTooLarge = try reader.number(UInt8.self) == 1
            let hasTime = try reader.number(UInt8.self) == 1
            let modified = try reader.wallTime()
            return Draft(
                bytes: Array(reader.rest), modified: hasTime ? modified : nil, isWritten: isWritten,
                isTooLarge: isTooLarge, revision: revision)
        }
        guard let verdict else { return draft }
        let (revision, found) = try read(verdict) { (reader) throws(ByteReader.Malformed) -> (Int, Verdict) in
            let revision = Int(try reader.number(UInt64.self))
            let code = try reader.number(UInt8.self)
            let error = Errno(rawValue: try reader.number(CInt.self))
            return switch code {
            case 1: (revision, .committed)
            case 3: (revision, .refused(error, atClose: false))
            case 4: (revision, .refused(error, atClose: true))
            default: (revision, .unjudged)
            }
        }
        if revision == draft.revision { draft.verdict = found }
        return draft
    }

    private static func read<Result>(
        _ bytes: [UInt8], _ body: (inout ByteReader) throws(ByteReader.Malformed) -> Result
    ) throws(ByteReader.Malformed) -> Result {
        let span = bytes.span
        return try span.withUnsafeBytes { (bytes) throws(ByteReader.Malformed) in
            var reader = ByteReader(bytes)
            return try body(&reader)
        }
    }
}

extension HandleKey {
    /// Nil for other bytes.
    fileprivate init?(_ bytes: [UInt8]) {
        guard bytes.count == 16 else { return nil }
        (mount, handle) = bytes.withUnsafeBytes { bytes in
            (
                UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)),
                UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            )
        }
    }
}

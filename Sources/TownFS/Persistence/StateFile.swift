import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage

/// What a town knows of its runtimes, in a file for the next mount: last touches, ends, forgets, root processes.
///
///     magic │ boot id │ wall time (12) │ time since boot (16) │ entries, as in `EntryBuffer` │ FNV-1a of all that (8)
package struct StateFile: Sendable {
    /// Why a file is not used.
    package enum Failure: Error {
        /// It is of another version, damaged, or of the future.
        case unusable
        case unreadable(Errno)
    }

    /// What was restored.
    package struct Restored: Sendable {
        package var runtimes = 0
        package var forgotten = 0
        /// When it was saved.
        package var savedAt = WallTime(seconds: 0)
    }

    private static let magic = Array("pulsefs state 2\n".utf8)
    private static let headSize = magic.count + 36 + 12 + 16
    private static let kinds = [Journal.Kind.runtime, Journal.Kind.runtimeTombstone, Journal.Kind.rootProcesses]

    private let path: String

    package init(path: String) {
        self.path = path
    }

    /// Differs after each boot.
    private static func bootID() throws(Errno) -> [UInt8] {
        let text = try OwnedDescriptor(opening: "/proc/sys/kernel/random/boot_id", in: AT_FDCWD, O_RDONLY).readToEnd()
        guard text.utf8.count >= 36 else { throw .invalidArgument }
        return Array(text.utf8.prefix(36))
    }

    // MARK: Saving

    /// Replaces the file, and returns when it is on disk.
    ///
    /// - Parameter journal: Of the mount; its worker has ended, or is this process.
    package func save(_ journal: Journal) throws(Errno) {
        var decoder = LivenessDecoder()
        var records: [(id: RuntimeID, record: Record)] = []
        journal.log.forEach(Journal.Kind.runtime) { key, value in
            guard let value, let (record, _) = decoder.record(value) else { return }
            records.append((RuntimeID(validated: key), record))
        }
        var entries = EntryBuffer()
        entries.put(Self.magic)
        entries.put(try Self.bootID())
        entries.put(WallTime.now)
        entries.put(ContinuousClock.now.offset)
        for (id, record) in records { entries.put(record, of: id) }
        for kind in Self.kinds.dropFirst() {
            for (key, value) in journal.log.entries(kind) {
                entries.begin(kind)
                entries.put(key)
                entries.endKey()
                entries.put(value)
                entries.end()
            }
        }
        var bytes = entries.withUnsafeBytes { Array($0) }
        bytes += withUnsafeBytes(of: bytes.fnv1a.littleEndian) { Array($0) }
        try replace(with: bytes)
    }

    private func replace(with bytes: [UInt8]) throws(Errno) {
        // Only one worker, and after it its keeper, writes the file of a town.
        let temporary = path + ".new"
        let opened = try OwnedDescriptor(opening: temporary, in: AT_FDCWD, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        let span = bytes.span
        try span.withUnsafeBytes { (bytes) throws(Errno) in
            var rest = bytes[...]
            while !rest.isEmpty {
                let part = UnsafeRawBufferPointer(rebasing: rest)
                let count = try retryingInterrupts { write(opened.rawValue, part.baseAddress, part.count) }
                rest = rest.dropFirst(count)
            }
        }
        _ = try retryingInterrupts { fdatasync(opened.rawValue) }
        _ = try retryingInterrupts { rename(temporary, path) }
    }

    // MARK: Restoring

    /// Puts what was saved into the journal of a new mount, before its first worker reads it.
    ///
    /// - Returns: Nil if there is no file.
    package func restore(into journal: Journal) throws(Failure) -> Restored? {
        let bytes: [UInt8]
        do throws(Errno) {
            let file = try OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDONLY)
            let size = try FileStatus(of: file.rawValue).st_size
            bytes = try BackingDocument.bytes(of: file.rawValue, atMost: min(Int(size), Self.largest))
        } catch .noSuchFileOrDirectory {
            return nil
        } catch {
            throw .unreadable(error)
        }
        guard bytes.count >= Self.headSize + 8, bytes.starts(with: Self.magic) else { throw .unusable }
        let hash = withUnsafeBytes(of: Array(bytes.dropLast(8)).fnv1a.littleEndian) { Array($0) }
        guard bytes.suffix(8).elementsEqual(hash) else { throw .unusable }
        do throws(ByteReader.Malformed) {
            return try Self.decode(Array(bytes.dropLast(8)), into: journal)
        } catch {
            throw .unusable
        }
    }

    private static let largest = 256 << 20

    private static func decode(_ bytes: [UInt8], into journal: Journal) throws(ByteReader.Malformed) -> Restored {
        let span = bytes.span
        return try span.withUnsafeBytes { (bytes) throws(ByteReader.Malformed) in
            var reader = ByteReader(bytes)
            _ = try reader.bytes(magic.count)
            let isSameBoot = (try? bootID()).map { [UInt8]($0) } == Array(try reader.bytes(36))
            let (savedAt, savedOffset) = (try reader.wallTime(), try reader.duration())
            let (wall, now) = (WallTime.now, ContinuousClock.now.offset)
            // After a boot, only the wall clock tells how much time has passed.
            let shift = isSameBoot ? .zero : now - savedOffset - (wall - savedAt)
            var restored = Restored()
            restored.savedAt = savedAt
            var decoder = LivenessDecoder()
            var entries = EntryBuffer()
            while !reader.rest.isEmpty {
                var entry = ByteReader(try reader.bytes(Int(try reader.number(UInt32.self))))
                let kind = try entry.number(UInt8.self)
                let key = try entry.bytes(Int(try entry.number(UInt32.self)))
                switch kind {
                case Journal.Kind.runtime:
                    guard let record = decoder.record(entry.rest)?.0.moved(by: shift) else {
                        throw ByteReader.Malformed()
                    }
                    // The clock was set back: nothing is known about its age.
                    guard record.touch.at.offset <= now else { continue }
                    entries.put(record, of: RuntimeID(validated: key), isExpiryPending: record.isAlive(at: .now))
                    restored.runtimes += 1
                case Journal.Kind.runtimeTombstone:
                    guard let tombstone = decoder.tombstone(entry.rest) else { throw ByteReader.Malformed() }
                    entries.begin(kind)
                    entries.put(key)
                    entries.endKey()
                    entries.put(tombstone.deadline + shift)
                    entries.put(tombstone.stamp)
                    entries.end()
                    restored.forgotten += 1
                case Journal.Kind.rootProcesses:
                    entries.begin(kind)
                    entries.put(key)
                    entries.endKey()
                    entries.put(entry.rest)
                    entries.end()
                default: throw ByteReader.Malformed()
                }
            }
            _ = journal.append(entries)
            journal.counters.restored = restored
            return restored
        }
    }
}

extension EntryBuffer {
    /// Puts the record of a runtime.
    fileprivate mutating func put(_ record: Record, of id: RuntimeID, isExpiryPending: Bool = false) {
        begin(Journal.Kind.runtime)
        put(id.description)
        endKey()
        put(isExpiryPending ? 1 : 0 as UInt8)
        put(record)
        putDocuments(of: record)
        end()
    }
}

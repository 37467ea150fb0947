import Fuse
import Glibc
import Linux
import Liveness
import Logging
import SystemPackage

/// The state of a town in memory that outlives the worker: the contents of signal files, and the liveness table.
///
///     │ SharedLog: Journal, LivenessLog, root processes │ Counters │
///
/// The worker appends to the log. Its successor goes on with it; without one, the keeper replays the contents that are
/// not in their backing files. A touch costs a copy of its document and no wakeup.
package final class Journal: Sendable {
    /// A change of a signal file; the last one of a path counts.
    enum Event {
        /// It was touched and has this content.
        case content(SignalFile.Content)
        /// It has this content, and its backing file has the same document.
        case written(SignalFile.Content)
        /// It was unlinked.
        case unlinked
        /// It is no longer at this path, or its content is only in its backing file.
        case clean

        var content: SignalFile.Content? {
            switch self {
            case .content(let content), .written(let content): content
            case .unlinked, .clean: nil
            }
        }
    }

    let log: SharedLog
    let counters: Counters
    private let memory: SharedMemory

    /// The number of bytes that a journal needs, a multiple of the page size.
    package static func size(ofRegion regionSize: Int) -> Int { SharedLog.size(ofRegion: regionSize) + Counters.size }

    /// Creates empty memory, close-on-exec; the keeper passes it to the worker by descriptor number.
    ///
    /// - Parameter regionSize: The size of a region of the log in bytes; only pages that were written to take memory.
    package static func makeMemory(regionSize: Int = 256 << 20) throws(Errno) -> OwnedDescriptor {
        let memory = try SharedMemory(named: "pulsefs-journal", size: size(ofRegion: regionSize))
        return try OwnedDescriptor(duplicating: memory.descriptor)
    }

    /// Maps the memory: in the worker to append, in the keeper to replay.
    package convenience init(takingOwnershipOf memory: consuming OwnedDescriptor) throws(Errno) {
        let memory = try SharedMemory(takingOwnershipOf: memory)
        self.init(in: memory, at: 0, size: memory.size)
    }

    /// A journal in a section of the memory, which is empty if it is all zeros.
    ///
    /// - Parameters:
    ///   - offset: Where the section begins, a multiple of the page size.
    ///   - size: See `size(ofRegion:)`.
    package init(in memory: SharedMemory, at offset: Int, size: Int) {
        self.memory = memory
        let regionSize = (size - Self.size(ofRegion: 0)) / 2
        log = SharedLog(memory, at: offset, regionSize: regionSize)
        counters = Counters(in: memory, at: offset + SharedLog.size(ofRegion: regionSize))
    }

    /// Another process's view of a journal that has its memory for itself; for tests.
    convenience init(sharing journal: Journal) throws(Errno) {
        try self.init(takingOwnershipOf: OwnedDescriptor(duplicating: journal.memory.descriptor))
    }

    /// The kinds of entries in the log of a town.
    enum Kind {
        static let content: SharedLog.Kind = 1
        static let runtime: SharedLog.Kind = 2
        static let signal: SharedLog.Kind = 3
        static let runtimeTombstone: SharedLog.Kind = 4
        static let signalTombstone: SharedLog.Kind = 5
        static let event = SharedLog.numberedKind
        static let tally: SharedLog.Kind = 7
        static let rootProcesses: SharedLog.Kind = 8
        static let scanned: SharedLog.Kind = 9
        /// Created in `.pulse/alive`.
        static let aliveDirectory: SharedLog.Kind = 10
        /// Of open signal files: see `SignalOpenFile.putOpening`.
        static let opening: SharedLog.Kind = 11
        static let draft: SharedLog.Kind = 12
        static let verdict: SharedLog.Kind = 13
        static let pulseInode: SharedLog.Kind = 14
    }

    // MARK: Appending

    /// Adds an entry, which survives this process.
    ///
    /// - Returns: False if there is no room: the caller must write the document back before it replies.
    func append(_ event: Event, at path: [UInt8]) -> Bool {
        var entries = EntryBuffer()
        Self.put(event, at: path, into: &entries)
        return append(entries)
    }

    /// Adds entries of any kind at once.
    func append(_ entries: borrowing EntryBuffer) -> Bool {
        if log.append(entries) { return true }
        // Contents that are also in backing files make room.
        var paths: [[UInt8]] = []
        log.forEach(Kind.content) { path, value in
            if value?.first == EventCode.written { paths.append(Array(path)) }
        }
        for path in paths { log.remove(Kind.content, key: path) }
        return log.append(entries)
    }

    /// The paths of the mounts for which a startup scan was completed.
    var scanned: Set<[UInt8]> { Set(log.entries(Kind.scanned).keys) }

    func recordScan(of path: [UInt8]) { _ = log.append(Kind.scanned, key: path, value: []) }

    // MARK: Replaying

    /// The last event of each path; `clean` ones may be missing.
    func replay() -> [[UInt8]: Event] {
        var events: [[UInt8]: Event] = [:]
        log.forEach(Kind.content) { path, value in
            if let event = value.map(Self.decode) ?? .clean { events[Array(path)] = event }
        }
        return events
    }

    // MARK: Entries

    // event (1 byte), and for `content` and `written`: owner │ modified │ changed │ deadline (16) │ request (8)
    // │ backing time (with -1 nanoseconds for nil) │ document

    private enum EventCode {
        static let content: UInt8 = 1
        static let unlinked: UInt8 = 2
        static let written: UInt8 = 3
    }

    static func put(_ event: Event, at path: [UInt8], into entries: inout EntryBuffer) {
        switch event {
        case .content(let content): put(EventCode.content, content, at: path, into: &entries)
        case .written(let content): put(EventCode.written, content, at: path, into: &entries)
        case .unlinked: put(EventCode.unlinked, nil, at: path, into: &entries)
        case .clean: path.withUnsafeBytes { entries.remove(Kind.content, key: $0) }
        }
    }

    private static func put(
        _ code: UInt8, _ content: SignalFile.Content?, at path: [UInt8], into entries: inout EntryBuffer
    ) {
        entries.begin(Kind.content)
        entries.put(path)
        entries.endKey()
        entries.put(code)
        if let content {
            entries.put(content.ownership)
            entries.put(content.modified)
            entries.put(content.changed)
            entries.put(content.deadline.offset)
            entries.put(content.request)
            entries.put(content.backingTime?.seconds ?? 0)
            entries.put(content.backingTime?.nanoseconds ?? -1)
            entries.put(content.document.bytes)
        }
        entries.end()
    }

    /// Nil if it is malformed, as no worker writes it.
    private static func decode(_ value: UnsafeRawBufferPointer) -> Event? {
        var reader = ByteReader(value)
        do throws(ByteReader.Malformed) {
            switch try reader.number(UInt8.self) {
            case EventCode.content: return .content(try content(&reader))
            case EventCode.written: return .written(try content(&reader))
            case EventCode.unlinked: return .unlinked
            default: return nil
            }
        } catch {
            return nil
        }
    }

    private static func content(_ reader: inout ByteReader) throws(ByteReader.Malformed) -> SignalFile.Content {
        let ownership = try reader.ownership()
        let modified = try reader.wallTime()
        let changed = try reader.wallTime()
        let deadline = ContinuousClock.Instant(offset: try reader.duration())
        let request = try reader.number(UInt64.self)
        let backingSeconds = try reader.number(Int64.self)
        let backingNanoseconds = try reader.number(Int32.self)
        guard (-1..<1_000_000_000).contains(backingNanoseconds) else { throw ByteReader.Malformed() }
        return SignalFile.Content(
            document: Document(Array(reader.rest)), modified: modified, changed: changed, ownership: ownership,
            deadline: deadline,
            backingTime: backingNanoseconds < 0
                ? nil : WallTime(seconds: backingSeconds, nanoseconds: backingNanoseconds),
            request: request)
    }
}

/// Writes back from the journal of a worker that has died.
package final class Recovery: Sendable {
    private let backing: BackingTree
    private let journal: Journal
    private let stateFile: StateFile?
    private let log: Logger

    package init(in backing: BackingTree, journal: Journal, stateFile: StateFile?, log: Logger) {
        self.backing = backing
        self.journal = journal
        self.stateFile = stateFile
        self.log = log
    }

    /// Writes every document that its backing file does not hold, and removes unlinked files.
    package func run() {
        var directories: Set<[UInt8]> = []
        for (path, event) in journal.replay() {
            let (parent, name) = path.parentAndName
            directories.insert(parent)
            do throws(Errno) {
                try backing.withDirectory(at: parent) { (directory) throws(Errno) in
                    switch event {
                    case .content(let content):
                        try BackingDocument.replace(name, in: directory, with: content, now: .now)
                    case .unlinked:
                        // Another type of file may have the name by now.
                        if try name.status(in: directory)?.isRegularFile == true { try name.unlink(in: directory) }
                    case .written, .clean: break
                    }
                }
            } catch {
                log.error("cannot write back \(String(printable: path)): \(error)")
            }
        }
        // The worker may have died between creating a temporary file and renaming it.
        for path in directories {
            do throws(Errno) {
                try BackingDocument.removeTemporaries(in: backing.directory(at: path), scope: nil)
            } catch .noSuchFileOrDirectory {
            } catch {
                log.warning("cannot remove temporary files in \(String(printable: path)): \(error)")
            }
        }
        do throws(Errno) {
            try stateFile?.save(journal)
        } catch {
            log.error("cannot save the state of the runtimes: \(error)")
        }
    }
}

import Fuse
import Glibc
import Linux
import Liveness
import Logging
import SystemPackage

/// Changes of signal files that are not in their backing files yet, in memory that outlives the worker.
///
/// The worker appends to a `SharedLog`, which the keeper reads after the worker's death. A touch costs a copy of its
/// document and no wakeup.
package final class Journal: Sendable {
    /// A change of a signal file.
    ///
    /// The last one of a path counts.
    enum Event {
        /// It was touched and has this content.
        case content(SignalFile.Content)
        /// It was unlinked.
        case unlinked
        /// Its backing file is up to date, or it is no longer at this path.
        case clean
    }

    private static let kind: SharedLog.Kind = 1
    private static let regionSize = 64 << 20

    private let log: SharedLog

    /// Creates empty memory, close-on-exec.
    ///
    /// The keeper passes it to the worker by descriptor number.
    package static func makeMemory() throws(Errno) -> OwnedDescriptor {
        let memory = try SharedMemory(named: "pulsefs-journal", size: SharedLog.size(ofRegion: regionSize))
        return try OwnedDescriptor(duplicating: memory.descriptor)
    }

    /// Maps the memory: in the worker to append, in the keeper to replay.
    package convenience init(takingOwnershipOf memory: consuming OwnedDescriptor) throws(Errno) {
        try self.init(SharedLog(SharedMemory(takingOwnershipOf: memory), regionSize: Self.regionSize))
    }

    /// A journal in a log that others may use, too.
    init(_ log: SharedLog) {
        self.log = log
    }

    /// Adds an entry, which survives this process.
    ///
    /// - Returns: False if there is no room: the caller must write the document back before it replies.
    func append(_ event: Event, at path: [UInt8]) -> Bool {
        path.withUnsafeBytes { path in
            switch event {
            case .content(let content):
                log.append(Self.kind, key: path, size: 1 + content.journaledSize) { target in
                    target.storeBytes(of: 1, as: UInt8.self)
                    content.write(to: target + 1)
                }
            case .unlinked: log.append(Self.kind, key: path, size: 1) { $0.storeBytes(of: 2, as: UInt8.self) }
            case .clean: log.batch { $0.remove(Self.kind, key: path) }
            }
        }
    }

    /// The last event of each path; `clean` ones may be missing.
    func replay() -> [[UInt8]: Event] {
        var events: [[UInt8]: Event] = [:]
        log.forEach(Self.kind) { path, value in
            if let event = value.map(Self.decode) ?? .clean { events[Array(path)] = event }
        }
        return events
    }

    /// Nil if it is invalid.
    private static func decode(_ value: UnsafeRawBufferPointer) -> Event? {
        var rest = value
        switch rest.read(UInt8.self) {
        case 1: return SignalFile.Content(journaled: rest).map { .content($0) }
        case 2: return .unlinked
        default: return nil
        }
    }
}

extension SignalFile.Content {
    // Little-endian: mode, user, group (4 bytes each) │ modified: s (8), ns (4) │ backing time: s (8), ns (4; -1: none)
    // │ document

    fileprivate var journaledSize: Int { 3 * 4 + 2 * (8 + 4) + document.bytes.count }

    /// Writes `journaledSize` bytes.
    fileprivate func write(to target: UnsafeMutableRawPointer) {
        var target = target
        func put(_ number: some FixedWidthInteger) {
            target.storeBytes(of: number.littleEndian, as: type(of: number))
            target += MemoryLayout.size(ofValue: number)
        }
        put(ownership.mode)
        put(ownership.user)
        put(ownership.group)
        put(modified.seconds)
        put(modified.nanoseconds)
        put(backingTime?.seconds ?? 0)
        put(backingTime?.nanoseconds ?? -1)
        document.bytes.withUnsafeBytes {
            if let start = $0.baseAddress { target.copyMemory(from: start, byteCount: $0.count) }
        }
    }

    /// Nil if the bytes are invalid.
    fileprivate init?(journaled bytes: UnsafeRawBufferPointer) {
        var rest = bytes
        guard let mode = rest.read(mode_t.self), let user = rest.read(uid_t.self), let group = rest.read(gid_t.self),
            let seconds = rest.read(Int64.self), let nanoseconds = rest.read(Int32.self),
            (0..<1_000_000_000).contains(nanoseconds),
            let backingSeconds = rest.read(Int64.self), let backingNanoseconds = rest.read(Int32.self),
            (-1..<1_000_000_000).contains(backingNanoseconds)
        else { return nil }
        let modified = WallTime(seconds: seconds, nanoseconds: nanoseconds)
        self.init(
            document: Document(Array(rest)), modified: modified, changed: modified,
            ownership: SignalFile.Ownership(mode: mode, user: user, group: group), deadline: .now,
            backingTime: backingNanoseconds < 0
                ? nil : WallTime(seconds: backingSeconds, nanoseconds: backingNanoseconds))
    }
}

/// Writes back from the journal of a worker that has died.
package final class Recovery: Sendable {
    private let backing: BackingTree
    private let journal: Journal
    private let log: Logger

    package init(in backing: BackingTree, journal: Journal, log: Logger) {
        self.backing = backing
        self.journal = journal
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
                    case .clean: break
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
    }
}

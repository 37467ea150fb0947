import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// Changes of signal files that are not in their backing files yet, in memory that outlives the worker.
///
/// The worker writes to a memfd that the keeper shares and reads after the worker's death. A touch costs a copy of its
/// document and no wakeup.
///
///     │ head │ region 0 ····················· │ region 1 ····················· │
///        └── one word: the active region (bit 63), and the number of its valid bytes (bits 0 to 62)
///
/// An entry is appended to the active region before the word is stored, so the word covers whole entries only, whenever
/// the worker is killed. When the region exceeds twice the size of the entries that still count, those are copied to
/// the other region, the word switches to it, and the old region's memory is freed.
package final class Journal: Sendable {
    /// A change of a signal file; the last one of a path counts.
    enum Event {
        /// It was touched and has this content.
        case content(SignalFile.Content)
        /// It was unlinked.
        case unlinked
        /// Its backing file is up to date, or it is no longer at this path.
        case clean
    }

    private struct State {
        var region = 0
        var used = 0
        /// Size of the entries in `dirty`, in bytes.
        var needed = 0
        /// The last entry of each path that is not clean.
        var dirty: [SignalPath: Entry] = [:]
    }

    /// Size of a region in bytes; only pages that were written to take memory.
    private static let regionSize = 64 << 20
    private static let headSize = 4096
    /// A region of up to this size is not compacted.
    private static let compactionThreshold = 256 << 10

    private let memory: OwnedDescriptor
    // because the mapping lives from `init` to `deinit` and is written to only under `state`'s lock; the head word is
    // accessed atomically.
    private nonisolated(unsafe) let base: UnsafeMutableRawPointer
    private let state = Mutex(State())

    /// Creates empty memory, close-on-exec; the keeper passes it to the worker by descriptor number.
    package static func makeMemory() throws(Errno) -> OwnedDescriptor {
        let memory = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts { memfd_create("pulsefs-journal", UInt32(MFD_CLOEXEC)) })
        _ = try retryingInterrupts { ftruncate(memory.rawValue, off_t(headSize + 2 * regionSize)) }
        return memory
    }

    /// Maps the memory: in the worker to append, in the keeper to replay.
    package init(takingOwnershipOf memory: consuming OwnedDescriptor) throws(Errno) {
        let size = Self.headSize + 2 * Self.regionSize
        let mapped = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory.rawValue, 0)
        guard let mapped, mapped != MAP_FAILED else { throw .current }
        base = mapped
        self.memory = memory
    }

    deinit {
        munmap(base, Self.headSize + 2 * Self.regionSize)
    }

    // MARK: Appending

    /// Adds an entry, which survives this process.
    ///
    /// - Returns: False if there is no room: the caller must write the document back before it replies.
    func append(_ event: Event, at path: [UInt8]) -> Bool {
        let entry = Entry(event: event, path: SignalPath(bytes: path))
        let size = entry.size
        return state.withLock { state in
            if case .clean = event {
                state.needed -= state.dirty.removeValue(forKey: entry.path)?.size ?? 0
            } else {
                state.needed += size - (state.dirty.updateValue(entry, forKey: entry.path)?.size ?? 0)
            }
            let grown = state.used + size
            if grown > max(Self.compactionThreshold, 2 * state.needed) || grown > Self.regionSize { compact(&state) }
            guard state.used + size <= Self.regionSize else { return false }
            write(entry, &state)
            publish(state)
            return true
        }
    }

    private func compact(_ state: inout State) {
        guard state.needed <= Self.regionSize else { return }
        let (old, used) = (state.region, state.used)
        state.region = 1 - old
        state.used = 0
        for entry in state.dirty.values { write(entry, &state) }
        publish(state)
        // A small region keeps its memory, as it is written to again soon.
        guard used > 2 * Self.compactionThreshold else { return }
        // A system call under a lock, but a rare one that only frees memory.
        fallocate(
            memory.rawValue, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(Self.start(of: old)),
            off_t(Self.regionSize))
    }

    private func write(_ entry: Entry, _ state: inout State) {
        entry.write(to: base + Self.start(of: state.region) + state.used)
        state.used += entry.size
    }

    private func publish(_ state: State) {
        clinux_store_release(head, UInt64(state.region) << 63 | UInt64(state.used))
    }

    private var head: UnsafeMutablePointer<UInt64> { base.assumingMemoryBound(to: UInt64.self) }

    private static func start(of region: Int) -> Int { headSize + region * regionSize }

    // MARK: Replaying

    /// The last event of each path; stops at an invalid entry, which no worker publishes.
    func replay() -> [[UInt8]: Event] {
        let word = clinux_load_acquire(head)
        let used = Int(word & (1 << 63 - 1))
        guard used <= Self.regionSize else { return [:] }
        var rest = UnsafeRawBufferPointer(start: base + Self.start(of: Int(word >> 63)), count: used)
        var events: [[UInt8]: Event] = [:]
        while let (path, event) = Self.decode(&rest) { events[path] = event }
        return events
    }

    // MARK: Entries

    // All numbers little-endian:
    // size of the rest (4) │ kind (1) │ path size (4) │ path │ mode, user, group (4 each) │ modified: s (8), ns (4)
    // │ backing time: s (8), ns (4; -1: none) │ document

    private struct Entry {
        let event: Event
        let path: SignalPath

        private var content: SignalFile.Content? {
            if case .content(let content) = event { content } else { nil }
        }

        /// Size in bytes, with the size field.
        var size: Int {
            4 + 1 + 4 + path.bytes.count + (content.map { 3 * 4 + 2 * (8 + 4) + $0.document.bytes.count } ?? 0)
        }

        /// Writes `size` bytes.
        func write(to target: UnsafeMutableRawPointer) {
            var target = target
            func put(_ number: some FixedWidthInteger) {
                target.storeBytes(of: number.littleEndian, as: type(of: number))
                target += MemoryLayout.size(ofValue: number)
            }
            func put(_ bytes: [UInt8]) {
                bytes.withUnsafeBytes {
                    if let start = $0.baseAddress { target.copyMemory(from: start, byteCount: $0.count) }
                }
                target += bytes.count
            }
            put(UInt32(size - 4))
            switch event {
            case .content: put(UInt8(1))
            case .unlinked: put(UInt8(2))
            case .clean: put(UInt8(3))
            }
            put(UInt32(path.bytes.count))
            put(path.bytes)
            guard let content else { return }
            put(content.ownership.mode)
            put(content.ownership.user)
            put(content.ownership.group)
            put(content.modified.seconds)
            put(content.modified.nanoseconds)
            put(content.backingTime?.seconds ?? 0)
            put(content.backingTime?.nanoseconds ?? -1)
            put(content.document.bytes)
        }
    }

    private static func decode(_ bytes: inout UnsafeRawBufferPointer) -> (path: [UInt8], event: Event)? {
        /// Removes the first bytes.
        func read(_ bytes: inout UnsafeRawBufferPointer, count: Int) -> UnsafeRawBufferPointer? {
            guard count <= bytes.count else { return nil }
            defer { bytes = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(count)) }
            return UnsafeRawBufferPointer(rebasing: bytes.prefix(count))
        }
        func read<Number: FixedWidthInteger>(_ bytes: inout UnsafeRawBufferPointer, _: Number.Type) -> Number? {
            read(&bytes, count: MemoryLayout<Number>.size).map {
                Number(littleEndian: $0.loadUnaligned(as: Number.self))
            }
        }
        guard let size = read(&bytes, UInt32.self), var entry = read(&bytes, count: Int(size)),
            let kind = read(&entry, UInt8.self), let pathSize = read(&entry, UInt32.self),
            let path = read(&entry, count: Int(pathSize)).map(Array.init)
        else { return nil }
        switch kind {
        case 1:
            guard let mode = read(&entry, mode_t.self), let user = read(&entry, uid_t.self),
                let group = read(&entry, gid_t.self), let seconds = read(&entry, Int64.self),
                let nanoseconds = read(&entry, Int32.self), (0..<1_000_000_000).contains(nanoseconds),
                let backingSeconds = read(&entry, Int64.self), let backingNanoseconds = read(&entry, Int32.self),
                (-1..<1_000_000_000).contains(backingNanoseconds)
            else { return nil }
            let modified = WallTime(seconds: seconds, nanoseconds: nanoseconds)
            let content = SignalFile.Content(
                document: Document(Array(entry)), modified: modified, changed: modified,
                ownership: SignalFile.Ownership(mode: mode, user: user, group: group), deadline: .now,
                backingTime: backingNanoseconds < 0
                    ? nil : WallTime(seconds: backingSeconds, nanoseconds: backingNanoseconds))
            return (path, .content(content))
        case 2: return (path, .unlinked)
        case 3: return (path, .clean)
        default: return nil
        }
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

import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

/// What has happened to signal files and is not in their real files yet, in memory that outlives the worker.
///
/// The worker writes it, the keeper holds the same memory (a memfd) and reads it once the worker is dead. A touch costs a
/// copy of its document and no wake-up of anybody.
///
///     │ head │ region 0 ····················· │ region 1 ····················· │
///        └── one word: which region counts (bit 63), and how many of its bytes (the rest)
///
/// Entries are appended to the region that counts, and the word is stored after them: whenever the worker is killed, the
/// word tells of whole entries only. When the region has grown past twice of what is still needed, that is copied to
/// the other region, the word is pointed at it, and the old region's memory is given back.
package final class Journal: Sendable {
    /// What an entry says of a signal file.
    ///
    /// The last one of a path counts.
    enum Event {
        /// It was touched, and holds this.
        case content(SignalFile.Content)
        /// It was unlinked.
        case unlinked
        /// Its real file is up to date, or it is no longer at this path.
        case clean
    }

    private struct State {
        var region = 0
        var used = 0
        /// Bytes of `unsettled`'s entries.
        var needed = 0
        /// The last entry of each file whose real file is behind.
        var unsettled: [SignalPath: Entry] = [:]
    }

    /// Bytes of a region.
    ///
    /// Only what is written to takes memory.
    private static let regionSize = 64 << 20
    private static let headSize = 4096
    /// Below this much a region is not worth clearing up.
    private static let smallestClearing = 256 << 10

    private let memory: OwnedDescriptor
    // because the mapping is made in `init`, undone in `deinit`, and written to under `state`'s lock alone; the head's
    // word is stored and loaded atomically.
    private nonisolated(unsafe) let base: UnsafeMutableRawPointer
    private let state = Mutex(State())

    /// Makes the memory, empty.
    ///
    /// Close-on-exec; whoever spawns a worker passes it on by number.
    package static func makeMemory() throws(Errno) -> OwnedDescriptor {
        let memory = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts { memfd_create("pulsefs-journal", UInt32(MFD_CLOEXEC)) })
        _ = try retryingInterrupts { ftruncate(memory.rawValue, off_t(headSize + 2 * regionSize)) }
        return memory
    }

    /// Maps the memory, in the worker to append to it, in the keeper to `replay` it.
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

    /// Adds an entry; on return it survives this process.
    ///
    /// - Returns: False when there is no room: the caller must write documents down before it answers.
    func append(_ event: Event, at path: [UInt8]) -> Bool {
        let entry = Entry(event: event, path: SignalPath(bytes: path))
        let size = entry.size
        return state.withLock { state in
            if case .clean = event {
                state.needed -= state.unsettled.removeValue(forKey: entry.path)?.size ?? 0
            } else {
                state.needed += size - (state.unsettled.updateValue(entry, forKey: entry.path)?.size ?? 0)
            }
            let grown = state.used + size
            if grown > max(Self.smallestClearing, 2 * state.needed) || grown > Self.regionSize { clear(&state) }
            guard state.used + size <= Self.regionSize else { return false }
            write(entry, &state)
            publish(state)
            return true
        }
    }

    private func clear(_ state: inout State) {
        guard state.needed <= Self.regionSize else { return }
        let (old, used) = (state.region, state.used)
        state.region = 1 - old
        state.used = 0
        for entry in state.unsettled.values { write(entry, &state) }
        publish(state)
        // A little is kept: it is written to again soon.
        guard used > 2 * Self.smallestClearing else { return }
        // A system call under a lock, but one that touches memory only, and seldom.
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

    /// The last event of each path.
    ///
    /// Entries that make no sense end the reading; they cannot be published by a worker.
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

        /// In bytes, the field that says so included.
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
        func take<Number: FixedWidthInteger>(_ bytes: inout UnsafeRawBufferPointer, _: Number.Type) -> Number? {
            guard bytes.count >= MemoryLayout<Number>.size else { return nil }
            defer { bytes = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(MemoryLayout<Number>.size)) }
            return Number(littleEndian: bytes.loadUnaligned(as: Number.self))
        }
        guard let size = take(&bytes, UInt32.self), Int(size) <= bytes.count else { return nil }
        var entry = UnsafeRawBufferPointer(rebasing: bytes.prefix(Int(size)))
        bytes = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(Int(size)))
        guard let kind = take(&entry, UInt8.self), let pathSize = take(&entry, UInt32.self),
            Int(pathSize) <= entry.count
        else { return nil }
        let path = Array(entry.prefix(Int(pathSize)))
        entry = UnsafeRawBufferPointer(rebasing: entry.dropFirst(Int(pathSize)))
        switch kind {
        case 1:
            guard let mode = take(&entry, mode_t.self), let user = take(&entry, uid_t.self),
                let group = take(&entry, gid_t.self), let seconds = take(&entry, Int64.self),
                let nanoseconds = take(&entry, Int32.self), (0..<1_000_000_000).contains(nanoseconds),
                let backingSeconds = take(&entry, Int64.self), let backingNanoseconds = take(&entry, Int32.self),
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

import CLinux
import Fuse
import Glibc
import Linux
import Synchronization

/// The open files and directories in memory that outlives the process.
///
/// One record of 96 bytes each:
///
///     0: handle; 0 if free │ 8: inode │ 16: flags │ 20: user │ 24: thread │ 28: kind │ 32: I/O mode │ 40: position
///     │ 48: poll handle │ 56: position before the last read │ 64: request of the last read │ 72: request that opened it
///
/// A kill between any two stores leaves it valid: the handle is stored last, and later changes are of one word.
final class HandleRecords: Sendable {
    /// In bytes.
    ///
    /// Only pages that were written to take memory.
    static let size = headSize + capacity * recordSize

    private static let capacity = 1 << 20
    private static let recordSize = 96
    private static let headSize = 4096

    enum Kind: UInt32 {
        case file = 1
        case directory = 2
    }

    /// What is known of an open file when it is opened.
    struct Content {
        var handle: FileHandle
        let inode: InodeNumber
        var flags: CInt = 0
        var user: uid_t = 0
        /// The thread that opened it.
        var thread: pid_t = 0
        /// The request that opened it.
        var request: UInt64
        var kind = Kind.file
        var ioMode: OpenReply.IOMode?
        /// How far it was read, if that is not up to the kernel.
        var position: UInt64 = 0
        /// Whom a poll(2) waits for.
        var pollHandle: UInt64 = 0
        /// For a read that is repeated: where it began, and its request.
        var lastPosition: UInt64 = 0
        var lastRead: UInt64 = 0
    }

    private struct State {
        /// Records ever used.
        var count = 0
        var free: [UInt32] = []
    }

    /// See `SharedState.mount`.
    private let mount: UInt64
    private let memory: SharedMemory
    // because `memory` keeps it mapped; a record is written to by the owner of its handle, and each word at once.
    private nonisolated(unsafe) let base: UnsafeMutableRawPointer
    private let state = Mutex(State())
    /// What earlier processes had open.
    let restored: [(slot: UInt32, content: Content)]
    /// Whether no process has used them before.
    var isNew: Bool { firstHandle == 0 }
    /// Added to all handles of this process: no earlier one has given them out.
    let firstHandle: UInt64

    /// - Parameter start: The offset of `size` bytes: all zero for a new mount.
    init(in memory: SharedMemory, at start: Int, mount: UInt64 = 0) {
        self.memory = memory
        self.mount = mount
        // because a section is not empty.
        base = memory[start, Self.size].baseAddress!
        let count = Int(clinux_load_acquire(base.assumingMemoryBound(to: UInt64.self)))
        var restored: [(slot: UInt32, content: Content)] = []
        var free: [UInt32] = []
        for slot in 0..<UInt32(min(count, Self.capacity)) {
            let record = base + Self.headSize + Int(slot) * Self.recordSize
            if let content = Self.content(of: record) { restored.append((slot, content)) } else { free.append(slot) }
        }
        self.restored = restored
        let processes = (base + 8).assumingMemoryBound(to: UInt64.self)
        firstHandle = processes.pointee << 40
        clinux_store_release(processes, processes.pointee + 1)
        state.withLock { $0 = State(count: count, free: free) }
    }

    /// What other state of a handle is saved under.
    func key(of handle: FileHandle) -> HandleKey { HandleKey(mount: mount, handle: handle.rawValue) }

    private func record(_ slot: UInt32) -> UnsafeMutableRawPointer {
        base + Self.headSize + Int(slot) * Self.recordSize
    }

    /// Records an open file; nil if there is no room.
    func add(_ content: Content) -> UInt32? {
        let slot: UInt32? = state.withLock { state in
            if let free = state.free.popLast() { return free }
            guard state.count < Self.capacity else { return nil }
            state.count += 1
            clinux_store_release(base.assumingMemoryBound(to: UInt64.self), UInt64(state.count))
            return UInt32(state.count - 1)
        }
        guard let slot else { return nil }
        let record = record(slot)
        record.storeBytes(of: content.inode.rawValue, toByteOffset: 8, as: UInt64.self)
        record.storeBytes(of: content.flags, toByteOffset: 16, as: CInt.self)
        record.storeBytes(of: content.user, toByteOffset: 20, as: uid_t.self)
        record.storeBytes(of: content.thread, toByteOffset: 24, as: pid_t.self)
        record.storeBytes(of: content.kind.rawValue, toByteOffset: 28, as: UInt32.self)
        record.storeBytes(of: content.ioMode?.word ?? 0, toByteOffset: 32, as: UInt64.self)
        record.storeBytes(of: content.position, toByteOffset: 40, as: UInt64.self)
        record.storeBytes(of: content.pollHandle, toByteOffset: 48, as: UInt64.self)
        record.storeBytes(of: 0, toByteOffset: 64, as: UInt64.self)
        record.storeBytes(of: content.request, toByteOffset: 72, as: UInt64.self)
        clinux_store_release(record.assumingMemoryBound(to: UInt64.self), content.handle.rawValue)
        return slot
    }

    func remove(_ slot: UInt32) {
        clinux_store_release(record(slot).assumingMemoryBound(to: UInt64.self), 0)
        state.withLock { $0.free.append(slot) }
    }

    fileprivate func store(_ word: UInt64, at offset: Int, of slot: UInt32) {
        clinux_store_release((record(slot) + offset).assumingMemoryBound(to: UInt64.self), word)
    }

    private static func content(of record: UnsafeMutableRawPointer) -> Content? {
        let handle = clinux_load_acquire(record.assumingMemoryBound(to: UInt64.self))
        guard handle != 0, let kind = Kind(rawValue: record.load(fromByteOffset: 28, as: UInt32.self)) else {
            return nil
        }
        return Content(
            handle: FileHandle(rawValue: handle),
            inode: InodeNumber(rawValue: record.load(fromByteOffset: 8, as: UInt64.self)),
            flags: record.load(fromByteOffset: 16, as: CInt.self),
            user: record.load(fromByteOffset: 20, as: uid_t.self),
            thread: record.load(fromByteOffset: 24, as: pid_t.self),
            request: record.load(fromByteOffset: 72, as: UInt64.self), kind: kind,
            ioMode: OpenReply.IOMode(word: record.load(fromByteOffset: 32, as: UInt64.self)),
            position: record.load(fromByteOffset: 40, as: UInt64.self),
            pollHandle: record.load(fromByteOffset: 48, as: UInt64.self),
            lastPosition: record.load(fromByteOffset: 56, as: UInt64.self),
            lastRead: record.load(fromByteOffset: 64, as: UInt64.self))
    }
}

/// A handle in the log of a town, whose mounts number their handles alike.
struct HandleKey: Hashable {
    let mount: UInt64
    let handle: UInt64
}

/// The record of one handle.
///
/// Does nothing without a successor.
package struct HandleRecord: Sendable {
    let handle: FileHandle
    private let slot: UInt32?
    private let records: HandleRecords?

    init(handle: FileHandle, slot: UInt32?, in records: HandleRecords?) {
        self.handle = handle
        self.slot = slot
        self.records = records
    }

    /// What other state of the handle is saved under; nil without a successor.
    var key: HandleKey? { slot == nil ? nil : records?.key(of: handle) }

    func set(_ ioMode: OpenReply.IOMode) { store(ioMode.word, at: 32) }

    func set(position: UInt64) { store(position, at: 40) }

    /// Moves the position by a read, before the reply.
    func set(position: UInt64, from last: UInt64, by request: UInt64) {
        store(last, at: 56)
        store(request, at: 64)
        store(position, at: 40)
    }

    func set(_ pollHandle: PollHandle?) { store(pollHandle?.rawValue ?? 0, at: 48) }

    private func store(_ word: UInt64, at offset: Int) {
        if let slot { records?.store(word, at: offset, of: slot) }
    }
}

extension OpenReply.IOMode {
    /// One word: the mode in the lowest byte, a flag in the next, the backing id in the upper half.
    fileprivate var word: UInt64 {
        switch self {
        case .cached(let isKept): 1 | (isKept ? 1 << 8 : 0)
        case .direct: 2
        case .passthrough(let backingID, let directIO):
            3 | (directIO ? 1 << 8 : 0) | UInt64(UInt32(bitPattern: backingID.rawValue)) << 32
        }
    }

    fileprivate init?(word: UInt64) {
        let flag = word >> 8 & 1 == 1
        switch word & 0xFF {
        case 1: self = .cached(isKept: flag)
        case 2: self = .direct
        case 3:
            self = .passthrough(
                Connection.BackingID(rawValue: Int32(bitPattern: UInt32(word >> 32))), directIO: flag)
        default: return nil
        }
    }
}

import CLinux
import Fuse
import Glibc
import Linux

/// The nodes in memory that outlives the process: what a successor must know of each inode that the kernel knows.
///
/// One record of 96 bytes for each slot of `NodeTable`, and 256 bytes in another area for a name of more than 46 bytes:
///
///     0: use (32) and flags │ 8: lookups │ 16: parent │ 24: device │ 28: mount │ 32: number │ 40: birth │ 48: size, name
///
/// Links between nodes, the index by identity and descriptors are not in it; a successor makes them anew.
///
/// A kill between any two stores leaves it valid. A new record is complete before its first word publishes it, and
/// flags and lookups are one word each. When the other fields change, the former ones are copied to `undo` first, and
/// `restore` puts them back if the change was not completed. `NodeStore`'s lock allows one change at a time.
final class NodeRecords: Sendable {
    /// In bytes.
    ///
    /// Only pages that were written to take memory.
    static let size = recordsStart + capacity * (recordSize + longNameSize)

    /// The most slots that have a record.
    private static let capacity = 4 << 20
    private static let recordSize = 96
    private static let longNameSize = 256
    private static let shortNameCapacity = recordSize - nameStart
    private static let fieldsStart = 16
    private static let nameStart = 50

    // The head: the number of slots ever used, whether nodes are missing here, the slot (+ 1) in `undo`, `undo`; and for
    // each block the first use of its slots (32) and whether its memory is free (32).
    private static let slotCountStart = 0
    private static let isIncompleteStart = 8
    /// Not private, for tests.
    static let undoSlotStart = 16
    private static let undoStart = 64
    private static let blocksStart = 4096
    private static let recordsStart = blocksStart + (capacity / NodeTable.blockSize * 8 + 4095) / 4096 * 4096
    private static let longNamesStart = recordsStart + capacity * recordSize

    struct Flags: OptionSet {
        let rawValue: UInt32
        static let exists = Flags(rawValue: 1)
        static let directory = Flags(rawValue: 2)
        static let signal = Flags(rawValue: 4)
        /// The signal file's inode, rather than one of an unlinked file or of a separate opening.
        static let current = Flags(rawValue: 8)
        static let pinned = Flags(rawValue: 16)
        static let changedKind = Flags(rawValue: 32)
        static let mapped = Flags(rawValue: 64)
        static let aliased = Flags(rawValue: 128)
    }

    private let memory: SharedMemory
    private let start: Int
    // because `memory` keeps it mapped, and `NodeStore`'s lock protects it.
    private nonisolated(unsafe) let base: UnsafeMutableRawPointer

    /// - Parameter start: The offset of `size` bytes: all zero for a new mount.
    init(in memory: SharedMemory, at start: Int) {
        self.memory = memory
        self.start = start
        // because a section is not empty.
        base = memory[start, Self.size].baseAddress!
    }

    private func record(_ slot: UInt32) -> UnsafeMutableRawPointer {
        base + Self.recordsStart + Int(slot) * Self.recordSize
    }

    private func longName(_ slot: UInt32) -> UnsafeMutableRawPointer {
        base + Self.longNamesStart + Int(slot) * Self.longNameSize
    }

    private func word(_ offset: Int) -> UnsafeMutablePointer<UInt64> {
        (base + offset).assumingMemoryBound(to: UInt64.self)
    }

    // MARK: Recording

    /// Records a node, or a change of it.
    func write(_ node: Node, slot: UInt32, use: UInt32) {
        guard Int(slot) < Self.capacity else { return clinux_store_release(word(Self.isIncompleteStart), 1) }
        let record = record(slot)
        let first = record.assumingMemoryBound(to: UInt64.self)
        let published = UInt64(use) << 32 | UInt64(node.flags.rawValue)
        let isNew = first.pointee & UInt64(Flags.exists.rawValue) == 0
        record.storeBytes(of: node.lookups, toByteOffset: 8, as: UInt64.self)
        let isChanged = node.name.withPointer { name in
            let fields = Fields(node)
            let count = strlen(name)
            guard isNew || !isSame(fields, name, count, record, slot) else { return false }
            if !isNew { save(slot) }
            record.storeBytes(of: fields, toByteOffset: Self.fieldsStart, as: Fields.self)
            record.storeBytes(of: UInt16(count), toByteOffset: Self.nameStart - 2, as: UInt16.self)
            nameBytes(record, slot, count).copyMemory(from: name, byteCount: count)
            return true
        }
        if isChanged {
            if Int(slot) >= Int(word(Self.slotCountStart).pointee) {
                clinux_store_release(word(Self.slotCountStart), UInt64(slot) + 1)
            }
            if isNew { setBlock(Int(slot) / NodeTable.blockSize, isFree: false) }
            clinux_store_release(first, published)
            if !isNew { clinux_store_release(word(Self.undoSlotStart), 0) }
        } else if first.pointee != published {
            clinux_store_release(first, published)
        }
    }

    /// The fields that change together.
    private struct Fields: BitwiseCopyable {
        var parent: UInt64
        var device: UInt32
        var mount: UInt32
        var number: UInt64
        var birth: Int64

        init(_ node: Node) {
            parent = node.parent.rawValue
            device = UInt32(truncatingIfNeeded: node.identity?.device ?? 0)
            mount = node.identity?.mount ?? 0
            number = UInt64(node.identity?.number ?? 0)
            birth = node.recordedBirth
        }
    }

    private func isSame(
        _ fields: Fields, _ name: UnsafePointer<CChar>, _ count: Int, _ record: UnsafeMutableRawPointer, _ slot: UInt32
    ) -> Bool {
        // because the fields are not empty.
        withUnsafeBytes(of: fields) { memcmp(record + Self.fieldsStart, $0.baseAddress!, $0.count) == 0 }
            && Int(record.load(fromByteOffset: Self.nameStart - 2, as: UInt16.self)) == count
            && memcmp(nameBytes(record, slot, count), name, count) == 0
    }

    private func nameBytes(_ record: UnsafeMutableRawPointer, _ slot: UInt32, _ count: Int) -> UnsafeMutableRawPointer {
        count <= Self.shortNameCapacity ? record + Self.nameStart : longName(slot)
    }

    /// Records the lookup count, which changes most often.
    func write(lookups: UInt64, slot: UInt32) {
        guard Int(slot) < Self.capacity else { return }
        record(slot).storeBytes(of: lookups, toByteOffset: 8, as: UInt64.self)
    }

    /// Records that a slot is free.
    ///
    /// - Parameter use: The next use of the slot.
    func remove(slot: UInt32, nextUse use: UInt32) {
        guard Int(slot) < Self.capacity else { return }
        clinux_store_release(record(slot).assumingMemoryBound(to: UInt64.self), UInt64(use) << 32)
    }

    /// Frees the memory of a block without nodes.
    func free(block: Int, firstUse: UInt32) {
        guard (block + 1) * NodeTable.blockSize <= Self.capacity else { return }
        clinux_store_release(word(Self.blocksStart + block * 8), UInt64(firstUse) << 32 | 1)
        let first = block * NodeTable.blockSize
        memory.free(start + Self.recordsStart + first * Self.recordSize, NodeTable.blockSize * Self.recordSize)
        memory.free(start + Self.longNamesStart + first * Self.longNameSize, NodeTable.blockSize * Self.longNameSize)
    }

    private func setBlock(_ block: Int, isFree: Bool) {
        let word = word(Self.blocksStart + block * 8)
        if (word.pointee & 1 == 1) != isFree { clinux_store_release(word, word.pointee & ~1 | (isFree ? 1 : 0)) }
    }

    /// Copies a record to `undo`.
    private func save(_ slot: UInt32) {
        copy(record(slot), longName(slot), to: base + Self.undoStart, base + Self.undoStart + Self.recordSize)
        clinux_store_release(word(Self.undoSlotStart), UInt64(slot) + 1)
    }

    private func copy(
        _ record: UnsafeMutableRawPointer, _ longName: UnsafeMutableRawPointer, to target: UnsafeMutableRawPointer,
        _ targetName: UnsafeMutableRawPointer
    ) {
        target.copyMemory(from: record, byteCount: Self.recordSize)
        // Reading the other area would make the kernel allocate its page.
        let count = Int(record.load(fromByteOffset: Self.nameStart - 2, as: UInt16.self))
        if count > Self.shortNameCapacity { targetName.copyMemory(from: longName, byteCount: Self.longNameSize) }
    }

    // MARK: Restoring

    /// Whether an earlier process has recorded nodes.
    var isInUse: Bool { clinux_load_acquire(word(Self.slotCountStart)) > 0 }

    /// Whether all nodes are here.
    var isComplete: Bool { clinux_load_acquire(word(Self.isIncompleteStart)) == 0 }

    /// Calls `body` with each slot ever used, after a change that was not completed has been undone.
    ///
    /// - Parameter body: Gets the slot, its current or next use, and its node.
    func restore(_ body: (_ slot: UInt32, _ use: UInt32, _ node: Restored?) -> Void) {
        let undone = clinux_load_acquire(word(Self.undoSlotStart))
        if undone > 0 {
            let slot = UInt32(undone - 1)
            copy(base + Self.undoStart, base + Self.undoStart + Self.recordSize, to: record(slot), longName(slot))
            clinux_store_release(word(Self.undoSlotStart), 0)
        }
        for slot in 0..<UInt32(clinux_load_acquire(word(Self.slotCountStart))) {
            let block = clinux_load_acquire(word(Self.blocksStart + Int(slot) / NodeTable.blockSize * 8))
            let firstUse = UInt32(block >> 32)
            // Reading would make the kernel allocate pages again.
            guard block & 1 == 0 else {
                body(slot, firstUse, nil)
                continue
            }
            let record = record(slot)
            let first = clinux_load_acquire(record.assumingMemoryBound(to: UInt64.self))
            let flags = Flags(rawValue: UInt32(truncatingIfNeeded: first))
            let use = UInt32(first >> 32)
            guard flags.contains(.exists) else {
                body(slot, max(use, firstUse), nil)
                continue
            }
            let fields = record.load(fromByteOffset: Self.fieldsStart, as: Fields.self)
            let count = min(
                Int(record.load(fromByteOffset: Self.nameStart - 2, as: UInt16.self)), Self.longNameSize)
            let name = UnsafeRawBufferPointer(start: nameBytes(record, slot, count), count: count)
            body(
                slot, use,
                Restored(
                    parent: InodeNumber(rawValue: fields.parent), name: NodeName(name),
                    lookups: record.load(fromByteOffset: 8, as: UInt64.self), flags: flags,
                    identity: FileIdentity(
                        device: dev_t(fields.device), number: ino_t(fields.number), mount: fields.mount),
                    birth: fields.birth))
        }
    }

    /// A node as it was recorded.
    struct Restored {
        let parent: InodeNumber
        let name: NodeName
        let lookups: UInt64
        let flags: Flags
        /// Of device 0 and number 0 for a signal file.
        let identity: FileIdentity
        let birth: Int64
    }
}

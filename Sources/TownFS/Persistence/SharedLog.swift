import CLinux
import Glibc
import Linux
import Synchronization

/// A dictionary from bytes to bytes in shared memory: a process that is killed leaves all of it to its successor.
///
///     │ head │ region 0 ····················· │ region 1 ····················· │
///        └── one word: the active region (bit 63), and the number of its valid bytes (bits 0 to 62)
///
/// Entries are appended to the active region; the last one of a key counts. The word is stored after the entries, so
/// it covers whole entries only, whenever the process is killed. When a region exceeds twice the size of the live
/// entries, those are copied to the other region, the word switches to it, and the old region's memory is freed.
///
/// One process at a time appends. Thread-safe; the lock covers memory only.
package final class SharedLog: Sendable {
    /// Separates the keys of several users of one log; below 128.
    package typealias Kind = UInt8
    /// Keys of this kind are small numbers of 4 bytes, which are found faster.
    static let numberedKind: Kind = 64

    private let writer: Mutex<Writer>

    /// The number of bytes that a log needs in its memory.
    package static func size(ofRegion regionSize: Int) -> Int { Writer.headSize + 2 * regionSize }

    /// Continues the log in a section of the memory, which is empty if it is all zeros.
    ///
    /// The first use reads all entries: it has to come after the death of the process that appended to the log.
    ///
    /// - Parameters:
    ///   - offset: Where the section begins, a multiple of the page size.
    ///   - regionSize: The size of a region in bytes, a multiple of the page size below 4 GiB.
    package init(_ memory: SharedMemory, at offset: Int = 0, regionSize: Int) {
        writer = Mutex(Writer(memory, at: offset, regionSize: regionSize))
    }

    /// Changes several entries at once: after a kill, all of the changes count or none.
    package func batch<Result, Failure: Error>(
        _ body: (inout Writer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try writer.withLock { (writer) throws(Failure) in
            writer.loadIfNeeded()
            defer { writer.publish() }
            return try body(&writer)
        }
    }

    /// Sets the value of a key.
    ///
    /// - Parameters:
    ///   - size: The size of the value.
    ///   - write: Writes that many bytes.
    /// - Returns: False if there is no room; the former value stays.
    package func append(
        _ kind: Kind = 0, key: UnsafeRawBufferPointer, size: Int, _ write: (UnsafeMutableRawPointer) -> Void
    ) -> Bool {
        batch { $0.append(kind, key: key, size: size, write) }
    }

    /// The same with a value in memory.
    package func append(_ kind: Kind = 0, key: [UInt8], value: UnsafeRawBufferPointer) -> Bool {
        key.withUnsafeBytes { key in
            append(kind, key: key, size: value.count) { target in
                if let start = value.baseAddress { target.copyMemory(from: start, byteCount: value.count) }
            }
        }
    }

    /// The same with a value in memory.
    package func append(_ kind: Kind = 0, key: [UInt8], value: [UInt8]) -> Bool {
        value.withUnsafeBytes { append(kind, key: key, value: $0) }
    }

    /// Appends the entries of a buffer at once.
    ///
    /// - Returns: False if there was no room for some of them.
    func append(_ entries: borrowing EntryBuffer) -> Bool {
        batch { writer in
            var isComplete = true
            entries.forEach { entry in isComplete = writer.append(entry) && isComplete }
            return isComplete
        }
    }

    /// Removes a key.
    ///
    /// - Returns: False if there is no room for that; the former value stays.
    @discardableResult
    package func remove(_ kind: Kind = 0, key: [UInt8]) -> Bool {
        key.withUnsafeBytes { key in batch { $0.remove(kind, key: key) } }
    }

    /// Calls `body` with each key of a kind and its value, in no order; with nil for some of the keys that were removed,
    /// possibly several times.
    ///
    /// Also sees entries that another process has appended. `body` must not use the log.
    package func forEach(
        _ kind: Kind = 0, _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?) -> Void
    ) {
        writer.withLock { writer in
            writer.reloadIfChanged()
            writer.forEach(kind, body)
        }
    }

    /// The value of each key of a kind.
    package func entries(_ kind: Kind = 0) -> [[UInt8]: [UInt8]] {
        var entries: [[UInt8]: [UInt8]] = [:]
        forEach(kind) { key, value in
            if let value { entries[Array(key)] = Array(value) }
        }
        return entries
    }

    // MARK: Entries

    /// The log as one thread sees it that holds the lock.
    package struct Writer {
        fileprivate static let headSize = 4096
        /// A region of up to this size is not compacted.
        private static let compactionThreshold = 256 << 10
        /// In an entry's kind: the key was removed.
        static let removedBit: UInt8 = 1 << 7
        // size of the rest (4 bytes) │ kind (1) │ size of the key (4) │ key │ value; numbers are little-endian
        static let prefixSize = 9

        private let memory: SharedMemory
        private let offset: Int
        private let regionSize: Int
        private var region = 0
        /// Size of the entries in the active region, in bytes.
        private var used = 0
        /// The same of the live ones.
        private var live = 0
        private var index = Index()
        private var numbered = NumberedIndex()
        private let seed = UInt64.random(in: .min ... .max)
        /// The head word as it was stored or read last.
        private var published: UInt64 = 0
        private var isLoaded = false

        fileprivate init(_ memory: SharedMemory, at offset: Int, regionSize: Int) {
            precondition(regionSize < Index.limit, "an offset in a region has 32 bits")
            precondition(offset + SharedLog.size(ofRegion: regionSize) <= memory.size, "the log lies in the memory")
            self.memory = memory
            self.offset = offset
            self.regionSize = regionSize
        }

        private var head: UnsafeMutablePointer<UInt64> {
            (memory.base + offset).assumingMemoryBound(to: UInt64.self)
        }

        private func start(of region: Int) -> Int { offset + Self.headSize + region * regionSize }

        private var start: UnsafeMutableRawPointer { memory.base + start(of: region) }

        // MARK: Appending

        /// See `SharedLog.append`.
        package mutating func append(
            _ kind: Kind = 0, key: UnsafeRawBufferPointer, size: Int, _ write: (UnsafeMutableRawPointer) -> Void
        ) -> Bool {
            let total = Self.prefixSize + key.count + size
            guard makeRoom(total) else { return false }
            let entry = start + used
            Self.writePrefix(to: entry, total, kind, key)
            write(entry + Self.prefixSize + key.count)
            recordEntry(of: kind, key, size: total, isRemoval: false)
            return true
        }

        /// Appends an entry as it is in the memory.
        fileprivate mutating func append(_ entry: UnsafeRawBufferPointer) -> Bool {
            // because a buffer holds whole entries.
            let source = entry.baseAddress!
            guard makeRoom(entry.count), let parts = Self.entry(at: source, limit: entry.count) else { return false }
            (start + used).copyMemory(from: source, byteCount: entry.count)
            recordEntry(of: parts.kind, parts.key, size: entry.count, isRemoval: parts.value == nil)
            return true
        }

        /// See `SharedLog.remove`.
        package mutating func remove(_ kind: Kind = 0, key: UnsafeRawBufferPointer) -> Bool {
            let total = Self.prefixSize + key.count
            guard makeRoom(total) else { return false }
            Self.writePrefix(to: start + used, total, kind | Self.removedBit, key)
            recordEntry(of: kind, key, size: total, isRemoval: true)
            return true
        }

        /// Accounts for the entry after the last one.
        private mutating func recordEntry(
            of kind: Kind, _ key: UnsafeRawBufferPointer, size: Int, isRemoval: Bool
        ) {
            if let number = Self.number(kind, key) {
                live -= numbered.update(isRemoval ? nil : (used, size), of: number)
            } else {
                let (start, hash) = (start, hash(kind, key))
                let former =
                    isRemoval
                    ? index.remove(hash: hash) { Self.has(start + Int($0), kind, key) }
                    : index.update(UInt32(used), hash: hash) { Self.has(start + Int($0), kind, key) }
                if let former { live -= Self.size(of: start + Int(former)) }
            }
            if !isRemoval { live += size }
            used += size
        }

        /// Makes all changes valid.
        fileprivate mutating func publish() {
            let word = UInt64(region) << 63 | UInt64(used)
            guard word != published else { return }
            let former = published
            clinux_store_release(head, word)
            published = word
            guard (word ^ former) >> 63 == 1 else { return }
            // The next compaction writes to the region again: it keeps as much memory as it will need then.
            let kept = max(2 * Self.compactionThreshold, 3 * live)
            let formerUsed = Int(former & (1 << 63 - 1))
            guard formerUsed > kept + Self.compactionThreshold else { return }
            // A system call under a lock, but a rare one that only frees memory.
            memory.free(start(of: 1 - region) + kept, regionSize - kept)
        }

        // MARK: Compaction

        /// - Returns: Whether an entry of this size fits, after a compaction if that is due.
        private mutating func makeRoom(_ size: Int) -> Bool {
            let grown = used + size
            if grown > max(Self.compactionThreshold, 2 * (live + size)) || grown > regionSize { compact() }
            return used + size <= regionSize
        }

        /// Copies the live entries to the other region.
        ///
        /// Not twice before `publish`: the other region must not be the one that the head word names.
        private mutating func compact() {
            guard UInt64(region) == published >> 63 else { return }
            let (source, target) = (start, memory.base + start(of: 1 - region))
            var used = 0
            func copy(_ offset: UInt32) -> UInt32 {
                let entry = source + Int(offset)
                let size = Self.size(of: entry)
                (target + used).copyMemory(from: entry, byteCount: size)
                defer { used += size }
                return UInt32(used)
            }
            index.replaceOffsets(copy)
            numbered.replaceOffsets(copy)
            region = 1 - region
            self.used = used
            live = used
        }

        // MARK: Reading

        fileprivate mutating func loadIfNeeded() {
            if !isLoaded { load() }
        }

        fileprivate mutating func reloadIfChanged() {
            if !isLoaded || clinux_load_acquire(head) != published { load() }
        }

        /// Indexes the entries in the memory, up to an invalid one, which no process publishes.
        private mutating func load() {
            isLoaded = true
            published = clinux_load_acquire(head)
            region = Int(published >> 63)
            index = Index()
            numbered = NumberedIndex()
            used = 0
            live = 0
            let valid = Int(published & (1 << 63 - 1))
            guard valid <= regionSize else { return }
            while let entry = Self.entry(at: start + used, limit: valid - used) {
                recordEntry(of: entry.kind, entry.key, size: entry.size, isRemoval: entry.value == nil)
            }
        }

        fileprivate func forEach(
            _ kind: Kind, _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?) -> Void
        ) {
            var position = 0
            while let entry = Self.entry(at: start + position, limit: used - position) {
                defer { position += entry.size }
                guard entry.kind == kind else { continue }
                let last =
                    Self.number(kind, entry.key).map { numbered.offset(of: $0) }
                    ?? index.offset(hash: hash(kind, entry.key)) { Self.has(start + Int($0), kind, entry.key) }
                if last == UInt32(position) || last == nil && entry.value == nil { body(entry.key, entry.value) }
            }
        }

        private struct Entry {
            let kind: Kind
            let key: UnsafeRawBufferPointer
            /// Nil if the key was removed.
            let value: UnsafeRawBufferPointer?
            /// With the prefix.
            let size: Int
        }

        private static func writePrefix(
            to target: UnsafeMutableRawPointer, _ size: Int, _ kind: UInt8, _ key: UnsafeRawBufferPointer
        ) {
            target.storeBytes(of: UInt32(size - 4).littleEndian, as: UInt32.self)
            target.storeBytes(of: kind, toByteOffset: 4, as: UInt8.self)
            target.storeBytes(of: UInt32(key.count).littleEndian, toByteOffset: 5, as: UInt32.self)
            if let start = key.baseAddress { (target + prefixSize).copyMemory(from: start, byteCount: key.count) }
        }

        private static func number(at source: UnsafeRawPointer) -> Int {
            Int(UInt32(littleEndian: source.loadUnaligned(as: UInt32.self)))
        }

        /// The size of a valid entry, with the prefix.
        private static func size(of entry: UnsafeRawPointer) -> Int { 4 + number(at: entry) }

        /// Whether a valid entry, which is no removal, has a key.
        private static func has(_ entry: UnsafeRawPointer, _ kind: Kind, _ key: UnsafeRawBufferPointer) -> Bool {
            guard entry.load(fromByteOffset: 4, as: UInt8.self) == kind, number(at: entry + 5) == key.count else {
                return false
            }
            guard let start = key.baseAddress else { return true }
            return memcmp(entry + prefixSize, start, key.count) == 0
        }

        /// Decodes an entry; nil if it is invalid.
        private static func entry(at source: UnsafeRawPointer, limit: Int) -> Entry? {
            guard limit >= prefixSize, case let size = size(of: source), (prefixSize...limit).contains(size) else {
                return nil
            }
            let kind = source.load(fromByteOffset: 4, as: UInt8.self)
            let keySize = number(at: source + 5)
            guard keySize <= size - prefixSize else { return nil }
            let key = UnsafeRawBufferPointer(start: source + prefixSize, count: keySize)
            let value = UnsafeRawBufferPointer(
                start: source + prefixSize + keySize, count: size - prefixSize - keySize)
            return Entry(kind: kind & ~removedBit, key: key, value: kind & removedBit == 0 ? value : nil, size: size)
        }

        /// The number that is the key, if the kind is numbered.
        private static func number(_ kind: Kind, _ key: UnsafeRawBufferPointer) -> Int? {
            guard kind == SharedLog.numberedKind, key.count == 4 else { return nil }
            let number = number(at: key.baseAddress!)  // because it is not empty.
            return number < NumberedIndex.limit ? number : nil
        }

        /// Not to be guessed by those who choose keys.
        private func hash(_ kind: Kind, _ key: UnsafeRawBufferPointer) -> UInt32 {
            var hash = seed ^ UInt64(kind) ^ UInt64(key.count) << 8
            func mix(_ word: UInt64) {
                let product = (hash ^ word).multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15)
                hash = product.high ^ product.low
            }
            var position = 0
            while position + 8 <= key.count {
                mix(key.loadUnaligned(fromByteOffset: position, as: UInt64.self))
                position += 8
            }
            var rest: UInt64 = 0
            while position < key.count {
                rest = rest << 8 | UInt64(key[position])
                position += 1
            }
            mix(rest)
            mix(seed)
            return UInt32(truncatingIfNeeded: hash)
        }
    }
}

/// The offsets and sizes of the live entries whose keys are numbers.
private struct NumberedIndex {
    static let limit = 1 << 20

    /// Sizes (upper half), and offsets plus one; 0 is empty.
    private var entries: [UInt64] = []

    func offset(of number: Int) -> UInt32? {
        guard number < entries.count, entries[number] != 0 else { return nil }
        return UInt32(truncatingIfNeeded: entries[number]) - 1
    }

    /// Sets or removes the entry of a number below `limit`.
    ///
    /// - Returns: The size of the former one.
    mutating func update(_ entry: (offset: Int, size: Int)?, of number: Int) -> Int {
        if number >= entries.count {
            entries += repeatElement(0, count: max(number + 1, 2 * entries.count) - entries.count)
        }
        defer { entries[number] = entry.map { UInt64($0.size) << 32 | UInt64($0.offset + 1) } ?? 0 }
        return Int(entries[number] >> 32)
    }

    /// Calls `body` with every offset, and sets what it returns.
    mutating func replaceOffsets(_ body: (UInt32) -> UInt32) {
        for number in entries.indices where entries[number] != 0 {
            let offset = body(UInt32(truncatingIfNeeded: entries[number]) - 1)
            entries[number] = entries[number] & ~UInt64(UInt32.max) | UInt64(offset + 1)
        }
    }
}

/// The offsets of the live entries by the hashes of their keys, which are in the entries.
///
/// Open addressing with linear probing and backward-shift deletion; at most half full.
private struct Index {
    /// Offsets are below this.
    static let limit = 1 << 32 - 1
    private static let smallest = 64

    /// Hashes (upper half) and offsets plus one; 0 is empty.
    ///
    /// The count is a power of two.
    private var buckets = [UInt64](repeating: 0, count: smallest)
    private var count = 0

    func offset(hash: UInt32, isMatch: (UInt32) -> Bool) -> UInt32? {
        let bucket = bucket(of: hash, isMatch: isMatch)
        return buckets[bucket] == 0 ? nil : UInt32(truncatingIfNeeded: buckets[bucket]) - 1
    }

    /// Sets the offset of a key.
    ///
    /// - Returns: The former one.
    mutating func update(_ offset: UInt32, hash: UInt32, isMatch: (UInt32) -> Bool) -> UInt32? {
        let bucket = bucket(of: hash, isMatch: isMatch)
        let former = buckets[bucket]
        buckets[bucket] = UInt64(hash) << 32 | UInt64(offset + 1)
        guard former == 0 else { return UInt32(truncatingIfNeeded: former) - 1 }
        count += 1
        if count * 2 > buckets.count { resize(to: buckets.count * 2) }
        return nil
    }

    /// Removes a key.
    ///
    /// - Returns: Its offset.
    mutating func remove(hash: UInt32, isMatch: (UInt32) -> Bool) -> UInt32? {
        var hole = bucket(of: hash, isMatch: isMatch)
        let former = buckets[hole]
        guard former != 0 else { return nil }
        let mask = buckets.count - 1
        // An entry that probing would no longer reach across the hole moves into it and leaves the next hole.
        var bucket = (hole + 1) & mask
        while buckets[bucket] != 0 {
            let home = Int(buckets[bucket] >> 32) & mask
            if (bucket - home) & mask >= (bucket - hole) & mask {
                buckets[hole] = buckets[bucket]
                hole = bucket
            }
            bucket = (bucket + 1) & mask
        }
        buckets[hole] = 0
        count -= 1
        if buckets.count > Self.smallest, count * 8 < buckets.count { resize(to: buckets.count / 2) }
        return UInt32(truncatingIfNeeded: former) - 1
    }

    /// Calls `body` with every offset, and sets what it returns.
    mutating func replaceOffsets(_ body: (UInt32) -> UInt32) {
        for bucket in buckets.indices where buckets[bucket] != 0 {
            let offset = body(UInt32(truncatingIfNeeded: buckets[bucket]) - 1)
            buckets[bucket] = buckets[bucket] & ~UInt64(UInt32.max) | UInt64(offset + 1)
        }
    }

    /// The bucket of a key, or the empty one where it belongs.
    private func bucket(of hash: UInt32, isMatch: (UInt32) -> Bool) -> Int {
        let mask = buckets.count - 1
        var bucket = Int(hash) & mask
        while buckets[bucket] != 0 {
            let found = buckets[bucket]
            if found >> 32 == UInt64(hash), isMatch(UInt32(truncatingIfNeeded: found) - 1) { break }
            bucket = (bucket + 1) & mask
        }
        return bucket
    }

    private mutating func resize(to size: Int) {
        let former = buckets
        buckets = Array(repeating: 0, count: size)
        for entry in former where entry != 0 {
            var bucket = Int(entry >> 32) & (size - 1)
            while buckets[bucket] != 0 { bucket = (bucket + 1) & (size - 1) }
            buckets[bucket] = entry
        }
    }
}

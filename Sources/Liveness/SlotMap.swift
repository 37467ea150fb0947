/// A dictionary whose entries stay where they are: each has a slot, a number that leads to it without its key.
///
/// No change takes long, however much there is. A slot is used again when its entry is gone. Who wants to see all, but
/// not at once, goes through `slots` a part at a time: what is there all the while is met once. Memory is kept for what
/// comes next, until nothing is left.
struct SlotMap<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// Neither is there in a slot that is empty.
    private struct Entry: Sendable {
        var key: Key?
        var value: Value?
    }

    private var entries = Blocks<Entry>()
    private var free = Blocks<UInt32>()
    private var index = HashIndex()

    var count: Int { entries.count - free.count }
    var isEmpty: Bool { count == 0 }
    /// Where there may be entries.
    var slots: Range<Int> { 0..<entries.count }

    func slot(of key: Key) -> Int? { slot(of: key, hash: key.hashValue) }

    /// The same for a key whose hash is known.
    func slot(of key: Key, hash: Int) -> Int? {
        index.find(hash) { entries[$0].key == key }
    }

    /// Where a key of this hash is, most likely, without a look at it: see `slot(of:hash:likely:)`.
    ///
    /// The processor waits for the memory of several at once, if all of them are looked for in this way first.
    @inline(__always)
    func likelySlot(ofHash hash: Int) -> Int? { index.find(hash) { _ in true } }

    @inline(__always)
    func slot(of key: Key, hash: Int, likely: Int?) -> Int? {
        guard let likely else { return nil }
        if entries[likely].key == key { return likely }
        return slot(of: key, hash: hash)
    }

    /// The slots of some keys whose hashes are known.
    ///
    /// Step by step for all of them, each step a short loop of reads that do not depend on each other: so the processor waits
    /// for the memory of a dozen at once.
    ///
    /// - Parameter glimpse: A bit of what a key leads to, to be compared first; the same for equal keys.
    @inline(__always)
    func slots(
        of keys: UnsafeBufferPointer<Key>, hashes: [Int], glimpse: (borrowing Key) -> UInt8 = { _ in 0 }
    ) -> [Int?] {
        var slots = [Int?](repeating: nil, count: keys.count)
        for place in keys.indices { slots[place] = likelySlot(ofHash: hashes[place]) }
        var isLikely = [Bool](repeating: false, count: keys.count)
        for place in keys.indices {
            if let slot = slots[place] { isLikely[place] = entries[slot].key != nil }
        }
        for place in keys.indices where isLikely[place] {
            guard let slot = slots[place], let known = entries[slot].key else { continue }
            isLikely[place] = glimpse(known) == glimpse(keys[place])
        }
        for place in keys.indices {
            guard let slot = slots[place], !isLikely[place] || entries[slot].key != keys[place] else { continue }
            slots[place] = self.slot(of: keys[place], hash: hashes[place])
        }
        return slots
    }

    /// The key in a slot, the same object that was put there; nil for an empty one.
    func key(at slot: Int) -> Key? { slot < entries.count ? entries[slot].key : nil }

    /// The value in a slot; nil in an empty one.
    func value(at slot: Int) -> Value? { slot < entries.count ? entries[slot].value : nil }

    /// The value in a slot that is not empty.
    subscript(slot slot: Int) -> Value {
        // because whoever keeps a slot's number knows when its entry goes.
        _read { yield entries[slot].value! }
        _modify { yield &entries[slot].value! }
    }

    subscript(key: Key) -> Value? { slot(of: key).map { self[slot: $0] } }

    /// Adds what is not there, and answers in which slot it is from now on.
    mutating func insert(_ key: Key, _ value: Value) -> Int {
        let slot: Int
        let hash = key.hashValue
        if free.count > 0 {
            slot = Int(free.removeLast())
            entries[slot] = Entry(key: key, value: value)
        } else {
            slot = entries.count
            entries.append(Entry(key: key, value: value))
        }
        index.insert(slot, hash)
        return slot
    }

    /// Takes out the entry of a slot.
    mutating func remove(slot: Int) {
        guard let key = entries[slot].key else { return }
        index.remove(slot, key.hashValue)
        entries[slot] = Entry()
        free.append(UInt32(slot))
        if isEmpty { self = SlotMap() }
    }
}

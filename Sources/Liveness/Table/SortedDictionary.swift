/// A dictionary that also keeps its keys in ascending order.
///
/// Lookups hash. A walk in key order may stop anywhere and resume later, whatever was inserted or removed in between: the
/// order does not depend on the process's hash seed. Inserting and removing shift part of an array of keys, which takes
/// some microseconds at 10,000 keys.
struct SortedDictionary<Key: Hashable & Comparable & Sendable, Value: Sendable>: Sendable {
    private var indices: [Key: Int] = [:]
    /// Not sorted.
    private(set) var entries: [(key: Key, value: Value)] = []
    private(set) var keys: [Key] = []

    var count: Int { keys.count }

    init(minimumCapacity: Int = 0) {
        indices.reserveCapacity(minimumCapacity)
    }

    /// An index of `entries`, valid until a key is removed.
    func index(of key: Key) -> Int? { indices[key] }

    subscript(index: Int) -> Value {
        get { entries[index].value }
        _modify { yield &entries[index].value }
    }

    /// Reads a value without copying it.
    func read<Result>(_ index: Int, _ body: (borrowing Value) -> Result) -> Result {
        entries.withUnsafeBufferPointer { entries in
            // because an index is that of an entry.
            body((entries.baseAddress! + index).pointee.value)
        }
    }

    subscript(key: Key) -> Value? { indices[key].map { entries[$0].value } }

    /// The first position whose key does not satisfy `precedes`, which holds for a prefix of `keys`.
    func position(_ precedes: (Key) -> Bool) -> Int {
        var (low, high) = (0, keys.count)
        while low < high {
            let middle = (low + high) / 2
            if precedes(keys[middle]) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Up to `limit` keys after another one, or from the first on.
    func keys(after last: Key?, limit: Int) -> ArraySlice<Key> {
        let start = last.map { last in position { $0 <= last } } ?? 0
        return keys[start...].prefix(limit)
    }

    mutating func updateValue(_ value: Value, forKey key: Key) {
        if let index = indices[key] {
            entries[index].value = value
        } else {
            indices[key] = entries.count
            entries.append((key, value))
            keys.insert(key, at: position { $0 < key })
        }
    }

    mutating func removeValue(forKey key: Key) {
        if removeEntry(key) { keys.remove(at: position { $0 < key }) }
    }

    private mutating func removeEntry(_ key: Key) -> Bool {
        guard let index = indices.removeValue(forKey: key) else { return false }
        if index < entries.count - 1 {
            entries.swapAt(index, entries.count - 1)
            indices[entries[index].key] = index
        }
        entries.removeLast()
        return true
    }

    /// Removes values that match, looking at up to `limit` from a position on.
    ///
    /// - Returns: The position to continue from; 0 at the end.
    mutating func removeValues(
        from start: Int, limit: Int, where isMatch: (Value) -> Bool, onRemoval: (Key) -> Void = { _ in }
    ) -> Int {
        guard start < keys.count else { return 0 }
        let range = start..<start + min(limit, keys.count - start)
        let isEnd = range.upperBound == keys.count
        var kept: [Key] = []
        for key in keys[range] {
            if let index = indices[key], read(index, isMatch) {
                _ = removeEntry(key)
                onRemoval(key)
            } else {
                kept.append(key)
            }
        }
        if kept.count < range.count { keys.replaceSubrange(range, with: kept) }
        return isEnd ? 0 : start + kept.count
    }
}

/// A dictionary that also keeps its keys in ascending order.
///
/// Lookups hash. A walk in key order may stop anywhere and resume later, whatever was inserted or removed in between:
/// the order does not depend on the process's hash seed. Inserting and removing shift part of an array of keys, which
/// takes some microseconds at 10,000 keys.
struct SortedDictionary<Key: Hashable & Comparable & Sendable, Value: Sendable>: Sendable {
    typealias Index = Dictionary<Key, Value>.Index

    private(set) var values: [Key: Value] = [:]
    private(set) var keys: [Key] = []

    var count: Int { keys.count }

    init(minimumCapacity: Int = 0) {
        values.reserveCapacity(minimumCapacity)
        keys.reserveCapacity(minimumCapacity)
    }

    /// Valid until a key is inserted or removed.
    func index(of key: Key) -> Index? { values.index(forKey: key) }

    subscript(index: Index) -> Value {
        get { values.values[index] }
        _modify { yield &values.values[index] }
    }

    subscript(key: Key) -> Value? { values[key] }

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
        guard values.updateValue(value, forKey: key) == nil else { return }
        keys.insert(key, at: position { $0 < key })
    }

    mutating func removeValue(forKey key: Key) {
        guard values.removeValue(forKey: key) != nil else { return }
        keys.remove(at: position { $0 < key })
    }

    /// Removes values that match, looking at up to `limit` from a position on.
    ///
    /// - Returns: The position to continue from; 0 at the end.
    mutating func removeValues(from start: Int, limit: Int, where isMatch: (Value) -> Bool) -> Int {
        guard start < keys.count else { return 0 }
        let range = start..<start + min(limit, keys.count - start)
        let isEnd = range.upperBound == keys.count
        var kept: [Key] = []
        for key in keys[range] {
            if values[key].map(isMatch) ?? true { values[key] = nil } else { kept.append(key) }
        }
        if kept.count < range.count { keys.replaceSubrange(range, with: kept) }
        return isEnd ? 0 : start + kept.count
    }
}

/// A hash table from file identity to node slot, without keys: those are in the nodes.
///
/// Open addressing with linear probing and backward-shift deletion. The load is between 1/8 and 3/4, except in the
/// smallest table.
struct SlotIndex {
    /// One more than the slot; 0 is an empty bucket.
    private var buckets = [UInt32](repeating: 0, count: smallest)
    private var count = 0

    /// A power of two.
    private static let smallest = 1024

    /// Returns the identity of the node in a slot.
    typealias IdentityOf = (_ slot: UInt32) -> FileIdentity?

    func slot(of identity: FileIdentity, identityOf: IdentityOf) -> UInt32? {
        var bucket = home(of: identity)
        while buckets[bucket] != 0 {
            let slot = buckets[bucket] - 1
            if identityOf(slot) == identity { return slot }
            bucket = next(bucket)
        }
        return nil
    }

    /// Adds a slot whose identity is not in the index.
    mutating func insert(_ slot: UInt32, identityOf: IdentityOf) {
        if (count + 1) * 4 > buckets.count * 3 { resize(to: buckets.count * 2, identityOf: identityOf) }
        place(slot, identityOf: identityOf)
        count += 1
    }

    /// Removes a slot.
    mutating func remove(_ slot: UInt32, identityOf: IdentityOf) {
        guard let identity = identityOf(slot) else { return }
        var hole = home(of: identity)
        while buckets[hole] != slot + 1 {
            guard buckets[hole] != 0 else { return }
            hole = next(hole)
        }
        // An entry that probing would no longer reach across the hole moves into it and leaves the next hole.
        var bucket = next(hole)
        while buckets[bucket] != 0 {
            if let identity = identityOf(buckets[bucket] - 1), isAtOrBefore(home(of: identity), hole, seenFrom: bucket)
            {
                buckets[hole] = buckets[bucket]
                hole = bucket
            }
            bucket = next(bucket)
        }
        buckets[hole] = 0
        count -= 1
        if buckets.count > Self.smallest, count * 8 < buckets.count {
            resize(to: buckets.count / 2, identityOf: identityOf)
        }
    }

    // MARK: Buckets

    /// Whether probing from `home` to `bucket` passes `hole`.
    private func isAtOrBefore(_ home: Int, _ hole: Int, seenFrom bucket: Int) -> Bool {
        (bucket - home) & (buckets.count - 1) >= (bucket - hole) & (buckets.count - 1)
    }

    private func next(_ bucket: Int) -> Int { (bucket + 1) & (buckets.count - 1) }

    /// Inode numbers are often consecutive; a multiplication spreads them, and the upper bits are used.
    private func home(of identity: FileIdentity) -> Int {
        let mixed = (UInt64(identity.number) ^ UInt64(identity.device) << 48) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: (mixed ^ mixed >> 29) >> 16) & (buckets.count - 1)
    }

    private mutating func place(_ slot: UInt32, identityOf: IdentityOf) {
        guard let identity = identityOf(slot) else { return }
        var bucket = home(of: identity)
        while buckets[bucket] != 0 { bucket = next(bucket) }
        buckets[bucket] = slot + 1
    }

    private mutating func resize(to size: Int, identityOf: IdentityOf) {
        let former = buckets
        buckets = Array(repeating: 0, count: size)
        for entry in former where entry != 0 { place(entry - 1, identityOf: identityOf) }
    }
}

/// Slots by the hash of what is in them: a hash table that holds no keys, and grows a page at a time.
///
/// The first bits of a hash choose a page, through a directory; a page is a small table with linear probing. One that
/// gets full is split in two, and the directory is doubled when it cannot tell these apart (extendible hashing: Fagin,
/// Nievergelt, Pippenger, Strong, 1979). So no insertion takes longer than a page and the directory: some microseconds
/// with a million slots, where a table in one piece would take tens of milliseconds now and then.
///
/// A slot takes 11 to 22 bytes.
struct HashIndex: Sendable {
    private struct Page: Sendable {
        var count = 0
        /// How many bits of a hash all in it have in common.
        var depth: Int
    }

    /// Buckets in a page.
    private static let pageSize = 512

    private var pages = Blocks<Page>()
    /// Those of all pages: a hash's upper half above one more than the slot; 0 is empty.
    private var buckets = Blocks<UInt64>()
    /// Pages by the first `depth` bits of a hash.
    private var directory = Blocks<UInt32>()
    private var depth = 0

    init() {
        addPage(depth: 0)
        directory.append(0)
    }

    /// The slot that has this hash and is the one meant.
    @inline(__always)
    func find(_ hash: Int, isMeant: (_ slot: Int) -> Bool) -> Int? {
        let tag = Self.tag(hash)
        var bucket = home(of: tag)
        while true {
            let entry = buckets[bucket]
            if entry == 0 { return nil }
            if Self.tag(ofEntry: entry) == tag {
                let slot = Int(UInt32(truncatingIfNeeded: entry)) - 1
                if isMeant(slot) { return slot }
            }
            bucket = Self.next(bucket)
        }
    }

    /// Adds a slot that is not there.
    mutating func insert(_ slot: Int, _ hash: Int) {
        let tag = Self.tag(hash)
        while pages[page(of: tag)].count * 4 >= Self.pageSize * 3 { split(page(of: tag)) }
        put(Self.entry(slot, tag))
    }

    /// Removes a slot that is there.
    mutating func remove(_ slot: Int, _ hash: Int) {
        let tag = Self.tag(hash)
        var hole = home(of: tag)
        while buckets[hole] != Self.entry(slot, tag) {
            guard buckets[hole] != 0 else { return }
            hole = Self.next(hole)
        }
        // Whatever would not be found any more across the hole moves into it, and leaves another.
        var bucket = Self.next(hole)
        while buckets[bucket] != 0 {
            let entry = buckets[bucket]
            if Self.distance(home(of: Self.tag(ofEntry: entry)), bucket) >= Self.distance(hole, bucket) {
                buckets[hole] = entry
                hole = bucket
            }
            bucket = Self.next(bucket)
        }
        buckets[hole] = 0
        pages[page(of: tag)].count -= 1
    }

    // MARK: Pages

    private mutating func put(_ entry: UInt64) {
        var bucket = home(of: Self.tag(ofEntry: entry))
        while buckets[bucket] != 0 { bucket = Self.next(bucket) }
        buckets[bucket] = entry
        pages[page(of: Self.tag(ofEntry: entry))].count += 1
    }

    private mutating func addPage(depth: Int) {
        pages.append(Page(depth: depth))
        for _ in 0..<Self.pageSize { buckets.append(0) }
    }

    /// Moves half of a page, more or less, to a new one.
    private mutating func split(_ page: Int) {
        let depth = pages[page].depth + 1
        precondition(depth <= 22, "hashes differ in their first bits")
        if depth > self.depth { doubleDirectory() }
        // Of the places that lead to the page, which lie in a row, the second half.
        let first = (0..<directory.count).first { directory[$0] == page } ?? 0
        let places = 1 << (self.depth - depth)
        for place in (first + places)..<(first + 2 * places) { directory[place] = UInt32(pages.count) }
        addPage(depth: depth)
        pages[page] = Page(depth: depth)
        let former = (page * Self.pageSize)..<((page + 1) * Self.pageSize)
        let entries = former.map { buckets[$0] }
        for bucket in former { buckets[bucket] = 0 }
        for entry in entries where entry != 0 { put(entry) }
    }

    private mutating func doubleDirectory() {
        var double = Blocks<UInt32>()
        for place in 0..<2 * directory.count { double.append(directory[place / 2]) }
        directory = double
        depth += 1
    }

    private func page(of tag: UInt32) -> Int { Int(directory[Int(UInt64(tag) >> (32 - UInt64(depth)))]) }

    // MARK: Buckets

    private static func entry(_ slot: Int, _ tag: UInt32) -> UInt64 { UInt64(tag) << 32 | UInt64(slot + 1) }
    private static func tag(ofEntry entry: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: entry >> 32) }
    private static func tag(_ hash: Int) -> UInt32 { tag(ofEntry: UInt64(bitPattern: Int64(hash))) }

    /// Where a search begins.
    private func home(of tag: UInt32) -> Int { page(of: tag) * Self.pageSize | Int(tag) & (Self.pageSize - 1) }

    /// The next bucket of the same page.
    private static func next(_ bucket: Int) -> Int {
        bucket & ~(pageSize - 1) | (bucket + 1) & (pageSize - 1)
    }

    /// How far it is on from one bucket to another.
    private static func distance(_ one: Int, _ other: Int) -> Int { (other - one) & (pageSize - 1) }
}

/// When which runtime will have expired, unless it is touched again: what to wait for, and whom to name then.
///
/// A runtime, told by the slot that it has in the table, has one entry, for a deadline that it had; a touch, which moves
/// it on, changes nothing here. When the entry comes up and the runtime lives longer by then, it is put back. So a touch
/// costs one look at a bit, and a runtime's entry comes up about once a ttl.
struct ExpiryQueue: Sendable {
    private struct Entry: Sendable {
        let deadline: CompactInstant
        let slot: UInt32

        /// By slot at one instant, so that the order does not depend on who was touched meanwhile.
        func isBefore(_ other: Entry) -> Bool {
            deadline == other.deadline ? slot < other.slot : deadline < other.deadline
        }
    }

    /// A heap with four children to a parent, the earliest deadline first.
    private var heap = Blocks<Entry>()
    /// By slot: where its entry is in the heap, if it has one.
    private var places = Blocks<UInt32>()

    /// A bit for each slot: whether it has an entry.
    ///
    /// All that nearly every touch asks for, in so little memory that it stays near the processor.
    private var isQueued = Blocks<UInt64>()

    /// How many runtimes are waited for.
    var count: Int { heap.count }

    /// When to look next; a little too early now and then.
    var earliest: CompactInstant? { heap.count > 0 ? heap[0].deadline : nil }

    /// Whether a runtime will come up at the deadline that it had, or before.
    func contains(_ slot: Int) -> Bool {
        slot / 64 < isQueued.count && isQueued[slot / 64] & 1 << UInt64(slot % 64) != 0
    }

    /// Sees to it that a runtime comes up at its deadline or before.
    mutating func add(_ slot: Int, deadline: CompactInstant) {
        let entry = Entry(deadline: deadline, slot: UInt32(slot))
        if contains(slot) {
            let place = Int(places[slot])
            if deadline < heap[place].deadline { rise(entry, from: place) }
        } else {
            while places.count <= slot { places.append(0) }
            while isQueued.count <= slot / 64 { isQueued.append(0) }
            isQueued[slot / 64] |= 1 << UInt64(slot % 64)
            heap.append(entry)
            rise(entry, from: heap.count - 1)
        }
    }

    /// Lets go of a runtime that will not expire.
    mutating func remove(_ slot: Int) {
        guard contains(slot) else { return }
        takeOut(at: Int(places[slot]))
    }

    /// Takes out the runtimes that have expired, the one that did so first at the head.
    ///
    /// - Parameters:
    ///   - limit: How many entries are looked at; afterwards `earliest` tells whether that was all.
    ///   - deadline: A runtime's as of now; nil for one that does not live.
    mutating func expired(
        at now: CompactInstant, limit: Int, deadline: (_ slot: Int) -> CompactInstant?
    ) -> [(slot: Int, deadline: CompactInstant)] {
        var expired: [(slot: Int, deadline: CompactInstant)] = []
        for _ in 0..<limit {
            guard heap.count > 0, heap[0].deadline <= now else { break }
            let slot = Int(heap[0].slot)
            guard let deadline = deadline(slot) else {
                takeOut(at: 0)
                continue
            }
            if deadline <= now {
                takeOut(at: 0)
                expired.append((slot, deadline))
            } else {
                sink(Entry(deadline: deadline, slot: UInt32(slot)), from: 0)
            }
        }
        return expired
    }

    // MARK: The heap

    private mutating func takeOut(at place: Int) {
        let slot = Int(heap[place].slot)
        isQueued[slot / 64] &= ~(1 << UInt64(slot % 64))
        let last = heap.removeLast()
        guard place < heap.count else { return }
        if place > 0, last.isBefore(heap[(place - 1) / 4]) {
            rise(last, from: place)
        } else {
            sink(last, from: place)
        }
    }

    private mutating func put(_ entry: Entry, at place: Int) {
        heap[place] = entry
        places[Int(entry.slot)] = UInt32(place)
    }

    private mutating func rise(_ entry: Entry, from start: Int) {
        var place = start
        while place > 0, entry.isBefore(heap[(place - 1) / 4]) {
            put(heap[(place - 1) / 4], at: place)
            place = (place - 1) / 4
        }
        put(entry, at: place)
    }

    private mutating func sink(_ entry: Entry, from start: Int) {
        var place = start
        while 4 * place + 1 < heap.count {
            var child = 4 * place + 1
            for other in (child + 1)..<max(child + 1, min(child + 4, heap.count))
            where heap[other].isBefore(heap[child]) {
                child = other
            }
            guard heap[child].isBefore(entry) else { break }
            put(heap[child], at: place)
            place = child
        }
        put(entry, at: place)
    }
}

/// When which runtime will have expired, unless it is touched again: what to wait for, and whom to name then.
///
/// A runtime, told by the slot that it has in the table, has one entry, for a deadline that it had; a touch, which moves
/// it on, changes nothing here. When the entry comes up and the runtime lives longer by then, it is put back. So a touch
/// costs one look at that deadline, and a runtime's entry comes up about once a ttl.
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
    /// By slot: where its entry is in the heap, and for which deadline.
    ///
    /// All that nearly every touch asks for, at one place.
    private var queued = Blocks<Queued>()

    private struct Queued: Sendable {
        /// Nil is nowhere.
        var place: UInt32?
        var deadline = CompactInstant.past
    }

    /// How many runtimes are waited for.
    var count: Int { heap.count }

    /// When to look next; a little too early now and then.
    var earliest: CompactInstant? { heap.count > 0 ? heap[0].deadline : nil }

    /// Sees to it that a runtime comes up at its deadline or before.
    mutating func add(_ slot: Int, deadline: CompactInstant) {
        while queued.count <= slot { queued.append(Queued()) }
        let entry = Entry(deadline: deadline, slot: UInt32(slot))
        if let place = queued[slot].place {
            if deadline < queued[slot].deadline { rise(entry, from: Int(place)) }
        } else {
            heap.append(entry)
            rise(entry, from: heap.count - 1)
        }
    }

    /// Lets go of a runtime that will not expire.
    mutating func remove(_ slot: Int) {
        guard slot < queued.count, let place = queued[slot].place else { return }
        takeOut(at: Int(place))
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
        queued[Int(heap[place].slot)].place = nil
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
        queued[Int(entry.slot)] = Queued(place: UInt32(place), deadline: entry.deadline)
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

/// When which runtime will have expired, unless it is touched again: what to wait for, and whom to name then.
///
/// A runtime has one entry, for a deadline that it had; a touch, which moves it on, changes nothing here. When the entry
/// comes up and the runtime lives longer by then, it is put back. So a touch costs one look into a dictionary, and a
/// runtime's entry comes up about once a ttl.
struct ExpiryQueue: Sendable {
    private struct Entry {
        let deadline: ContinuousClock.Instant
        let id: RuntimeID
    }

    /// A binary heap, the earliest deadline first.
    ///
    /// An entry that `queued` says otherwise of counts no more.
    private var heap: [Entry] = []
    private var queued: [RuntimeID: ContinuousClock.Instant] = [:]

    /// How many runtimes are waited for.
    var count: Int { queued.count }

    /// How much memory is held, in entries.
    var size: Int { heap.count }

    /// When to look next; a little too early now and then.
    var earliest: ContinuousClock.Instant? { heap.first?.deadline }

    /// Sees to it that a runtime comes up at its deadline or before.
    mutating func add(_ id: RuntimeID, deadline: ContinuousClock.Instant) {
        if let known = queued[id], known <= deadline { return }
        queued[id] = deadline
        push(Entry(deadline: deadline, id: id))
    }

    /// Lets go of a runtime that will not expire.
    mutating func remove(_ id: RuntimeID) {
        guard queued.removeValue(forKey: id) != nil else { return }
        dropVoidEntries()
    }

    /// Takes out the runtimes that have expired, the one that did so first at the head.
    ///
    /// - Parameters:
    ///   - limit: How many entries are looked at; afterwards `earliest` tells whether that was all.
    ///   - deadline: A runtime's as of now; nil for one that does not live.
    mutating func expired(
        at now: ContinuousClock.Instant, limit: Int, deadline: (RuntimeID) -> ContinuousClock.Instant?
    ) -> [(id: RuntimeID, deadline: ContinuousClock.Instant)] {
        var expired: [(id: RuntimeID, deadline: ContinuousClock.Instant)] = []
        for _ in 0..<limit {
            guard let earliest, earliest <= now else { break }
            let entry = pop()
            guard queued[entry.id] == entry.deadline else { continue }
            queued[entry.id] = nil
            guard let deadline = deadline(entry.id) else { continue }
            if deadline <= now {
                expired.append((entry.id, deadline))
            } else {
                add(entry.id, deadline: deadline)
            }
        }
        if queued.isEmpty { heap = [] }
        return expired
    }

    /// Lets entries that do not count go when they are the most of all.
    private mutating func dropVoidEntries() {
        guard heap.count > 2 * queued.count + 64 else { return }
        heap = queued.map { Entry(deadline: $0.value, id: $0.key) }
        // From the last that has a child on, each sinks into a heap.
        for index in (0..<heap.count / 2).reversed() { sink(index) }
    }

    // MARK: The heap

    private mutating func push(_ entry: Entry) {
        heap.append(entry)
        var index = heap.count - 1
        while index > 0, heap[index].deadline < heap[(index - 1) / 2].deadline {
            heap.swapAt(index, (index - 1) / 2)
            index = (index - 1) / 2
        }
        dropVoidEntries()
    }

    private mutating func pop() -> Entry {
        heap.swapAt(0, heap.count - 1)
        let entry = heap.removeLast()
        sink(0)
        return entry
    }

    private mutating func sink(_ start: Int) {
        var index = start
        while true {
            let left = 2 * index + 1
            guard left < heap.count else { return }
            let right = left + 1
            let child = right < heap.count && heap[right].deadline < heap[left].deadline ? right : left
            guard heap[child].deadline < heap[index].deadline else { return }
            heap.swapAt(child, index)
            index = child
        }
    }
}

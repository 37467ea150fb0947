/// The last events, numbered from 1 on; the oldest go when there are more than there is room for.
///
/// Whoever reads keeps a number and nothing else, so a reader that does not come back costs nothing. Memory is taken as
/// it is needed.
public struct EventLog: Sendable {
    /// Some minutes of a busy town; in less than 3 MB unless its ids and paths are long.
    public static let defaultCapacity = 16_384

    /// The number of the last event; 0 before the first.
    public private(set) var last: UInt64 = 0
    /// The event of number n at n − 1, modulo the capacity.
    private var ring: [LivenessEvent] = []
    /// Where the next event belongs.
    private var next = 0
    /// By place in the ring: the id of the event's runtime, where it is short enough not to be in the event itself.
    ///
    /// In a table of a million the id that an event had a while ago is far from the processor, and to let go of a reference
    /// to it takes as long as to find a record.
    private var ids: [UInt8] = []
    /// Bytes for each: how many there are, and those.
    private static let idSize = 48
    private let capacity: Int

    public init(capacity: Int = defaultCapacity) {
        precondition(capacity > 0, "an event log holds at least one event")
        self.capacity = capacity
    }

    /// The number of the oldest event that is held, or of the next if none is.
    public var first: UInt64 { last + 1 - UInt64(ring.count) }

    public mutating func append(_ event: consuming LivenessEvent) {
        makeRoom()
        if let id = event.runtime, keep(id) {
            event.runtime = nil
        } else if event.runtime == nil {
            ids[next * Self.idSize] = 0
        }
        if next < ring.count { ring[next] = event } else { ring.append(event) }
        step()
    }

    /// Appends the event of a touch.
    ///
    /// - Parameter isOfRuntime: Whether it is one of the runtime that the touch names.
    mutating func append(_ touch: borrowing Touch, isOfRuntime: Bool) {
        guard next < ring.count else {
            return append(LivenessEvent(copy touch, runtime: isOfRuntime ? touch.runtime : nil))
        }
        var isKept = false
        if isOfRuntime, let id = touch.runtime { isKept = keep(id) } else { ids[next * Self.idSize] = 0 }
        ring[next].become(touch, runtime: isOfRuntime && !isKept ? touch.runtime : nil)
        step()
    }

    private mutating func makeRoom() {
        guard ring.count < capacity, ids.count == ring.count * Self.idSize else { return }
        ids.append(contentsOf: repeatElement(0, count: Self.idSize))
    }

    /// Writes down the id of the next event; false, and nothing is there, if it is too long.
    private mutating func keep(_ id: borrowing RuntimeID) -> Bool {
        let start = next * Self.idSize
        let isKept = id.description.utf8.withContiguousStorageIfAvailable { bytes in
            guard bytes.count < Self.idSize else { return false }
            return ids.withUnsafeMutableBytes { ids in
                ids[start] = UInt8(bytes.count)
                UnsafeMutableRawBufferPointer(rebasing: ids[start + 1..<start + Self.idSize])
                    .copyMemory(from: UnsafeRawBufferPointer(bytes))
                return true
            }
        }
        if isKept != true { ids[start] = 0 }
        return isKept == true
    }

    /// The event at a place in the ring, as it was appended.
    private func event(at place: Int) -> LivenessEvent {
        var event = ring[place]
        let start = place * Self.idSize
        let count = Int(ids[start])
        if count > 0 { event.runtime = RuntimeID(ofKnown: ids[start + 1..<start + 1 + count]) }
        return event
    }

    private mutating func step() {
        last += 1
        next = next + 1 == capacity ? 0 : next + 1
    }

    /// What a reader gets.
    public struct Excerpt: Sendable {
        /// What came before `events` and is not held any more.
        public let lost: ClosedRange<UInt64>?
        /// The number of the first event.
        public let first: UInt64
        public let events: [LivenessEvent]
    }

    /// The events from a number on, as far as there are any, but no more than `limit`.
    public func excerpt(from number: UInt64, limit: Int) -> Excerpt {
        let start = max(number, first)
        let count = start > last ? 0 : min(Int(last - start) + 1, limit)
        return Excerpt(
            lost: number < start ? number...(start - 1) : nil, first: start,
            events: (0..<UInt64(count)).map { event(at: Int((start - 1 + $0) % UInt64(capacity))) })
    }
}

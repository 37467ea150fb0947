/// The last events, numbered from 1 on; the oldest go when there are more than there is room for.
///
/// Whoever reads keeps a number and nothing else, so a reader that does not come back costs nothing. Memory is taken as
/// it is needed.
public struct EventLog: Sendable {
    /// Some minutes of a busy town; in less than 2 MB unless its ids and paths are long.
    public static let defaultCapacity = 16_384

    /// The number of the last event; 0 before the first.
    public private(set) var last: UInt64 = 0
    /// The event of number n at n − 1, modulo the capacity.
    private var ring: [LivenessEvent] = []
    /// Where the next event belongs.
    private var next = 0
    private let capacity: Int

    public init(capacity: Int = defaultCapacity) {
        precondition(capacity > 0, "an event log holds at least one event")
        self.capacity = capacity
    }

    /// The number of the oldest event that is held, or of the next if none is.
    public var first: UInt64 { last + 1 - UInt64(ring.count) }

    public mutating func append(_ event: consuming LivenessEvent) {
        if ring.count < capacity {
            ring.append(event)
        } else {
            ring[next] = event
        }
        step()
    }

    /// Appends the event of a touch.
    ///
    /// - Parameter runtime: The touch's, perhaps as another object, or nil.
    mutating func append(_ touch: borrowing Touch, runtime: consuming RuntimeID?) {
        if ring.count < capacity {
            ring.append(LivenessEvent(touch, runtime: runtime))
        } else {
            ring[next].become(touch, runtime: runtime)
        }
        step()
    }

    private mutating func step() {
        last += 1
        next = next + 1 == capacity ? 0 : next + 1
    }

    /// A byte of the id that the next event takes the place of.
    ///
    /// Whoever reads it in time does not wait for that memory later, when the id is let go.
    var leaving: UInt8 { ring.count < capacity ? 0 : ring[next].runtime?.description.utf8.first ?? 0 }

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
            events: (0..<UInt64(count)).map { ring[Int((start - 1 + $0) % UInt64(capacity))] })
    }
}

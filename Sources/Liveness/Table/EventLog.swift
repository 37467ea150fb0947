import DequeModule

/// The last events, numbered from 1; the oldest are dropped beyond the capacity.
///
/// A reader keeps a number and nothing else, so a reader that goes away costs nothing.
public struct EventLog: Sendable {
    /// Some minutes of a busy town, in less than 2 MB.
    public static let defaultCapacity = 16_384

    /// The number of the last event; 0 before the first.
    public private(set) var last: UInt64 = 0
    private var events = Deque<LivenessEvent>()
    let capacity: Int

    public init(capacity: Int = defaultCapacity) {
        precondition(capacity > 0, "an event log holds at least one event")
        self.capacity = capacity
    }

    /// The number of the oldest event held, or of the next one if none is.
    public var first: UInt64 { last + 1 - UInt64(events.count) }

    /// Fills an empty log.
    mutating func restore(_ events: [LivenessEvent], last: UInt64) {
        self.events = Deque(events)
        self.last = last
    }

    public mutating func append(_ event: LivenessEvent) {
        if events.count == capacity { events.removeFirst() }
        events.append(event)
        last += 1
    }

    public struct Excerpt: Sendable {
        /// Events before `first` that were asked for and are no longer held.
        public let lost: ClosedRange<UInt64>?
        /// The number of the first event.
        public let first: UInt64
        public let events: [LivenessEvent]
    }

    /// Up to `limit` events from a number on.
    public func excerpt(from number: UInt64, limit: Int) -> Excerpt {
        let start = max(number, first)
        let skipped = start > last ? events.count : Int(start - first)
        return Excerpt(
            lost: number < start ? number...(start - 1) : nil, first: start,
            events: Array(events.dropFirst(skipped).prefix(limit)))
    }
}

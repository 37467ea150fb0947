import DequeModule

/// The changes a mirror has yet to send: the newest of each record, none more often than once a second.
///
///     add ──▶ ready ──dequeue──▶ sent, rate limited for a second ──▶ ready again if it changed meanwhile
///
/// A value; time is passed in. Its size is bounded: a change without room is dropped, and `resetOverflow` then says that
/// the whole table has to be sent once.
public struct MirrorQueue: Sendable {
    public enum Message: Sendable {
        case touched(RecordSubject, Record)
        case forgotten(RecordSubject, HLCTimestamp)

        public var subject: RecordSubject {
            switch self {
            case .touched(let subject, _), .forgotten(let subject, _): subject
            }
        }

        var stamp: HLCTimestamp {
            switch self {
            case .touched(_, let record): record.stamp
            case .forgotten(_, let stamp): stamp
            }
        }

        /// Whether it is about a touch, rather than about an exit or a forget.
        fileprivate var isTouch: Bool { if case .touched(_, let record) = self { record.exit == nil } else { false } }
    }

    private struct Entry {
        var message: Message?
        var isReady = false
        /// When the next touch may be sent; nil if now.
        var limitedUntil: ContinuousClock.Instant?
        /// The last stamp sent; older messages that come later are ignored while this is kept.
        var lastSent: HLCTimestamp?
        var keptUntil: ContinuousClock.Instant?
    }

    public static let defaultCapacity = 65_536

    private let capacity: Int
    private let interval: Duration
    private var entries: [RecordSubject: Entry] = [:]
    private var ready = Deque<RecordSubject>()
    private var rateLimited = Deque<(subject: RecordSubject, until: ContinuousClock.Instant)>()
    private var hasOverflowed = false

    /// Number of waiting changes.
    public private(set) var count = 0
    /// Number of changes replaced by a later one of the same record before they were sent.
    public private(set) var coalesced: UInt64 = 0
    /// Number of changes dropped for lack of room.
    public private(set) var dropped: UInt64 = 0

    /// - Parameters:
    ///   - capacity: Maximum number of records that wait or are rate limited.
    ///   - interval: Minimum time between two touches of one record.
    public init(capacity: Int = defaultCapacity, interval: Duration = .seconds(1)) {
        self.capacity = capacity
        self.interval = interval
    }

    // MARK: Filling

    /// Adds a change, unless the queue has a later one of the same record: a late touch does not undo a forget.
    ///
    /// - Returns: Whether the queue was empty and now has a message that is due.
    @discardableResult
    public mutating func add(_ message: Message, at now: ContinuousClock.Instant) -> Bool {
        let subject = message.subject
        if entries[subject] == nil {
            if entries.count >= capacity { liftLimits(at: now) }
            // A forget is not dropped in favour of touches: nothing would make up for it.
            guard entries.count < (message.isTouch ? capacity : 2 * capacity) else {
                dropped += 1
                hasOverflowed = true
                return false
            }
        }
        var entry = entries[subject] ?? Entry()
        if let lastSent = entry.lastSent, message.stamp <= lastSent { return false }
        if let waiting = entry.message {
            coalesced += 1
            guard waiting.stamp <= message.stamp else { return false }
        } else {
            count += 1
        }
        entry.message = message
        let isDue = !entry.isReady && (entry.limitedUntil == nil || !message.isTouch)
        if isDue {
            entry.isReady = true
            ready.append(subject)
        }
        entries[subject] = entry
        return isDue && ready.count == 1
    }

    /// Puts messages back that may not have been delivered, unless there are later ones by now.
    ///
    /// - Parameter wereRefused: Whether they certainly were not, and so are not rate limited.
    public mutating func requeue(
        _ messages: some Sequence<Message>, wereRefused: Bool = false, at now: ContinuousClock.Instant
    ) {
        for message in messages {
            if let lastSent = entries[message.subject]?.lastSent, lastSent <= message.stamp {
                entries[message.subject]?.lastSent = nil
            }
            if wereRefused { entries[message.subject]?.limitedUntil = nil }
            add(message, at: now)
        }
    }

    /// Whether changes were dropped since the last call.
    public mutating func resetOverflow() -> Bool {
        defer { hasOverflowed = false }
        return hasOverflowed
    }

    // MARK: Emptying

    /// Removes up to `limit` messages that are due, longest waiting first.
    ///
    /// - Parameter isLast: Ignores the rate limit, because there will be no other call.
    public mutating func dequeue(_ limit: Int, at now: ContinuousClock.Instant, isLast: Bool = false) -> [Message] {
        liftLimits(at: isLast ? now + interval : now)
        var messages: [Message] = []
        while messages.count < limit, let subject = ready.popFirst() {
            guard var entry = entries[subject], let message = entry.message else { continue }
            entry.isReady = false
            // A touch that replaced a forget while the record is rate limited has to wait.
            if !message.isTouch || entry.limitedUntil == nil {
                entry.message = nil
                entry.lastSent = message.stamp
                entry.keptUntil = now + interval
                if message.isTouch { entry.limitedUntil = now + interval }
                rateLimited.append((subject, now + interval))
                count -= 1
                messages.append(message)
            }
            entries[subject] = entry
        }
        return messages
    }

    /// When a message is due, as far as is known now; nil for not before the next `add`.
    public var due: Due? {
        if !ready.isEmpty { return .now }
        return rateLimited.first.map { .at($0.until) }
    }

    public enum Due: Hashable, Sendable {
        case now
        case at(ContinuousClock.Instant)
    }

    /// Makes messages ready whose second is over, and drops the entries of records without one.
    private mutating func liftLimits(at now: ContinuousClock.Instant) {
        while let first = rateLimited.first, first.until <= now {
            rateLimited.removeFirst()
            guard var entry = entries[first.subject] else { continue }
            if entry.limitedUntil == first.until { entry.limitedUntil = nil }
            if entry.message == nil {
                // Sent again since, it is in `rateLimited` a second time.
                if entry.keptUntil == first.until { entries[first.subject] = nil }
                continue
            }
            if !entry.isReady, entry.limitedUntil == nil {
                entry.isReady = true
                ready.append(first.subject)
            }
            entries[first.subject] = entry
        }
    }
}

import DequeModule

/// The subjects of changes that a mirror has yet to send, touches of each at most once a second.
///
///     add ──▶ ready ──dequeue──▶ sent, rate limited for a second ──▶ ready again if it changed meanwhile
///
/// What to send is looked up in the table when it is sent, so a late change cannot undo a later one. A value; time is
/// passed in. Its size is bounded: a change without room is dropped, and `resetOverflow` then says that the whole table
/// has to be sent once.
public struct MirrorQueue: Sendable {
    /// The state of a subject, as it is sent.
    public enum Message: Sendable {
        case touched(RecordSubject, Record)
        case forgotten(RecordSubject, HLCTimestamp)

        public var subject: RecordSubject {
            switch self {
            case .touched(let subject, _), .forgotten(let subject, _): subject
            }
        }
    }

    private struct Entry {
        var isWaiting = false
        /// Whether `ready` contains the subject.
        var isReady = false
        var isUrgent = false
        /// When the next touch may be sent; nil if now.
        var limitedUntil: ContinuousClock.Instant?
    }

    public static let defaultCapacity = 65_536

    private let capacity: Int
    private let interval: Duration
    private var entries: [RecordSubject: Entry] = [:]
    private var ready = Deque<RecordSubject>()
    private var rateLimited = Deque<(subject: RecordSubject, until: ContinuousClock.Instant)>()
    private var hasOverflowed = false

    /// Number of subjects that wait.
    public private(set) var count = 0
    /// Number of changes followed by another of the same record before they were sent.
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

    /// - Parameter isUrgent: Whether the record was ended or forgotten, and not touched: not rate limited.
    /// - Returns: Whether the queue had nothing that is due and now has.
    @discardableResult
    public mutating func add(_ subject: RecordSubject, isUrgent: Bool, at now: ContinuousClock.Instant) -> Bool {
        if entries[subject] == nil {
            if entries.count >= capacity { liftLimits(at: now) }
            // A forget is not dropped in favour of touches: nothing would make up for it.
            guard entries.count < (isUrgent ? 2 * capacity : capacity) else {
                dropped += 1
                hasOverflowed = true
                return false
            }
        }
        var entry = entries[subject] ?? Entry()
        if entry.isWaiting { coalesced += 1 } else { count += 1 }
        entry.isWaiting = true
        entry.isUrgent = isUrgent
        let isDue = !entry.isReady && (isUrgent || entry.limitedUntil == nil)
        if isDue {
            entry.isReady = true
            ready.append(subject)
        }
        entries[subject] = entry
        return isDue && ready.count == 1
    }

    /// Puts subjects back whose state may not have been delivered.
    ///
    /// - Parameter wereRefused: Whether it certainly was not, and so is not rate limited.
    public mutating func requeue(
        _ subjects: some Sequence<RecordSubject>, wereRefused: Bool = false, at now: ContinuousClock.Instant
    ) {
        for subject in subjects where entries[subject]?.isWaiting != true {
            if wereRefused { entries[subject]?.limitedUntil = nil }
            add(subject, isUrgent: false, at: now)
        }
    }

    /// Whether changes were dropped since the last call.
    public mutating func resetOverflow() -> Bool {
        defer { hasOverflowed = false }
        return hasOverflowed
    }

    /// Removes up to `limit` subjects that are due, longest waiting first.
    ///
    /// - Parameter isLast: Ignores the rate limit, because there will be no other call.
    public mutating func dequeue(
        _ limit: Int, at now: ContinuousClock.Instant, isLast: Bool = false
    ) -> [RecordSubject] {
        liftLimits(at: isLast ? now + interval : now)
        var subjects: [RecordSubject] = []
        while subjects.count < limit, let subject = ready.popFirst() {
            guard var entry = entries[subject] else { continue }
            entry.isReady = false
            // A touch that replaced a forget while the record is rate limited has to wait.
            if entry.isUrgent || entry.limitedUntil == nil {
                entry.isWaiting = false
                count -= 1
                subjects.append(subject)
                if !entry.isUrgent {
                    entry.limitedUntil = now + interval
                    rateLimited.append((subject, now + interval))
                }
            }
            entries[subject] = entry.isWaiting || entry.limitedUntil != nil ? entry : nil
        }
        return subjects
    }

    /// When a subject is due, as far as is known now; nil for not before the next `add`.
    public var due: Due? {
        if !ready.isEmpty { return .now }
        return rateLimited.first.map { .at($0.until) }
    }

    public enum Due: Hashable, Sendable {
        case now
        case at(ContinuousClock.Instant)
    }

    /// Makes subjects ready whose second is over, and drops the entries of those that do not wait.
    private mutating func liftLimits(at now: ContinuousClock.Instant) {
        while let first = rateLimited.first, first.until <= now {
            rateLimited.removeFirst()
            guard var entry = entries[first.subject], entry.limitedUntil == first.until else { continue }
            entry.limitedUntil = nil
            if entry.isWaiting, !entry.isReady {
                entry.isReady = true
                ready.append(first.subject)
            }
            entries[first.subject] = entry.isWaiting ? entry : nil
        }
    }
}

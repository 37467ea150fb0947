/// What a mirror has yet to be told: of each record only the newest, of none more than once a second.
///
///     note ──▶ ready ──take──▶ sent, and cooling for a second ──▶ ready again, if there is news by then
///
/// A value that decides and does nothing; time is passed in. Its size is bounded: where there is no room for one more
/// record the change is dropped, and `takeOverflow` says that everything has to be gone through once.
public struct MirrorQueue: Sendable {
    /// One thing to be told.
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
            case .touched(_, let record): record.touch.stamp
            case .forgotten(_, let stamp): stamp
            }
        }

        /// Whether it tells of life, rather than of its end.
        fileprivate var isTouch: Bool { if case .touched(_, let record) = self { record.exit == nil } else { false } }
    }

    private struct Entry {
        var news: Message?
        var isReady = false
        /// When it may be told of the next touch; nil if that is now.
        var coolUntil: ContinuousClock.Instant?
        /// What was told last, and until when that is remembered: what is older and comes later is of no use.
        var lastSent: HLCTimestamp?
        var keptUntil: ContinuousClock.Instant?
    }

    /// How many records may wait if nobody says otherwise.
    public static let defaultCapacity = 65_536

    private let capacity: Int
    private let interval: Duration
    private var entries: [RecordSubject: Entry] = [:]
    private var ready = FirstInFirstOut<RecordSubject>()
    private var rateLimited = FirstInFirstOut<(subject: RecordSubject, until: ContinuousClock.Instant)>()
    private var hasOverflowed = false

    /// Changes that wait.
    public private(set) var count = 0
    /// Changes that a later one of the same record took the place of.
    public private(set) var coalesced: UInt64 = 0
    /// Changes for which there was no room.
    public private(set) var dropped: UInt64 = 0

    /// - Parameters:
    ///   - capacity: How many records may wait, or have been told of within the interval.
    ///   - interval: The least time between two touches of one record.
    public init(capacity: Int = defaultCapacity, interval: Duration = .seconds(1)) {
        self.capacity = capacity
        self.interval = interval
    }

    // MARK: Filling

    /// Notes the newest of a record.
    ///
    /// What is older than what waits already changes nothing: a touch that comes late does not undo a forget.
    ///
    /// - Returns: Whether there is something to take now where there was nothing before.
    @discardableResult
    public mutating func note(_ message: Message, at now: ContinuousClock.Instant) -> Bool {
        let subject = message.subject
        if entries[subject] == nil {
            if entries.count >= capacity { cool(at: now) }
            // A forget is never dropped for touches' sake: nothing would make up for it.
            guard entries.count < (message.isTouch ? capacity : 2 * capacity) else {
                dropped += 1
                hasOverflowed = true
                return false
            }
        }
        var entry = entries[subject] ?? Entry()
        if let lastSent = entry.lastSent, message.stamp <= lastSent { return false }
        if let news = entry.news {
            coalesced += 1
            guard news.stamp <= message.stamp else { return false }
        } else {
            count += 1
        }
        entry.news = message
        let isUrgent = !entry.isReady && (entry.coolUntil == nil || !message.isTouch)
        if isUrgent {
            entry.isReady = true
            ready.append(subject)
        }
        entries[subject] = entry
        return isUrgent && ready.count == 1
    }

    /// Puts back what was taken and perhaps not told, unless there is something newer by now.
    ///
    /// - Parameter wereRefused: Whether it was certainly not told, and so need not keep its distance from the next time.
    public mutating func putBack(
        _ messages: some Sequence<Message>, wereRefused: Bool = false, at now: ContinuousClock.Instant
    ) {
        for message in messages {
            // What was told since is newer, and stays told.
            if let lastSent = entries[message.subject]?.lastSent, lastSent <= message.stamp {
                entries[message.subject]?.lastSent = nil
            }
            if wereRefused { entries[message.subject]?.coolUntil = nil }
            note(message, at: now)
        }
    }

    /// Whether changes were dropped since this was last asked.
    public mutating func takeOverflow() -> Bool {
        defer { hasOverflowed = false }
        return hasOverflowed
    }

    // MARK: Emptying

    /// Takes up to `limit` changes that are due, longest waiting first.
    ///
    /// - Parameter isLast: Whether there will be no other time, so that nothing is to wait for its second.
    public mutating func take(_ limit: Int, at now: ContinuousClock.Instant, isLast: Bool = false) -> [Message] {
        cool(at: isLast ? now + interval : now)
        var messages: [Message] = []
        while messages.count < limit, let subject = ready.removeFirst() {
            guard var entry = entries[subject], let news = entry.news else { continue }
            entry.isReady = false
            // A touch that took the place of a forget, of a record that was told of less than a second ago.
            let isTooEarly = news.isTouch && entry.coolUntil != nil
            if !isTooEarly {
                entry.news = nil
                entry.lastSent = news.stamp
                entry.keptUntil = now + interval
                if news.isTouch { entry.coolUntil = now + interval }
                rateLimited.append((subject, now + interval))
                count -= 1
            }
            entries[subject] = entry
            if isTooEarly { continue }
            messages.append(news)
        }
        return messages
    }

    /// When there is something to take, as far as is known now; nil for not before the next `note`.
    public var due: Due? {
        if ready.count > 0 { return .now }
        return rateLimited.first.map { .at($0.until) }
    }

    public enum Due: Hashable, Sendable {
        case now
        case at(ContinuousClock.Instant)
    }

    /// Makes ready what has waited long enough, and lets go of what there is no news of.
    private mutating func cool(at now: ContinuousClock.Instant) {
        while let first = rateLimited.first, first.until <= now {
            _ = rateLimited.removeFirst()
            guard var entry = entries[first.subject] else { continue }
            if entry.coolUntil == first.until { entry.coolUntil = nil }
            if entry.news == nil {
                // Told of once more since, it is in the queue a second time.
                if entry.keptUntil == first.until { entries[first.subject] = nil }
                continue
            }
            if !entry.isReady, entry.coolUntil == nil {
                entry.isReady = true
                ready.append(first.subject)
            }
            entries[first.subject] = entry
        }
    }
}

/// A queue in an array, whose used-up front is cut off now and then.
private struct FirstInFirstOut<Element: Sendable>: Sendable {
    private var elements: [Element] = []
    private var start = 0

    var count: Int { elements.count - start }
    var first: Element? { start < elements.count ? elements[start] : nil }

    mutating func append(_ element: Element) {
        elements.append(element)
    }

    mutating func removeFirst() -> Element? {
        guard let first else { return nil }
        start += 1
        if start == elements.count {
            elements.removeAll(keepingCapacity: start <= 1024)
            start = 0
        } else if start > 1024, start > elements.count / 2 {
            elements.removeFirst(start)
            start = 0
        }
        return first
    }
}

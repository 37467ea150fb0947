/// What is known of one signal file or one runtime.
///
/// A record never changes: a touch puts a new one in its place. It is an object rather than a value, so that a table
/// of a million pays for a pointer where it has room to spare, and one record can serve a signal file and its runtime.
public final class Record: Sendable {
    /// The last touch, with the last document that any touch brought.
    public let touch: Touch
    /// When life ends unless touched again.
    ///
    /// It lies beyond the last touch's own if an earlier touch promised more.
    public let deadline: ContinuousClock.Instant

    convenience init(_ touch: Touch) {
        self.init(touch, deadline: touch.deadline)
    }

    private init(_ touch: Touch, deadline: ContinuousClock.Instant) {
        self.touch = touch
        self.deadline = deadline
    }

    public func isAlive(at now: ContinuousClock.Instant) -> Bool {
        now < deadline
    }

    /// The same, with another stamp if it is of an origin whose clock has turned out to be another.
    func moved(ifOf origin: Origin, by change: Duration) -> Record {
        guard touch.stamp.origin == origin else { return self }
        var touch = touch
        touch.stamp.time = touch.stamp.time + change
        return Record(touch, deadline: deadline)
    }

    /// This record and a newly made one as a single record.
    ///
    /// The newcomer need not be the later of the two: threads may overtake each other between reading the clock and
    /// coming here.
    func merged(with newcomer: Record) -> Record {
        let isLater = newcomer.touch.stamp >= touch.stamp
        if isLater, newcomer.deadline >= deadline, newcomer.touch.document != nil { return newcomer }
        var last = isLater ? newcomer.touch : touch
        last.document = last.document ?? (isLater ? touch : newcomer.touch).document
        return Record(last, deadline: max(deadline, newcomer.deadline))
    }
}

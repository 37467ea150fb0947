/// What is known of one signal file or one runtime.
///
/// A record never changes: a touch puts a new one in its place. It is an object rather than a value, so that a table
/// of a million pays for a pointer where it has room to spare, and one record can serve a signal file and its runtime.
public final class Record: Sendable {
    /// Whether somebody lives, as far as it can be told.
    public enum State: String, Hashable, Sendable, CaseIterable {
        /// Touched within the ttl.
        case alive
        /// Not touched for longer than that, which proves nothing but silence.
        case expired
        /// The process that the runtime is has ended, and nobody has touched since.
        case exited
    }

    /// The end of a runtime's root process.
    public struct Exit: Hashable, Sendable {
        public let process: Touch.Process
        public let noticedAt: WallTime
        public let at: ContinuousClock.Instant

        public init(of process: Touch.Process, noticedAt: WallTime, at: ContinuousClock.Instant) {
            self.process = process
            self.noticedAt = noticedAt
            self.at = at
        }
    }

    /// The last touch, with the last document that any touch brought.
    public let touch: Touch
    /// When life ends unless touched again.
    ///
    /// It lies beyond the last touch's own if an earlier touch promised more.
    public let deadline: ContinuousClock.Instant
    /// The last document of a file that is the runtime's own, such as its heartbeat.
    public let ownDocument: Document?
    /// The last document of a file that many write, such as the keepalive.
    public let sharedDocument: Document?
    /// Set from the end of the runtime's root process until the next touch.
    public let exit: Exit?

    convenience init(_ touch: Touch) {
        let isOwn = touch.evidence == .path
        self.init(
            touch, deadline: touch.deadline, ownDocument: isOwn ? touch.document : nil,
            sharedDocument: isOwn ? nil : touch.document)
    }

    private init(
        _ touch: Touch, deadline: ContinuousClock.Instant, ownDocument: Document?, sharedDocument: Document?,
        exit: Exit? = nil
    ) {
        self.touch = touch
        self.deadline = deadline
        self.ownDocument = ownDocument
        self.sharedDocument = sharedDocument
        self.exit = exit
    }

    public func state(at now: ContinuousClock.Instant) -> State {
        if exit != nil { return .exited }
        return now < deadline ? .alive : .expired
    }

    public func isAlive(at now: ContinuousClock.Instant) -> Bool {
        state(at: now) == .alive
    }

    /// When it began or will begin to be of no use but to those who ask who was here.
    var end: ContinuousClock.Instant { max(deadline, exit?.at ?? deadline) }

    /// The same, with another stamp if it is of an origin whose clock has turned out to be another.
    func moved(ifOf origin: Origin, by change: Duration) -> Record {
        guard touch.stamp.origin == origin else { return self }
        var touch = touch
        touch.stamp.time = touch.stamp.time + change
        return changed(touch, exit: exit)
    }

    /// The same, of a runtime whose root process has ended.
    func ended(by exit: Exit, stamp: Stamp) -> Record {
        var touch = touch
        touch.stamp = stamp
        return changed(touch, exit: exit)
    }

    private func changed(_ touch: Touch, exit: Exit?) -> Record {
        Record(touch, deadline: deadline, ownDocument: ownDocument, sharedDocument: sharedDocument, exit: exit)
    }

    /// This record and a newly made one as a single record.
    ///
    /// The newcomer need not be the later of the two: threads may overtake each other between reading the clock and
    /// coming here. One that was made before the root process ended is no sign of life after it.
    func merged(with newcomer: Record) -> Record {
        let isLater = newcomer.touch.stamp >= touch.stamp
        let later = isLater ? newcomer : self
        let earlier = isLater ? self : newcomer
        let exit = [exit, newcomer.exit].compactMap { $0 }.last { $0.at >= max(touch.at, newcomer.touch.at) }
        let isWhole =
            newcomer.touch.document != nil && (newcomer.ownDocument != nil || ownDocument == nil)
            && (newcomer.sharedDocument != nil || sharedDocument == nil)
        if isLater, isWhole, newcomer.deadline >= deadline, exit == newcomer.exit { return newcomer }
        var last = later.touch
        last.document = last.document ?? earlier.touch.document
        // A life that has ended keeps no promise to the next.
        let hasBegunAnew = self.exit != nil && exit == nil
        return Record(
            last, deadline: hasBegunAnew ? newcomer.deadline : max(deadline, newcomer.deadline),
            ownDocument: later.ownDocument ?? earlier.ownDocument,
            sharedDocument: later.sharedDocument ?? earlier.sharedDocument, exit: exit)
    }
}

/// The state of one signal file or one runtime: its last touch, its deadline, its end.
public struct Record: Hashable, Sendable {
    public enum State: String, Hashable, Sendable, CaseIterable {
        /// Touched within the ttl.
        case alive
        /// Not touched within the ttl. The process may still run.
        case expired
        /// The runtime's root process has ended and no touch came since.
        case exited
    }

    /// The end of a runtime's root process.
    public struct Exit: Hashable, Sendable {
        public let process: Touch.Process
        public let noticedAt: WallTime
        public var at: ContinuousClock.Instant { ContinuousClock.Instant(offset: offset) }
        package let offset: Duration

        public init(of process: Touch.Process, noticedAt: WallTime, at: ContinuousClock.Instant) {
            self.process = process
            self.noticedAt = noticedAt
            offset = at.offset
        }
    }

    /// The last touch, with the last document that any touch carried.
    public private(set) var touch: Touch

    /// When the record expires unless it is touched again.
    ///
    /// Later than the last touch's own deadline if an earlier touch had a longer ttl.
    public var deadline: ContinuousClock.Instant { ContinuousClock.Instant(offset: deadlineOffset) }
    package private(set) var deadlineOffset: Duration

    /// Set from the end of the root process until the next touch.
    public private(set) var exit: Exit?

    /// The last document of a file that belongs to the runtime alone, such as its heartbeat.
    public private(set) var ownDocument: Document?

    /// The last document of a file with many writers, such as the keepalive.
    public private(set) var sharedDocument: Document?

    public init(_ touch: Touch) {
        self.touch = touch
        deadlineOffset = touch.deadlineOffset
        if touch.evidence == .path { ownDocument = touch.document } else { sharedDocument = touch.document }
    }

    /// A record that was saved.
    package init(
        _ touch: Touch, deadlineOffset: Duration, exit: Exit?, ownDocument: Document?, sharedDocument: Document?
    ) {
        self.touch = touch
        self.deadlineOffset = deadlineOffset
        self.exit = exit
        self.ownDocument = ownDocument
        self.sharedDocument = sharedDocument
    }

    /// The last touch's.
    public var stamp: HLCTimestamp { touch.stamp }

    public func state(at now: ContinuousClock.Instant) -> State { state(at: now.offset) }

    func state(at now: Duration) -> State {
        if exit != nil { return .exited }
        return now < deadlineOffset ? .alive : .expired
    }

    public func isAlive(at now: ContinuousClock.Instant) -> Bool { isAlive(at: now.offset) }

    func isAlive(at now: Duration) -> Bool { exit == nil && now < deadlineOffset }

    /// Whether the record may be dropped: it expired, and exited if it did, at `limit` or before.
    func isObsolete(since limit: Duration) -> Bool {
        deadlineOffset <= limit && exit.map { $0.offset <= limit } ?? true
    }

    // MARK: Changes

    /// Merges a touch, which need not be the latest: threads may overtake each other between clock and table.
    ///
    /// The later stamp wins; of equal ones, the newcomer. A deadline only moves forward, except that a touch after the
    /// exit starts a new life with its own ttl. A touch from before the exit does not undo it.
    mutating func merge(_ new: Touch) {
        if let exit, exit.offset < max(touch.offset, new.offset) {
            self.exit = nil
            deadlineOffset = new.deadlineOffset
        } else {
            deadlineOffset = max(deadlineOffset, new.deadlineOffset)
        }
        let isLater = new.stamp >= touch.stamp
        if let document = new.document {
            if new.evidence == .path {
                if isLater || ownDocument == nil { ownDocument = document }
            } else if isLater || sharedDocument == nil {
                sharedDocument = document
            }
        }
        let document = isLater ? new.document ?? touch.document : touch.document ?? new.document
        if isLater { touch = new }
        touch.document = document
    }

    /// The same for another clock of deadlines, and without the request of the last touch, as of another mount.
    package func moved(by shift: Duration) -> Record {
        var record = self
        record.touch.at += shift
        record.touch.request = 0
        record.deadlineOffset += shift
        record.exit = exit.map { Exit(of: $0.process, noticedAt: $0.noticedAt, at: $0.at + shift) }
        return record
    }

    mutating func extendDeadline(to offset: Duration) { deadlineOffset = max(deadlineOffset, offset) }

    mutating func end(by exit: Exit, stamp: HLCTimestamp) {
        self.exit = exit
        touch.stamp = stamp
    }

    /// Shifts the stamp of an origin whose clock turned out to be another.
    mutating func shiftStamp(of origin: Origin, by change: Duration) {
        if touch.stamp.origin == origin { touch.stamp.time = touch.stamp.time + change }
    }
}

/// What a record is about.
public enum RecordSubject: Hashable, Comparable, Sendable {
    case runtime(RuntimeID)
    case signal(SignalPath)
}

/// The path of a signal file relative to the town, as a dictionary key.
public struct SignalPath: Hashable, Comparable, Sendable {
    public let bytes: [UInt8]

    public init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    public static func < (first: SignalPath, second: SignalPath) -> Bool {
        first.bytes.lexicographicallyPrecedes(second.bytes)
    }

    /// In one piece: an array hashes its elements one by one.
    public func hash(into hasher: inout Hasher) {
        bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }
}

/// The state of one signal file or one runtime: its last touch, its deadline, its end.
public struct Record: Hashable, Sendable {
    public enum State: String, Hashable, Sendable, CaseIterable {
        /// Touched within the ttl.
        case alive
        /// Not touched within the ttl. The process may still run.
        case expired
        /// The runtime's root process has ended and no touch came since.
        case exited
        /// Others have touched for the runtime. It gave no sign of life itself.
        case never
    }

    /// A moment by both clocks.
    public struct Moment: Hashable, Sendable {
        public let wall: WallTime
        package let offset: Duration
        public var instant: ContinuousClock.Instant { ContinuousClock.Instant(offset: offset) }

        package init(_ wall: WallTime, offset: Duration) {
            self.wall = wall
            self.offset = offset
        }

        init(of touch: Touch) { self.init(touch.receivedAt + (.zero - touch.lateness), offset: touch.offset) }

        func moved(by shift: Duration) -> Moment { Moment(wall, offset: offset + shift) }
    }

    /// What tells an agent that is alive from one that makes progress: when it last did what.
    public struct Clocks: Hashable, Sendable {
        /// A written touch of its own.
        public package(set) var beat: Moment?
        /// Files changed by the agent or by processes younger than the ttl.
        public package(set) var work: Moment?
        /// Files changed by older processes.
        public package(set) var backgroundWork: Moment?

        package init() {}

        /// Notes a touch, unless a later one was noted.
        mutating func note(_ touch: Touch) {
            let field: WritableKeyPath<Clocks, Moment?> =
                switch touch.source {
                case .activity: \.work
                case .background: \.backgroundWork
                case .written, .renamed, .attributes, .command: \.beat
                }
            if self[keyPath: field].map({ $0.offset > touch.offset }) ?? false { return }
            self[keyPath: field] = Moment(of: touch)
        }

        fileprivate func moved(by shift: Duration) -> Clocks {
            var clocks = self
            clocks.beat = beat?.moved(by: shift)
            clocks.work = work?.moved(by: shift)
            clocks.backgroundWork = backgroundWork?.moved(by: shift)
            return clocks
        }
    }

    /// The last touch by another runtime's process.
    public struct OnBehalf: Hashable, Sendable {
        public let writer: RuntimeID
        public let process: Touch.Process?
        public let moment: Moment

        package init(by writer: RuntimeID, process: Touch.Process?, at moment: Moment) {
            self.writer = writer
            self.process = process
            self.moment = moment
        }
    }

    /// A process that touches as a runtime that another process is: two agents have one id.
    public struct Rival: Hashable, Sendable {
        /// Nil for one of another host that did not tell.
        public let process: Touch.Process?
        /// Nil for this host.
        public let origin: Origin?
        public let moment: Moment

        package init(_ process: Touch.Process?, of origin: Origin?, at moment: Moment) {
            self.process = process
            self.origin = origin
            self.moment = moment
        }
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
    /// Later than the last touch's own deadline if an earlier touch had a longer ttl, or if the agent announced to be silent
    /// until then.
    public var deadline: ContinuousClock.Instant { ContinuousClock.Instant(offset: deadlineOffset) }
    package private(set) var deadlineOffset: Duration
    /// The same without announcements.
    package private(set) var plainDeadlineOffset: Duration

    /// Set from the end of the root process until the next touch.
    public private(set) var exit: Exit?

    /// The last document of a file that belongs to the runtime alone, such as its heartbeat.
    public private(set) var ownDocument: Document?

    /// The last document of a file with many writers, such as the keepalive.
    public private(set) var sharedDocument: Document?

    /// Of a runtime only; see `note`.
    public package(set) var clocks = Clocks()

    /// What few records have, so that the others are small.
    private final class Rarity: Hashable, Sendable {
        let onBehalf: OnBehalf?
        let rival: Rival?
        let formerOrigin: FormerOrigin?

        init(_ onBehalf: OnBehalf?, _ rival: Rival?, _ formerOrigin: FormerOrigin?) {
            self.onBehalf = onBehalf
            self.rival = rival
            self.formerOrigin = formerOrigin
        }

        static func == (first: Rarity, second: Rarity) -> Bool {
            first.onBehalf == second.onBehalf && first.rival == second.rival
        }

        func hash(into hasher: inout Hasher) {
            hasher.combine(onBehalf)
            hasher.combine(rival)
        }
    }

    private var rarity: Rarity?

    /// The last touch by another runtime's process.
    public package(set) var onBehalf: OnBehalf? {
        get { rarity?.onBehalf }
        set { setRarity(newValue, rival, rarity?.formerOrigin) }
    }

    /// Another agent with the same id; the last one that was noticed.
    public package(set) var rival: Rival? {
        get { rarity?.rival }
        set { setRarity(onBehalf, newValue, rarity?.formerOrigin) }
    }

    /// The origin that touched before the last touch's origin did, and when.
    private struct FormerOrigin: Hashable, Sendable {
        let origin: Origin?
        let offset: Duration
    }

    private mutating func setRarity(_ onBehalf: OnBehalf?, _ rival: Rival?, _ formerOrigin: FormerOrigin?) {
        let isEmpty = onBehalf == nil && rival == nil && formerOrigin == nil
        rarity = isEmpty ? nil : Rarity(onBehalf, rival, formerOrigin)
    }

    /// Whether the runtime is alive as long as its process runs, and the deadline only tells when to look.
    public package(set) var isHeld = false
    /// Whether that process was stopped when it was last looked at: then the deadline counts.
    package var isSuspended = false

    public init(_ touch: Touch) {
        self.touch = touch
        plainDeadlineOffset = touch.deadlineOffset
        deadlineOffset = max(touch.deadlineOffset, touch.announcedOffset)
        if let writer = touch.writer {
            onBehalf = OnBehalf(by: writer, process: touch.process, at: Moment(of: touch))
        } else {
            isHeld = touch.isHeld
        }
        if touch.evidence == .path { ownDocument = touch.document } else { sharedDocument = touch.document }
    }

    /// A record that was saved.
    package init(
        _ touch: Touch, deadlineOffset: Duration, plainDeadlineOffset: Duration, exit: Exit?, ownDocument: Document?,
        sharedDocument: Document?
    ) {
        self.touch = touch
        self.deadlineOffset = deadlineOffset
        self.plainDeadlineOffset = plainDeadlineOffset
        self.exit = exit
        self.ownDocument = ownDocument
        self.sharedDocument = sharedDocument
    }

    /// The last touch's.
    public var stamp: HLCTimestamp { touch.stamp }

    public func state(at now: ContinuousClock.Instant) -> State { state(at: now.offset) }

    func state(at now: Duration) -> State {
        if exit != nil { return .exited }
        if touch.writer != nil { return .never }
        return now < deadlineOffset || isHeld && !isSuspended ? .alive : .expired
    }

    public func isAlive(at now: ContinuousClock.Instant) -> Bool { isAlive(at: now.offset) }

    func isAlive(at now: Duration) -> Bool { state(at: now) == .alive }

    /// Whether the record may be dropped: it expired, and exited if it did, at `limit` or before.
    func isObsolete(since limit: Duration) -> Bool {
        deadlineOffset <= limit && !isHeld && exit.map { $0.offset <= limit } ?? true
    }

    // MARK: Changes

    /// Merges a touch, which need not be the latest: threads may overtake each other between clock and table.
    ///
    /// The later stamp wins; of equal ones, the newcomer. A deadline only moves forward, except that a touch after the
    /// exit starts a new life with its own ttl, and that a later document ends an announced silence. A touch from before the exit
    /// does not undo it.
    mutating func merge(_ new: Touch) {
        let isLater = new.stamp >= touch.stamp
        if let writer = new.writer {
            mergeDocument(of: new, isLater: isLater)
            if onBehalf.map({ $0.moment.offset <= new.offset }) ?? true {
                onBehalf = OnBehalf(by: writer, process: new.process, at: Moment(of: new))
            }
            // Until it gives a sign of life, the last touch on its behalf is all there is.
            guard touch.writer != nil, isLater else { return }
            let document = touch.document
            touch = new
            touch.document = document
            plainDeadlineOffset = max(plainDeadlineOffset, new.deadlineOffset)
            deadlineOffset = plainDeadlineOffset
            return
        }
        var isNewLife = touch.writer != nil
        if let exit, exit.offset < max(touch.receiptOffset, new.receiptOffset) {
            self.exit = nil
            isNewLife = true
        }
        plainDeadlineOffset = isNewLife ? new.deadlineOffset : max(plainDeadlineOffset, new.deadlineOffset)
        if isNewLife || isLater && new.document != nil {
            deadlineOffset = max(plainDeadlineOffset, new.announcedOffset)
        } else {
            deadlineOffset = max(deadlineOffset, plainDeadlineOffset)
        }
        if new.isHeld { (isHeld, isSuspended) = (true, false) }
        noteOrigin(of: new)
        mergeDocument(of: new, isLater: isLater)
        guard isLater || touch.writer != nil else { return }
        let document = touch.document
        touch = new
        touch.document = document
    }

    /// - Parameter isLater: Whether it is the last touch.
    private mutating func mergeDocument(of new: Touch, isLater: Bool) {
        if let document = new.document {
            if new.evidence == .path {
                if isLater || ownDocument == nil { ownDocument = document }
            } else if isLater || sharedDocument == nil {
                sharedDocument = document
            }
        }
        touch.document = isLater ? new.document ?? touch.document : touch.document ?? new.document
    }

    /// Notices that two hosts touch in turns.
    private mutating func noteOrigin(of new: Touch) {
        let (last, origin) = (touch.stamp.origin, new.stamp.origin)
        guard origin != last else { return }
        var rival = rival
        if let former = rarity?.formerOrigin, former.origin == origin, new.offset - former.offset < new.ttl {
            rival = Rival(touch.process, of: last, at: Moment(of: touch))
        }
        setRarity(onBehalf, rival, FormerOrigin(origin: last, offset: touch.offset))
    }

    /// Notes a touch of the runtime in its clocks.
    mutating func note(_ touch: Touch) {
        if touch.writer == nil { clocks.note(touch) }
    }

    /// The same for another clock of deadlines, and without the request of the last touch, as of another mount.
    package func moved(by shift: Duration) -> Record {
        var record = self
        record.touch.at += shift
        record.touch.request = 0
        record.deadlineOffset += shift
        record.plainDeadlineOffset += shift
        record.exit = exit.map { Exit(of: $0.process, noticedAt: $0.noticedAt, at: $0.at + shift) }
        record.clocks = clocks.moved(by: shift)
        record.setRarity(
            onBehalf.map { OnBehalf(by: $0.writer, process: $0.process, at: $0.moment.moved(by: shift)) },
            rival.map { Rival($0.process, of: $0.origin, at: $0.moment.moved(by: shift)) }, nil)
        return record
    }

    mutating func extendDeadline(to offset: Duration) {
        plainDeadlineOffset = max(plainDeadlineOffset, offset)
        deadlineOffset = max(deadlineOffset, offset)
    }

    mutating func end(by exit: Exit, stamp: HLCTimestamp) {
        self.exit = exit
        isHeld = false
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

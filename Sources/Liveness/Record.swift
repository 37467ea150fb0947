/// What is known of one signal file or one runtime.
///
/// To whoever gets one it never changes: a touch puts a new one in its place, unless the table is the only one to hold it.
/// It is an object rather than a value, so that a table of a million pays for a pointer where it has room to spare, and
/// one record can serve a signal file and its runtime.
public final class Record: @unchecked Sendable {
    // because nothing in it changes but in `renew` and `setSubject`, and then nobody else can see it.

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

    // In as few bytes as will do, since there may be a million of these: 144. What every touch changes comes first, that it
    // may lie together.
    private var stampSeconds: Int64
    private var stampNanoseconds: Int32
    private var receivedNanoseconds: Int32
    private var receivedSeconds: Int64
    private var touchedAt: CompactInstant
    private var ttl: Int64
    /// `deadline`, in eight bytes.
    private(set) var compactDeadline: CompactInstant
    private var process: Touch.Process?
    private var origin: Origin?
    private let ending: Ending?
    private var signal: [UInt8]?
    private var source: Touch.Source
    private var evidence: Attribution.Evidence?
    /// Who it is of, or who touched the signal file.
    private(set) var runtime: RuntimeID?
    private var document: Document?
    /// The last document of a file that is the runtime's own, such as its heartbeat.
    public private(set) var ownDocument: Document?
    /// The last document of a file that many write, such as the keepalive.
    public private(set) var sharedDocument: Document?

    /// What few records have, and so has a place of its own.
    private final class Ending: Sendable {
        let exit: Exit
        init(_ exit: Exit) { self.exit = exit }
    }

    /// The last touch, with the last document that any touch brought.
    public var touch: Touch {
        Touch(
            signal: signal, runtime: runtime, receivedAt: receivedAt, at: touchedAt.instant, ttl: .nanoseconds(ttl),
            document: document, source: source, evidence: evidence, process: process, stamp: stamp)
    }

    /// When life ends unless touched again.
    ///
    /// It lies beyond the last touch's own if an earlier touch promised more.
    public var deadline: ContinuousClock.Instant { compactDeadline.instant }

    /// Set from the end of the runtime's root process until the next touch.
    public var exit: Exit? { ending?.exit }

    var hasEnded: Bool { ending != nil }

    /// The last touch's.
    public var stamp: HLCTimestamp {
        HLCTimestamp(WallTime(seconds: stampSeconds, nanoseconds: stampNanoseconds), by: origin)
    }

    private var receivedAt: WallTime { WallTime(seconds: receivedSeconds, nanoseconds: receivedNanoseconds) }

    convenience init(_ touch: Touch) { self.init(touch, runtime: touch.runtime, stamp: touch.stamp) }

    /// - Parameters:
    ///   - runtime: The touch's, perhaps as another object.
    ///   - stamp: In place of the touch's.
    convenience init(_ touch: borrowing Touch, runtime: RuntimeID?, stamp: HLCTimestamp) {
        let isOwn = touch.evidence == .path
        self.init(
            touch, runtime: runtime, stamp: stamp, document: touch.document, deadline: CompactInstant(touch.deadline),
            ownDocument: isOwn ? touch.document : nil, sharedDocument: isOwn ? nil : touch.document, ending: nil)
    }

    private init(
        _ touch: borrowing Touch, runtime: RuntimeID?, stamp: HLCTimestamp, document: Document?,
        deadline: CompactInstant,
        ownDocument: Document?, sharedDocument: Document?, ending: Ending?
    ) {
        self.runtime = runtime
        signal = touch.signal
        process = touch.process
        origin = stamp.origin
        self.document = document
        self.ownDocument = ownDocument
        self.sharedDocument = sharedDocument
        self.ending = ending
        touchedAt = CompactInstant(touch.at)
        ttl = touch.ttl.compactNanoseconds
        compactDeadline = deadline
        receivedSeconds = touch.receivedAt.seconds
        receivedNanoseconds = touch.receivedAt.nanoseconds
        stampSeconds = stamp.time.seconds
        stampNanoseconds = stamp.time.nanoseconds
        source = touch.source
        evidence = touch.evidence
    }

    public func state(at now: ContinuousClock.Instant) -> State {
        if ending != nil { return .exited }
        return CompactInstant(now) < compactDeadline ? .alive : .expired
    }

    public func isAlive(at now: ContinuousClock.Instant) -> Bool {
        state(at: now) == .alive
    }

    /// Until when it is alive: its deadline, or never when it has ended.
    var life: CompactInstant { ending == nil ? compactDeadline : .past }

    /// When it began or will begin to be of no use but to those who ask who was here.
    var end: CompactInstant { max(compactDeadline, ending.map { CompactInstant($0.exit.at) } ?? .past) }

    /// Whether the last touch was made later than this.
    func isTouched(after instant: ContinuousClock.Instant) -> Bool { touchedAt > CompactInstant(instant) }

    /// Whether the last touch was received by an origin; nil is nobody in particular.
    func isOf(_ origin: Origin?) -> Bool { self.origin == origin }

    /// The same, with another stamp if it is of an origin whose clock has turned out to be another.
    func moved(ifOf origin: Origin, by change: Duration) -> Record {
        guard isOf(origin) else { return self }
        return changed(stamp: HLCTimestamp(stamp.time + change, by: origin), ending: ending)
    }

    /// The same, of a runtime whose root process has ended.
    func ended(by exit: Exit, stamp: HLCTimestamp) -> Record {
        changed(stamp: stamp, ending: Ending(exit))
    }

    private func changed(stamp: HLCTimestamp, ending: Ending?) -> Record {
        Record(
            touch, runtime: runtime, stamp: stamp, document: document, deadline: compactDeadline,
            ownDocument: ownDocument, sharedDocument: sharedDocument, ending: ending)
    }

    /// The record after a touch that comes later than all that it knows of: as `merged`, in one step.
    ///
    /// Nil for a touch that comes late, and after an end.
    func continued(by touch: Touch, runtime: RuntimeID?, stamp: HLCTimestamp) -> Record? {
        guard ending == nil, stamp >= self.stamp else { return nil }
        let isOwn = touch.evidence == .path
        return Record(
            touch, runtime: runtime, stamp: stamp, document: touch.document ?? document,
            deadline: max(compactDeadline, CompactInstant(touch.deadline)),
            ownDocument: isOwn ? touch.document ?? ownDocument : ownDocument,
            sharedDocument: isOwn ? sharedDocument : touch.document ?? sharedDocument, ending: nil)
    }

    /// Whether a touch at this instant clearly comes later than all that is known.
    func isFollowed(by stamp: borrowing HLCTimestamp, at instant: CompactInstant) -> Bool {
        ending == nil && instant >= touchedAt
            && WallTime(seconds: stampSeconds, nanoseconds: stampNanoseconds) < stamp.time
    }

    /// Becomes what `continued` would make of it, without anything made anew.
    ///
    /// Only for whoever holds it alone, and for a touch that follows all that is known, of just what has it for its record:
    /// a signal file, a runtime, or both.
    func renew(by touch: borrowing Touch, stamp: borrowing HLCTimestamp) {
        let time = stamp.time
        stampSeconds = time.seconds
        stampNanoseconds = time.nanoseconds
        receivedSeconds = touch.receivedAt.seconds
        receivedNanoseconds = touch.receivedAt.nanoseconds
        touchedAt = CompactInstant(touch.at)
        ttl = touch.ttl.compactNanoseconds
        compactDeadline = max(compactDeadline, CompactInstant(touch.deadline))
        source = touch.source
        evidence = touch.evidence
        // References are counted where they change only.
        if process !== touch.process { process = touch.process }
        if origin !== stamp.origin { origin = stamp.origin }
        if touch.signal == nil, signal != nil { signal = nil }
        if touch.runtime == nil, runtime != nil { runtime = nil }
        if let new = touch.document {
            document = new
            if case .path? = touch.evidence { ownDocument = new } else { sharedDocument = new }
        }
    }

    /// Is of these from now on; as `renew`, only for whoever holds it alone.
    func setSubject(signal: [UInt8], runtime: RuntimeID) {
        self.signal = signal
        self.runtime = runtime
    }

    /// Whether this, which a touch has led to, is also what the touch makes of another record.
    func serves(also former: Record, touchedBy touch: Touch) -> Bool {
        let others =
            touch.evidence == .path ? (sharedDocument, former.sharedDocument) : (ownDocument, former.ownDocument)
        return touch.document != nil && others == (nil, nil) && ending == nil && former.ending == nil
            && compactDeadline == CompactInstant(touch.deadline) && former.compactDeadline <= compactDeadline
            && former.stamp <= stamp
    }

    /// This record and a newly made one as a single record.
    ///
    /// The newcomer need not be the later of the two: threads may overtake each other between reading the clock and
    /// coming here. One that was made before the root process ended is no sign of life after it.
    func merged(with newcomer: Record) -> Record {
        let isLater = newcomer.stamp >= stamp
        // It comes after the last, and leaves nothing of that to be kept.
        if isLater, ending == nil, newcomer.ending == nil, newcomer.compactDeadline >= compactDeadline,
            newcomer.brings(allOf: self)
        {
            return newcomer
        }
        let later = isLater ? newcomer : self
        let earlier = isLater ? self : newcomer
        let lastAt = max(touchedAt, newcomer.touchedAt)
        let ending = [ending, newcomer.ending].compactMap { $0 }.last { CompactInstant($0.exit.at) >= lastAt }
        // A life that has ended keeps no promise to the next.
        let hasBegunAnew = self.ending != nil && ending == nil
        return Record(
            later.touch, runtime: later.runtime, stamp: later.stamp, document: later.document ?? earlier.document,
            deadline: hasBegunAnew ? newcomer.compactDeadline : max(compactDeadline, newcomer.compactDeadline),
            ownDocument: later.ownDocument ?? earlier.ownDocument,
            sharedDocument: later.sharedDocument ?? earlier.sharedDocument, ending: ending)
    }

    /// Whether it has a document of every kind that another has.
    private func brings(allOf other: Record) -> Bool {
        (document != nil || other.document == nil) && (ownDocument != nil || other.ownDocument == nil)
            && (sharedDocument != nil || other.sharedDocument == nil)
    }
}

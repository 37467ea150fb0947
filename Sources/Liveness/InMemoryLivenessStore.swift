import Synchronization

/// The liveness table behind a lock, with clocks: what the file system and everybody who asks it share.
///
/// Every change that is made here is passed on to the mirror, if there is one, when the lock is gone. With a watcher, what
/// happens is numbered in the order in which it happened to the table, and expiry is something that happens.
public final class InMemoryLivenessStore: LivenessStore {
    /// How much is looked at while the lock is held, where all there is has to be looked at: for some 20 µs.
    private static let part = 256
    /// How many deadlines are looked at while the lock is held: for some 10 µs.
    private static let slice = 16

    private struct State {
        var table: LivenessTable
        var events = EventLog()
        var expiry = ExpiryQueue()
        var tally = LivenessTally()
        /// When the watcher will look for what has expired; nil is never.
        var nextLook: CompactInstant?
        let isWatched: Bool

        mutating func note(_ event: consuming LivenessEvent) {
            if isWatched { events.append(event) }
        }

        /// Before it is forgotten; what nobody knows of is not.
        mutating func noteForgotten(_ subject: RecordSubject, at time: WallTime, origin: Origin? = nil) {
            if case .runtime(let id) = subject { stopWaiting(for: id) }
            var event = LivenessEvent(.forgotten, subject, at: time)
            event.origin = origin
            guard table.record(of: subject) != nil || origin != nil else { return }
            tally.forgotten += 1
            note(event)
        }

        mutating func noteExit(of id: RuntimeID, _ exit: Record.Exit, origin: Origin? = nil) {
            stopWaiting(for: id)
            var event = LivenessEvent(.exited, .runtime(id), at: exit.noticedAt)
            event.process = exit.process
            event.origin = origin
            note(event)
        }

        /// Touches what is known already, as nearly every touch does: all that is read and written is there.
        ///
        /// - Returns: Whether the watcher has to look earlier than it would; nil, and nothing is done, for other touches.
        mutating func noteRenewal(by touch: borrowing Touch) -> Bool? {
            guard let renewed = table.renew(touch, stamp: touch.stamp) else { return nil }
            guard isWatched else { return false }
            events.append(touch, isOfRuntime: renewed.runtime != nil)
            guard let slot = renewed.runtime else { return false }
            let now = CompactInstant(touch.at)
            if now < renewed.life, expiry.contains(slot) { return false }
            return self.await(slot, renewed.life, at: now)
        }

        /// Touches whatever there is.
        mutating func note(_ touch: Touch, stamp: HLCTimestamp) -> (LivenessTable.Touched, isEarlier: Bool) {
            let touched = table.touch(touch, stamp: stamp)
            // Made before the runtime's process ended, and told after it: that was the end all the same.
            let isAlive = touched.runtime.map { !$0.hasEnded } ?? false
            if isAlive || touch.signal != nil {
                note(LivenessEvent(touch, runtime: isAlive ? touched.runtime?.runtime : nil))
            }
            return (touched, self.await(touched, at: touch.at))
        }

        /// Notes the first who have expired; whether there are any.
        mutating func noteExpired(limit: Int, at now: CompactInstant, _ wall: WallTime) -> Bool {
            // Of one that has ended nobody waits for the end.
            let expired = expiry.expired(at: now, limit: limit) { slot in
                table.life(at: slot).flatMap { $0 == .past ? nil : $0 }
            }
            for (slot, deadline) in expired {
                guard let id = table.id(at: slot) else { continue }
                tally.expired += 1
                tally.expiryLag = now.instant - deadline.instant
                note(LivenessEvent(.expired, .runtime(id), at: wall))
            }
            nextLook = expiry.earliest
            return !expired.isEmpty
        }

        private mutating func stopWaiting(for id: RuntimeID) {
            if isWatched, let slot = table.slot(of: id) { expiry.remove(slot) }
        }

        /// Waits for the end of a runtime that was touched, or no longer.
        ///
        /// - Returns: Whether the watcher has to look earlier than it would.
        mutating func await(_ touched: LivenessTable.Touched, at now: ContinuousClock.Instant) -> Bool {
            guard isWatched, let slot = touched.slot, let life = touched.runtime?.life else { return false }
            return self.await(slot, life, at: CompactInstant(now))
        }

        private mutating func await(_ slot: Int, _ life: CompactInstant, at now: CompactInstant) -> Bool {
            // What had expired when it was heard of does not do so again.
            guard now < life else {
                expiry.remove(slot)
                return false
            }
            expiry.add(slot, deadline: life)
            guard let earliest = expiry.earliest, nextLook.map({ earliest < $0 }) ?? true else { return false }
            nextLook = earliest
            return true
        }
    }

    private let state: Mutex<State>
    private let mirror: (any LivenessMirror)?
    private let watcher: (any LivenessWatcher)?
    private let now: @Sendable () -> ContinuousClock.Instant
    private let wallTime: @Sendable () -> WallTime

    /// The clocks are read outside the lock, by any thread.
    public init(
        table: LivenessTable = LivenessTable(), mirror: (any LivenessMirror)? = nil,
        watcher: (any LivenessWatcher)? = nil,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now },
        wallTime: @escaping @Sendable () -> WallTime
    ) {
        state = Mutex(State(table: table, isWatched: watcher != nil))
        self.mirror = mirror
        self.watcher = watcher
        self.now = now
        self.wallTime = wallTime
    }

    public var isAvailable: Bool { true }

    public func touch(_ id: RuntimeID, ttl: Duration) throws {
        try NonPositiveTTL.check(ttl)
        touch(Touch(runtime: id, receivedAt: wallTime(), at: now(), ttl: ttl, document: nil, source: .command))
    }

    public func areAlive(_ ids: [RuntimeID]) -> [Bool]? {
        let now = CompactInstant(now())
        var answers: [Bool] = []
        answers.reserveCapacity(ids.count)
        var hashes: [Int] = []
        hashes.reserveCapacity(min(Self.part, ids.count))
        // By their addresses: fewer references are counted than by taking each out of the array.
        ids.withUnsafeBufferPointer { ids in
            var start = 0
            while start < ids.count {
                let part = UnsafeBufferPointer(rebasing: ids[start..<min(start + Self.part, ids.count)])
                hashes.removeAll(keepingCapacity: true)
                for place in part.indices { hashes.append(part[place].hashValue) }
                answers += state.withLock { $0.table.areAlive(part, hashes: hashes, at: now) }
                start += part.count
            }
        }
        return answers
    }

    public func forget(_ id: RuntimeID) {
        forget(.runtime(id))
    }

    // MARK: The table's own

    public func touch(_ touch: Touch) {
        tell(note(touch))
    }

    /// Touches without telling mirror and watcher: for whoever holds a lock, and tells them when that is gone.
    public func note(_ touch: Touch) -> Noted {
        guard let mirror else {
            let isEarlier = state.withLock { state in
                state.noteRenewal(by: touch) ?? state.note(touch, stamp: touch.stamp).isEarlier
            }
            return Noted(isEarlier: isEarlier)
        }
        let stamp = mirror.stamp(touch.receivedAt)
        let (touched, isEarlier) = state.withLock { $0.note(touch, stamp: stamp) }
        var noted = Noted(isEarlier: isEarlier)
        if let path = touch.signal, let record = touched.signal {
            noted.records.append((.signal(SignalPath(bytes: path)), record))
        }
        if let id = touch.runtime, let record = touched.runtime { noted.records.append((.runtime(id), record)) }
        return noted
    }

    /// Tells mirror and watcher of what was noted.
    public func tell(_ noted: Noted) {
        for (subject, record) in noted.records { mirror?.note(record, of: subject) }
        watcher?.noteEvent()
        if noted.isEarlier { watcher?.noteEarlierDeadline() }
    }

    /// What mirror and watcher have not been told of yet.
    public struct Noted: Sendable {
        fileprivate var records: [(RecordSubject, Record)] = []
        fileprivate var isEarlier = false
    }

    public func forget(signal path: [UInt8]) {
        forget(.signal(SignalPath(bytes: path)))
    }

    private func forget(_ subject: RecordSubject) {
        let now = now()
        let wall = wallTime()
        let stamp = mirror?.stamp(wall) ?? HLCTimestamp(wall)
        let forgotten = state.withLock { state in
            state.noteForgotten(subject, at: wall)
            return state.table.forget(subject, stamp: stamp, at: now)
        }
        mirror?.noteForgotten(subject, stamp: forgotten)
        watcher?.noteEvent()
    }

    /// Notes that the process which a runtime is has ended.
    ///
    /// - Returns: Whether that is news.
    @discardableResult
    public func exit(_ id: RuntimeID, _ exit: Record.Exit) -> Bool {
        let stamp = mirror?.stamp(exit.noticedAt) ?? HLCTimestamp(exit.noticedAt)
        let record = state.withLock { state in
            let record = state.table.exit(id, exit, stamp: stamp)
            if record != nil { state.noteExit(of: id, exit) }
            return record
        }
        guard let record else { return false }
        mirror?.note(record, of: .runtime(id))
        watcher?.noteEvent()
        return true
    }

    public func record(of id: RuntimeID) -> Record? {
        state.withLock { $0.table.record(of: id) }
    }

    public func record(ofSignal path: [UInt8]) -> Record? {
        state.withLock { $0.table.record(ofSignal: path) }
    }

    /// The runtimes whose ids begin with a prefix, found by looking at every one; in no order.
    ///
    /// What comes or goes meanwhile may be among them.
    public func runtimes(backing prefix: String) -> [RuntimeID] {
        var runtimes: [RuntimeID] = []
        inParts { table, slots in runtimes += table.runtimes(backing: prefix, in: slots) }
        return runtimes
    }

    /// What is in a directory of ids, which is empty or ends in a slash.
    public func listing(of directory: String) -> RuntimeListing {
        let now = now()
        var listing = RuntimeListing(of: directory)
        while !listing.isDone { state.withLock { $0.table.list(&listing, limit: Self.part, at: now) } }
        return listing
    }

    /// Has all slots of the table looked at, letting others in between.
    private func inParts(_ look: (_ table: borrowing LivenessTable, _ slots: Range<Int>) -> Void) {
        var start = 0
        var isDone = false
        while !isDone {
            state.withLock { state in
                let slots = start..<max(start, min(start + Self.part, state.table.slotCount))
                look(state.table, slots)
                isDone = slots.isEmpty
                start = slots.upperBound
            }
        }
    }

    /// Whether a directory of ids, which is empty or ends in a slash, has any.
    public func hasRuntimes(backing prefix: String) -> Bool {
        state.withLock { $0.table.hasRuntimes(backing: prefix) }
    }

    /// Whether one of them is alive.
    public func hasLiving(backing prefix: String) -> Bool {
        let now = now()
        return state.withLock { $0.table.hasLiving(backing: prefix, at: now) }
    }

    public func isAlive(_ id: RuntimeID) -> Bool {
        let now = now()
        return state.withLock { $0.table.isAlive(id, at: now) }
    }

    /// How many records there are, found by looking at every one; others are let in between.
    public func counts() -> LivenessTable.Counts {
        let now = now()
        var counts = LivenessTable.Counts()
        inParts { table, slots in table.count(in: slots, at: now, into: &counts) }
        return counts
    }

    // MARK: Of others, and for them

    /// Takes in what somebody else has touched; false when something later is known.
    ///
    /// - Parameter exit: Of a runtime whose process has ended since.
    public func receive(_ touch: Touch, exit: Record.Exit? = nil) -> Bool {
        let now = now()
        let (isNews, isEarlier) = state.withLock { state in
            guard let touched = state.table.received(touch, exit: exit) else { return (false, false) }
            if let exit, let id = touch.runtime {
                state.noteExit(of: id, exit, origin: touch.stamp.origin)
                return (true, false)
            }
            var event = LivenessEvent(touch)
            event.origin = touch.stamp.origin
            state.note(event)
            return (true, state.await(touched, at: now))
        }
        if isNews { watcher?.noteEvent() }
        if isEarlier { watcher?.noteEarlierDeadline() }
        return isNews
    }

    /// Drops what somebody else has forgotten; false when it was touched later.
    public func receiveForget(_ subject: RecordSubject, stamp: HLCTimestamp) -> Bool {
        let now = now()
        let wall = wallTime()
        let isNews = state.withLock { state in
            let isKnown = state.table.record(of: subject) != nil
            guard state.table.receiveForget(subject, stamp: stamp, at: now) else { return false }
            if isKnown { state.noteForgotten(subject, at: wall, origin: stamp.origin) }
            return true
        }
        if isNews { watcher?.noteEvent() }
        return isNews
    }

    /// Drops a signal file's record without telling anybody.
    public func drop(signal path: [UInt8]) {
        state.withLock { $0.table.drop(signal: path) }
    }

    /// What an origin has touched or forgotten last, in no order.
    package func subjects(of origin: Origin) -> [RecordSubject] {
        var subjects: [RecordSubject] = []
        inParts { table, slots in subjects += table.subjects(of: origin, in: slots) }
        return subjects
    }

    /// What an origin has to tell of some subjects as of now.
    package func news(of subjects: some Sequence<RecordSubject>, by origin: Origin) -> [MirrorQueue.Message] {
        state.withLock { state in subjects.compactMap { state.table.news(of: $0, by: origin) } }
    }

    /// What has become of messages that have waited.
    package func news(after messages: [MirrorQueue.Message]) -> [MirrorQueue.Message] {
        state.withLock { state in messages.compactMap { state.table.news(after: $0) } }
    }

    package func moveStamps(of origin: Origin, by change: Duration) {
        state.withLock { $0.table.moveStamps(of: origin, by: change) }
    }

    // MARK: Events, for whoever watches

    public var tally: LivenessTally { state.withLock { $0.tally } }

    /// The number of the last event; 0 before the first.
    public var lastEvent: UInt64 { state.withLock { $0.events.last } }

    /// The events from a number on, as far as there are any, but no more than `limit`.
    public func events(from number: UInt64, limit: Int) -> EventLog.Excerpt {
        state.withLock { $0.events.excerpt(from: number, limit: limit) }
    }

    /// Notes which runtimes have expired.
    ///
    /// - Parameter limit: How many may be looked at; the lock is let go after every few of them.
    /// - Returns: When to do so again, which may be at once; nil is when the watcher is told to.
    public func noteExpired(limit: Int) -> ContinuousClock.Instant? {
        let now = now()
        let wall = wallTime()
        var rest = limit
        var isNews = false
        var next: CompactInstant?
        repeat {
            let slice = min(rest, Self.slice)
            rest -= slice
            state.withLock { state in
                if state.noteExpired(limit: slice, at: CompactInstant(now), wall) { isNews = true }
                next = state.nextLook
            }
        } while rest > 0 && next.map { $0 <= CompactInstant(now) } ?? false
        if isNews { watcher?.noteEvent() }
        return next?.instant
    }

    /// Notes that the mirror has begun to work, or ceased to.
    ///
    /// - Parameter reason: Why it has.
    public func noteMirror(isUp: Bool, reason: String?) {
        var event = LivenessEvent(isUp ? .mirrorUp : .mirrorDown, at: wallTime())
        event.reason = reason
        state.withLock { $0.note(event) }
        watcher?.noteEvent()
    }
}

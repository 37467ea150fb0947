import Synchronization

/// The liveness table behind a lock, with clocks: what the file system and everybody who asks it share.
///
/// Every change that is made here is passed on to the mirror, if there is one, when the lock is gone. With a watcher, what
/// happens is numbered in the order in which it happened to the table, and expiry is something that happens.
public final class InMemoryLivenessStore: LivenessStore {
    private struct State {
        var table: LivenessTable
        var events = EventLog()
        var expiry = ExpiryQueue()
        var tally = LivenessTally()
        /// When the watcher will look for what has expired; nil is never.
        var nextLook: ContinuousClock.Instant?
        let isWatched: Bool

        mutating func note(_ event: LivenessEvent) {
            if isWatched { events.append(event) }
        }

        /// Before it is forgotten; what nobody knows of is not.
        mutating func noteForgotten(_ subject: RecordSubject, at time: WallTime, origin: Origin? = nil) {
            if case .runtime(let id) = subject { expiry.remove(id) }
            var event = LivenessEvent(.forgotten, subject, at: time)
            event.origin = origin
            guard table.record(of: subject) != nil || origin != nil else { return }
            tally.forgotten += 1
            note(event)
        }

        mutating func noteExit(of id: RuntimeID, _ exit: Record.Exit, origin: Origin? = nil) {
            expiry.remove(id)
            var event = LivenessEvent(.exited, .runtime(id), at: exit.noticedAt)
            event.process = exit.process
            event.origin = origin
            note(event)
        }

        /// Waits for a runtime's end, or no longer.
        ///
        /// - Returns: Whether the watcher has to look earlier than it would.
        mutating func await(_ id: RuntimeID, at now: ContinuousClock.Instant) -> Bool {
            guard isWatched, let record = table.record(of: id) else { return false }
            // What had expired when it was heard of does not do so again.
            guard record.isAlive(at: now) else {
                expiry.remove(id)
                return false
            }
            expiry.add(id, deadline: record.deadline)
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

    public func areAlive(_ ids: [RuntimeID]) -> [RuntimeID: Bool]? {
        let now = now()
        return state.withLock { $0.table.areAlive(ids, at: now) }
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
        var touch = touch
        if let mirror { touch.stamp = mirror.stamp(touch.receivedAt) }
        var noted = Noted()
        let touched = state.withLock { state in
            let touched = state.table.touch(touch)
            var event = LivenessEvent(touch)
            // Made before the runtime's process ended, and told after it: that was the end all the same.
            if touched.runtime?.exit != nil { event.runtime = nil }
            if event.runtime != nil || event.signal != nil { state.note(event) }
            if let id = touch.runtime { noted.isEarlier = state.await(id, at: touch.at) }
            return touched
        }
        guard mirror != nil else { return noted }
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
        let stamp = mirror?.stamp(wall) ?? Stamp(wall)
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
        let stamp = mirror?.stamp(exit.noticedAt) ?? Stamp(exit.noticedAt)
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
    public func runtimes(beneath prefix: String) -> [RuntimeID] {
        state.withLock { $0.table.runtimes(beneath: prefix) }
    }

    /// The same, and whether each is alive.
    public func runtimesWithLife(beneath prefix: String) -> [(id: RuntimeID, isAlive: Bool)] {
        let now = now()
        return state.withLock { $0.table.runtimes(beneath: prefix, at: now) }
    }

    /// Whether a directory of ids, which is empty or ends in a slash, has any.
    public func hasRuntimes(beneath prefix: String) -> Bool {
        state.withLock { $0.table.hasRuntimes(beneath: prefix) }
    }

    /// Whether one of them is alive.
    public func hasLiving(beneath prefix: String) -> Bool {
        let now = now()
        return state.withLock { $0.table.hasLiving(beneath: prefix, at: now) }
    }

    public func isAlive(_ id: RuntimeID) -> Bool {
        let now = now()
        return state.withLock { $0.table.isAlive(id, at: now) }
    }

    public func counts() -> LivenessTable.Counts {
        let now = now()
        return state.withLock { $0.table.counts(at: now) }
    }

    // MARK: Of others, and for them

    /// Takes in what somebody else has touched; false when something later is known.
    ///
    /// - Parameter exit: Of a runtime whose process has ended since.
    public func receive(_ touch: Touch, exit: Record.Exit? = nil) -> Bool {
        let now = now()
        let (isNews, isEarlier) = state.withLock { state in
            guard state.table.receive(touch, exit: exit) else { return (false, false) }
            if let exit, let id = touch.runtime {
                state.noteExit(of: id, exit, origin: touch.stamp.origin)
                return (true, false)
            }
            var event = LivenessEvent(touch)
            event.origin = touch.stamp.origin
            state.note(event)
            return (true, touch.runtime.map { state.await($0, at: now) } ?? false)
        }
        if isNews { watcher?.noteEvent() }
        if isEarlier { watcher?.noteEarlierDeadline() }
        return isNews
    }

    /// Drops what somebody else has forgotten; false when it was touched later.
    public func receiveForget(_ subject: RecordSubject, stamp: Stamp) -> Bool {
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
        state.withLock { $0.table.subjects(of: origin) }
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
    /// - Parameter limit: How many may be looked at while the lock is held.
    /// - Returns: When to do so again, which may be at once; nil is when the watcher is told to.
    public func noteExpired(limit: Int) -> ContinuousClock.Instant? {
        let now = now()
        let wall = wallTime()
        let (next, isNews) = state.withLock { state in
            let table = state.table
            let expired = state.expiry.expired(at: now, limit: limit) { id in
                table.record(of: id).flatMap { $0.exit == nil ? $0.deadline : nil }
            }
            for (id, deadline) in expired {
                state.tally.expired += 1
                state.tally.expiryLag = now - deadline
                state.note(LivenessEvent(.expired, .runtime(id), at: wall))
            }
            state.nextLook = state.expiry.earliest
            return (state.nextLook, !expired.isEmpty)
        }
        if isNews { watcher?.noteEvent() }
        return next
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

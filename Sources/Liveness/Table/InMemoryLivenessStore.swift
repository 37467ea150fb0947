import Synchronization

/// A `LivenessTable` behind a lock, with clocks, events and a mirror.
///
/// Mirror and watcher are called after the lock is released. With a watcher, every change is numbered in the order in
/// which the table saw it, and expiry is an event.
public final class InMemoryLivenessStore: LivenessStore {
    /// Records looked at per acquisition of the lock, where all of them must be: about 20 µs.
    private static let sliceSize = 256
    /// The same for deadlines, each of which may become an event: about 10 µs.
    private static let expirySliceSize = 16

    private struct State {
        var table: LivenessTable
        var events = EventLog()
        var tally = LivenessTally()
        /// The deadline that the watcher waits for.
        var awaitedDeadline: ContinuousClock.Instant?
        /// The last time that anything was served; nil before the first.
        var lastServed: Duration?
        let isWatched: Bool
        let persistence: (any LivenessPersistence)?

        mutating func append(_ event: @autoclosure () -> LivenessEvent) {
            guard isWatched else { return }
            let event = event()
            persistence?.save(event, number: events.last + 1, capacity: events.capacity)
            events.append(event)
        }

        /// - Returns: Whether the watcher waits for a later deadline than the next.
        mutating func updateDeadline() -> Bool {
            guard isWatched, let next = table.nextExpiration, awaitedDeadline.map({ next < $0 }) ?? true else {
                return false
            }
            awaitedDeadline = next
            return true
        }

        /// Records that the store is served now.
        ///
        /// After a gap the silence of a runtime proves nothing, as its touches had nobody to receive them. All that were
        /// alive get a full ttl from now on.
        ///
        /// - Returns: Those runtimes.
        mutating func noteServing(at now: Duration, stallLimit: Duration, wallTime: () -> WallTime) -> [RuntimeID] {
            let last = lastServed ?? now
            guard now - last > Self.servedPrecision || lastServed == nil else { return [] }
            lastServed = now
            persistence?.saveServed(at: now)
            guard now - last > stallLimit else { return [] }
            let graced = table.extendDeadlines(aliveAt: last, from: now)
            if !graced.isEmpty { append(LivenessEvent(resumedAfter: now - last, at: wallTime())) }
            return graced
        }

        /// `lastServed` is changed after this time only: each change is saved.
        private static let servedPrecision: Duration = .milliseconds(500)

        mutating func touch(_ touch: Touch) -> Bool {
            // A late touch from before the runtime's exit is no sign of life.
            let isAlive = table.touch(touch)
            if isAlive || touch.signal != nil {
                append(LivenessEvent(touch, runtime: isAlive ? touch.runtime : nil))
            }
            appendContests()
            return updateDeadline()
        }

        mutating func appendContests() {
            guard !table.contested.isEmpty else { return }
            for id in table.takeContested() {
                guard let record = table.record(of: id), let rival = record.rival else { continue }
                append(LivenessEvent(contested: id, by: record.touch, and: rival))
            }
        }

        mutating func appendForgotten(_ subject: RecordSubject, at time: WallTime, origin: Origin? = nil) {
            tally.forgotten += 1
            persistence?.save(tally)
            append(LivenessEvent(.forgotten, subject, at: time, origin: origin))
        }

        mutating func appendExit(of id: RuntimeID, _ exit: Record.Exit, origin: Origin? = nil) {
            append(LivenessEvent(.exited, .runtime(id), at: exit.noticedAt, process: exit.process, origin: origin))
        }
    }

    private let state: Mutex<State>
    private let mirror: (any LivenessMirror)?
    private let watcher: (any LivenessWatcher)?
    private let now: @Sendable () -> ContinuousClock.Instant
    private let wallTime: @Sendable () -> WallTime
    private let stallLimit: Duration?

    /// - Parameters:
    ///   - now: Called by any thread; `wallTime` likewise.
    public convenience init(
        table: LivenessTable = LivenessTable(), mirror: (any LivenessMirror)? = nil,
        watcher: (any LivenessWatcher)? = nil,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now },
        wallTime: @escaping @Sendable () -> WallTime
    ) {
        self.init(
            table: table, mirror: mirror, watcher: watcher, persistence: nil, restoring: nil, stallLimit: nil,
            now: now, wallTime: wallTime)
    }

    /// - Parameters:
    ///   - persistence: Where all changes are saved.
    ///   - saved: What an earlier process has saved there: restored without events and messages.
    ///   - stallLimit: Of two calls that are further apart than this, the second one follows a suspend or a stall; nil if
    ///     that is not to be noticed. Somebody has to call more often while runtimes are alive.
    package init(
        table: LivenessTable, mirror: (any LivenessMirror)?, watcher: (any LivenessWatcher)?,
        persistence: (any LivenessPersistence)?, restoring saved: SavedLiveness?, stallLimit: Duration?,
        now: @escaping @Sendable () -> ContinuousClock.Instant, wallTime: @escaping @Sendable () -> WallTime
    ) {
        var table = table
        table.persistence = persistence
        if let saved { table.restore(saved) }
        state = Mutex(
            State(
                table: table, events: saved.map { EventLog($0) } ?? EventLog(), tally: saved?.tally ?? LivenessTally(),
                lastServed: saved?.lastServed, isWatched: watcher != nil, persistence: persistence))
        self.mirror = mirror
        self.watcher = watcher
        self.now = now
        self.wallTime = wallTime
        self.stallLimit = stallLimit
    }

    /// Runs under the lock, after a look at whether the store was served all the time.
    private func withState<Result>(_ body: (inout State) -> Result) -> Result {
        guard let stallLimit else { return state.withLock { body(&$0) } }
        let now = now().offset
        let (graced, result) = state.withLock { state in
            let graced = state.noteServing(at: now, stallLimit: stallLimit, wallTime: wallTime)
            if !graced.isEmpty { _ = state.persistence?.commit() }
            return (graced, body(&state))
        }
        if !graced.isEmpty {
            for id in graced { mirror?.enqueue(.runtime(id), isUrgent: false) }
            watcher?.eventsChanged()
        }
        return result
    }

    // MARK: LivenessStore

    public var isAvailable: Bool { true }

    public func touch(_ id: RuntimeID, ttl: Duration) throws {
        try NonPositiveTTL.check(ttl)
        touch(Touch(runtime: id, receivedAt: wallTime(), at: now(), ttl: ttl, document: nil, source: .command))
    }

    public func areAlive(_ ids: [RuntimeID]) -> [Bool]? {
        let now = now().offset
        var answers: [Bool] = []
        answers.reserveCapacity(ids.count)
        while answers.count < ids.count {
            let slice = ids[answers.count...].prefix(Self.sliceSize)
            withState { state in
                for id in slice { answers.append(state.table.isAlive(id, at: now)) }
            }
        }
        return answers
    }

    public func forget(_ id: RuntimeID) { forget(.runtime(id)) }

    // MARK: Changes

    public func touch(_ touch: Touch) { notify(apply(touch)) }

    /// Touches without calling mirror and watcher, for a caller that holds a lock; `notify` must follow.
    ///
    /// - Parameter save: Saves what has to take effect together with the touch. Called under the store's lock.
    public func apply(_ touch: Touch, saving save: () -> Void = {}) -> Notification {
        var touch = touch
        if let mirror { touch.stamp = mirror.stamp(touch.receivedAt) }
        return withState { state in
            let isDeadlineEarlier = state.touch(touch)
            save()
            let isSaved = state.persistence?.commit() ?? false
            return Notification(
                signal: touch.signal, runtime: touch.writer == nil ? touch.runtime : nil,
                isDeadlineEarlier: isDeadlineEarlier, isSaved: isSaved)
        }
    }

    /// The calls of mirror and watcher that a touch requires.
    public struct Notification: Sendable {
        fileprivate let signal: [UInt8]?
        fileprivate let runtime: RuntimeID?
        fileprivate let isDeadlineEarlier: Bool
        /// Whether the touch outlives this process.
        public let isSaved: Bool
    }

    /// Calls mirror and watcher.
    public func notify(_ notification: Notification) {
        if let mirror {
            if let signal = notification.signal { mirror.enqueue(.signal(SignalPath(bytes: signal)), isUrgent: false) }
            if let id = notification.runtime { mirror.enqueue(.runtime(id), isUrgent: false) }
        }
        watcher?.eventsChanged()
        if notification.isDeadlineEarlier { watcher?.deadlineMovedEarlier() }
    }

    public func forget(signal path: [UInt8]) { forget(.signal(SignalPath(bytes: path))) }

    private func forget(_ subject: RecordSubject) {
        let now = now()
        let wall = wallTime()
        let stamp = mirror?.stamp(wall) ?? HLCTimestamp(wall)
        change { state in
            if state.table.record(of: subject) != nil { state.appendForgotten(subject, at: wall) }
            state.table.forget(subject, stamp: stamp, at: now)
            return true
        }
        mirror?.enqueue(subject, isUrgent: true)
    }

    /// Drops a signal file's record without an event, and without telling the mirror.
    public func drop(signal path: [UInt8]) { save { $0.table.drop(signal: path) } }

    /// Ends a runtime whose root process has exited.
    ///
    /// - Returns: Whether that changed its record.
    @discardableResult
    public func exit(_ id: RuntimeID, _ exit: Record.Exit) -> Bool {
        let stamp = mirror?.stamp(exit.noticedAt) ?? HLCTimestamp(exit.noticedAt)
        let isChanged = change { state in
            guard state.table.exit(id, exit, stamp: stamp) != nil else { return false }
            state.appendExit(of: id, exit)
            return true
        }
        if isChanged { mirror?.enqueue(.runtime(id), isUrgent: true) }
        return isChanged
    }

    /// Notes another agent with the same id as a runtime.
    public func contest(_ id: RuntimeID, by process: Touch.Process, at moment: ContinuousClock.Instant) {
        let wall = wallTime()
        change { state in
            state.table.setRival(Record.Rival(process, of: nil, at: .init(wall, offset: moment.offset)), of: id)
            defer { state.appendContests() }
            return !state.table.contested.isEmpty
        }
    }

    /// Changes the table and notifies the watcher.
    ///
    /// - Parameter body: Returns whether it changed anything.
    @discardableResult
    private func change(_ body: (inout State) -> Bool) -> Bool {
        let (isChanged, isDeadlineEarlier) = save { (body(&$0), $0.updateDeadline()) }
        if isChanged { watcher?.eventsChanged() }
        if isDeadlineEarlier { watcher?.deadlineMovedEarlier() }
        return isChanged
    }

    /// Changes the state, and saves the changes together.
    private func save<Result>(_ body: (inout State) -> Result) -> Result {
        withState { state in
            // Without room they end with this process, which `LivenessPersistence` reports.
            defer { _ = state.persistence?.commit() }
            return body(&state)
        }
    }

    // MARK: Queries

    public func record(of id: RuntimeID) -> Record? { withState { $0.table.record(of: id) } }

    public func record(ofSignal path: [UInt8]) -> Record? { withState { $0.table.record(ofSignal: path) } }

    public func isAlive(_ id: RuntimeID) -> Bool {
        let now = now()
        return withState { $0.table.isAlive(id, at: now) }
    }

    /// The number of records by state; looks at each, releasing the lock in between.
    public func counts() -> LivenessTable.Counts {
        let now = now().offset
        var counts = LivenessTable.Counts()
        inSlices(of: \.runtimes) { counts.runtimes.add($1.record.state(at: now)) }
        inSlices(of: \.signals) { counts.signals.add($1.state(at: now)) }
        return counts
    }

    /// Whether a directory of ids, which is empty or ends in a slash, contains a runtime.
    public func hasRuntimes(in directory: String) -> Bool {
        withState { $0.table.hasRuntimes(in: directory) }
    }

    /// Whether it contains a living runtime.
    public func hasLivingRuntimes(in directory: String) -> Bool {
        let now = now().offset
        var isFound = false
        visitRuntimes(in: directory) { _, record in
            isFound = record.isAlive(at: now)
            return !isFound
        }
        return isFound
    }

    /// The runtimes of a directory and of its subdirectories, in ascending order.
    public func runtimes(in directory: String) -> [RuntimeID] {
        var runtimes: [RuntimeID] = []
        visitRuntimes(in: directory) { id, _ in
            runtimes.append(id)
            return true
        }
        return runtimes
    }

    /// The runtimes and subdirectories of a directory.
    public func listing(of directory: String) -> RuntimeListing {
        let now = now()
        var listing = RuntimeListing(of: directory)
        while !listing.isComplete {
            withState { listing.advance(through: $0.table, limit: Self.sliceSize, at: now) }
        }
        return listing
    }

    private func visitRuntimes(in prefix: String, _ visit: (RuntimeID, Record) -> Bool) {
        var next: String? = prefix
        while let start = next {
            next = withState {
                $0.table.visitRuntimes(in: prefix, from: start, limit: Self.sliceSize, visit)
            }
        }
    }

    /// Visits everything in a dictionary of the table that exists throughout, in order.
    private func inSlices<Key, Value>(
        of dictionary: KeyPath<LivenessTable, SortedDictionary<Key, Value>>, _ visit: (Key, Value) -> Void
    ) {
        var last: Key?
        var isComplete = false
        while !isComplete {
            withState { state in
                let entries = state.table[keyPath: dictionary]
                let keys = entries.keys(after: last, limit: Self.sliceSize)
                for key in keys { if let index = entries.index(of: key) { entries.read(index) { visit(key, $0) } } }
                isComplete = keys.isEmpty
                last = keys.last
            }
        }
    }

    // MARK: Replication

    /// Merges a touch made by another origin; false if a later change is known.
    ///
    /// - Parameters:
    ///   - exit: The exit of the runtime since then, if it has exited.
    ///   - save: See `apply`.
    public func receive(_ touch: Touch, exit: Record.Exit? = nil, saving save: () -> Void = {}) -> Bool {
        let now = now()
        return change { state in
            guard state.table.receive(touch, exit: exit, at: now) else { return false }
            save()
            if let exit, let id = touch.runtime {
                state.appendExit(of: id, exit, origin: touch.stamp.origin)
            } else {
                state.append(LivenessEvent(touch, runtime: touch.runtime, origin: touch.stamp.origin))
            }
            state.appendContests()
            return true
        }
    }

    /// Drops a record that another origin forgot; false if it was touched later.
    ///
    /// - Parameter save: See `apply`.
    public func receiveForget(
        _ subject: RecordSubject, stamp: HLCTimestamp, saving save: () -> Void = {}
    ) -> Bool {
        let now = now()
        let wall = wallTime()
        return change { state in
            let isKnown = state.table.record(of: subject) != nil
            guard state.table.receiveForget(subject, stamp: stamp, at: now) else { return false }
            save()
            if isKnown { state.appendForgotten(subject, at: wall, origin: stamp.origin) }
            return true
        }
    }

    /// The subjects that an origin was the last to touch or forget.
    package func subjects(of origin: Origin) -> [RecordSubject] {
        var subjects: [RecordSubject] = []
        inSlices(of: \.runtimes) { if $1.record.stamp.origin == origin { subjects.append(.runtime($0)) } }
        inSlices(of: \.signals) { if $1.stamp.origin == origin { subjects.append(.signal($0)) } }
        inSlices(of: \.tombstones) { if $1.stamp.origin == origin { subjects.append($0) } }
        return subjects
    }

    /// What an origin has to send about some subjects; nothing about those that another origin changed last.
    package func messages(about subjects: some Sequence<RecordSubject>, by origin: Origin) -> [MirrorQueue.Message] {
        withState { state in subjects.compactMap { state.table.message(about: $0, by: origin) } }
    }

    package func moveStamps(of origin: Origin, by change: Duration) {
        save { $0.table.moveStamps(of: origin, by: change) }
    }

    // MARK: Events

    public var tally: LivenessTally { withState { $0.tally } }

    /// The number of the last event; 0 before the first.
    public var lastEvent: UInt64 { withState { $0.events.last } }

    /// Whether one of the last events is the touch of a signal file by a request; not 0.
    public func hasTouch(of signal: [UInt8], by request: UInt64) -> Bool {
        withState { $0.events.hasTouch(of: signal, by: request) }
    }

    /// Up to `limit` events from a number on.
    public func events(from number: UInt64, limit: Int) -> EventLog.Excerpt {
        withState { $0.events.excerpt(from: number, limit: limit) }
    }

    /// Appends an event for each runtime that has expired.
    ///
    /// - Parameters:
    ///   - limit: Maximum number of deadlines inspected. The lock is released after every few.
    ///   - isRunning: Whether the process runs that a runtime is held by. Called without the lock.
    /// - Returns: The next deadline, which may have passed; nil if the watcher need not call until it is notified.
    public func expire(
        limit: Int, isRunning: (RuntimeID) -> Bool = { _ in false }
    ) -> ContinuousClock.Instant? {
        guard watcher != nil else { return nil }
        let now = now()
        let wall = wallTime()
        var rest = limit
        var isNews = false
        var next: ContinuousClock.Instant?
        var held: [RuntimeID] = []
        repeat {
            let slice = min(rest, Self.expirySliceSize)
            rest -= slice
            save { state in
                for expired in state.table.removeExpirations(at: now, limit: slice) {
                    state.tally.expired += 1
                    state.tally.expiryLag = now - expired.deadline
                    state.persistence?.save(state.tally)
                    state.append(LivenessEvent(.expired, .runtime(expired.id), at: wall))
                    isNews = true
                }
                held = state.table.takeHeldBeyondDeadline()
                state.awaitedDeadline = state.table.nextExpiration
                next = state.awaitedDeadline
            }
            if !held.isEmpty {
                let running = held.map(isRunning)
                save { state in
                    for (id, isRunning) in zip(held, running) {
                        guard state.table.renewHold(of: id, isRunning: isRunning, at: now.offset) else { continue }
                        state.tally.expired += 1
                        state.persistence?.save(state.tally)
                        state.append(LivenessEvent(.expired, .runtime(id), at: wall))
                        isNews = true
                    }
                    state.awaitedDeadline = state.table.nextExpiration
                    next = state.awaitedDeadline
                }
            }
        } while rest > 0 && next.map { $0 <= now } ?? false
        if isNews { watcher?.eventsChanged() }
        return next
    }

    /// Appends an event about the mirror's connection.
    ///
    /// - Parameter reason: Why it is down.
    public func mirrorChanged(isUp: Bool, reason: String?) {
        let event = LivenessEvent(isUp ? .mirrorUp : .mirrorDown, at: wallTime(), reason: reason)
        change { state in
            state.append(event)
            return true
        }
    }
}

/// Is notified of changes of an `InMemoryLivenessStore`.
///
/// Called by the thread that made the change, without the store's lock. Must not block.
public protocol LivenessWatcher: Sendable {
    /// An event was appended.
    func eventsChanged()

    /// A runtime will expire before the deadline that the last `expire` returned.
    func deadlineMovedEarlier()
}

/// Counters of an `InMemoryLivenessStore` since it was made.
public struct LivenessTally: Hashable, Sendable {
    /// Runtimes that expired.
    public var expired: UInt64 = 0
    public var forgotten: UInt64 = 0
    /// Time between the deadline of the last runtime that expired and its event; nil before the first.
    public var expiryLag: Duration?

    package init() {}
}

import Synchronization

/// The liveness table behind a lock, with clocks: what the file system and everybody who asks it share.
///
/// Every change that is made here is passed on to the mirror, if there is one, when the lock is gone.
public final class InMemoryLivenessStore: LivenessStore {
    private let table: Mutex<LivenessTable>
    private let mirror: (any LivenessMirror)?
    private let now: @Sendable () -> ContinuousClock.Instant
    private let wallTime: @Sendable () -> WallTime

    /// The clocks are read outside the lock, by any thread.
    public init(
        table: LivenessTable = LivenessTable(), mirror: (any LivenessMirror)? = nil,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now },
        wallTime: @escaping @Sendable () -> WallTime
    ) {
        self.table = Mutex(table)
        self.mirror = mirror
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
        return table.withLock { $0.areAlive(ids, at: now) }
    }

    public func forget(_ id: RuntimeID) {
        forget(.runtime(id))
    }

    // MARK: The table's own

    public func touch(_ touch: Touch) {
        tell(note(touch))
    }

    /// Touches without telling the mirror: for whoever holds a lock, and tells it when that is gone.
    public func note(_ touch: Touch) -> Noted {
        guard let mirror else {
            table.withLock { _ = $0.touch(touch) }
            return Noted()
        }
        var touch = touch
        touch.stamp = mirror.stamp(touch.receivedAt)
        let touched = table.withLock { $0.touch(touch) }
        var noted = Noted()
        if let path = touch.signal, let record = touched.signal {
            noted.records.append((.signal(SignalPath(bytes: path)), record))
        }
        if let id = touch.runtime, let record = touched.runtime { noted.records.append((.runtime(id), record)) }
        return noted
    }

    /// Tells the mirror of what was noted.
    public func tell(_ noted: Noted) {
        for (subject, record) in noted.records { mirror?.note(record, of: subject) }
    }

    /// What the mirror has not been told of yet.
    public struct Noted: Sendable {
        fileprivate var records: [(RecordSubject, Record)] = []
    }

    public func forget(signal path: [UInt8]) {
        forget(.signal(SignalPath(bytes: path)))
    }

    private func forget(_ subject: RecordSubject) {
        let now = now()
        let wall = wallTime()
        let stamp = mirror?.stamp(wall) ?? Stamp(wall)
        let forgotten = table.withLock { $0.forget(subject, stamp: stamp, at: now) }
        mirror?.noteForgotten(subject, stamp: forgotten)
    }

    /// Notes that the process which a runtime is has ended.
    ///
    /// - Returns: Whether that is news.
    @discardableResult
    public func exit(_ id: RuntimeID, _ exit: Record.Exit) -> Bool {
        let stamp = mirror?.stamp(exit.noticedAt) ?? Stamp(exit.noticedAt)
        guard let record = table.withLock({ $0.exit(id, exit, stamp: stamp) }) else { return false }
        mirror?.note(record, of: .runtime(id))
        return true
    }

    public func record(of id: RuntimeID) -> Record? {
        table.withLock { $0.record(of: id) }
    }

    public func record(ofSignal path: [UInt8]) -> Record? {
        table.withLock { $0.record(ofSignal: path) }
    }

    /// The runtimes whose ids begin with a prefix, found by looking at every one; in no order.
    public func runtimes(beneath prefix: String) -> [RuntimeID] {
        table.withLock { $0.runtimes(beneath: prefix) }
    }

    public func hasRuntimes(beneath prefix: String) -> Bool {
        table.withLock { $0.hasRuntimes(beneath: prefix) }
    }

    public func counts() -> LivenessTable.Counts {
        let now = now()
        return table.withLock { $0.counts(at: now) }
    }

    // MARK: Of others, and for them

    /// Takes in what somebody else has touched; false when something later is known.
    ///
    /// - Parameter exit: Of a runtime whose process has ended since.
    public func receive(_ touch: Touch, exit: Record.Exit? = nil) -> Bool {
        table.withLock { $0.receive(touch, exit: exit) }
    }

    /// Drops what somebody else has forgotten; false when it was touched later.
    public func receiveForget(_ subject: RecordSubject, stamp: Stamp) -> Bool {
        let now = now()
        return table.withLock { $0.receiveForget(subject, stamp: stamp, at: now) }
    }

    /// Drops a signal file's record without telling anybody.
    public func drop(signal path: [UInt8]) {
        table.withLock { $0.drop(signal: path) }
    }

    /// What an origin has touched or forgotten last, in no order.
    package func subjects(of origin: Origin) -> [RecordSubject] {
        table.withLock { $0.subjects(of: origin) }
    }

    /// What an origin has to tell of some subjects as of now.
    package func news(of subjects: some Sequence<RecordSubject>, by origin: Origin) -> [MirrorQueue.Message] {
        table.withLock { table in subjects.compactMap { table.news(of: $0, by: origin) } }
    }

    /// What has become of messages that have waited.
    package func news(after messages: [MirrorQueue.Message]) -> [MirrorQueue.Message] {
        table.withLock { table in messages.compactMap { table.news(after: $0) } }
    }

    package func moveStamps(of origin: Origin, by change: Duration) {
        table.withLock { $0.moveStamps(of: origin, by: change) }
    }
}

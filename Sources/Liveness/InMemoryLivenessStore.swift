import Synchronization

/// The liveness table behind a lock, with clocks: what the file system and everybody who asks it share.
public final class InMemoryLivenessStore: LivenessStore {
    private let table: Mutex<LivenessTable>
    private let now: @Sendable () -> ContinuousClock.Instant
    private let wallTime: @Sendable () -> WallTime

    /// The clocks are read outside the lock, by any thread.
    public init(
        table: LivenessTable = LivenessTable(),
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now },
        wallTime: @escaping @Sendable () -> WallTime
    ) {
        self.table = Mutex(table)
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
        table.withLock { $0.forget(id) }
    }

    // MARK: The table's own

    public func touch(_ touch: Touch) {
        table.withLock { $0.touch(touch) }
    }

    public func forget(signal path: [UInt8]) {
        table.withLock { $0.forget(signal: path) }
    }

    public func record(of id: RuntimeID) -> Record? {
        table.withLock { $0.record(of: id) }
    }

    public func record(ofSignal path: [UInt8]) -> Record? {
        table.withLock { $0.record(ofSignal: path) }
    }

    public func counts() -> LivenessTable.Counts {
        let now = now()
        return table.withLock { $0.counts(at: now) }
    }
}

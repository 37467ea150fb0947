import HeapModule

/// The last touch of every runtime and of every signal file.
///
///     Touch ─┬─ signal  ──▶ record of the file      (read back by tools)
///            └─ runtime ──▶ record of the runtime   (counted, listed, mirrored)
///
/// A value without a clock: every query takes the instant. Records expire by comparison with their deadline; an expired
/// record keeps its document, because tools treat a missing file differently from an old one. Its memory is freed a day
/// later, a few records with each new one.
///
/// Sized for 10,000 runtimes. Every operation but `moveStamps` takes microseconds there.
public struct LivenessTable: Sendable {
    public static let defaultRetention: Duration = .seconds(24 * 60 * 60)
    private static let expectedRuntimes = 10_000
    /// Maximum number of tombstones, twice that with those made here.
    ///
    /// Without a tombstone, another origin may bring a forgotten record back.
    private static let tombstoneLimit = 65_536
    /// Tables with fewer records are not swept.
    private static let smallestSweep = 1024

    struct Runtime: Sendable {
        var record: Record
        /// The deadline of its valid entry in `expirations`, as an offset.
        var scheduled: Duration?
    }

    package struct Tombstone: Sendable {
        package internal(set) var stamp: HLCTimestamp
        /// As an offset.
        package let deadline: Duration

        package init(stamp: HLCTimestamp, deadline: Duration) {
            self.stamp = stamp
            self.deadline = deadline
        }
    }

    /// A runtime and a deadline it once had; rescheduled when it comes up, not at each touch.
    struct Expiration: Comparable, Sendable {
        let offset: Duration
        let id: RuntimeID

        var deadline: ContinuousClock.Instant { ContinuousClock.Instant(offset: offset) }

        static func < (first: Self, second: Self) -> Bool {
            first.offset == second.offset ? first.id < second.id : first.offset < second.offset
        }
    }

    private(set) var runtimes = SortedDictionary<RuntimeID, Runtime>(minimumCapacity: expectedRuntimes)
    private(set) var signals = SortedDictionary<SignalPath, Record>()
    /// Forgotten subjects, so that neither late news of other origins nor a file from before brings them back.
    ///
    /// Signal files are among them if `isShared`.
    private(set) var tombstones = SortedDictionary<RecordSubject, Tombstone>()
    private(set) var expirations = Heap<Expiration>()
    private let retention: Duration
    private let isShared: Bool
    /// Is told of each change of a record or a tombstone.
    var persistence: (any LivenessPersistence)?
    /// Where the next incremental sweep continues.
    private var sweepPosition = (runtimes: 0, signals: 0, tombstones: 0)

    /// - Parameter isShared: Whether records also come from other origins, through `receive`.
    public init(retention: Duration = defaultRetention, isShared: Bool = false) {
        self.retention = retention
        self.isShared = isShared
    }

    // MARK: Touches

    /// Refreshes the records of the touched signal file and of the runtime, if one is named.
    ///
    /// The touch's stamp moves past the records' last stamps if need be, except that a runtime's record keeps a touch
    /// that was made later.
    ///
    /// - Returns: Whether it is a sign of life of a runtime that has not exited since.
    @discardableResult
    public mutating func touch(_ touch: Touch) -> Bool {
        var touch = touch
        let path = touch.signal.map { SignalPath(bytes: $0) }
        let signal = path.flatMap { signals.index(of: $0) }
        let runtime = touch.runtime.flatMap { runtimes.index(of: $0) }
        if let signal {
            touch.stamp = touch.stamp.later(than: signals.read(signal) { $0.stamp })
        } else if isShared, let path, let tombstone = tombstones[.signal(path)] {
            touch.stamp = touch.stamp.later(than: tombstone.stamp)
        }
        if let runtime {
            let at = touch.offset
            let last = runtimes.read(runtime) { $0.record.touch.offset <= at ? $0.record.stamp : nil }
            if let last { touch.stamp = touch.stamp.later(than: last) }
        } else if isShared, let id = touch.runtime, let tombstone = tombstones[.runtime(id)] {
            touch.stamp = touch.stamp.later(than: tombstone.stamp)
        }
        if let path { merge(touch, path, at: signal) }
        let isAlive = touch.runtime.map { merge(touch, $0, at: runtime, now: touch.receiptOffset) } ?? false
        if (path != nil && signal == nil) || (touch.runtime != nil && runtime == nil) {
            sweepSome(at: touch.receiptOffset)
        }
        return isAlive
    }

    /// Merges a touch made by another origin, unless its record has a later stamp.
    ///
    /// - Parameters:
    ///   - touch: Of a runtime or of a signal file, not of both.
    ///   - exit: The exit of the runtime since then, if it has exited.
    /// - Returns: Whether it is the record's last touch now.
    public mutating func receive(
        _ touch: Touch, exit: Record.Exit? = nil, at now: ContinuousClock.Instant
    ) -> Bool {
        guard let subject = touch.subject, isNewer(touch.stamp, than: subject) else { return false }
        let isNew = record(of: subject) == nil
        switch subject {
        case .signal(let path): merge(touch, path, at: signals.index(of: path))
        case .runtime(let id):
            merge(touch, id, at: runtimes.index(of: id), now: now.offset)
            if let exit, let index = runtimes.index(of: id) {
                runtimes[index].record.end(by: exit, stamp: touch.stamp)
                save(id, at: index)
            }
        }
        if isNew { sweepSome(at: now.offset) }
        return true
    }

    private mutating func merge(_ touch: Touch, _ path: SignalPath, at index: Int?) {
        // The file is touched, also if another runtime's process wrote it.
        var touch = touch
        touch.writer = nil
        touch.isHeld = false
        if let index {
            signals[index].merge(touch)
        } else {
            signals.updateValue(Record(touch), forKey: path)
            removeTombstone(of: .signal(path))
        }
        save(path, at: index ?? signals.count - 1)
    }

    /// - Parameter now: For the expiry: a touch that is expired already is never reported as expiring.
    /// - Returns: Whether the runtime gave a sign of life and has not exited.
    @discardableResult
    private mutating func merge(_ touch: Touch, _ id: RuntimeID, at index: Int?, now: Duration) -> Bool {
        let deadline: Duration?
        if let index {
            let former = runtimes[index].record.rival
            runtimes[index].record.merge(touch)
            runtimes[index].record.note(touch)
            if let rival = runtimes[index].record.rival, rival != former,
                former.map({ isNews(rival, after: $0) }) ?? true
            {
                contested.append(id)
            }
            deadline = runtimes[index].schedule(at: now)
        } else {
            var new = Runtime(record: Record(touch))
            new.record.note(touch)
            deadline = new.schedule(at: now)
            runtimes.updateValue(new, forKey: id)
            removeTombstone(of: .runtime(id))
        }
        save(id, at: index ?? runtimes.count - 1)
        if let deadline { addExpiration(Expiration(offset: deadline, id: id)) }
        return touch.writer == nil && index.map { runtimes.read($0) { $0.record.exit == nil } } ?? true
    }

    // MARK: Ends

    /// Ends a runtime whose root process has exited.
    ///
    /// Does nothing if the runtime was touched later, or last by another origin: then it lives elsewhere.
    ///
    /// - Returns: The record, if that changed it.
    public mutating func exit(_ id: RuntimeID, _ exit: Record.Exit, stamp: HLCTimestamp) -> Record? {
        guard let index = runtimes.index(of: id) else { return nil }
        let record = runtimes[index].record
        guard record.touch.receiptOffset <= exit.offset, record.exit == nil,
            record.stamp.origin == nil || record.stamp.origin == stamp.origin
        else { return nil }
        runtimes[index].record.end(by: exit, stamp: stamp.later(than: record.stamp))
        save(id, at: index)
        return runtimes[index].record
    }

    /// Drops a record and leaves a tombstone.
    ///
    /// A runtime's signal files stay, and a file's runtime stays.
    ///
    /// - Returns: The stamp, moved past the record's last.
    @discardableResult
    public mutating func forget(
        _ subject: RecordSubject, stamp: HLCTimestamp, at now: ContinuousClock.Instant
    ) -> HLCTimestamp {
        let stamp = lastStamp(of: subject).map { stamp.later(than: $0) } ?? stamp
        remove(subject, stamp: stamp, at: now, tombstoneLimit: 2 * Self.tombstoneLimit)
        return stamp
    }

    /// Drops a record that another origin forgot, unless it has a later stamp.
    ///
    /// - Returns: Whether it was dropped.
    public mutating func receiveForget(
        _ subject: RecordSubject, stamp: HLCTimestamp, at now: ContinuousClock.Instant
    ) -> Bool {
        guard isNewer(stamp, than: subject) else { return false }
        remove(subject, stamp: stamp, at: now, tombstoneLimit: Self.tombstoneLimit)
        return true
    }

    private mutating func remove(
        _ subject: RecordSubject, stamp: HLCTimestamp, at now: ContinuousClock.Instant, tombstoneLimit: Int
    ) {
        switch subject {
        case .runtime(let id): runtimes.removeValue(forKey: id)
        case .signal(let path): signals.removeValue(forKey: path)
        }
        persistence?.removeRecord(of: subject)
        if !isShared, case .signal = subject { return }
        guard tombstones.count < tombstoneLimit || tombstones[subject] != nil else { return }
        let tombstone = Tombstone(stamp: stamp, deadline: (now + retention).offset)
        tombstones.updateValue(tombstone, forKey: subject)
        persistence?.save(tombstone, of: subject)
    }

    private mutating func removeTombstone(of subject: RecordSubject) {
        guard tombstones.index(of: subject) != nil else { return }
        tombstones.removeValue(forKey: subject)
        persistence?.removeTombstone(of: subject)
    }

    /// Drops a signal file's record without a tombstone: the file was renamed or replaced, not forgotten.
    public mutating func drop(signal path: [UInt8]) {
        let path = SignalPath(bytes: path)
        signals.removeValue(forKey: path)
        persistence?.removeRecord(of: .signal(path))
    }

    // MARK: Stamps

    /// Shifts all stamps of an origin whose clock turned out to be another.
    mutating func moveStamps(of origin: Origin, by change: Duration) {
        for index in runtimes.entries.indices {
            runtimes[index].record.shiftStamp(of: origin, by: change)
            save(runtimes.entries[index].key, at: index)
        }
        for index in signals.entries.indices {
            signals[index].shiftStamp(of: origin, by: change)
            save(signals.entries[index].key, at: index)
        }
        for index in tombstones.entries.indices where tombstones[index].stamp.origin == origin {
            tombstones[index].stamp.time = tombstones[index].stamp.time + change
            persistence?.save(tombstones[index], of: tombstones.entries[index].key)
        }
    }

    private func isNewer(_ stamp: HLCTimestamp, than subject: RecordSubject) -> Bool {
        lastStamp(of: subject).map { $0 < stamp } ?? true
    }

    private func lastStamp(of subject: RecordSubject) -> HLCTimestamp? {
        record(of: subject)?.stamp ?? tombstones[subject]?.stamp
    }

    // MARK: Expiry

    /// The next deadline to look at; a little too early now and then.
    var nextExpiration: ContinuousClock.Instant? { expirations.min?.deadline }

    private mutating func addExpiration(_ expiration: Expiration) {
        expirations.insert(expiration)
        // Entries of forgotten runtimes stay until their deadline, which may be years away.
        guard expirations.count > 2 * runtimes.count + Self.smallestSweep else { return }
        expirations = Heap(
            runtimes.entries.compactMap { entry in
                entry.value.scheduled.map { Expiration(offset: $0, id: entry.key) }
            })
    }

    /// Removes runtimes from the schedule that have expired, in the order of their deadlines.
    ///
    /// Each life of a runtime is reported once.
    ///
    /// - Parameter limit: Maximum number of entries inspected. `nextExpiration` tells whether more are due.
    mutating func removeExpirations(at now: ContinuousClock.Instant, limit: Int) -> [Expiration] {
        var expired: [Expiration] = []
        let now = now.offset
        for _ in 0..<limit {
            guard let next = expirations.min, next.offset <= now else { break }
            expirations.removeMin()
            guard let index = runtimes.index(of: next.id), runtimes.read(index, { $0.scheduled == next.offset }) else {
                continue
            }
            runtimes[index].scheduled = nil
            if runtimes.read(index, { $0.record.isHeld && $0.record.deadlineOffset <= now && $0.record.exit == nil }) {
                heldBeyondDeadline.append(next.id)
                continue
            }
            if let later = runtimes[index].schedule(at: now) {
                expirations.insert(Expiration(offset: later, id: next.id))
            } else if let deadline = runtimes.read(
                index,
                { entry in
                    entry.record.state(at: now) == .expired ? entry.record.deadlineOffset : nil
                })
            {
                expired.append(Expiration(offset: deadline, id: next.id))
                save(next.id, at: index)
            }
        }
        return expired
    }

    /// Runtimes that are held by their process and whose deadline has passed; they stay alive until that is looked at.
    private(set) var heldBeyondDeadline: [RuntimeID] = []

    mutating func takeHeldBeyondDeadline() -> [RuntimeID] {
        defer { heldBeyondDeadline = [] }
        return heldBeyondDeadline
    }

    /// Extends a held runtime's deadline by its ttl if its process runs; if not, looks again after a ttl.
    ///
    /// - Returns: Whether the runtime has expired by that.
    mutating func renewHold(of id: RuntimeID, isRunning: Bool, at now: Duration) -> Bool {
        guard let index = runtimes.index(of: id) else { return false }
        let record = runtimes[index].record
        // It may have been touched, or have exited, meanwhile.
        guard record.isHeld, record.exit == nil, record.deadlineOffset <= now else { return false }
        let next = now + record.touch.ttl
        if isRunning { runtimes[index].record.extendDeadline(to: next) }
        runtimes[index].record.isSuspended = !isRunning
        runtimes[index].scheduled = next
        addExpiration(Expiration(offset: next, id: id))
        save(id, at: index)
        return !isRunning && !record.isSuspended
    }

    /// Runtimes whose record has a new rival since the last `takeContested`.
    private(set) var contested: [RuntimeID] = []

    mutating func takeContested() -> [RuntimeID] {
        defer { contested = [] }
        return contested
    }

    /// Notes another agent with the same id.
    mutating func setRival(_ rival: Record.Rival, of id: RuntimeID) {
        guard let index = runtimes.index(of: id) else { return }
        let former = runtimes[index].record.rival
        runtimes[index].record.rival = rival
        if former.map({ isNews(rival, after: $0) }) ?? true { contested.append(id) }
        save(id, at: index)
    }

    /// Whether a contest is to be reported: the first for an hour.
    private func isNews(_ rival: Record.Rival, after former: Record.Rival) -> Bool {
        rival.moment.offset - former.moment.offset > .seconds(3600)
    }

    /// Gives all records that were alive at `start` a full ttl from `now` on, if one of them is a runtime's.
    ///
    /// Looks at every record.
    ///
    /// - Returns: The runtimes.
    mutating func extendDeadlines(aliveAt start: Duration, from now: Duration) -> [RuntimeID] {
        var extended: [RuntimeID] = []
        for index in runtimes.entries.indices where runtimes.read(index, { $0.record.isAlive(at: start) }) {
            runtimes[index].record.extendDeadline(to: now + runtimes[index].record.touch.ttl)
            extended.append(runtimes.entries[index].key)
            save(runtimes.entries[index].key, at: index)
        }
        // Nobody calls in time if only files are alive.
        guard !extended.isEmpty else { return [] }
        for index in signals.entries.indices where signals.read(index, { $0.isAlive(at: start) }) {
            signals[index].extendDeadline(to: now + signals[index].touch.ttl)
            save(signals.entries[index].key, at: index)
        }
        return extended
    }

    // MARK: Sweeping

    /// Drops all records that have been expired for the retention period.
    mutating func sweep(at now: ContinuousClock.Instant) {
        sweepPosition = (0, 0, 0)
        sweep(at: now.offset, limit: .max)
    }

    /// Called with each new record, so that no touch waits long and no timer is needed.
    private mutating func sweepSome(at now: Duration) {
        if runtimes.count + signals.count + tombstones.count > Self.smallestSweep { sweep(at: now, limit: 4) }
    }

    private mutating func sweep(at now: Duration, limit: Int) {
        let oldest = now - retention
        let persistence = persistence
        sweepPosition.runtimes = runtimes.removeValues(from: sweepPosition.runtimes, limit: limit) {
            $0.record.isObsolete(since: oldest)
        } onRemoval: {
            persistence?.removeRecord(of: .runtime($0))
        }
        sweepPosition.signals = signals.removeValues(from: sweepPosition.signals, limit: limit) {
            $0.isObsolete(since: oldest)
        } onRemoval: {
            persistence?.removeRecord(of: .signal($0))
        }
        sweepPosition.tombstones = tombstones.removeValues(from: sweepPosition.tombstones, limit: limit) {
            $0.deadline <= now
        } onRemoval: {
            persistence?.removeTombstone(of: $0)
        }
    }

    // MARK: Persistence

    /// - Parameter index: Of the runtime's entry.
    private func save(_ id: RuntimeID, at index: Int) {
        guard let persistence else { return }
        runtimes.read(index) {
            persistence.save($0.record, of: .runtime(id), isExpiryPending: $0.scheduled != nil)
        }
    }

    /// - Parameter index: Of the file's entry.
    private func save(_ path: SignalPath, at index: Int) {
        guard let persistence else { return }
        signals.read(index) { persistence.save($0, of: .signal(path), isExpiryPending: false) }
    }

    mutating func restore(_ record: Record, of subject: RecordSubject, isExpiryPending: Bool) {
        switch subject {
        case .signal(let path): signals.updateValue(record, forKey: path)
        case .runtime(let id):
            let deadline = record.deadlineOffset
            runtimes.updateValue(Runtime(record: record, scheduled: isExpiryPending ? deadline : nil), forKey: id)
            // Also if it has passed meanwhile: the expiry is still to be reported.
            if isExpiryPending { addExpiration(Expiration(offset: deadline, id: id)) }
        }
    }

    mutating func restore(_ tombstone: Tombstone, of subject: RecordSubject) {
        tombstones.updateValue(tombstone, forKey: subject)
    }
}

extension LivenessTable.Runtime {
    /// The deadline to schedule the runtime for, unless an earlier one is scheduled already.
    fileprivate mutating func schedule(at now: Duration) -> Duration? {
        guard record.isAlive(at: now) else { return nil }
        let deadline = record.deadlineOffset
        if let scheduled, scheduled <= deadline { return nil }
        scheduled = deadline
        return deadline
    }
}

/// Who is alive, and what each signal file holds: the last touch of every runtime and of every signal file.
///
///     Touch ─┬─ signal  ──▶ record of the file      (what a tool reads back)
///            └─ runtime ──▶ record of who is alive  (what is counted, listed, mirrored)
///
/// A value without a clock: every question says `at:` which instant it is meant. Nothing happens when a deadline
/// passes; expiry is found by asking, and an expired record keeps its document, since tools take a file that vanishes
/// for something else than an old one. Only long after that is its memory freed, as part of some later touch.
public struct LivenessTable: Sendable {
    /// More things that were forgotten are not remembered: they may be brought back by others.
    private static let mostForgotten = 65_536
    /// How long expired records are kept: a day, in which somebody may still ask who was here.
    public static let defaultRetention: Duration = .seconds(24 * 60 * 60)
    /// Fewer records than this are not worth looking for old ones.
    private static let smallestSweep = 1024

    /// A record, and what is looked at so often that it lies beside it.
    private struct Place: Sendable {
        private(set) var record: Record
        /// The record's: until when it is alive.
        var life: CompactInstant
        /// Where it is listed, of a runtime.
        var entry = RuntimeDirectories.Entry()

        init(_ record: Record) {
            self.record = record
            life = record.life
        }

        mutating func put(_ record: Record) {
            self.record = record
            life = record.life
        }

        /// Whether the touch comes clearly later than all that the record knows of, and nobody else holds that.
        mutating func canRenew(by touch: borrowing Touch, stamp: borrowing HLCTimestamp) -> Bool {
            guard isKnownUniquelyReferenced(&record) else { return false }
            return record.isFollowed(by: stamp, at: CompactInstant(touch.at))
        }

        mutating func renew(by touch: borrowing Touch, stamp: borrowing HLCTimestamp) -> Bool {
            guard canRenew(by: touch, stamp: stamp) else { return false }
            record.renew(by: touch, stamp: stamp)
            life = record.compactDeadline
            return true
        }

        func state(at now: CompactInstant) -> Record.State {
            if life == .past { return .exited }
            return now < life ? .alive : .expired
        }
    }

    private var runtimes = SlotMap<RuntimeID, Place>()
    private var signals = SlotMap<SignalPath, Place>()
    private var directories = RuntimeDirectories()
    /// What was forgotten and when, lest others bring it back; only where there are others.
    private var forgotten = SlotMap<RecordSubject, Tombstone>()
    private let retention: Duration
    private let isShared: Bool
    /// Where to look next for what is of no use any more.
    private var swept = (runtimes: 0, signals: 0, forgotten: 0)

    private struct Tombstone {
        let stamp: HLCTimestamp
        /// Until when somebody may still bring what was known before.
        let deadline: CompactInstant
    }

    /// - Parameter isShared: Whether records also come from others, by `receive`.
    public init(retention: Duration = defaultRetention, isShared: Bool = false) {
        self.retention = retention
        self.isShared = isShared
    }

    // MARK: Changes

    /// Refreshes the record of the touched signal file, and of the runtime if one is named.
    ///
    /// A life that an earlier touch promised is never shortened. Of two touches of a runtime the later by its own clock
    /// reading is kept, in whichever order they come; of two of a signal file the one that comes later.
    ///
    /// - Returns: The records as they are now.
    @discardableResult
    public mutating func touch(_ touch: Touch) -> Touched { self.touch(touch, stamp: touch.stamp) }

    /// The same, with another stamp than the touch's own.
    mutating func touch(_ touch: Touch, stamp: HLCTimestamp) -> Touched {
        if let renewed = renew(touch, stamp: stamp) {
            return Touched(
                signal: renewed.signal.map { signals[slot: $0].record },
                runtime: renewed.runtime.map { runtimes[slot: $0].record }, slot: renewed.runtime)
        }
        let signal = touch.signal.map { SignalPath(bytes: $0) }
        let known = (
            signal: signal.flatMap { signals.slot(of: $0) }, runtime: touch.runtime.flatMap { runtimes.slot(of: $0) }
        )
        var last = known.signal.map { signals[slot: $0].record.stamp }
        if let slot = known.runtime {
            let record = runtimes[slot: slot].record
            if !record.isTouched(after: touch.at) { last = max(last ?? record.stamp, record.stamp) }
        }
        if isShared {
            let subjects = [
                known.signal == nil ? signal.map { RecordSubject.signal($0) } : nil,
                known.runtime == nil ? touch.runtime.map { RecordSubject.runtime($0) } : nil,
            ]
            for case let subject? in subjects {
                if let stamp = forgotten[subject]?.stamp { last = max(last ?? stamp, stamp) }
            }
        }
        return keep(touch, stamp: last.map { stamp.later(than: $0) } ?? stamp, known)
    }

    /// The records that a touch has led to.
    public struct Touched: Sendable {
        public var signal: Record?
        public var runtime: Record?
        /// Of the runtime, while its record is there.
        var slot: Int?
    }

    /// Where the records are that a touch has renewed.
    struct Renewed {
        let signal: Int?
        let runtime: Int?
        /// Until when they are alive; no earlier than before.
        let life: CompactInstant
    }

    /// The same for nearly all touches: those that come in order, of what is known, when nobody outside holds its record.
    ///
    /// - Returns: Nil, and nothing is changed, where it is not so simple.
    mutating func renew(_ touch: borrowing Touch, stamp: borrowing HLCTimestamp) -> Renewed? {
        guard let id = touch.runtime else { return renewSignal(by: touch, stamp: stamp) }
        let hash = id.hashValue
        var signal: Int?
        let runtime: Int
        if let path = touch.signal {
            let pathHash = SeededHash.hash(path)
            let likely = (signals.likelySlot(ofHash: pathHash), runtimes.likelySlot(ofHash: hash))
            guard let known = signals.slot(of: SignalPath(bytes: path), hash: pathHash, likely: likely.0),
                let slot = runtimes.slot(of: id, hash: hash, likely: likely.1),
                renew(signal: known, runtime: slot, by: touch, stamp: stamp)
            else { return nil }
            (signal, runtime) = (known, slot)
        } else {
            guard let slot = runtimes.slot(of: id, hash: hash), runtimes[slot: slot].renew(by: touch, stamp: stamp)
            else { return nil }
            runtime = slot
        }
        let life = runtimes[slot: runtime].life
        directories.noteLife(of: runtime, runtimes[slot: runtime].entry, until: life)
        return Renewed(signal: signal, runtime: runtime, life: life)
    }

    private mutating func renewSignal(by touch: borrowing Touch, stamp: borrowing HLCTimestamp) -> Renewed? {
        guard let path = touch.signal, let signal = signals.slot(of: SignalPath(bytes: path)),
            signals[slot: signal].renew(by: touch, stamp: stamp)
        else { return nil }
        return Renewed(signal: signal, runtime: nil, life: signals[slot: signal].life)
    }

    /// Renews two records, or the one that serves both.
    private mutating func renew(
        signal: Int, runtime: Int, by touch: borrowing Touch, stamp: borrowing HLCTimestamp
    ) -> Bool {
        guard signals[slot: signal].record === runtimes[slot: runtime].record else {
            guard signals[slot: signal].canRenew(by: touch, stamp: stamp),
                runtimes[slot: runtime].renew(by: touch, stamp: stamp)
            else { return false }
            _ = signals[slot: signal].renew(by: touch, stamp: stamp)
            // Each may have been touched without the other, or with others.
            if let path = signals.key(at: signal)?.bytes, let id = runtimes.key(at: runtime) {
                signals[slot: signal].record.setSubject(signal: path, runtime: id)
                runtimes[slot: runtime].record.setSubject(signal: path, runtime: id)
            }
            return true
        }
        // The table itself holds it twice: one of the two is put away for the time being, lest it count as somebody's.
        let record = Unmanaged.passUnretained(signals[slot: signal].record)
        record.release()
        defer { _ = record.retain() }
        guard runtimes[slot: runtime].renew(by: touch, stamp: stamp) else { return false }
        signals[slot: signal].life = runtimes[slot: runtime].life
        return true
    }

    /// Takes in what somebody else has touched, unless something later is known.
    ///
    /// - Parameters:
    ///   - touch: Of a runtime or of a signal file, not of both.
    ///   - exit: Of a runtime whose process has ended since.
    /// - Returns: Whether it is the last touch now.
    public mutating func receive(_ touch: Touch, exit: Record.Exit? = nil) -> Bool {
        received(touch, exit: exit) != nil
    }

    /// The same; nil when something later is known.
    mutating func received(_ touch: Touch, exit: Record.Exit? = nil) -> Touched? {
        guard let subject = touch.subject, isNews(touch.stamp, of: subject) else { return nil }
        let known = (
            signal: touch.signal.flatMap { signals.slot(of: SignalPath(bytes: $0)) },
            runtime: touch.runtime.flatMap { runtimes.slot(of: $0) }
        )
        var kept = keep(touch, stamp: touch.stamp, known)
        if let exit, let slot = kept.slot, let record = kept.runtime {
            let ended = record.ended(by: exit, stamp: touch.stamp)
            setRuntime(slot, ended)
            kept.runtime = ended
        }
        return kept
    }

    /// - Parameter known: Where the records are that there are.
    private mutating func keep(_ touch: Touch, stamp: HLCTimestamp, _ known: (signal: Int?, runtime: Int?)) -> Touched {
        // The string that is there already, lest each of a million records hold its id twice.
        let runtime = known.runtime.flatMap { runtimes.key(at: $0) } ?? touch.runtime
        let former = (
            signal: known.signal.map { signals[slot: $0].record },
            runtime: known.runtime.map { runtimes[slot: $0].record }
        )
        var kept = Touched()
        if touch.runtime != nil {
            kept.runtime = Self.next(after: former.runtime, touch, runtime, stamp)
        }
        if touch.signal != nil {
            // Usually one record serves both.
            let isOne =
                former.signal === former.runtime
                || former.signal.map { kept.runtime?.serves(also: $0, touchedBy: touch) == true } ?? false
            kept.signal = (isOne ? kept.runtime : nil) ?? Self.next(after: former.signal, touch, runtime, stamp)
        }
        if let record = kept.signal, let signal = touch.signal {
            if let slot = known.signal {
                signals[slot: slot].put(record)
            } else {
                let path = SignalPath(bytes: signal)
                _ = signals.insert(path, Place(record))
                if isShared { removeTombstone(of: .signal(path)) }
            }
        }
        if let record = kept.runtime, let runtime {
            kept.slot = known.runtime ?? add(runtime, record)
            if let slot = known.runtime { setRuntime(slot, record) }
        }
        let isNew = (kept.signal != nil && known.signal == nil) || (kept.runtime != nil && known.runtime == nil)
        if isNew { sweepSome(at: CompactInstant(touch.at)) }
        return kept
    }

    /// What a touch makes of a record, if there is one.
    private static func next(after record: Record?, _ touch: Touch, _ runtime: RuntimeID?, _ stamp: HLCTimestamp)
        -> Record
    {
        guard let record else { return Record(touch, runtime: runtime, stamp: stamp) }
        return record.continued(by: touch, runtime: runtime, stamp: stamp)
            ?? record.merged(with: Record(touch, runtime: runtime, stamp: stamp))
    }

    private mutating func add(_ runtime: RuntimeID, _ record: Record) -> Int {
        let slot = runtimes.insert(runtime, Place(record))
        let entry = directories.add(slot, runtime)
        runtimes[slot: slot].entry = entry
        directories.noteLife(of: slot, entry, until: record.life)
        if isShared { removeTombstone(of: .runtime(runtime)) }
        return slot
    }

    private mutating func setRuntime(_ slot: Int, _ record: Record) {
        runtimes[slot: slot].put(record)
        directories.noteLife(of: slot, runtimes[slot: slot].entry, until: record.life)
    }

    private mutating func removeRuntime(_ slot: Int) {
        if let moved = directories.remove(slot, runtimes[slot: slot].entry) {
            runtimes[slot: moved].entry = runtimes[slot: slot].entry
        }
        runtimes.remove(slot: slot)
    }

    private mutating func removeTombstone(of subject: RecordSubject) {
        if let slot = forgotten.slot(of: subject) { forgotten.remove(slot: slot) }
    }

    /// Notes that the process which a runtime is has ended: it is not alive any more, whatever its deadline.
    ///
    /// A record that somebody else was the last to touch stays: their runtime of this name does not live here.
    ///
    /// - Parameter stamp: When that is; it becomes later than the last touch.
    /// - Returns: The record as it is now; nil if that changed nothing.
    public mutating func exit(_ id: RuntimeID, _ exit: Record.Exit, stamp: HLCTimestamp) -> Record? {
        guard let slot = runtimes.slot(of: id) else { return nil }
        let record = runtimes[slot: slot].record
        guard !record.isTouched(after: exit.at), record.exit == nil,
            record.isOf(nil) || record.isOf(stamp.origin)
        else { return nil }
        let ended = record.ended(by: exit, stamp: stamp.later(than: record.stamp))
        setRuntime(slot, ended)
        return ended
    }

    /// Drops what is known of a runtime or a signal file.
    ///
    /// A runtime's signal files stay, as does the runtime that last touched a file.
    ///
    /// - Parameter stamp: When that is; it becomes later than the last touch.
    /// - Returns: The stamp that it has become.
    @discardableResult
    public mutating func forget(
        _ subject: RecordSubject, stamp: HLCTimestamp, at now: ContinuousClock.Instant
    ) -> HLCTimestamp {
        let stamp = lastStamp(of: subject).map { stamp.later(than: $0) } ?? stamp
        drop(subject, stamp: stamp, at: now)
        return stamp
    }

    /// Drops what somebody else has forgotten, unless it was touched later.
    ///
    /// - Returns: Whether it is forgotten now.
    public mutating func receiveForget(
        _ subject: RecordSubject, stamp: HLCTimestamp, at now: ContinuousClock.Instant
    ) -> Bool {
        guard isNews(stamp, of: subject) else { return false }
        drop(subject, stamp: stamp, at: now)
        return true
    }

    private mutating func drop(_ subject: RecordSubject, stamp: HLCTimestamp, at now: ContinuousClock.Instant) {
        switch subject {
        case .runtime(let id): if let slot = runtimes.slot(of: id) { removeRuntime(slot) }
        case .signal(let path): drop(path)
        }
        guard isShared else { return }
        let tombstone = Tombstone(stamp: stamp, deadline: CompactInstant(now + retention))
        if let slot = forgotten.slot(of: subject) {
            forgotten[slot: slot] = tombstone
        } else if forgotten.count < Self.mostForgotten {
            _ = forgotten.insert(subject, tombstone)
        }
    }

    /// Drops a signal file's record without a word: it was not forgotten, but moved away or found again elsewhere.
    public mutating func drop(signal path: [UInt8]) {
        drop(SignalPath(bytes: path))
    }

    private mutating func drop(_ path: SignalPath) {
        if let slot = signals.slot(of: path) { signals.remove(slot: slot) }
    }

    /// Moves the stamps of an origin, when the clock that they are taken from turns out to be another.
    mutating func moveStamps(of origin: Origin, by change: Duration) {
        for slot in runtimes.slots {
            if let place = runtimes.value(at: slot) {
                runtimes[slot: slot].put(place.record.moved(ifOf: origin, by: change))
            }
        }
        for slot in signals.slots {
            if let place = signals.value(at: slot) {
                signals[slot: slot].put(place.record.moved(ifOf: origin, by: change))
            }
        }
        for slot in forgotten.slots {
            guard let tombstone = forgotten.value(at: slot), tombstone.stamp.origin == origin else { continue }
            forgotten[slot: slot] = Tombstone(
                stamp: HLCTimestamp(tombstone.stamp.time + change, by: origin), deadline: tombstone.deadline)
        }
    }

    private func isNews(_ stamp: HLCTimestamp, of subject: RecordSubject) -> Bool {
        lastStamp(of: subject).map { $0 < stamp } ?? true
    }

    private func lastStamp(of subject: RecordSubject) -> HLCTimestamp? {
        record(of: subject)?.stamp ?? (isShared ? forgotten[subject]?.stamp : nil)
    }

    // MARK: Sweeping

    /// Frees the records that expired longer ago than the retention, all of them at once.
    ///
    /// A signal file that is swept is one without a record again: whoever serves it must have its document elsewhere by
    /// then.
    public mutating func sweep(at now: ContinuousClock.Instant) {
        let oldest = CompactInstant(now - retention)
        for slot in runtimes.slots { sweepRuntime(slot, oldest) }
        for slot in signals.slots { sweepSignal(slot, oldest) }
        for slot in forgotten.slots { sweepTombstone(slot, CompactInstant(now)) }
    }

    /// Does a bit of that, each time that a record is added: all that is there is looked at while a quarter as much comes.
    ///
    /// So no touch has to wait for a sweep, and there is no timer.
    private mutating func sweepSome(at now: CompactInstant) {
        guard runtimes.count + signals.count + forgotten.count > Self.smallestSweep else { return }
        let oldest = now.earlier(by: retention)
        for _ in 0..<4 {
            // What is swept may be the last of its kind, and then there are no slots.
            if !runtimes.isEmpty {
                swept.runtimes = (swept.runtimes + 1) % runtimes.slots.count
                sweepRuntime(swept.runtimes, oldest)
            }
            if !signals.isEmpty {
                swept.signals = (swept.signals + 1) % signals.slots.count
                sweepSignal(swept.signals, oldest)
            }
            if !forgotten.isEmpty {
                swept.forgotten = (swept.forgotten + 1) % forgotten.slots.count
                sweepTombstone(swept.forgotten, now)
            }
        }
    }

    private mutating func sweepRuntime(_ slot: Int, _ oldest: CompactInstant) {
        guard let place = runtimes.value(at: slot), place.life <= oldest, place.record.end <= oldest else { return }
        removeRuntime(slot)
    }

    private mutating func sweepSignal(_ slot: Int, _ oldest: CompactInstant) {
        guard let place = signals.value(at: slot), place.life <= oldest, place.record.end <= oldest else { return }
        signals.remove(slot: slot)
    }

    private mutating func sweepTombstone(_ slot: Int, _ now: CompactInstant) {
        guard let tombstone = forgotten.value(at: slot), tombstone.deadline <= now else { return }
        forgotten.remove(slot: slot)
    }

    // MARK: Questions

    public func record(of id: RuntimeID) -> Record? {
        runtimes[id]?.record
    }

    public func record(ofSignal path: [UInt8]) -> Record? {
        signals[SignalPath(bytes: path)]?.record
    }

    /// What an origin has touched or forgotten last, of what is in some slots; in no order.
    func subjects(of origin: Origin, in slots: Range<Int>) -> [RecordSubject] {
        var subjects: [RecordSubject] = []
        for slot in slots.clamped(to: runtimes.slots) where runtimes.value(at: slot)?.record.isOf(origin) == true {
            if let id = runtimes.key(at: slot) { subjects.append(.runtime(id)) }
        }
        for slot in slots.clamped(to: signals.slots) where signals.value(at: slot)?.record.isOf(origin) == true {
            if let path = signals.key(at: slot) { subjects.append(.signal(path)) }
        }
        for slot in slots.clamped(to: forgotten.slots) where forgotten.value(at: slot)?.stamp.origin == origin {
            if let subject = forgotten.key(at: slot) { subjects.append(subject) }
        }
        return subjects
    }

    /// What an origin has to tell of a subject as of now; nil when somebody else was there last.
    func news(of subject: RecordSubject, by origin: Origin) -> MirrorQueue.Message? {
        if let record = record(of: subject) {
            return record.isOf(origin) ? .touched(subject, record) : nil
        }
        guard let stamp = forgotten[subject]?.stamp, stamp.origin == origin else { return nil }
        return .forgotten(subject, stamp)
    }

    /// What has become of a message: the same or a newer one, or nothing when others have made it void.
    func news(after message: MirrorQueue.Message) -> MirrorQueue.Message? {
        guard let origin = message.stamp.origin else { return message }
        if case .forgotten(let subject, _) = message, record(of: subject) == nil, forgotten[subject] == nil {
            return message
        }
        return news(of: message.subject, by: origin)
    }

    func record(of subject: RecordSubject) -> Record? {
        switch subject {
        case .runtime(let id): runtimes[id]?.record
        case .signal(let path): signals[path]?.record
        }
    }

    /// Where a runtime is, while its record is there.
    func slot(of id: RuntimeID) -> Int? { runtimes.slot(of: id) }

    /// Whose record is in a slot; nil in an empty one.
    func id(at slot: Int) -> RuntimeID? { runtimes.key(at: slot) }

    /// Until when who is in a slot is alive; nil in an empty one.
    func life(at slot: Int) -> CompactInstant? { runtimes.value(at: slot)?.life }

    /// Whose record is in a slot, and until when it is alive; nil in an empty one.
    func runtime(at slot: Int) -> (id: RuntimeID, life: CompactInstant)? {
        guard let id = runtimes.key(at: slot) else { return nil }
        return (id, runtimes[slot: slot].life)
    }

    /// False for a runtime that was never heard of.
    public func isAlive(_ id: RuntimeID, at now: ContinuousClock.Instant) -> Bool {
        guard let slot = runtimes.slot(of: id) else { return false }
        return CompactInstant(now) < runtimes[slot: slot].life
    }

    /// The same for each of several, in their order.
    public func areAlive(_ ids: [RuntimeID], at now: ContinuousClock.Instant) -> [Bool] {
        ids.map { isAlive($0, at: now) }
    }

    /// The same for ids whose hashes are known.
    func areAlive(_ ids: UnsafeBufferPointer<RuntimeID>, hashes: [Int], at now: CompactInstant) -> [Bool] {
        let slots = runtimes.slots(of: ids, hashes: hashes) { $0.lastByte }
        var answers = [Bool](repeating: false, count: slots.count)
        for place in slots.indices {
            if let slot = slots[place] { answers[place] = now < runtimes[slot: slot].life }
        }
        return answers
    }

    // MARK: Directories of ids

    /// Whether a directory of ids, which is empty or ends in a slash, has any.
    func hasRuntimes(backing prefix: String) -> Bool { directories.hasRuntimes(backing: prefix) }

    /// Whether one of them is alive.
    func hasLiving(backing prefix: String, at now: ContinuousClock.Instant) -> Bool {
        directories.hasLiving(backing: prefix, at: CompactInstant(now)) { runtimes[slot: $0].life }
    }

    /// A part of what is in a directory: see `RuntimeListing`.
    func list(_ listing: inout RuntimeListing, limit: Int, at now: ContinuousClock.Instant) {
        let now = CompactInstant(now)
        directories.list(&listing, limit: limit, at: now) { runtime(at: $0) }
    }

    // MARK: All there are

    /// One more than the last slot with anything in it, for who goes through all a part at a time.
    var slotCount: Int { max(runtimes.slots.count, signals.slots.count, forgotten.slots.count) }

    /// The runtimes in some slots whose ids begin with a prefix.
    func runtimes(backing prefix: String, in slots: Range<Int>) -> [RuntimeID] {
        slots.clamped(to: runtimes.slots).compactMap { slot in
            runtimes.key(at: slot).flatMap { $0.description.utf8.starts(with: prefix.utf8) ? $0 : nil }
        }
    }

    /// How many records there are, found by looking at every one.
    public func counts(at now: ContinuousClock.Instant) -> Counts {
        var counts = Counts()
        count(in: 0..<slotCount, at: now, into: &counts)
        return counts
    }

    /// Counts the records in some slots.
    func count(in slots: Range<Int>, at now: ContinuousClock.Instant, into counts: inout Counts) {
        let now = CompactInstant(now)
        for slot in slots.clamped(to: runtimes.slots) {
            if let place = runtimes.value(at: slot) { counts.runtimes.add(place.state(at: now)) }
        }
        for slot in slots.clamped(to: signals.slots) {
            if let place = signals.value(at: slot) { counts.signals.add(place.state(at: now)) }
        }
    }

    public struct Counts: Hashable, Sendable {
        public struct Tally: Hashable, Sendable {
            public var alive = 0
            public var expired = 0
            public var exited = 0

            fileprivate mutating func add(_ state: Record.State) {
                switch state {
                case .alive: alive += 1
                case .expired: expired += 1
                case .exited: exited += 1
                }
            }
        }

        public fileprivate(set) var runtimes = Tally()
        public fileprivate(set) var signals = Tally()
    }
}

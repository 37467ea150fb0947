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

    private var runtimes: [RuntimeID: Record] = [:]
    /// How many runtimes there are beneath each directory of ids, `gastown/` and `gastown/polecats/`.
    private var directories: [String: Int] = [:]
    private var signals: [SignalPath: Record] = [:]
    /// What was forgotten and when, lest others bring it back; only where there are others.
    private var forgotten: [RecordSubject: Tombstone] = [:]
    private let retention: Duration
    private let isShared: Bool
    private var nextSweep = smallestSweep

    private struct Tombstone {
        let stamp: Stamp
        /// Until when somebody may still bring what was known before.
        let deadline: ContinuousClock.Instant
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
    public mutating func touch(_ touch: Touch) -> (signal: Record?, runtime: Record?) {
        var touch = touch
        let signal = touch.signal.map { RecordSubject.signal(SignalPath(bytes: $0)) }
        var last = signal.flatMap { lastStamp(of: $0) }
        if let runtime = touch.runtime {
            if let known = runtimes.index(forKey: runtime) {
                // The string that is there already, lest each of a million records hold its id twice.
                touch.runtime = runtimes.keys[known]
                let record = runtimes.values[known]
                if touch.at >= record.touch.at { last = max(last ?? record.touch.stamp, record.touch.stamp) }
            } else if isShared, let tombstone = forgotten[.runtime(runtime)] {
                last = max(last ?? tombstone.stamp, tombstone.stamp)
            }
        }
        if let last { touch.stamp = touch.stamp.later(than: last) }
        return keep(touch)
    }

    /// Takes in what somebody else has touched, unless something later is known.
    ///
    /// - Parameters:
    ///   - touch: Of a runtime or of a signal file, not of both.
    ///   - exit: Of a runtime whose process has ended since.
    /// - Returns: Whether it is the last touch now.
    public mutating func receive(_ touch: Touch, exit: Record.Exit? = nil) -> Bool {
        guard let subject = touch.subject, isNews(touch.stamp, of: subject) else { return false }
        let kept = keep(touch)
        if let exit, let id = touch.runtime, let record = kept.runtime {
            runtimes[id] = record.ended(by: exit, stamp: touch.stamp)
        }
        return true
    }

    private mutating func keep(_ touch: Touch) -> (signal: Record?, runtime: Record?) {
        let record = Record(touch)
        var kept: (signal: Record?, runtime: Record?)
        if let signal = touch.signal {
            let path = SignalPath(bytes: signal)
            kept.signal = signals[path].merge(record)
            if isShared { forgotten[.signal(path)] = nil }
        }
        if let runtime = touch.runtime {
            let count = runtimes.count
            kept.runtime = runtimes[runtime].merge(record)
            if runtimes.count > count {
                for directory in runtime.directories { directories[directory, default: 0] += 1 }
            }
            if isShared { forgotten[.runtime(runtime)] = nil }
        }
        if runtimes.count + signals.count + forgotten.count > nextSweep { sweep(at: touch.at) }
        return kept
    }

    /// Notes that the process which a runtime is has ended: it is not alive any more, whatever its deadline.
    ///
    /// A record that somebody else was the last to touch stays: their runtime of this name does not live here.
    ///
    /// - Parameter stamp: When that is; it becomes later than the last touch.
    /// - Returns: The record as it is now; nil if that changed nothing.
    public mutating func exit(_ id: RuntimeID, _ exit: Record.Exit, stamp: Stamp) -> Record? {
        guard let record = runtimes[id], record.touch.at <= exit.at, record.exit == nil,
            record.touch.stamp.origin == nil || record.touch.stamp.origin == stamp.origin
        else { return nil }
        let ended = record.ended(by: exit, stamp: stamp.later(than: record.touch.stamp))
        runtimes[id] = ended
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
        _ subject: RecordSubject, stamp: Stamp, at now: ContinuousClock.Instant
    ) -> Stamp {
        let stamp = lastStamp(of: subject).map { stamp.later(than: $0) } ?? stamp
        drop(subject, stamp: stamp, at: now)
        return stamp
    }

    /// Drops what somebody else has forgotten, unless it was touched later.
    ///
    /// - Returns: Whether it is forgotten now.
    public mutating func receiveForget(
        _ subject: RecordSubject, stamp: Stamp, at now: ContinuousClock.Instant
    ) -> Bool {
        guard isNews(stamp, of: subject) else { return false }
        drop(subject, stamp: stamp, at: now)
        return true
    }

    private mutating func drop(_ subject: RecordSubject, stamp: Stamp, at now: ContinuousClock.Instant) {
        switch subject {
        case .runtime(let id):
            guard runtimes.removeValue(forKey: id) != nil else { break }
            for directory in id.directories {
                let count = directories[directory, default: 1] - 1
                directories[directory] = count == 0 ? nil : count
            }
        case .signal(let path): signals[path] = nil
        }
        guard isShared, forgotten[subject] != nil || forgotten.count < Self.mostForgotten else { return }
        forgotten[subject] = Tombstone(stamp: stamp, deadline: now + retention)
    }

    /// Drops a signal file's record without a word: it was not forgotten, but moved away or found again elsewhere.
    public mutating func drop(signal path: [UInt8]) {
        signals[SignalPath(bytes: path)] = nil
    }

    /// Moves the stamps of an origin, when the clock that they are taken from turns out to be another.
    mutating func moveStamps(of origin: Origin, by change: Duration) {
        runtimes = runtimes.mapValues { $0.moved(ifOf: origin, by: change) }
        signals = signals.mapValues { $0.moved(ifOf: origin, by: change) }
        forgotten = forgotten.mapValues { tombstone in
            guard tombstone.stamp.origin == origin else { return tombstone }
            return Tombstone(
                stamp: Stamp(tombstone.stamp.time + change, by: origin), deadline: tombstone.deadline)
        }
    }

    private func isNews(_ stamp: Stamp, of subject: RecordSubject) -> Bool {
        lastStamp(of: subject).map { $0 < stamp } ?? true
    }

    private func lastStamp(of subject: RecordSubject) -> Stamp? {
        record(of: subject)?.touch.stamp ?? (isShared ? forgotten[subject]?.stamp : nil)
    }

    /// Frees the records that expired longer ago than the retention.
    ///
    /// This looks at every record, so `touch` only calls it when their number has doubled since the last time: a
    /// constant amount of work per touch on average, and no timer. A signal file that is swept is one without a record
    /// again: whoever serves it must have its document elsewhere by then.
    public mutating func sweep(at now: ContinuousClock.Instant) {
        let oldest = now - retention
        let count = runtimes.count
        runtimes.removeRecords(expiredBy: oldest)
        if runtimes.count < count {
            directories = [:]
            for id in runtimes.keys { for directory in id.directories { directories[directory, default: 0] += 1 } }
        }
        signals.removeRecords(expiredBy: oldest)
        if isShared { forgotten = forgotten.filter { now < $0.value.deadline } }
        nextSweep = max(Self.smallestSweep, 2 * (runtimes.count + signals.count + forgotten.count))
    }

    // MARK: Questions

    public func record(of id: RuntimeID) -> Record? {
        runtimes[id]
    }

    public func record(ofSignal path: [UInt8]) -> Record? {
        signals[SignalPath(bytes: path)]
    }

    /// What an origin has touched or forgotten last, in no order.
    func subjects(of origin: Origin) -> [RecordSubject] {
        var subjects: [RecordSubject] = []
        for (id, record) in runtimes where record.touch.stamp.origin == origin { subjects.append(.runtime(id)) }
        for (path, record) in signals where record.touch.stamp.origin == origin { subjects.append(.signal(path)) }
        for (subject, tombstone) in forgotten where tombstone.stamp.origin == origin { subjects.append(subject) }
        return subjects
    }

    /// What an origin has to tell of a subject as of now; nil when somebody else was there last.
    func news(of subject: RecordSubject, by origin: Origin) -> MirrorQueue.Message? {
        if let record = record(of: subject) {
            return record.touch.stamp.origin == origin ? .touched(subject, record) : nil
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
        case .runtime(let id): runtimes[id]
        case .signal(let path): signals[path]
        }
    }

    /// The runtimes whose ids begin with a prefix, in no order.
    func runtimes(beneath prefix: String) -> [RuntimeID] {
        runtimes.keys.filter { $0.description.utf8.starts(with: prefix.utf8) }
    }

    /// The same, and whether each is alive.
    func runtimes(beneath prefix: String, at now: ContinuousClock.Instant) -> [(id: RuntimeID, isAlive: Bool)] {
        runtimes.filter { $0.key.description.utf8.starts(with: prefix.utf8) }
            .map { ($0.key, $0.value.isAlive(at: now)) }
    }

    /// Whether a directory of ids, which is empty or ends in a slash, has any.
    func hasRuntimes(beneath prefix: String) -> Bool {
        prefix.isEmpty ? !runtimes.isEmpty : directories[prefix] != nil
    }

    /// Whether one of them is alive: where there are any, found by looking for one.
    func hasLiving(beneath prefix: String, at now: ContinuousClock.Instant) -> Bool {
        hasRuntimes(beneath: prefix)
            && runtimes.contains { $0.key.description.utf8.starts(with: prefix.utf8) && $0.value.isAlive(at: now) }
    }

    /// False for a runtime that was never heard of.
    public func isAlive(_ id: RuntimeID, at now: ContinuousClock.Instant) -> Bool {
        runtimes[id]?.isAlive(at: now) ?? false
    }

    /// Answers for every id asked about.
    public func areAlive(_ ids: [RuntimeID], at now: ContinuousClock.Instant) -> [RuntimeID: Bool] {
        var answers: [RuntimeID: Bool] = [:]
        for id in ids { answers[id] = isAlive(id, at: now) }
        return answers
    }

    /// How many records there are, found by looking at every one.
    public func counts(at now: ContinuousClock.Instant) -> Counts {
        Counts(
            runtimes: Counts.Tally(runtimes.values, at: now),
            signals: Counts.Tally(signals.values, at: now)
        )
    }

    public struct Counts: Hashable, Sendable {
        public struct Tally: Hashable, Sendable {
            public var alive = 0
            public var expired = 0
            public var exited = 0

            fileprivate init(_ records: some Sequence<Record>, at now: ContinuousClock.Instant) {
                for record in records {
                    switch record.state(at: now) {
                    case .alive: alive += 1
                    case .expired: expired += 1
                    case .exited: exited += 1
                    }
                }
            }
        }

        public let runtimes: Tally
        public let signals: Tally
    }
}

extension Dictionary where Value == Record {
    fileprivate mutating func removeRecords(expiredBy oldest: ContinuousClock.Instant) {
        // Most sweeps find nothing, and need not pay for a copy.
        guard values.contains(where: { $0.end <= oldest }) else { return }
        self = filter { $0.value.end > oldest }
    }
}

extension Record? {
    /// Changed in place, so that a dictionary looks up its key only once.
    fileprivate mutating func merge(_ newcomer: Record) -> Record {
        let merged = self?.merged(with: newcomer) ?? newcomer
        self = merged
        return merged
    }
}

/// Who is alive, and what each signal file holds: the last touch of every runtime and of every signal file.
///
///     Touch ─┬─ signal  ──▶ record of the file      (what a tool reads back)
///            └─ runtime ──▶ record of who is alive  (what is counted, listed, mirrored)
///
/// A value without a clock: every question says `at:` which instant it is meant. Nothing happens when a deadline
/// passes; expiry is found by asking, and an expired record keeps its document, since tools take a file that vanishes
/// for something else than an old one. Only long after that is its memory freed, as part of some later touch.
public struct LivenessTable: Sendable {
    /// How long expired records are kept: a day, in which somebody may still ask who was here.
    public static let defaultRetention: Duration = .seconds(24 * 60 * 60)
    /// Fewer records than this are not worth looking for old ones.
    private static let smallestSweep = 1024

    private var runtimes: [RuntimeID: Record] = [:]
    private var signals: [SignalPath: Record] = [:]
    private let retention: Duration
    private var nextSweep = smallestSweep

    public init(retention: Duration = defaultRetention) {
        self.retention = retention
    }

    // MARK: Changes

    /// Refreshes the record of the touched signal file, and of the runtime if one is named.
    ///
    /// A life that an earlier touch promised is never shortened. Of two touches the later by its own clock reading is
    /// kept, in whichever order they come.
    public mutating func touch(_ touch: Touch) {
        var touch = touch
        if let known = touch.runtime.flatMap({ runtimes.index(forKey: $0) }) {
            // The string that is there already, lest each of a million records hold its id twice.
            touch.runtime = runtimes.keys[known]
        }
        let record = Record(touch)
        if let signal = touch.signal { signals[SignalPath(bytes: signal)].merge(record) }
        if let runtime = touch.runtime { runtimes[runtime].merge(record) }
        if runtimes.count + signals.count > nextSweep { sweep(at: touch.at) }
    }

    /// Drops what is known of a runtime; its signal files stay.
    public mutating func forget(_ id: RuntimeID) {
        runtimes[id] = nil
    }

    /// Drops what is known of a signal file; the runtime that last touched it stays.
    public mutating func forget(signal path: [UInt8]) {
        signals[SignalPath(bytes: path)] = nil
    }

    /// Frees the records that expired longer ago than the retention.
    ///
    /// This looks at every record, so `touch` only calls it when their number has doubled since the last time: a
    /// constant amount of work per touch on average, and no timer. A signal file that is swept is one without a record
    /// again: whoever serves it must have its document elsewhere by then.
    public mutating func sweep(at now: ContinuousClock.Instant) {
        let oldest = now - retention
        runtimes.removeRecords(expiredBy: oldest)
        signals.removeRecords(expiredBy: oldest)
        nextSweep = max(Self.smallestSweep, 2 * (runtimes.count + signals.count))
    }

    // MARK: Questions

    public func record(of id: RuntimeID) -> Record? {
        runtimes[id]
    }

    public func record(ofSignal path: [UInt8]) -> Record? {
        signals[SignalPath(bytes: path)]
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

            fileprivate init(_ records: some Sequence<Record>, at now: ContinuousClock.Instant) {
                for record in records {
                    if record.isAlive(at: now) { alive += 1 } else { expired += 1 }
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
        guard values.contains(where: { !$0.isAlive(at: oldest) }) else { return }
        self = filter { $0.value.isAlive(at: oldest) }
    }
}

extension Record? {
    /// Changed in place, so that a dictionary looks up its key only once.
    fileprivate mutating func merge(_ newcomer: Record) {
        self = self?.merged(with: newcomer) ?? newcomer
    }
}

/// A path as a key; an array of bytes would hash them one by one.
package struct SignalPath: Hashable, Sendable {
    package let bytes: [UInt8]

    package init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    package func hash(into hasher: inout Hasher) {
        bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }
}

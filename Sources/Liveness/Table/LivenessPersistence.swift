/// Keeps the state of an `InMemoryLivenessStore` where it outlives the process.
///
/// Called under the store's lock: an implementation needs no other, and must not block. Changes take effect together,
/// by `commit`.
package protocol LivenessPersistence: Sendable {
    /// - Parameter isExpiryPending: Whether the runtime's expiry is still to be reported, once its deadline has passed.
    func save(_ record: Record, of subject: RecordSubject, isExpiryPending: Bool)

    func removeRecord(of subject: RecordSubject)

    func save(_ tombstone: LivenessTable.Tombstone, of subject: RecordSubject)

    func removeTombstone(of subject: RecordSubject)

    /// - Parameter capacity: How many events are held; an earlier one may be overwritten.
    func save(_ event: LivenessEvent, number: UInt64, capacity: Int)

    func save(_ tally: LivenessTally)

    /// Saves when the store was served last, at once; by the clock of deadlines.
    func saveServed(at offset: Duration)

    /// Makes all changes since the last call take effect.
    ///
    /// - Returns: Whether there was room for them.
    func commit() -> Bool
}

/// What an earlier process saved by `LivenessPersistence`.
package struct SavedLiveness: Sendable {
    package var records: [(subject: RecordSubject, record: Record, isExpiryPending: Bool)] = []
    package var tombstones: [(subject: RecordSubject, tombstone: LivenessTable.Tombstone)] = []
    /// The last events with their numbers, in no order.
    package var events: [(number: UInt64, event: LivenessEvent)] = []
    package var tally = LivenessTally()
    /// See `LivenessPersistence.saveServed`; nil if it was never served.
    package var lastServed: Duration?

    package init() {}
}

extension LivenessTable {
    /// Adds what an earlier process has saved, to an empty table.
    mutating func restore(_ saved: SavedLiveness) {
        // In ascending order, each insertion is at the end.
        for (subject, record, isExpiryPending) in saved.records.sorted(by: { $0.subject < $1.subject }) {
            restore(record, of: subject, isExpiryPending: isExpiryPending)
        }
        for (subject, tombstone) in saved.tombstones.sorted(by: { $0.subject < $1.subject }) {
            restore(tombstone, of: subject)
        }
    }
}

extension EventLog {
    /// A log that goes on after saved events.
    init(_ saved: SavedLiveness, capacity: Int = defaultCapacity) {
        self.init(capacity: capacity)
        let events = saved.events.sorted { $0.number < $1.number }.suffix(capacity)
        // All but the last ones may be left over from a log of another capacity.
        let isLast = zip(events.indices, events).map { $1.number + UInt64(events.endIndex - 1 - $0) }
        guard let last = events.last?.number else { return }
        let start = isLast.lastIndex { $0 != last }.map { $0 + 1 } ?? 0
        restore(events.dropFirst(start).map(\.event), last: last)
    }
}

import Fuse
import Glibc
import Liveness
import Logging
import Synchronization

/// The state of the liveness table in the log: records, what was forgotten, events and tallies.
///
/// A touch, its event and the content of its signal file take effect together.
final class LivenessLog: LivenessPersistence {
    private let journal: Journal
    private let saver: StateSaver?
    private let logger: Logger
    // because the functions of `LivenessPersistence`, and those that they call, run under the store's lock.
    private nonisolated(unsafe) var buffer = EntryBuffer()
    private nonisolated(unsafe) var hasFailed = false

    /// - Parameter saver: Is told of changes.
    init(_ journal: Journal, saver: StateSaver? = nil, log: Logger) {
        self.journal = journal
        self.saver = saver
        logger = log
    }

    // MARK: Saving

    func save(_ record: Record, of subject: RecordSubject, isExpiryPending: Bool) {
        begin(subject, Journal.Kind.runtime, Journal.Kind.signal)
        buffer.put(isExpiryPending ? 1 : 0 as UInt8)
        buffer.put(record)
        if case .runtime = subject { buffer.putDocuments(of: record) }
        buffer.end()
    }

    func removeRecord(of subject: RecordSubject) { remove(subject, Journal.Kind.runtime, Journal.Kind.signal) }

    func save(_ tombstone: LivenessTable.Tombstone, of subject: RecordSubject) {
        begin(subject, Journal.Kind.runtimeTombstone, Journal.Kind.signalTombstone)
        buffer.put(tombstone.deadline)
        buffer.put(tombstone.stamp)
        buffer.end()
    }

    func removeTombstone(of subject: RecordSubject) {
        remove(subject, Journal.Kind.runtimeTombstone, Journal.Kind.signalTombstone)
    }

    private func begin(_ subject: RecordSubject, _ runtime: SharedLog.Kind, _ signal: SharedLog.Kind) {
        switch subject {
        case .runtime(let id):
            buffer.begin(runtime)
            buffer.put(id.description)
        case .signal(let path):
            buffer.begin(signal)
            buffer.put(path.bytes)
        }
        buffer.endKey()
    }

    private func remove(_ subject: RecordSubject, _ runtime: SharedLog.Kind, _ signal: SharedLog.Kind) {
        switch subject {
        case .runtime(let id): Array(id.description.utf8).withUnsafeBytes { buffer.remove(runtime, key: $0) }
        case .signal(let path): path.bytes.withUnsafeBytes { buffer.remove(signal, key: $0) }
        }
    }

    func save(_ event: LivenessEvent, number: UInt64, capacity: Int) {
        buffer.begin(Journal.Kind.event)
        buffer.put(UInt32(truncatingIfNeeded: number % UInt64(capacity)))
        buffer.endKey()
        buffer.put(number)
        buffer.put(event)
        buffer.end()
    }

    func save(_ tally: LivenessTally) {
        buffer.begin(Journal.Kind.tally)
        buffer.endKey()
        buffer.put(tally.expired)
        buffer.put(tally.forgotten)
        buffer.put(tally.expiryLag ?? .seconds(-1))
        buffer.end()
    }

    func saveServed(at offset: Duration) { journal.counters.lastServed = offset }

    /// Adds a change of a signal file, to take effect with the touch or forget that it belongs to.
    ///
    /// For the closures that the store calls under its lock.
    func save(
        _ event: Journal.Event, at path: [UInt8], and other: (inout EntryBuffer) -> Void = { _ in }
    ) {
        other(&buffer)
        Journal.put(event, at: path, into: &buffer)
    }

    func commit() -> Bool {
        defer { buffer.removeAll() }
        if buffer.isEmpty { return true }
        saver?.noteChange()
        let isComplete = journal.append(buffer)
        if !isComplete, !hasFailed {
            hasFailed = true
            logger.error("no room for the state of the town: a worker that replaces this one may miss some of it")
        }
        return isComplete
    }

    // MARK: Restoring

    /// What an earlier process has saved; skips what is malformed.
    func saved() -> SavedLiveness {
        var saved = SavedLiveness()
        saved.lastServed = journal.counters.lastServed
        var decoder = LivenessDecoder()
        journal.log.forEach(Journal.Kind.runtime) { key, value in
            guard let value else { return }
            let id = RuntimeID(validated: key)
            decoder.record(value).map { saved.records.append((.runtime(id), $0, $1)) }
        }
        let contents = journal.replay()
        journal.log.forEach(Journal.Kind.signal) { key, value in
            guard let value else { return }
            let path = Array(key)
            let document = contents[path]?.content.map { content in
                var document = content.document
                document.source = DocumentSource(path: path, ownership: content.ownership)
                return document
            }
            let subject = RecordSubject.signal(SignalPath(bytes: path))
            decoder.record(value, document: document).map { saved.records.append((subject, $0, $1)) }
        }
        journal.log.forEach(Journal.Kind.runtimeTombstone) { key, value in
            guard let value, let tombstone = decoder.tombstone(value) else { return }
            saved.tombstones.append((.runtime(RuntimeID(validated: key)), tombstone))
        }
        journal.log.forEach(Journal.Kind.signalTombstone) { key, value in
            guard let value, let tombstone = decoder.tombstone(value) else { return }
            saved.tombstones.append((.signal(SignalPath(bytes: Array(key))), tombstone))
        }
        journal.log.forEach(Journal.Kind.event) { _, value in
            guard let value, let event = decoder.event(value) else { return }
            saved.events.append(event)
        }
        journal.log.forEach(Journal.Kind.tally) { _, value in
            guard let value, let tally = decoder.tally(value) else { return }
            saved.tally = tally
        }
        return saved
    }
}

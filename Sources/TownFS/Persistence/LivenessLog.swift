import Fuse
import Glibc
import Liveness
import Logging
import Synchronization

/// The state of the liveness table in the log: records, what was forgotten, events and tallies.
///
/// A touch, its event and the content of its signal file take effect together.
final class LivenessLog: LivenessPersistence {
    /// The kinds of entries in the log of a town.
    enum Kind {
        static let content: SharedLog.Kind = 1
        static let runtime: SharedLog.Kind = 2
        static let signal: SharedLog.Kind = 3
        static let runtimeTombstone: SharedLog.Kind = 4
        static let signalTombstone: SharedLog.Kind = 5
        static let event = SharedLog.numberedKind
        static let tally: SharedLog.Kind = 7
        static let rootProcesses: SharedLog.Kind = 8
        static let scanned: SharedLog.Kind = 9
        /// Created in `.pulse/alive`.
        static let aliveDirectory: SharedLog.Kind = 10
    }

    private let journal: Journal
    private let logger: Logger
    // because the functions of `LivenessPersistence`, and those that they call, run under the store's lock.
    private nonisolated(unsafe) var buffer = EntryBuffer()
    private nonisolated(unsafe) var hasFailed = false

    init(_ journal: Journal, log: Logger) {
        self.journal = journal
        logger = log
    }

    // MARK: Saving

    func save(_ record: Record, of subject: RecordSubject, isExpiryPending: Bool) {
        switch subject {
        case .runtime(let id):
            buffer.begin(Kind.runtime)
            buffer.put(id.description)
        case .signal(let path):
            buffer.begin(Kind.signal)
            buffer.put(path.bytes)
        }
        buffer.endKey()
        buffer.put(isExpiryPending ? 1 : 0 as UInt8)
        buffer.put(record)
        if case .runtime = subject { buffer.putDocuments(of: record) }
        buffer.end()
    }

    func removeRecord(of subject: RecordSubject) { remove(subject, Kind.runtime, Kind.signal) }

    func save(_ tombstone: LivenessTable.Tombstone, of subject: RecordSubject) {
        switch subject {
        case .runtime(let id):
            buffer.begin(Kind.runtimeTombstone)
            buffer.put(id.description)
        case .signal(let path):
            buffer.begin(Kind.signalTombstone)
            buffer.put(path.bytes)
        }
        buffer.endKey()
        buffer.put(tombstone.deadline)
        buffer.put(tombstone.stamp)
        buffer.end()
    }

    func removeTombstone(of subject: RecordSubject) { remove(subject, Kind.runtimeTombstone, Kind.signalTombstone) }

    private func remove(_ subject: RecordSubject, _ runtime: SharedLog.Kind, _ signal: SharedLog.Kind) {
        switch subject {
        case .runtime(let id): Array(id.description.utf8).withUnsafeBytes { buffer.remove(runtime, key: $0) }
        case .signal(let path): path.bytes.withUnsafeBytes { buffer.remove(signal, key: $0) }
        }
    }

    func save(_ event: LivenessEvent, number: UInt64, capacity: Int) {
        buffer.begin(Kind.event)
        buffer.put(UInt32(truncatingIfNeeded: number % UInt64(capacity)))
        buffer.endKey()
        buffer.put(number)
        buffer.put(event)
        buffer.end()
    }

    func save(_ tally: LivenessTally) {
        buffer.begin(Kind.tally)
        buffer.endKey()
        buffer.put(tally.expired)
        buffer.put(tally.forgotten)
        buffer.put(tally.expiryLag ?? .seconds(-1))
        buffer.end()
    }

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
        var decoder = Decoder()
        journal.log.forEach(Kind.runtime) { key, value in
            guard let value else { return }
            let id = RuntimeID(validated: key)
            decoder.record(value).map { saved.records.append((.runtime(id), $0, $1)) }
        }
        let contents = journal.replay()
        journal.log.forEach(Kind.signal) { key, value in
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
        journal.log.forEach(Kind.runtimeTombstone) { key, value in
            guard let value, let tombstone = decoder.tombstone(value) else { return }
            saved.tombstones.append((.runtime(RuntimeID(validated: key)), tombstone))
        }
        journal.log.forEach(Kind.signalTombstone) { key, value in
            guard let value, let tombstone = decoder.tombstone(value) else { return }
            saved.tombstones.append((.signal(SignalPath(bytes: Array(key))), tombstone))
        }
        journal.log.forEach(Kind.event) { _, value in
            guard let value, let event = decoder.event(value) else { return }
            saved.events.append(event)
        }
        journal.log.forEach(Kind.tally) { _, value in
            guard let value, let tally = decoder.tally(value) else { return }
            saved.tally = tally
        }
        return saved
    }
}

// MARK: - Encoding

// All numbers are little-endian; a duration has 16 bytes, in attoseconds.

extension EntryBuffer {
    fileprivate mutating func put(_ record: Record) {
        put(record.deadlineOffset)
        put(record.touch)
        put(record.exit != nil ? 1 : 0 as UInt8)
        if let exit = record.exit {
            put(exit.process)
            put(exit.noticedAt)
            put(exit.offset)
        }
    }

    /// Of a runtime; a signal file's is its content.
    fileprivate mutating func putDocuments(of record: Record) {
        put(record.ownDocument)
        put(record.sharedDocument)
        // Mostly the last document is one of them.
        if record.touch.document?.isIdentical(to: record.ownDocument) ?? false {
            put(1 as UInt8)
        } else if record.touch.document?.isIdentical(to: record.sharedDocument) ?? false {
            put(2 as UInt8)
        } else {
            put(0 as UInt8)
            put(record.touch.document)
        }
    }

    /// Without the document.
    private mutating func put(_ touch: Touch) {
        put(touch.receivedAt)
        put(touch.offset)
        put(touch.ttl)
        put(touch.stamp)
        put(touch.request)
        put(touch.source.code)
        put(touch.evidence?.code ?? 0)
        put(touch.process)
        put(touch.signal)
        put(touch.runtime?.description)
    }

    fileprivate mutating func put(_ event: LivenessEvent) {
        put(event.kind.code)
        put(event.time)
        put(event.source?.code ?? 0)
        put(event.evidence?.code ?? 0)
        put(event.process)
        put(event.signal)
        put(event.runtime?.description)
        put(event.origin)
        put(event.reason)
    }

    private mutating func put(_ document: Document?) {
        put(document?.bytes)
        guard let document else { return }
        // Only signal files' documents have a source.
        let source = document.source as? DocumentSource
        put(source?.path)
        guard let ownership = source?.ownership else { return }
        put(ownership)
    }

    mutating func put(_ ownership: SignalFile.Ownership) {
        put(ownership.mode)
        put(ownership.user)
        put(ownership.group)
    }

    fileprivate mutating func put(_ stamp: HLCTimestamp) {
        put(stamp.time)
        put(stamp.origin)
    }

    private mutating func put(_ origin: Origin?) {
        put(origin?.name)
        if let origin { put(Optional(origin.host)) }
    }

    private mutating func put(_ process: Touch.Process?) {
        put(process?.program)
        if let process { put(process.pid) }
    }

    mutating func put(_ time: WallTime) {
        put(time.seconds)
        put(time.nanoseconds)
    }

    mutating func put(_ duration: Duration) { put(duration.attoseconds) }

    mutating func put(_ bytes: [UInt8]) { bytes.withUnsafeBytes { put($0) } }

    mutating func put(_ text: String) {
        var text = text
        text.withUTF8 { put(UnsafeRawBufferPointer($0)) }
    }

    /// Puts one more than the number of bytes, or 0 for nil, and the bytes.
    private mutating func put(_ bytes: [UInt8]?) {
        put(UInt32((bytes?.count ?? -1) + 1))
        if let bytes { put(bytes) }
    }

    private mutating func put(_ text: String?) {
        put(UInt32((text?.utf8.count ?? -1) + 1))
        if let text { put(text) }
    }
}

extension Document {
    /// Whether both are one document, without a look at all bytes.
    fileprivate func isIdentical(to other: Document?) -> Bool {
        guard let other, source === other.source, bytes.count == other.bytes.count else { return false }
        return bytes.withUnsafeBufferPointer { mine in
            other.bytes.withUnsafeBufferPointer { mine.baseAddress == $0.baseAddress }
        }
    }
}

// Codes of the format: never changed; 0 is nil.

extension Touch.Source {
    /// From 1 on.
    var code: UInt8 {
        switch self {
        case .written: 1
        case .renamed: 2
        case .attributes: 3
        case .command: 4
        case .activity: 5
        }
    }

    fileprivate init?(code: UInt8) {
        guard let found = Self.allCases.first(where: { $0.code == code }) else { return nil }
        self = found
    }
}

extension Attribution.Evidence {
    fileprivate var code: UInt8 {
        switch self {
        case .command: 1
        case .path: 2
        case .document: 3
        case .directory: 4
        case .environment(.role): 5
        case .environment(.beadsActor): 6
        case .environment(.session): 7
        case .environment(.beadsAgentName): 8
        // No evidence by themselves.
        case .environment: 0
        }
    }

    fileprivate init?(code: UInt8) {
        guard let found = Self.all.first(where: { $0.code == code }) else { return nil }
        self = found
    }
}

extension LivenessEvent.Kind {
    fileprivate var code: UInt8 {
        switch self {
        case .touched: 1
        case .expired: 2
        case .exited: 3
        case .forgotten: 4
        case .mirrorUp: 5
        case .mirrorDown: 6
        }
    }

    fileprivate init?(code: UInt8) {
        guard let found = Self.allCases.first(where: { $0.code == code }) else { return nil }
        self = found
    }
}

// MARK: - Decoding

/// Decodes values of the log; nil for malformed ones, which no process writes.
private struct Decoder {
    /// One object for each: many records share an origin.
    private var origins: [String: Origin] = [:]

    /// - Parameter document: The document of a signal file; nil for a runtime, which has its own.
    mutating func record(_ value: UnsafeRawBufferPointer, document: Document? = nil) -> (Record, Bool)? {
        var reader = ByteReader(value)
        return try? record(&reader, document)
    }

    private mutating func record(
        _ reader: inout ByteReader, _ document: Document?
    ) throws(ByteReader.Malformed) -> (Record, Bool) {
        let isExpiryPending = try reader.number(UInt8.self) == 1
        let deadline = try reader.duration()
        var touch = try touch(&reader)
        var exit: Record.Exit?
        if try reader.number(UInt8.self) == 1 {
            guard let process = try process(&reader) else { throw ByteReader.Malformed() }
            let time = try reader.wallTime()
            exit = Record.Exit(
                of: process, noticedAt: time, at: ContinuousClock.Instant(offset: try reader.duration()))
        }
        guard !reader.rest.isEmpty else {
            touch.document = document
            let isOwn = touch.evidence == .path
            let record = Record(
                touch, deadlineOffset: deadline, exit: exit, ownDocument: isOwn ? document : nil,
                sharedDocument: isOwn ? nil : document)
            return (record, isExpiryPending)
        }
        let own = try self.document(&reader)
        let shared = try self.document(&reader)
        switch try reader.number(UInt8.self) {
        case 1: touch.document = own
        case 2: touch.document = shared
        default: touch.document = try self.document(&reader)
        }
        let record = Record(touch, deadlineOffset: deadline, exit: exit, ownDocument: own, sharedDocument: shared)
        return (record, isExpiryPending)
    }

    private mutating func touch(_ reader: inout ByteReader) throws(ByteReader.Malformed) -> Touch {
        let time = try reader.wallTime()
        let at = ContinuousClock.Instant(offset: try reader.duration())
        let ttl = try reader.duration()
        let stamp = try stamp(&reader)
        let request = try reader.number(UInt64.self)
        guard let source = Touch.Source(code: try reader.number(UInt8.self)) else { throw ByteReader.Malformed() }
        let evidence = Attribution.Evidence(code: try reader.number(UInt8.self))
        let process = try process(&reader)
        let signal = try reader.sized().map { Array($0) }
        let runtime = try reader.sized().map { RuntimeID(validated: $0) }
        return Touch(
            signal: signal, runtime: runtime, receivedAt: time, at: at, ttl: ttl, document: nil, source: source,
            evidence: evidence, process: process, stamp: stamp, request: request)
    }

    mutating func event(_ value: UnsafeRawBufferPointer) -> (number: UInt64, event: LivenessEvent)? {
        var reader = ByteReader(value)
        return try? event(&reader)
    }

    private mutating func event(
        _ reader: inout ByteReader
    ) throws(ByteReader.Malformed) -> (number: UInt64, event: LivenessEvent) {
        let number = try reader.number(UInt64.self)
        guard let kind = LivenessEvent.Kind(code: try reader.number(UInt8.self)) else { throw ByteReader.Malformed() }
        var event = LivenessEvent(kind, at: try reader.wallTime())
        event.source = Touch.Source(code: try reader.number(UInt8.self))
        event.evidence = Attribution.Evidence(code: try reader.number(UInt8.self))
        event.process = try process(&reader)
        event.signal = try reader.sized().map { Array($0) }
        event.runtime = try reader.sized().map { RuntimeID(validated: $0) }
        event.origin = try origin(&reader)
        event.reason = try reader.sized().map { String(decoding: $0, as: UTF8.self) }
        return (number, event)
    }

    mutating func tombstone(_ value: UnsafeRawBufferPointer) -> LivenessTable.Tombstone? {
        var reader = ByteReader(value)
        guard let deadline = try? reader.duration(), let stamp = try? stamp(&reader) else { return nil }
        return LivenessTable.Tombstone(stamp: stamp, deadline: deadline)
    }

    func tally(_ value: UnsafeRawBufferPointer) -> LivenessTally? {
        var reader = ByteReader(value)
        guard let expired = try? reader.number(UInt64.self), let forgotten = try? reader.number(UInt64.self),
            let lag = try? reader.duration()
        else { return nil }
        var tally = LivenessTally()
        (tally.expired, tally.forgotten) = (expired, forgotten)
        tally.expiryLag = lag < .zero ? nil : lag
        return tally
    }

    private mutating func stamp(_ reader: inout ByteReader) throws(ByteReader.Malformed) -> HLCTimestamp {
        let time = try reader.wallTime()
        return HLCTimestamp(time, by: try origin(&reader))
    }

    private mutating func origin(_ reader: inout ByteReader) throws(ByteReader.Malformed) -> Origin? {
        guard let name = try reader.sized() else { return nil }
        guard let host = try reader.sized() else { throw ByteReader.Malformed() }
        let key = String(decoding: name, as: UTF8.self)
        if let known = origins[key] { return known }
        let origin = Origin(name: key, host: String(decoding: host, as: UTF8.self))
        origins[key] = origin
        return origin
    }

    private func process(_ reader: inout ByteReader) throws(ByteReader.Malformed) -> Touch.Process? {
        guard let program = try reader.sized() else { return nil }
        return Touch.Process(pid: try reader.number(Int32.self), program: String(decoding: program, as: UTF8.self))
    }

    private func document(_ reader: inout ByteReader) throws(ByteReader.Malformed) -> Document? {
        guard let bytes = try reader.sized() else { return nil }
        var document = Document(Array(bytes))
        if let path = try reader.sized().map({ Array($0) }) {
            document.source = DocumentSource(path: path, ownership: try reader.ownership())
        }
        return document
    }
}

/// Reads what `EntryBuffer` has put.
struct ByteReader {
    struct Malformed: Error {}

    private(set) var rest: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

    mutating func bytes(_ count: Int) throws(Malformed) -> UnsafeRawBufferPointer {
        guard count <= rest.count else { throw Malformed() }
        defer { rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count)) }
        return UnsafeRawBufferPointer(rebasing: rest.prefix(count))
    }

    mutating func number<Number: FixedWidthInteger>(_: Number.Type) throws(Malformed) -> Number {
        Number(littleEndian: try bytes(MemoryLayout<Number>.size).loadUnaligned(as: Number.self))
    }

    /// See `EntryBuffer.put`.
    mutating func sized() throws(Malformed) -> UnsafeRawBufferPointer? {
        let count = Int(try number(UInt32.self))
        return count == 0 ? nil : try bytes(count - 1)
    }

    mutating func duration() throws(Malformed) -> Duration { Duration(attoseconds: try number(Int128.self)) }

    mutating func wallTime() throws(Malformed) -> WallTime {
        let seconds = try number(Int64.self)
        let nanoseconds = try number(Int32.self)
        guard (0..<1_000_000_000).contains(nanoseconds) else { throw Malformed() }
        return WallTime(seconds: seconds, nanoseconds: nanoseconds)
    }

    mutating func ownership() throws(Malformed) -> SignalFile.Ownership {
        let mode = try number(mode_t.self)
        let user = try number(uid_t.self)
        return SignalFile.Ownership(mode: mode, user: user, group: try number(gid_t.self))
    }
}

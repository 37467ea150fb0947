import Fuse
import Glibc
import Liveness
import Logging
import Synchronization

// MARK: - Encoding

// All numbers are little-endian; a duration has 16 bytes, in attoseconds.

extension EntryBuffer {
    mutating func put(_ record: Record) {
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
    mutating func putDocuments(of record: Record) {
        put((record.isHeld ? 1 : 0) | (record.isSuspended ? 2 : 0) as UInt8)
        put(record.plainDeadlineOffset)
        for moment in [record.clocks.beat, record.clocks.work, record.clocks.backgroundWork] { put(moment) }
        put(record.onBehalf?.writer.description)
        if let onBehalf = record.onBehalf {
            put(onBehalf.process)
            put(Optional(onBehalf.moment))
        }
        put(record.rival)
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

    private mutating func put(_ moment: Record.Moment?) {
        put(moment == nil ? 0 : 1 as UInt8)
        guard let moment else { return }
        put(moment.wall)
        put(moment.instant.offset)
    }

    private mutating func put(_ rival: Record.Rival?) {
        put(rival == nil ? 0 : 1 as UInt8)
        guard let rival else { return }
        put(rival.process)
        put(rival.origin)
        put(Optional(rival.moment))
    }

    private mutating func put(_ evidence: Attribution.Evidence?) {
        put(evidence?.code ?? 0)
        if case .environment(let variable)? = evidence, evidence?.code == Attribution.Evidence.variableCode {
            put(Optional(variable.rawValue))
        }
    }

    /// Without the document.
    private mutating func put(_ touch: Touch) {
        put(touch.receivedAt)
        put(touch.offset)
        put(touch.lateness)
        put(touch.ttl)
        put(touch.stamp)
        put(touch.request)
        put(touch.source.code)
        put(touch.evidence)
        put(touch.writer?.description)
        put(touch.process)
        put(touch.signal)
        put(touch.runtime?.description)
    }

    mutating func put(_ event: LivenessEvent) {
        put(event.kind.code)
        put(event.time)
        put(event.source?.code ?? 0)
        put(event.evidence)
        put(event.process)
        put(event.signal)
        put(event.runtime?.description)
        put(event.origin)
        put(event.beneficiary?.description)
        put(event.writer?.description)
        put(event.rival)
        put(event.request)
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

    mutating func put(_ stamp: HLCTimestamp) {
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
    func isIdentical(to other: Document?) -> Bool {
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
        case .background: 6
        }
    }

    init?(code: UInt8) {
        guard let found = Self.allCases.first(where: { $0.code == code }) else { return nil }
        self = found
    }
}

extension Attribution.Evidence {
    /// Of a preset's variable, whose name follows.
    fileprivate static let variableCode: UInt8 = 10

    var code: UInt8 {
        switch self {
        case .command: 1
        case .path: 2
        case .document: 3
        case .directory: 4
        case .environment(.role): 5
        case .environment(.formerBeadsActor): 6
        case .environment(.session): 7
        case .environment(.beadsAgentName): 8
        case .environment(.beadsActor): 9
        case .environment: Self.variableCode
        }
    }

    init?(code: UInt8) {
        guard let found = Self.all.first(where: { $0.code == code }) else { return nil }
        self = found
    }
}

extension LivenessEvent.Kind {
    var code: UInt8 {
        switch self {
        case .touched: 1
        case .expired: 2
        case .exited: 3
        case .forgotten: 4
        case .mirrorUp: 5
        case .mirrorDown: 6
        case .resumed: 7
        case .contested: 8
        }
    }

    init?(code: UInt8) {
        guard let found = Self.allCases.first(where: { $0.code == code }) else { return nil }
        self = found
    }
}

// MARK: - Decoding

/// Decodes values of the log; nil for malformed ones, which no process writes.
struct LivenessDecoder {
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
                touch, deadlineOffset: deadline, plainDeadlineOffset: deadline, exit: exit,
                ownDocument: isOwn ? document : nil,
                sharedDocument: isOwn ? nil : document)
            return (record, isExpiryPending)
        }
        let hold = try reader.number(UInt8.self)
        let plainDeadline = try reader.duration()
        var clocks = Record.Clocks()
        clocks.beat = try moment(&reader)
        clocks.work = try moment(&reader)
        clocks.backgroundWork = try moment(&reader)
        var onBehalf: Record.OnBehalf?
        if let writer = try reader.sized().map({ RuntimeID(validated: $0) }) {
            let process = try process(&reader)
            guard let moment = try moment(&reader) else { throw ByteReader.Malformed() }
            onBehalf = Record.OnBehalf(by: writer, process: process, at: moment)
        }
        let rival = try rival(&reader)
        let own = try self.document(&reader)
        let shared = try self.document(&reader)
        switch try reader.number(UInt8.self) {
        case 1: touch.document = own
        case 2: touch.document = shared
        default: touch.document = try self.document(&reader)
        }
        var record = Record(
            touch, deadlineOffset: deadline, plainDeadlineOffset: plainDeadline, exit: exit, ownDocument: own,
            sharedDocument: shared)
        (record.isHeld, record.isSuspended) = (hold & 1 != 0, hold & 2 != 0)
        (record.clocks, record.onBehalf, record.rival) = (clocks, onBehalf, rival)
        return (record, isExpiryPending)
    }

    private func moment(_ reader: inout ByteReader) throws(ByteReader.Malformed) -> Record.Moment? {
        guard try reader.number(UInt8.self) == 1 else { return nil }
        let wall = try reader.wallTime()
        return Record.Moment(wall, offset: try reader.duration())
    }

    private mutating func rival(_ reader: inout ByteReader) throws(ByteReader.Malformed) -> Record.Rival? {
        guard try reader.number(UInt8.self) == 1 else { return nil }
        let process = try process(&reader)
        let origin = try origin(&reader)
        guard let moment = try moment(&reader) else { throw ByteReader.Malformed() }
        return Record.Rival(process, of: origin, at: moment)
    }

    private func evidence(_ reader: inout ByteReader) throws(ByteReader.Malformed) -> Attribution.Evidence? {
        let code = try reader.number(UInt8.self)
        guard code == Attribution.Evidence.variableCode else { return Attribution.Evidence(code: code) }
        let name = try reader.sized().map { String(decoding: $0, as: UTF8.self) }
        return name.map { .environment(IdentityClaims.Variable(rawValue: $0)) }
    }

    private mutating func touch(_ reader: inout ByteReader) throws(ByteReader.Malformed) -> Touch {
        let time = try reader.wallTime()
        let offset = try reader.duration()
        let lateness = try reader.duration()
        let ttl = try reader.duration()
        let stamp = try stamp(&reader)
        let request = try reader.number(UInt64.self)
        guard let source = Touch.Source(code: try reader.number(UInt8.self)) else { throw ByteReader.Malformed() }
        let evidence = try evidence(&reader)
        let writer = try reader.sized().map { RuntimeID(validated: $0) }
        let process = try process(&reader)
        let signal = try reader.sized().map { Array($0) }
        let runtime = try reader.sized().map { RuntimeID(validated: $0) }
        var touch = Touch(
            signal: signal, runtime: runtime, receivedAt: time, at: ContinuousClock.Instant(offset: offset + lateness),
            ttl: ttl, document: nil, source: source, evidence: evidence, writer: writer, process: process,
            stamp: stamp, request: request)
        touch.moveBack(by: lateness)
        return touch
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
        event.evidence = try evidence(&reader)
        event.process = try process(&reader)
        event.signal = try reader.sized().map { Array($0) }
        event.runtime = try reader.sized().map { RuntimeID(validated: $0) }
        event.origin = try origin(&reader)
        let beneficiary = try reader.sized().map { RuntimeID(validated: $0) }
        let writer = try reader.sized().map { RuntimeID(validated: $0) }
        let rival = try rival(&reader)
        event.request = try reader.number(UInt64.self)
        event.setRarity(
            beneficiary: beneficiary, writer: writer, rival: rival,
            reason: try reader.sized().map { String(decoding: $0, as: UTF8.self) })
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

/// How the content of one signal file is judged: the kind and the fields of its `Signal`.
public struct SignalFormat: Hashable, Sendable {
    public let kind: SignalKind
    public let fields: Signal.Fields
    /// Whether a document without content is an empty file: its name does not end in `.json`.
    private let isEmptyAllowed: Bool

    /// A touch that announces a long silence proves life for this time at most.
    static let maximumIdleTime: Duration = .seconds(3600)
    /// In Gas Town's heartbeats: until when the agent will be silent.
    static let idleUntilField: StaticString = "expected_idle_until"

    public init(_ signal: Signal, fileName: some BidirectionalCollection<UInt8>) {
        kind = signal.kind
        fields = signal.fields
        isEmptyAllowed = !fileName.suffix(5).elementsEqual(".json".utf8)
    }

    /// A valid content, and what it tells of its writer.
    public struct Judgement: Hashable, Sendable {
        public let document: Document
        /// Whether the tool wrote it.
        ///
        /// Otherwise it is the previous content, maybe with another timestamp.
        public var isWritten = true
        /// Whether its timestamp was in the future, and the time of receipt counts instead.
        public var isFromFuture = false
        /// When the writer was alive; not later than the receipt.
        public var aliveAt: WallTime
        /// Until when the writer announces to be silent.
        public var idleUntil: WallTime?
        /// The id that the content names.
        public var runtime: RuntimeID?

        /// How long a touch proves life: its ttl, or until the end of an announced silence of at most an hour.
        ///
        /// - Parameters:
        ///   - ttl: Of the signal file.
        ///   - now: The time of receipt.
        public func ttl(_ ttl: Duration, receivedAt now: WallTime) -> Duration {
            guard let idleUntil, idleUntil > now else { return ttl }
            return max(ttl, min(idleUntil, now + SignalFormat.maximumIdleTime) - aliveAt)
        }
    }

    /// A process that a document names.
    public struct NamedProcess: Hashable, Sendable {
        public let pid: Int32
        /// Field 22 of `/proc/<pid>/stat`, in clock ticks since boot; nil if the document does not tell.
        public let startTime: UInt64?

        public init(pid: Int32, startTime: UInt64?) {
            self.pid = pid
            self.startTime = startTime
        }
    }

    /// The content of a signal file after a tool has written `bytes`.
    ///
    /// - Parameters:
    ///   - now: When the bytes were received.
    ///   - previous: The current content, which an empty write of a `document` or `json` refreshes.
    ///   - modified: The modification time, which dates a file of kind `mtime`; nil for now.
    /// - Throws: If the bytes are not valid for the kind, or too many. The previous content stays.
    public func judge(
        _ bytes: [UInt8], receivedAt now: WallTime, previous: Document?, modified: WallTime? = nil
    ) throws(Document.Rejection) -> Judgement {
        switch kind {
        case .document:
            let judged = try Document.judge(
                bytes, receivedAt: now, previous: previous, isEmptyAllowed: isEmptyAllowed)
            var judgement = Judgement(document: judged.document, aliveAt: now)
            judgement.isWritten = judged.outcome != .empty
            judgement.isFromFuture = judged.outcome == .timestampFromFuture
            if judgement.isWritten {
                judgement.idleUntil = judged.document.idleUntil
                judgement.runtime = judged.document.actor
            }
            return judgement
        case .json:
            guard bytes.count <= Document.maximumSize else { throw .tooLarge }
            guard bytes.contains(where: { !$0.isJSONWhiteSpace }) else { return try refreshed(previous, at: now) }
            return try judgeJSON(bytes, receivedAt: now)
        case .raw, .mtime:
            guard bytes.count <= Document.maximumSize else { throw .tooLarge }
            return Judgement(document: Document(bytes), aliveAt: aliveAt(modified, receivedAt: now))
        }
    }

    /// The process that a JSON document names; nil if none can be named, and for bytes that `judge` rejects.
    public func process(in bytes: [UInt8]) -> NamedProcess? {
        guard kind == .json, let field = fields.pid, bytes.count <= Document.maximumSize,
            let outline = JSONOutline(bytes), let pid = outline.text(field).flatMap({ Int32($0) }), pid > 0
        else { return nil }
        return NamedProcess(pid: pid, startTime: fields.start.flatMap { outline.text($0) }.flatMap { UInt64($0) })
    }

    /// The content after its times were set.
    ///
    /// - Parameter modified: The new modification time.
    public func refreshed(
        _ previous: Document?, at now: WallTime, modified: WallTime? = nil
    ) throws(Document.Rejection) -> Judgement {
        let document =
            switch kind {
            case .document: try Document.refreshed(previous, at: now, isEmptyAllowed: isEmptyAllowed)
            case .json, .raw, .mtime: previous ?? Document()
            }
        var judgement = Judgement(document: document, aliveAt: now)
        judgement.isWritten = false
        judgement.aliveAt = aliveAt(modified, receivedAt: now)
        return judgement
    }

    /// When the writer of a file with this modification time was alive.
    private func aliveAt(_ modified: WallTime?, receivedAt now: WallTime) -> WallTime {
        kind == .mtime ? min(modified ?? now, now) : now
    }

    private func judgeJSON(_ bytes: [UInt8], receivedAt now: WallTime) throws(Document.Rejection) -> Judgement {
        guard !bytes.contains(0) else { throw .containsNUL }
        guard (try? UTF8Span(validating: bytes.span)) != nil else { throw .invalidUTF8 }
        guard let outline = JSONOutline(bytes) else { throw .brokenJSON }
        guard outline.isObject else { throw .notAnObject }
        let document = Document(bytes)
        var judgement = Judgement(document: document, aliveAt: now)
        if let time = fields.timestamp.flatMap({ outline.time($0) }) {
            judgement.isFromFuture = time - now > Document.clockTolerance
            if !judgement.isFromFuture { judgement.aliveAt = min(time, now) }
        }
        judgement.idleUntil = document.idleUntil
        judgement.runtime = fields.id.flatMap { outline.text($0) }.flatMap { try? RuntimeID($0) }
        return judgement
    }
}

extension Document {
    /// Until when the agent announces to be silent; nil for no announcement, which may be Go's zero time.
    public var idleUntil: WallTime? {
        guard mayHold(SignalFormat.idleUntilField),
            let time = string("\(SignalFormat.idleUntilField)").flatMap({ WallTime(rfc3339: $0.utf8) }),
            time != .goZero
        else { return nil }
        return time
    }

    /// The agent of a Gas Town that the document names.
    public var actor: RuntimeID? {
        guard mayHold("actor") else { return nil }
        return string("actor").flatMap { Agent(address: $0.utf8)?.runtime }
    }

    /// A top-level string or number, under exactly this name; for people.
    public func text(_ field: String) -> String? { JSONOutline(bytes)?.text(field) }
}

extension JSONOutline {
    /// The value of a member with exactly this name, the last of several; nil if it is no string and no number.
    func text(_ name: String) -> String? {
        guard let value = members.last(where: { string(at: $0.key) == name })?.value else { return nil }
        switch Unicode.Scalar(bytes[value.lowerBound]) {
        case "\"": return string(at: value.dropFirst().dropLast())
        case "-", "0"..."9": return String(decoding: bytes[value], as: UTF8.self)
        default: return nil
        }
    }

    /// RFC 3339, or a number of seconds or milliseconds since 1970, also in quotes.
    func time(_ name: String) -> WallTime? {
        guard let text = text(name) else { return nil }
        if let time = WallTime(rfc3339: text.utf8) { return time }
        // As milliseconds, 10^11 is in 1973; as seconds, in the year 5138.
        guard let number = Double(text), number > 0, number < 1e15 else { return nil }
        let seconds = number < 1e11 ? number : number / 1000
        let whole = seconds.rounded(.down)
        return WallTime(
            seconds: Int64(whole), nanoseconds: min(999_999_999, Int32((seconds - whole) * 1_000_000_000)))
    }
}

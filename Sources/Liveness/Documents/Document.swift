/// The content of a signal file: a small JSON object with a timestamp, or nothing.
public struct Document: Hashable, Sendable {
    /// In bytes, as written and as changed by `judge`.
    public static let maximumSize = 65_536

    /// Readers compute a document's age from this field.
    static let timestampField = "timestamp"
    /// The field that holds a line of plain text.
    static let lastCommandField = "last_command"
    /// Maximum time by which a writer's clock may be ahead.
    static let clockTolerance: Duration = .seconds(5)

    /// Empty for a signal file whose readers go by its modification time.
    public let bytes: [UInt8]

    /// The file it was written to, for the table's owner; not part of the document itself.
    public var source: (any AnyObject & Sendable)?

    /// A document of any bytes, such as those of the backing file; does not validate.
    public init(_ bytes: [UInt8] = []) {
        self.bytes = bytes
    }

    public static func == (one: Document, other: Document) -> Bool { one.bytes == other.bytes }

    public func hash(into hasher: inout Hasher) { hasher.combine(bytes) }

    /// The timestamp; nil if there is none that Go can parse.
    public var timestamp: WallTime? { string(Self.timestampField).flatMap { WallTime(rfc3339: $0.utf8) } }

    /// Whether the document may have a field of this lower-case name; much cheaper than parsing it.
    func mayHold(_ field: StaticString) -> Bool {
        // A name may be spelled with escapes.
        if bytes.contains(UInt8(ascii: "\\")) { return true }
        return field.withUTF8Buffer { field in
            bytes.indices.dropLast(field.count - 1).contains { start in
                bytes[start] | 0x20 == field[0] | 0x20
                    && field.indices.allSatisfy { bytes[start + $0] | 0x20 == field[$0] | 0x20 }
            }
        }
    }

    /// The value of a top-level string field, as Go decodes it; nil if there is none.
    public func string(_ field: String) -> String? { JSONOutline(bytes)?.string(field) }
}

// MARK: - Judging writes

extension Document {
    /// A valid document, and how it was derived from the bytes written.
    public struct Judgement: Hashable, Sendable {
        public let document: Document
        public let outcome: Outcome
    }

    public enum Outcome: Hashable, Sendable, CaseIterable {
        /// Kept byte for byte.
        case verbatim
        /// The timestamp was missing, or invalid in Go.
        case timestampAdded
        /// The timestamp was in the future, and would have kept a dead writer alive.
        case timestampFromFuture
        /// A line of text became the last command.
        case plainText
        /// Nothing was written: the previous document with a new timestamp.
        case empty
    }

    /// The content of a signal file after a tool has written `bytes`.
    ///
    /// A resulting document, unless empty, can be parsed by Go, has a timestamp at most five seconds after `now`, and is
    /// judged `verbatim` if written again. Valid bytes are kept; where only the timestamp is wrong, all other bytes are.
    /// A missing timestamp is added, because Go takes such a document to be 292 years old.
    ///
    /// - Parameters:
    ///   - now: When the bytes were received.
    ///   - previous: The current document, which an empty write refreshes.
    ///   - isEmptyAllowed: Whether the result of an empty write without a previous document is empty.
    public static func judge(
        _ bytes: [UInt8], receivedAt now: WallTime, previous: Document?, isEmptyAllowed: Bool
    ) throws(Rejection) -> Judgement {
        guard bytes.count <= maximumSize else { throw .tooLarge }
        guard !bytes.contains(0) else { throw .containsNUL }
        guard (try? UTF8Span(validating: bytes.span)) != nil else { throw .invalidUTF8 }
        guard let first = bytes.first(where: { !$0.isJSONWhiteSpace }) else {
            return Judgement(
                document: try refreshed(previous, at: now, isEmptyAllowed: isEmptyAllowed), outcome: .empty)
        }
        if let outline = JSONOutline(bytes) {
            guard outline.isObject else { throw .notAnObject }
            return try judge(bytes, outline, receivedAt: now)
        }
        // Intended as JSON; EF BB BF is the byte order mark, which Go refuses.
        guard !"{[\"".utf8.contains(first), !bytes.starts(with: [0xEF, 0xBB, 0xBF]) else { throw .brokenJSON }
        return Judgement(document: try plainText(bytes, at: now), outcome: .plainText)
    }

    /// The document after a `touch`: its timestamp becomes `now`, all else stays.
    ///
    /// Without an object to keep, it becomes one with a timestamp alone, or empty if that is allowed. Throws `tooLarge` if
    /// the new timestamp does not fit.
    public static func refreshed(
        _ previous: Document?, at now: WallTime, isEmptyAllowed: Bool
    ) throws(Rejection) -> Document {
        if let bytes = previous?.bytes, let outline = JSONOutline(bytes), outline.isObject {
            let values = outline.members(named: timestampField).map(\.value)
            return try Document(bytes, outline, timestampsAt: values, changedTo: now)
        }
        return isEmptyAllowed ? Document() : Document(Array(#"{"\#(timestampField)":"\#(now.rfc3339)"}"#.utf8))
    }

    private static func judge(
        _ bytes: [UInt8], _ outline: JSONOutline, receivedAt now: WallTime
    ) throws(Rejection) -> Judgement {
        // Go uses the last of repeated keys, but rejects the document for an invalid one anywhere.
        let timestamps = outline.members(named: timestampField).map(\.value)
        var outcome = timestamps.isEmpty ? Outcome.timestampAdded : .verbatim
        let unfit = timestamps.filter { value in
            // Go does not decode escapes in a `time.Time`.
            guard bytes[value.lowerBound] == UInt8(ascii: "\""),
                let timestamp = WallTime(rfc3339: bytes[value].dropFirst().dropLast()), timestamp != .goZero
            else {
                if outcome == .verbatim { outcome = .timestampAdded }
                return true
            }
            guard timestamp - now <= clockTolerance else {
                outcome = .timestampFromFuture
                return true
            }
            return false
        }
        guard outcome != .verbatim else { return Judgement(document: Document(bytes), outcome: .verbatim) }
        let document = try Document(bytes, outline, timestampsAt: unfit, changedTo: now)
        return Judgement(document: document, outcome: outcome)
    }

    /// The object with `values` replaced by a timestamp, or with a timestamp appended if there are none.
    private init(
        _ bytes: [UInt8], _ outline: JSONOutline, timestampsAt values: [Range<Int>], changedTo now: WallTime
    ) throws(Rejection) {
        var result: [UInt8] = []
        var kept = 0
        for value in values {
            result += bytes[kept..<value.lowerBound]
            result += #""\#(now.rfc3339)""#.utf8
            kept = value.upperBound
        }
        if values.isEmpty {
            result += bytes[..<outline.insertionPoint]
            result += #"\#(outline.members.isEmpty ? "" : ",")"\#(Self.timestampField)":"\#(now.rfc3339)""#.utf8
            kept = outline.insertionPoint
        }
        result += bytes[kept...]
        guard result.count <= Self.maximumSize else { throw .tooLarge }
        self.init(result)
    }

    /// The line of `echo 'gt status' > keepalive.json` is the last command.
    private static func plainText(_ bytes: [UInt8], at now: WallTime) throws(Rejection) -> Document {
        var line = bytes[...]
        if line.last == UInt8(ascii: "\n") { line.removeLast() }
        if line.last == UInt8(ascii: "\r") { line.removeLast() }
        guard !line.contains(UInt8(ascii: "\n")), !line.contains(UInt8(ascii: "\r")) else { throw .severalLines }
        let text = String(decoding: line, as: UTF8.self).goEscaped()
        let document = #"{"\#(lastCommandField)":"\#(text)","\#(timestampField)":"\#(now.rfc3339)"}"#
        guard document.utf8.count <= maximumSize else { throw .tooLarge }
        return Document(Array(document.utf8))
    }
}

extension Document {
    /// Why bytes are not a document; the write fails and the previous document stays.
    public enum Rejection: Error, Hashable, CaseIterable, CustomStringConvertible {
        case brokenJSON
        case notAnObject
        case invalidUTF8
        case containsNUL
        case severalLines
        case tooLarge

        public var description: String {
            switch self {
            case .brokenJSON: "The document starts like JSON but is not complete and correct JSON."
            case .notAnObject: "The document is JSON but not an object."
            case .invalidUTF8: "The document is not valid UTF-8."
            case .containsNUL: "The document contains a NUL byte."
            case .severalLines: "The document is neither a JSON object nor a single line of text."
            case .tooLarge: "The document is larger than \(maximumSize) bytes."
            }
        }
    }
}

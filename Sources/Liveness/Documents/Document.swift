/// What a tool wrote into a signal file and will read back: a small JSON object with a timestamp, or nothing.
public struct Document: Hashable, Sendable {
    /// No document is larger, neither as written nor with what `judge` adds to it.
    public static let maximumSize = 65_536

    /// The field that readers take a document's age from.
    static let timestampField = "timestamp"
    /// The field that holds a line of plain text.
    static let lastCommandField = "last_command"
    /// How far a writer's clock may be ahead of ours.
    static let clockTolerance: Duration = .seconds(5)

    /// Empty for a signal file whose readers go by its modification time.
    public let bytes: [UInt8]

    /// Takes bytes for a document unseen, such as those of a real file that was there before the mount.
    public init(_ bytes: [UInt8] = []) {
        self.bytes = bytes
    }

    /// The time that readers take its age from; nil if there is none that Go would read.
    public var timestamp: WallTime? {
        string(Self.timestampField).flatMap { WallTime(rfc3339: $0.utf8) }
    }

    /// Whether it is worth looking for a field of this name, in lower case: much cheaper than reading the document.
    func mayHold(_ field: StaticString) -> Bool {
        // A name may be spelled with escapes.
        if bytes.contains(UInt8(ascii: "\\")) { return true }
        return field.withUTF8Buffer { field in
            bytes.indices.dropLast(field.count - 1).contains { start in
                bytes[start] | 0x20 == field[0]
                    && field.indices.allSatisfy { bytes[start + $0] | 0x20 == field[$0] }
            }
        }
    }

    /// The value of a top-level string field, as a Go program would read it; nil if there is none.
    public func string(_ field: String) -> String? {
        JSONOutline(bytes)?.string(field)
    }
}

/// What the readers of a signal file go by.
public enum SignalKind: Sendable {
    /// A document in the file, whose timestamp tells its age.
    case document
    /// The file's modification time; the file is usually empty.
    case modificationTime

    /// Tells by the name: a file that carries a document ends in `.json`.
    public init(fileName: some BidirectionalCollection<UInt8>) {
        self = fileName.suffix(5).elementsEqual(".json".utf8) ? .document : .modificationTime
    }
}

// MARK: - Judging what was written

extension Document {
    /// A document fit to be read back, and what had to be done to make it so.
    public struct Judgement: Hashable, Sendable {
        public let document: Document
        public let outcome: Outcome
    }

    public enum Outcome: Hashable, Sendable, CaseIterable {
        /// Kept byte for byte.
        case verbatim
        /// A timestamp was missing, or not one to Go.
        case timestampAdded
        /// A timestamp was further ahead than clocks differ, and would have kept a dead writer alive.
        case timestampFromFuture
        /// A line of text became the last command.
        case plainText
        /// Nothing was written; the previous document stays, with a new timestamp.
        case empty
    }

    /// Decides what a signal file holds once a tool has written `bytes` to it.
    ///
    /// Every document that results, unless it is empty, can be read by Go, names a time at most five seconds after
    /// `now`, and is judged `verbatim` if it is written again at that time. Bytes that already are so are kept as they
    /// are; where only the timestamp is amiss, all other bytes are. A document without a time is not left alone,
    /// because Go takes it to be 292 years old, and a town was restarted every three minutes for it.
    ///
    /// - Parameters:
    ///   - now: When the bytes were received.
    ///   - previous: The document so far, which an empty write keeps.
    ///   - kind: What an empty write leaves behind if there is no document to keep.
    public static func judge(
        _ bytes: [UInt8], receivedAt now: WallTime, previous: Document?, kind: SignalKind
    ) throws(Rejection) -> Judgement {
        guard bytes.count <= maximumSize else { throw .tooLarge }
        guard !bytes.contains(0) else { throw .containsNUL }
        guard (try? UTF8Span(validating: bytes.span)) != nil else { throw .invalidUTF8 }
        guard let first = bytes.first(where: { !$0.isJSONWhiteSpace }) else {
            return Judgement(document: try refreshed(previous, at: now, kind: kind), outcome: .empty)
        }
        if let outline = JSONOutline(bytes) {
            guard outline.isObject else { throw .notAnObject }
            return try judge(bytes, outline, receivedAt: now)
        }
        // What begins like this was meant to be JSON; EF BB BF is the byte order mark that Go refuses.
        guard !"{[\"".utf8.contains(first), !bytes.starts(with: [0xEF, 0xBB, 0xBF]) else { throw .brokenJSON }
        return Judgement(document: try plainText(bytes, at: now), outcome: .plainText)
    }

    /// The document after a `touch`: its timestamp becomes `now`, all else is kept.
    ///
    /// If there is no object to keep, a file that carries documents gets one with only a timestamp, and one whose
    /// modification time is the signal stays empty. Throws `tooLarge` in the rare case that the new timestamp does not
    /// fit.
    public static func refreshed(
        _ previous: Document?, at now: WallTime, kind: SignalKind
    ) throws(Rejection) -> Document {
        if let bytes = previous?.bytes, let outline = JSONOutline(bytes), outline.isObject {
            let values = outline.members(named: timestampField).map(\.value)
            return try Document(bytes, outline, timestampsAt: values, changedTo: now)
        }
        return switch kind {
        case .document: Document(Array(#"{"\#(timestampField)":"\#(now.rfc3339)"}"#.utf8))
        case .modificationTime: Document()
        }
    }

    private static func judge(
        _ bytes: [UInt8], _ outline: JSONOutline, receivedAt now: WallTime
    ) throws(Rejection) -> Judgement {
        // Of repeated keys Go takes the last value, but refuses the document for a bad one anywhere.
        let timestamps = outline.members(named: timestampField).map(\.value)
        var outcome = timestamps.isEmpty ? Outcome.timestampAdded : .verbatim
        let unfit = timestamps.filter { value in
            guard let timestamp = WallTime(json: bytes[value]), timestamp != .goZero else {
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

    /// An object with the given values replaced by a timestamp, or with a timestamp as last member if none are given.
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

    /// `echo 'gt status' > keepalive.json`: the line is the last command.
    private static func plainText(_ bytes: [UInt8], at now: WallTime) throws(Rejection) -> Document {
        var line = bytes[...]
        if line.last == UInt8(ascii: "\n") { line.removeLast() }
        if line.last == UInt8(ascii: "\r") { line.removeLast() }
        guard !line.contains(UInt8(ascii: "\n")), !line.contains(UInt8(ascii: "\r")) else { throw .severalLines }
        let text = goEscaped(String(decoding: line, as: UTF8.self))
        let document = #"{"\#(lastCommandField)":"\#(text)","\#(timestampField)":"\#(now.rfc3339)"}"#
        guard document.utf8.count <= maximumSize else { throw .tooLarge }
        return Document(Array(document.utf8))
    }

    /// A string as Go's `json.Marshal` writes it, without the quotes.
    private static func goEscaped(_ text: String) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": escaped += "\\\(scalar)"
            case "\u{08}": escaped += "\\b"
            case "\t": escaped += "\\t"
            case "\n": escaped += "\\n"
            case "\u{0C}": escaped += "\\f"
            case "\r": escaped += "\\r"
            case "\0"..."\u{1F}", "<", ">", "&", "\u{2028}", "\u{2029}":
                let digits = String(scalar.value, radix: 16)
                escaped += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}

extension WallTime {
    /// Reads a JSON value as Go's `time.Time` does, which takes the bytes between the quotes as they are written.
    fileprivate init?(json value: ArraySlice<UInt8>) {
        let quote = UInt8(ascii: "\"")
        guard value.count >= 2, value.first == quote, value.last == quote else { return nil }
        self.init(rfc3339: value.dropFirst().dropLast())
    }
}

extension Document {
    /// Why bytes cannot become a document.
    ///
    /// The writer is told by an error; the document before them stays.
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

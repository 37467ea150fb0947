/// A rule that makes files signal files: a pattern of their paths, and how their content is read.
///
/// As text, `PATTERN[;name=value]…`:
///
///     state/{id}/heartbeat.json;kind=json;ttl=5h;timestamp=last_heartbeat
///     run/{id}.pid;kind=raw;ttl=2m;exclude=*.old.pid
public struct Signal: Hashable, Sendable {
    /// Of paths relative to the town, as `SignalPatterns` explains.
    ///
    /// `{id}` in it stands for the runtime's id.
    public var pattern: String
    public var kind: SignalKind
    /// How long a touch proves life; nil is the town's.
    public var ttl: Duration?
    /// Patterns of file names that are not signal files although `pattern` matches.
    public var excluded: [String]
    /// Of kind `json` only.
    public var fields: Fields

    /// Names of top-level members of a JSON document.
    public struct Fields: Hashable, Sendable {
        /// The runtime's id, where the path has none.
        public var id: String?
        /// What the agent says of itself, for people.
        public var state: String?
        /// When the agent was alive: RFC 3339, or seconds or milliseconds since 1970.
        public var timestamp: String?
        /// The number of the agent's process: a number, or a string of digits.
        public var pid: String?
        /// The start of that process, field 22 of `/proc/<pid>/stat`: a number, or a string of digits.
        public var start: String?

        public init(
            id: String? = nil, state: String? = nil, timestamp: String? = nil, pid: String? = nil, start: String? = nil
        ) {
            self.id = id
            self.state = state
            self.timestamp = timestamp
            self.pid = pid
            self.start = start
        }

        public static let none = Fields()
    }

    /// - Throws: If the parts do not fit together. The pattern itself is checked by `SignalPatterns`.
    public init(
        _ pattern: String, kind: SignalKind = .document, ttl: Duration? = nil, excluding excluded: [String] = [],
        fields: Fields = .none
    ) throws(Invalid) {
        self.pattern = pattern
        self.kind = kind
        self.ttl = ttl
        self.excluded = excluded
        self.fields = fields
        guard kind == .json || fields == .none else { throw .fieldsOfNoJSON(kind) }
        guard fields.start == nil || fields.pid != nil else { throw .startWithoutProcess }
    }

    /// Of kind `document`, with the town's ttl.
    public init(document pattern: String) {
        self.pattern = pattern
        kind = .document
        excluded = []
        fields = .none
    }

    /// Parses the text form.
    public init(_ text: String) throws(Invalid) {
        // A pattern cannot hold a semicolon outside brackets, and nobody needs one inside.
        let parts = text.split(separator: ";", omittingEmptySubsequences: false).map(String.init)
        var kind = SignalKind.document
        var ttl: Duration?
        var excluded: [String] = []
        var fields = Fields.none
        var seen: Set<String> = []
        for part in parts.dropFirst() {
            let words = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard words.count == 2, !words[1].isEmpty else { throw .noValue(part) }
            let (name, value) = (words[0], words[1])
            guard seen.insert(name).inserted || name == "exclude" else { throw .repeated(name) }
            switch name {
            case "kind":
                guard let known = SignalKind(rawValue: value) else { throw .unknownKind(value) }
                kind = known
            case "ttl":
                guard let duration = try? Duration(spelled: value) else { throw .noDuration(value) }
                ttl = duration
            case "exclude": excluded.append(value)
            case "id": fields.id = value
            case "state": fields.state = value
            case "timestamp": fields.timestamp = value
            case "pid": fields.pid = value
            case "start": fields.start = value
            default: throw .unknownName(name)
            }
        }
        try self.init(parts[0], kind: kind, ttl: ttl, excluding: excluded, fields: fields)
    }

    /// Why a rule cannot be used.
    public enum Invalid: Error, Hashable, CustomStringConvertible {
        case noValue(String)
        case repeated(String)
        case unknownName(String)
        case unknownKind(String)
        case noDuration(String)
        case fieldsOfNoJSON(SignalKind)
        case startWithoutProcess

        public var description: String {
            switch self {
            case .noValue(let part): "'\(part)' is not of the form name=value"
            case .repeated(let name): "'\(name)' is given twice"
            case .unknownName(let name):
                "there is no '\(name)'; known are kind, ttl, exclude, id, state, timestamp, pid and start"
            case .unknownKind(let kind): "there is no kind '\(kind)'; known are \(SignalKind.list)"
            case .noDuration(let text): "the ttl '\(text)' is no duration such as 500ms, 90s, 5m or 1h"
            case .fieldsOfNoJSON(let kind): "fields can be named for kind json only, not for \(kind.rawValue)"
            case .startWithoutProcess: "start needs pid, the field with the number of the process"
            }
        }
    }
}

/// How the content of a signal file is validated, and what tells when its writer was alive.
public enum SignalKind: String, Hashable, Sendable, CaseIterable {
    /// Gas Town's: a JSON object with a timestamp. pulsefs adds a missing one.
    case document
    /// Any JSON object, kept byte for byte. Dated by the time of receipt, or by a named field.
    case json
    /// Any bytes, kept as they are. Dated by the time of receipt.
    case raw
    /// The same, dated by the file's modification time.
    case mtime

    static var list: String {
        allCases.dropLast().map(\.rawValue).joined(separator: ", ") + " and \(allCases[allCases.count - 1].rawValue)"
    }
}

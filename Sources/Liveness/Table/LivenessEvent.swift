/// A change of the liveness table, or of its mirror's connection.
public struct LivenessEvent: Hashable, Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        case touched
        case expired
        /// The runtime's root process has ended.
        case exited
        case forgotten
        case mirrorUp = "mirror_up"
        case mirrorDown = "mirror_down"
    }

    public let kind: Kind
    /// When pulsefs noticed it.
    public let time: WallTime
    public var runtime: RuntimeID?
    /// A signal file's path in the town.
    public var signal: [UInt8]?
    public var source: Touch.Source?
    public var evidence: Attribution.Evidence?
    public var process: Touch.Process?
    /// The origin that reported it, if another one did.
    public var origin: Origin?
    public var reason: String?

    public init(
        _ kind: Kind, _ subject: RecordSubject? = nil, at time: WallTime, process: Touch.Process? = nil,
        origin: Origin? = nil, reason: String? = nil
    ) {
        self.kind = kind
        self.time = time
        switch subject {
        case .runtime(let id): runtime = id
        case .signal(let path): signal = path.bytes
        case nil: break
        }
        self.process = process
        self.origin = origin
        self.reason = reason
    }

    /// - Parameter runtime: The touch's, or nil where the touch proves no life.
    init(_ touch: Touch, runtime: RuntimeID?, origin: Origin? = nil) {
        kind = .touched
        time = touch.receivedAt
        self.runtime = runtime
        signal = touch.signal
        source = touch.source
        evidence = touch.evidence
        process = touch.process
        self.origin = origin
    }

    // MARK: As text

    /// A line of JSON with its line feed; invalid UTF-8 in a path becomes U+FFFD.
    public func line(number: UInt64) -> [UInt8] {
        var line = JSONLine()
        line.add("seq", number)
        line.add("time", time.rfc3339)
        line.add("event", kind.rawValue)
        if let runtime { line.add("runtime", runtime.description) }
        if let signal { line.add("signal", String(decoding: signal, as: UTF8.self)) }
        if let source { line.add("source", source.rawValue) }
        if let evidence { line.add("by", evidence.description) }
        if let process {
            line.add("pid", process.pid)
            line.add("program", process.program)
        }
        if let origin { line.add("host", origin.host) }
        if let reason { line.add("reason", reason) }
        return line.bytes
    }

    /// The line in place of events that are no longer held.
    public static func line(ofLost numbers: ClosedRange<UInt64>, at time: WallTime) -> [UInt8] {
        var line = JSONLine()
        line.add("time", time.rfc3339)
        line.add("event", "lost")
        line.add("from", numbers.lowerBound)
        line.add("to", numbers.upperBound)
        return line.bytes
    }
}

/// A JSON object on one line, its members in the order of `add`.
private struct JSONLine {
    private var text = Array("{".utf8)

    var bytes: [UInt8] { text + Array("}\n".utf8) }

    mutating func add(_ key: String, _ value: some FixedWidthInteger) {
        begin(key)
        text += "\(value)".utf8
    }

    mutating func add(_ key: String, _ value: String) {
        begin(key)
        let quote = UInt8(ascii: "\"")
        text.append(quote)
        for scalar in value.unicodeScalars {
            switch scalar.value {
            case 0x22, 0x5C:
                text.append(UInt8(ascii: "\\"))
                text.append(UInt8(scalar.value))
            case 0..<0x20, 0x7F..<0xA0:
                // A line feed would start another event, and terminals obey some control characters.
                let byte = UInt8(scalar.value)
                text += "\\u00".utf8
                text += [byte >> 4, byte & 0xF].map { $0 + ($0 < 10 ? UInt8(ascii: "0") : UInt8(ascii: "a") - 10) }
            default: text += String(scalar).utf8
            }
        }
        text.append(quote)
    }

    private mutating func begin(_ key: String) {
        if text.count > 1 { text.append(UInt8(ascii: ",")) }
        text += "\"\(key)\":".utf8
    }
}

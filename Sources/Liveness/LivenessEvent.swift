/// One thing that has happened to the liveness table or its mirror, as it is told to whoever watches.
public struct LivenessEvent: Hashable, Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        /// Somebody was heard of, here or at another host.
        case touched
        /// A runtime has been silent for its ttl.
        case expired
        /// The process that a runtime is has ended.
        case exited
        case forgotten
        case mirrorUp = "mirror_up"
        case mirrorDown = "mirror_down"
    }

    public private(set) var kind: Kind
    /// When that was noticed.
    public private(set) var time: WallTime
    public var runtime: RuntimeID?
    /// A signal file, by its path in the town.
    public var signal: [UInt8]?
    public var source: Touch.Source?
    public var evidence: Attribution.Evidence?
    public var process: Touch.Process?
    /// Who has noticed it, if not this host.
    public var origin: Origin?
    public var reason: String?

    public init(_ kind: Kind, at time: WallTime) {
        self.kind = kind
        self.time = time
    }

    init(_ kind: Kind, _ subject: RecordSubject, at time: WallTime) {
        self.init(kind, at: time)
        switch subject {
        case .runtime(let id): runtime = id
        case .signal(let path): signal = path.bytes
        }
    }

    init(_ touch: Touch) { self.init(touch, runtime: touch.runtime) }

    /// - Parameter runtime: The touch's, perhaps as another object, or nil.
    init(_ touch: borrowing Touch, runtime: RuntimeID?) {
        kind = .touched
        time = touch.receivedAt
        self.runtime = runtime
        signal = touch.signal
        source = touch.source
        evidence = touch.evidence
        process = touch.process
    }

    /// Becomes the event of a touch, where an older one has been: references are counted only where they change.
    ///
    /// - Parameter runtime: The touch's, perhaps as another object, or nil.
    mutating func become(_ touch: borrowing Touch, runtime: consuming RuntimeID?) {
        kind = .touched
        time = touch.receivedAt
        if self.runtime != nil || runtime != nil { self.runtime = runtime }
        let path = touch.signal
        if signal != nil || path != nil { signal = path }
        source = touch.source
        evidence = touch.evidence
        if process !== touch.process { process = touch.process }
        if origin != nil { origin = nil }
        if reason != nil { reason = nil }
    }

    // MARK: As text

    /// One line of JSON with its line feed, whatever bytes a path is of.
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

    /// What is told in the place of events that are not held any more.
    public static func line(ofLost numbers: ClosedRange<UInt64>, at time: WallTime) -> [UInt8] {
        var line = JSONLine()
        line.add("time", time.rfc3339)
        line.add("event", "lost")
        line.add("from", numbers.lowerBound)
        line.add("to", numbers.upperBound)
        return line.bytes
    }
}

/// A JSON object in one line, its members in the order in which they are added.
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
                // A line of its own making would be taken for another event, and a terminal obeys some of these.
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

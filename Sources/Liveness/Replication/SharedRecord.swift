/// A record as it is sent between origins that share a town name.
///
/// Encoded as lines of a word and a value, an empty line, and the document's bytes:
///
///     pulsefs 1
///     runtime gastown/polecats/furiosa
///     event touched
///     source written
///     alive 89500
///     document 61
///     incarnation 5c0ffee
///     origin build1.3f2a9c00
///     host build1
///     stamp 2026-11-21T18:30:00.123456789Z
///
///     {"last_command":"gt mail send x","timestamp":"…"}
///
/// `alive` is the time to live after the stamp, in milliseconds. `incarnation` is the boot id. The record of an exit has
/// `exited` with pid and program instead, and `silent`, the milliseconds from the last touch to the exit. A signal
/// file's record has `signal` with its path instead of `runtime`. Bytes of paths, hosts and programs other than
/// `[A-Za-z0-9_./-]` are written as `%XX`. Decoders ignore unknown words.
public struct SharedRecord: Hashable, Sendable {
    public enum Event: Hashable, Sendable {
        case touched(source: Touch.Source, alive: Duration, document: Document?)
        /// The stamp is the exit's; the last touch was `silent` earlier.
        case exited(Touch.Process, silent: Duration, source: Touch.Source, document: Document?)
        case forgotten
    }

    public let subject: RecordSubject
    /// With its origin.
    public let stamp: HLCTimestamp
    public let event: Event
    /// Distinguishes two runs of one origin.
    public var bootID = "0"

    public init(subject: RecordSubject, stamp: HLCTimestamp, event: Event) {
        self.subject = subject
        self.stamp = stamp
        self.event = event
    }

    public init(_ message: MirrorQueue.Message) {
        switch message {
        case .touched(let subject, let record):
            if let exit = record.exit {
                self.init(
                    subject: subject, stamp: record.touch.stamp,
                    event: .exited(
                        exit.process, silent: max(.zero, exit.at - record.touch.at), source: record.touch.source,
                        document: record.touch.document))
                return
            }
            self.init(
                subject: subject, stamp: record.touch.stamp,
                event: .touched(
                    source: record.touch.source, alive: record.deadline - record.touch.at,
                    document: record.touch.document))
        case .forgotten(let subject, let stamp):
            self.init(subject: subject, stamp: stamp, event: .forgotten)
        }
    }

    /// A stamp further ahead of the shared clock would outrank later changes for long.
    private static let tolerance: Duration = .seconds(300)

    /// Whether the stamp is not too far in the future.
    public func isPlausible(shared: WallTime) -> Bool {
        stamp.time - shared <= Self.tolerance
    }

    /// The time of the change by the local clock.
    ///
    /// - Parameters:
    ///   - shared: The current time by the shared clock.
    ///   - wall: The current time by the local clock.
    public func localTime(shared: WallTime, wall: WallTime) -> WallTime {
        wall + (.zero - age(shared: shared))
    }

    /// Never negative, although the stamp may be ahead by the error of the clock comparison.
    private func age(shared: WallTime) -> Duration { max(.zero, shared - stamp.time) }

    /// The touch by local clocks, and the exit if there is one.
    ///
    /// - Parameter shared: The current time by the shared clock; `wall` and `instant` are the same moment by local ones.
    /// - Returns: Nil for a forget.
    public func touch(
        shared: WallTime, wall: WallTime, instant: ContinuousClock.Instant
    ) -> (touch: Touch, exit: Record.Exit?)? {
        let age = age(shared: shared)
        let time = localTime(shared: shared, wall: wall)
        switch event {
        case .forgotten: return nil
        case .touched(let source, let alive, let document):
            let touch = Touch(
                receivedAt: time, at: instant - age, ttl: alive, document: document, source: source, stamp: stamp)
            return (withSubject(touch), nil)
        case .exited(let process, let silent, let source, let document):
            let touch = Touch(
                receivedAt: time + (.zero - silent), at: instant - age - silent, ttl: .zero, document: document,
                source: source, stamp: stamp)
            return (withSubject(touch), Record.Exit(of: process, noticedAt: time, at: instant - age))
        }
    }

    private func withSubject(_ touch: Touch) -> Touch {
        var touch = touch
        switch subject {
        case .runtime(let id): touch.runtime = id
        case .signal(let path): touch.signal = path.bytes
        }
        return touch
    }

    // MARK: Keys

    /// The subject's name in Redis keys: `r:mayor`, `s:.runtime/keepalive.json`.
    public static func name(of subject: RecordSubject) -> String {
        switch subject {
        case .runtime(let id): "r:" + id.description
        case .signal(let path): "s:" + escaped(path.bytes)
        }
    }

    // MARK: Bytes

    /// - Parameter origin: The sender.
    public func encoded(by origin: Origin) -> [UInt8] {
        var text = "pulsefs 1\n"
        switch subject {
        case .runtime(let id): text += "runtime \(id)\n"
        case .signal(let path): text += "signal \(Self.escaped(path.bytes))\n"
        }
        var document: Document?
        switch event {
        case .forgotten: text += "event forgotten\n"
        case .touched(let source, let alive, let content):
            text += "event touched\nsource \(source.rawValue)\nalive \(max(0, alive.milliseconds))\n"
            document = content
        case .exited(let process, let silent, let source, let content):
            text += "event exited\nsource \(source.rawValue)\nsilent \(max(0, silent.milliseconds))\n"
            text += "exited \(process.pid) \(Self.escaped(Array(process.program.utf8)))\n"
            document = content
        }
        if let document { text += "document \(document.bytes.count)\n" }
        text +=
            "incarnation \(bootID)\norigin \(origin.name)\nhost \(Self.escaped(Array(origin.host.utf8)))\nstamp \(stamp.time.rfc3339)\n\n"
        return Array(text.utf8) + (document?.bytes ?? [])
    }

    /// Decodes a record; nil for malformed or oversized bytes.
    public init?(_ bytes: [UInt8]) {
        guard bytes.count <= Document.maximumSize + 16_384, let end = bytes.firstRange(of: Array("\n\n".utf8)) else {
            return nil
        }
        var words: [String: String] = [:]
        for line in bytes[..<end.lowerBound].split(separator: UInt8(ascii: "\n")) {
            let parts = line.split(separator: UInt8(ascii: " "), maxSplits: 1)
            guard parts.count == 2 else { return nil }
            words[String(decoding: parts[0], as: UTF8.self)] = String(decoding: parts[1], as: UTF8.self)
        }
        guard words["pulsefs"] == "1", let name = words["origin"], Self.isName(name),
            let bootID = words["incarnation"], Self.isName(bootID),
            let host = words["host"].flatMap(Self.unescaped), let stamp = words["stamp"],
            let time = WallTime(rfc3339: stamp.utf8)
        else { return nil }
        if let id = words["runtime"] {
            guard let id = try? RuntimeID(id) else { return nil }
            subject = .runtime(id)
        } else if let path = words["signal"].flatMap(Self.unescaped), Self.isPath(path) {
            subject = .signal(SignalPath(bytes: path))
        } else {
            return nil
        }
        self.bootID = bootID
        self.stamp = HLCTimestamp(time, by: Origin(name: name, host: Self.printable(host)))
        switch words["event"] {
        case "forgotten": event = .forgotten
        case let word? where word == "touched" || word == "exited":
            let rest = bytes[end.upperBound...]
            var document: Document?
            if let size = words["document"] {
                guard Int(size) == rest.count, rest.count <= Document.maximumSize else { return nil }
                document = Document(Array(rest))
            }
            guard let source = words["source"].flatMap(Touch.Source.init),
                let duration = words[word == "touched" ? "alive" : "silent"].flatMap(Int64.init),
                (0...Self.maximumDuration).contains(duration)
            else { return nil }
            if word == "touched" {
                event = .touched(source: source, alive: .milliseconds(duration), document: document)
            } else {
                guard let process = words["exited"].flatMap(Self.process) else { return nil }
                event = .exited(process, silent: .milliseconds(duration), source: source, document: document)
            }
        default: return nil
        }
    }

    private static func process(_ text: String) -> Touch.Process? {
        let parts = text.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 2, let pid = Int32(parts[0]), let program = unescaped(String(parts[1])) else { return nil }
        return Touch.Process(pid: pid, program: printable(program))
    }

    /// Printable ASCII, because terminals will show it.
    private static func printable(_ bytes: [UInt8]) -> String {
        String(decoding: bytes.map { (0x20..<0x7f).contains($0) ? $0 : UInt8(ascii: "?") }, as: UTF8.self)
    }

    /// In milliseconds: 100 years, as for a ttl.
    private static let maximumDuration: Int64 = 3_155_760_000_000

    private static func isName(_ name: String) -> Bool {
        (1...255).contains(name.utf8.count)
            && name.utf8.allSatisfy { RuntimeID.isAllowed($0) && $0 != UInt8(ascii: "/") }
    }

    /// Relative to the town, without `.` and `..`.
    private static func isPath(_ path: [UInt8]) -> Bool {
        path.count <= 4096
            && path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).allSatisfy { name in
                (1...255).contains(name.count) && !name.elementsEqual(".".utf8) && !name.elementsEqual("..".utf8)
                    && !name.contains(0)
            }
    }

    private static func escaped(_ bytes: [UInt8]) -> String {
        var text = ""
        for byte in bytes {
            if RuntimeID.isAllowed(byte) {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                text += (byte < 16 ? "%0" : "%") + String(byte, radix: 16)
            }
        }
        return text
    }

    private static func unescaped(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
                else { return nil }
                rest = rest.dropFirst(2)
                bytes.append(value)
            } else {
                bytes.append(byte)
            }
        }
        return bytes
    }
}

extension Duration {
    /// Whole milliseconds, rounded down.
    package var milliseconds: Int64 {
        components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    }
}

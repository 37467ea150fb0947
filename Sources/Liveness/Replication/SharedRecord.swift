/// A record as it travels between those who share a town's name.
///
/// As bytes it is lines of a word and a value, an empty line, and the document as it is:
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
/// `alive` is for how many milliseconds after the stamp it proves life. Where the process has ended that a runtime is,
/// `exited` has its number and its program, and `silent` says for how many milliseconds it had not been touched by then.
/// A signal file has `signal` with its path in place
/// of `runtime`. Bytes of paths and hosts beyond `[A-Za-z0-9_./-]` are written as `%` and two hexadecimal digits. Words
/// that a reader does not know are passed over, so that a later version may add some.
public struct SharedRecord: Hashable, Sendable {
    public enum Event: Hashable, Sendable {
        case touched(source: Touch.Source, alive: Duration, document: Document?)
        /// The stamp is of the end, and the last touch was some time before.
        case exited(Touch.Process, silent: Duration, source: Touch.Source, document: Document?)
        case forgotten
    }

    public let subject: RecordSubject
    /// With its origin.
    public let stamp: HLCTimestamp
    public let event: Event
    /// Tells one run of an origin from others: who says it, whatever it says.
    public var bootID = "0"

    public init(subject: RecordSubject, stamp: HLCTimestamp, event: Event) {
        self.subject = subject
        self.stamp = stamp
        self.event = event
    }

    /// The record of what a mirror is to be told.
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

    /// How far ahead of the shared clock a stamp may be: further, it would be later than all that comes for long.
    private static let tolerance: Duration = .seconds(300)

    /// Whether it can have been made by now.
    public func isPlausible(shared: WallTime) -> Bool {
        stamp.time - shared <= Self.tolerance
    }

    /// When it was touched or forgotten, by our clock.
    ///
    /// - Parameters:
    ///   - shared: The time now by the clock of stamps.
    ///   - wall: The same moment by ours.
    public func happened(shared: WallTime, wall: WallTime) -> WallTime {
        wall + (.zero - age(shared: shared))
    }

    /// A stamp may be ahead of the clock by as much as clocks are compared badly, but nobody is touched tomorrow.
    private func age(shared: WallTime) -> Duration { max(.zero, shared - stamp.time) }

    /// The touch that it tells of, as one received here.
    ///
    /// - Parameters:
    ///   - shared: The time now by the clock of stamps; `wall` and `instant` are the same moment by ours.
    /// - Returns: Nil for one that was forgotten. The exit is that of a runtime whose process has ended.
    public func touch(
        shared: WallTime, wall: WallTime, instant: ContinuousClock.Instant
    ) -> (touch: Touch, exit: Record.Exit?)? {
        let age = age(shared: shared)
        let happened = happened(shared: shared, wall: wall)
        switch event {
        case .forgotten: return nil
        case .touched(let source, let alive, let document):
            let touch = Touch(
                receivedAt: happened, at: instant - age, ttl: alive, document: document, source: source, stamp: stamp)
            return (about(touch), nil)
        case .exited(let process, let silent, let source, let document):
            let touch = Touch(
                receivedAt: happened + (.zero - silent), at: instant - age - silent, ttl: .zero, document: document,
                source: source, stamp: stamp)
            return (about(touch), Record.Exit(of: process, noticedAt: happened, at: instant - age))
        }
    }

    private func about(_ touch: Touch) -> Touch {
        var touch = touch
        switch subject {
        case .runtime(let id): touch.runtime = id
        case .signal(let path): touch.signal = path.bytes
        }
        return touch
    }

    // MARK: Keys

    /// The subject as it stands in keys: `r:mayor`, `s:.runtime/keepalive.json`.
    public static func name(of subject: RecordSubject) -> String {
        switch subject {
        case .runtime(let id): "r:" + id.description
        case .signal(let path): "s:" + escaped(path.bytes)
        }
    }

    // MARK: Bytes

    /// The bytes, as said by the origin of the stamp.
    public func encoded(by origin: Origin) -> [UInt8] {
        var text = "pulsefs 1\n"
        switch subject {
        case .runtime(let id): text += "runtime \(id)\n"
        case .signal(let path): text += "signal \(Self.escaped(path.bytes))\n"
        }
        var document: Document?
        switch event {
        case .forgotten: text += "event forgotten\n"
        case .touched(let source, let alive, let brought):
            text += "event touched\nsource \(source.rawValue)\nalive \(max(0, alive.milliseconds))\n"
            document = brought
        case .exited(let process, let silent, let source, let brought):
            text += "event exited\nsource \(source.rawValue)\nsilent \(max(0, silent.milliseconds))\n"
            text += "exited \(process.pid) \(Self.escaped(Array(process.program.utf8)))\n"
            document = brought
        }
        if let document { text += "document \(document.bytes.count)\n" }
        text +=
            "incarnation \(bootID)\norigin \(origin.name)\nhost \(Self.escaped(Array(origin.host.utf8)))\nstamp \(stamp.time.rfc3339)\n\n"
        return Array(text.utf8) + (document?.bytes ?? [])
    }

    /// Reads a record; nil for anything that is not one, whole and within its bounds.
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
        self.stamp = HLCTimestamp(time, by: Origin(name: name, host: Self.shown(host)))
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
                (0...Self.longestLife).contains(duration)
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
        return Touch.Process(pid: pid, program: shown(program))
    }

    /// Of text that people will see in terminals.
    private static func shown(_ bytes: [UInt8]) -> String {
        String(decoding: bytes.map { (0x20..<0x7f).contains($0) ? $0 : UInt8(ascii: "?") }, as: UTF8.self)
    }

    /// In milliseconds: a hundred years, as for a ttl.
    private static let longestLife: Int64 = 3_155_760_000_000

    private static func isName(_ name: String) -> Bool {
        (1...255).contains(name.utf8.count)
            && name.utf8.allSatisfy { RuntimeID.isAllowed($0) && $0 != UInt8(ascii: "/") }
    }

    /// Relative, beneath the town, and with names that a directory may hold.
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

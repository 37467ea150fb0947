/// A record as it is sent between origins that share a town name.
///
/// Encoded as lines of a word and a value, an empty line, and the document's bytes:
///
///     pulsefs 1
///     runtime gastown/polecats/furiosa
///     event touched
///     source written
///     alive 89500
///     process 4242 claude
///     document 61
///     incarnation 5c0ffee
///     origin build1.3f2a9c00
///     host build1
///     stamp 2026-11-21T18:30:00.123456789Z
///
///     {"last_command":"gt mail send x","timestamp":"…"}
///
/// `alive` is the time to live after the stamp, in milliseconds. `late` is how long before the stamp the runtime was
/// alive, by the file's own time, in milliseconds; without it, at the stamp. `process` is the pid and the program of the
/// process that touched, if it is known. `incarnation` is the boot id. The record of an exit has `exited` with pid and
/// program instead, and `silent`, the milliseconds from the last touch to the exit. A signal file's record has `signal`
/// with its path instead of `runtime`. Bytes of ids, paths, hosts and programs other than `[A-Za-z0-9_./-]` are written
/// as `%xx`. Decoders ignore unknown words, and whole records of runtimes whose ids they do not allow.
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
    /// Of a touch: the process that made it.
    public var process: Touch.Process?
    /// Of a touch: how long before the stamp the runtime was alive.
    public var lateness: Duration = .zero
    /// Distinguishes two runs of one origin.
    public var bootID = "0"

    public init(subject: RecordSubject, stamp: HLCTimestamp, event: Event) {
        self.subject = subject
        self.stamp = stamp
        self.event = event
    }

    public init(_ message: MirrorQueue.Message) {
        switch message {
        case .forgotten(let subject, let stamp): self.init(subject: subject, stamp: stamp, event: .forgotten)
        case .touched(let subject, let record):
            let touch = record.touch
            let event: Event =
                if let exit = record.exit {
                    .exited(
                        exit.process, silent: max(.zero, exit.at - touch.at), source: touch.source,
                        document: touch.document)
                } else {
                    .touched(
                        source: touch.source, alive: record.deadline - touch.at - touch.lateness,
                        document: touch.document)
                }
            self.init(subject: subject, stamp: touch.stamp, event: event)
            if record.exit == nil { (process, lateness) = (touch.process, touch.lateness) }
        }
    }

    /// A stamp further ahead of the shared clock would outrank later changes for long.
    private static let tolerance: Duration = .seconds(300)

    /// Whether the stamp is not too far in the future.
    ///
    /// - Parameter shared: The current time by the shared clock, here and below.
    public func isPlausible(shared: WallTime) -> Bool { stamp.time - shared <= Self.tolerance }

    /// The time of the change by the local clock, which now shows `wall`.
    public func localTime(shared: WallTime, wall: WallTime) -> WallTime { wall + (.zero - age(shared: shared)) }

    /// Never negative, although the stamp may be ahead by the error of the clock comparison.
    private func age(shared: WallTime) -> Duration { max(.zero, shared - stamp.time) }

    /// The touch by local clocks, which now show `wall` and `instant`, and the exit if there is one; nil for a forget.
    public func touch(
        shared: WallTime, wall: WallTime, instant: ContinuousClock.Instant
    ) -> (touch: Touch, exit: Record.Exit?)? {
        let time = localTime(shared: shared, wall: wall)
        let at = instant - age(shared: shared)
        var (signal, runtime): ([UInt8]?, RuntimeID?)
        switch subject {
        case .runtime(let id): runtime = id
        case .signal(let path): signal = path.bytes
        }
        switch event {
        case .forgotten: return nil
        case .touched(let source, let alive, let document):
            var touch = Touch(
                signal: signal, runtime: runtime, receivedAt: time, at: at, ttl: alive + lateness, document: document,
                source: source, process: process, stamp: stamp)
            touch.moveBack(by: lateness)
            return (touch, nil)
        case .exited(let process, let silent, let source, let document):
            let touch = Touch(
                signal: signal, runtime: runtime, receivedAt: time + (.zero - silent), at: at - silent, ttl: .zero,
                document: document, source: source, stamp: stamp)
            return (touch, Record.Exit(of: process, noticedAt: time, at: at))
        }
    }

    /// The subject's name in Redis keys: `r:mayor`, `s:.runtime/keepalive.json`; escaped as above.
    public static func name(of subject: RecordSubject) -> String {
        switch subject {
        case .runtime(let id): "r:" + escaped(id.description.utf8)
        case .signal(let path): "s:" + escaped(path.bytes)
        }
    }

    // MARK: Bytes

    /// - Parameter origin: The sender.
    public func encoded(by origin: Origin) -> [UInt8] {
        var lines = ["pulsefs 1"]
        switch subject {
        case .runtime(let id): lines.append("runtime \(Self.escaped(id.description.utf8))")
        case .signal(let path): lines.append("signal \(Self.escaped(path.bytes))")
        }
        var content: Document?
        switch event {
        case .forgotten: lines.append("event forgotten")
        case .touched(let source, let alive, let document):
            lines += ["event touched", "source \(source.shared)", "alive \(max(0, alive.milliseconds))"]
            content = document
        case .exited(let process, let silent, let source, let document):
            lines += ["event exited", "source \(source.shared)", "silent \(max(0, silent.milliseconds))"]
            lines.append("exited \(process.pid) \(Self.escaped(process.program.utf8))")
            content = document
        }
        if let process { lines.append("process \(process.pid) \(Self.escaped(process.program.utf8))") }
        if lateness > .zero { lines.append("late \(lateness.milliseconds)") }
        if let content { lines.append("document \(content.bytes.count)") }
        lines += ["incarnation \(bootID)", "origin \(origin.name)", "host \(Self.escaped(origin.host.utf8))"]
        lines += ["stamp \(stamp.time.rfc3339)", "", ""]
        return Array(lines.joined(separator: "\n").utf8) + (content?.bytes ?? [])
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
            let host = words["host"].flatMap(\.percentDecoded),
            let time = words["stamp"].flatMap({ WallTime(rfc3339: $0.utf8) }), let subject = Self.subject(words),
            let event = Self.event(words, content: bytes[end.upperBound...])
        else { return nil }
        self.subject = subject
        self.event = event
        self.bootID = bootID
        process = words["process"].flatMap(Self.process)
        if let late = words["late"] {
            guard let lateness = Self.duration(late) else { return nil }
            self.lateness = lateness
        }
        stamp = HLCTimestamp(time, by: Origin(name: name, host: Self.printable(host)))
    }

    private static func subject(_ words: [String: String]) -> RecordSubject? {
        if let word = words["runtime"] {
            return word.percentDecoded.flatMap { try? RuntimeID(bytes: $0) }.map { .runtime($0) }
        }
        guard let path = words["signal"].flatMap(\.percentDecoded), isPath(path) else { return nil }
        return .signal(SignalPath(bytes: path))
    }

    private static func event(_ words: [String: String], content: ArraySlice<UInt8>) -> Event? {
        if words["event"] == "forgotten" { return .forgotten }
        var document: Document?
        if let size = words["document"] {
            guard Int(size) == content.count, content.count <= Document.maximumSize else { return nil }
            document = Document(Array(content))
        }
        func duration(_ word: String) -> Duration? { words[word].flatMap(Self.duration) }
        guard let source = words["source"].flatMap(Touch.Source.init) else { return nil }
        switch words["event"] {
        case "touched":
            return duration("alive").map { .touched(source: source, alive: $0, document: document) }
        case "exited":
            guard let silent = duration("silent"), let process = words["exited"].flatMap(process) else { return nil }
            return .exited(process, silent: silent, source: source, document: document)
        default: return nil
        }
    }

    private static func duration(_ text: String) -> Duration? {
        guard let count = Int64(text), count >= 0, count <= Duration.maximumTTL.milliseconds else { return nil }
        return .milliseconds(count)
    }

    private static func process(_ text: String) -> Touch.Process? {
        let parts = text.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 2, let pid = Int32(parts[0]), let program = String(parts[1]).percentDecoded else {
            return nil
        }
        return Touch.Process(pid: pid, program: printable(program))
    }

    /// Printable ASCII, because terminals will show it.
    private static func printable(_ bytes: [UInt8]) -> String {
        String(decoding: bytes.map { (0x20..<0x7f).contains($0) ? $0 : UInt8(ascii: "?") }, as: UTF8.self)
    }

    private static func isName(_ name: String) -> Bool {
        (1...255).contains(name.utf8.count) && name.utf8.allSatisfy(RuntimeID.isAllowedInName)
    }

    /// Whether it is a path relative to the town, without `.` and `..`.
    private static func isPath(_ path: [UInt8]) -> Bool {
        let names = path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        return path.count <= RuntimeID.maximumLength && !path.contains(0)
            && names.allSatisfy { name in
                (1...RuntimeID.maximumNameLength).contains(name.count)
                    && !(name.count <= 2 && name.allSatisfy { $0 == UInt8(ascii: ".") })
            }
    }

    private static func escaped(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { byte in
            byte == UInt8(ascii: "/") || RuntimeID.isAllowedInName(byte)
                ? String(Unicode.Scalar(byte)) : "%" + byte.padded(to: 2, radix: 16)
        }.joined()
    }
}

extension Touch.Source {
    /// In a shared record: a decoder drops a record with a source that it does not know.
    fileprivate var shared: String { self == .background ? Touch.Source.activity.rawValue : rawValue }
}

extension String {
    /// The bytes of a text in which `%XX` stands for the byte with that hexadecimal number; nil if a `%` is followed by
    /// anything else.
    var percentDecoded: [UInt8]? {
        var bytes: [UInt8] = []
        var rest = Array(utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
                return nil
            }
            rest = rest.dropFirst(2)
            bytes.append(value)
        }
        return bytes
    }
}

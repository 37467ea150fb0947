import DequeModule

/// A change of the liveness table, or of its mirror's connection.
public struct LivenessEvent: Hashable, Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        case touched
        case expired
        /// The runtime's root process has ended.
        case exited
        case forgotten
        /// Nothing was served for some time: the machine or pulsefs was suspended. The runtimes that were alive stay so
        /// for a full ttl.
        case resumed
        /// Another agent touches under the same id.
        case contested
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
    /// What few events have, so that the others are small.
    private final class Rarity: Hashable, Sendable {
        let beneficiary: RuntimeID?
        let writer: RuntimeID?
        let rival: Record.Rival?
        let reason: String?

        init(
            _ beneficiary: RuntimeID? = nil, _ writer: RuntimeID? = nil, _ rival: Record.Rival? = nil,
            reason: String? = nil
        ) {
            self.beneficiary = beneficiary
            self.writer = writer
            self.rival = rival
            self.reason = reason
        }

        static func == (first: Rarity, second: Rarity) -> Bool {
            (first.beneficiary, first.writer, first.rival, first.reason)
                == (second.beneficiary, second.writer, second.rival, second.reason)
        }

        func hash(into hasher: inout Hasher) {
            hasher.combine(beneficiary)
            hasher.combine(writer)
            hasher.combine(rival)
            hasher.combine(reason)
        }
    }

    private var rarity: Rarity?

    /// The runtime for which another one's process touched; `runtime` is nil then.
    public var beneficiary: RuntimeID? { rarity?.beneficiary }
    /// The runtime whose process touched for another one.
    public var writer: RuntimeID? { rarity?.writer }
    /// For `contested`: the other agent.
    public var rival: Record.Rival? { rarity?.rival }
    /// Why the mirror is down; for `resumed`, the seconds without service.
    public var reason: String? { rarity?.reason }

    package mutating func setRarity(
        beneficiary: RuntimeID?, writer: RuntimeID?, rival: Record.Rival?, reason: String?
    ) {
        let isEmpty = beneficiary == nil && writer == nil && rival == nil && reason == nil
        rarity = isEmpty ? nil : Rarity(beneficiary, writer, rival, reason: reason)
    }

    /// The number of the FUSE request that touched; 0 if there is none.
    public var request: UInt64 = 0

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
        if let reason { rarity = Rarity(reason: reason) }
    }

    init(resumedAfter gap: Duration, at time: WallTime) {
        let (seconds, attoseconds) = gap.components
        let milliseconds = attoseconds / 1_000_000_000_000_000
        self.init(.resumed, at: time, reason: "\(seconds).\(String(1000 + milliseconds).dropFirst())")
    }

    /// - Parameter runtime: The touch's, or nil where the touch proves no life.
    init(_ touch: Touch, runtime: RuntimeID?, origin: Origin? = nil) {
        self.init(.touched, at: touch.receivedAt, process: touch.process, origin: origin)
        self.runtime = runtime
        if let writer = touch.writer { rarity = Rarity(touch.runtime, writer) }
        signal = touch.signal
        source = touch.source
        evidence = touch.evidence
        request = touch.request
    }

    init(contested id: RuntimeID, by touch: Touch, and rival: Record.Rival) {
        self.init(
            .contested, .runtime(id), at: max(touch.receivedAt, rival.moment.wall), process: touch.process,
            origin: touch.stamp.origin)
        rarity = Rarity(nil, nil, rival)
    }

    /// A line of JSON with its line feed; invalid UTF-8 in a path becomes U+FFFD.
    public func line(number: UInt64) -> [UInt8] {
        Self.line([
            ("seq", "\(number)"), ("time", time.rfc3339.jsonLiteral), ("event", kind.rawValue.jsonLiteral),
            ("runtime", runtime?.description.jsonLiteral),
            ("signal", signal.map { String(decoding: $0, as: UTF8.self).jsonLiteral }),
            ("source", source?.rawValue.jsonLiteral), ("by", evidence?.description.jsonLiteral),
            ("pid", process.map { "\($0.pid)" }), ("program", process?.program.jsonLiteral),
            ("host", origin?.host.jsonLiteral), ("on_behalf_of", beneficiary?.description.jsonLiteral),
            ("written_by", writer?.description.jsonLiteral), ("other_pid", rival?.process.map { "\($0.pid)" }),
            ("other_program", rival?.process?.program.jsonLiteral),
            ("other_host", rival?.origin?.host.jsonLiteral), ("seconds", kind == .resumed ? reason : nil),
            ("reason", kind == .resumed ? nil : reason?.jsonLiteral),
        ])
    }

    /// The line in place of events that are no longer held.
    public static func line(ofLost numbers: ClosedRange<UInt64>, at time: WallTime) -> [UInt8] {
        line([
            ("time", time.rfc3339.jsonLiteral), ("event", "\"lost\""), ("from", "\(numbers.lowerBound)"),
            ("to", "\(numbers.upperBound)"),
        ])
    }

    private static func line(_ members: [(name: String, json: String?)]) -> [UInt8] {
        let members = members.compactMap { name, json in json.map { "\"\(name)\":\($0)" } }
        return Array("{\(members.joined(separator: ","))}\n".utf8)
    }
}

/// The last events, numbered from 1; the oldest are dropped beyond the capacity.
///
/// A reader keeps a number and nothing else, so a reader that goes away costs nothing.
public struct EventLog: Sendable {
    /// Some minutes of a busy town, in less than 2 MB.
    public static let defaultCapacity = 16_384

    /// The number of the last event; 0 before the first.
    public private(set) var last: UInt64 = 0
    private var events = Deque<LivenessEvent>()
    let capacity: Int

    public init(capacity: Int = defaultCapacity) {
        precondition(capacity > 0, "an event log holds at least one event")
        self.capacity = capacity
    }

    /// The number of the oldest event held, or of the next one if none is.
    public var first: UInt64 { last + 1 - UInt64(events.count) }

    /// Fills an empty log.
    mutating func restore(_ events: [LivenessEvent], last: UInt64) {
        self.events = Deque(events)
        self.last = last
    }

    public mutating func append(_ event: consuming LivenessEvent) {
        if events.count == capacity { events.removeFirst() }
        events.append(event)
        last += 1
    }

    public struct Excerpt: Sendable {
        /// Events before `first` that were asked for and are no longer held.
        public let lost: ClosedRange<UInt64>?
        /// The number of the first event.
        public let first: UInt64
        public let events: [LivenessEvent]
    }

    /// Whether one of the events is the touch of a signal file by a request.
    func hasTouch(of signal: [UInt8], by request: UInt64) -> Bool {
        events.contains { $0.request == request && $0.signal == signal }
    }

    /// Up to `limit` events from a number on.
    public func excerpt(from number: UInt64, limit: Int) -> Excerpt {
        let start = max(number, first)
        let skipped = start > last ? events.count : Int(start - first)
        return Excerpt(
            lost: number < start ? number...(start - 1) : nil, first: start,
            events: Array(events.dropFirst(skipped).prefix(limit)))
    }
}

import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

package struct MirrorConfiguration: Sendable {
    /// Multica's.
    package static let defaultPrefix = "mul:runtime:hb:"
    /// Multica takes a runtime for dead after 150 s: no key may outlive that.
    package static let longestHeartbeat: Duration = .seconds(90)
    /// How long records are kept after the last touch, as in the table.
    static let retention: Duration = LivenessTable.defaultRetention

    /// The server, read again for each connection.
    package var options: @Sendable () throws -> RedisOptions
    /// Of heartbeat keys.
    package var prefix = defaultPrefix
    /// Shared by the origins that exchange records.
    package var townName: String
    package var origin: Origin
    /// Whether records of signal files are exchanged.
    package var sharesSignals = false
    /// Path of a `RuntimeIDMap`.
    package var runtimeIDs: String?

    package init(
        townName: String, origin: Origin, options: @escaping @Sendable () throws -> RedisOptions
    ) {
        self.townName = townName
        self.origin = origin
        self.options = options
    }
}

/// A copy of the liveness table in Redis, and a receiver of the changes of other origins.
///
///     touch ──▶ MirrorQueue ──▶ sender ──▶ Redis ──▶ listener ──▶ SharedRecordReceiver
///
/// A touch only enqueues and never waits for the server. One thread (`MirrorSender`) sends batches, another
/// (`MirrorListener`) receives. When the server returns after an outage, everything last changed here is sent again, and
/// all stored records are read.
package final class RedisMirror: LivenessMirror {
    struct State {
        var queue = MirrorQueue()
        /// Whether the sender waits and must be woken for a message that is due now.
        var isAsleep = false
        var isClosing = false
        /// Without the queue's numbers.
        var status: MirrorStatus
        var hasDuplicateOrigin = false
        var lastReply: ContinuousClock.Instant?
    }

    let configuration: MirrorConfiguration
    let clock = SharedClock()
    /// Distinguishes this run from others of the same origin.
    let bootID = String(UInt64.random(in: 1...UInt64.max), radix: 16)
    let log: Logger
    let event: EventFD
    private let listenerEvent: EventFD
    private let senderEnded: EventFD
    private let listenerEnded: EventFD
    private let state: Mutex<State>

    package init(_ configuration: MirrorConfiguration, log: Logger) throws(Errno) {
        self.configuration = configuration
        self.log = log
        event = try EventFD()
        listenerEvent = try EventFD()
        senderEnded = try EventFD()
        listenerEnded = try EventFD()
        let link = MirrorStatus.Link(.connecting, since: .now)
        let status = MirrorStatus(
            server: "(not read yet)", townName: configuration.townName, heartbeats: link, records: link,
            subscription: link)
        state = Mutex(State(status: status))
    }

    /// Starts the two threads.
    ///
    /// - Parameters:
    ///   - store: The table to copy.
    ///   - receiver: Receives the changes of other origins.
    package func start(
        mirroring store: InMemoryLivenessStore, receiver: any SharedRecordReceiver
    ) throws(Errno) {
        // Not joined: `close` waits for their events, with a timeout.
        _ = try Thread(named: "mirror") {
            var sender = MirrorSender(for: self, store: store)
            sender.run()
            self.senderEnded.signal()
        }
        _ = try Thread(named: "mirror-listener") {
            MirrorListener(for: self, receiver: receiver, event: self.listenerEvent).run()
            self.listenerEnded.signal()
        }
    }

    /// Sends what waits, if possible in time, and ends the threads; keys are left to expire.
    package func close(within limit: Duration) {
        state.withLock { $0.isClosing = true }
        event.signal()
        listenerEvent.signal()
        let end = ContinuousClock.now + limit
        _ = senderEnded.wait(until: end)
        _ = listenerEnded.wait(until: end)
    }

    // MARK: LivenessMirror

    package func stamp(_ now: WallTime) -> HLCTimestamp {
        HLCTimestamp(clock.shared(now), by: configuration.origin)
    }

    package func enqueue(_ subject: RecordSubject, isUrgent: Bool) {
        guard isShared(subject) else { return }
        let now = ContinuousClock.now
        let mustWake = state.withLock { state in
            guard state.queue.add(subject, isUrgent: isUrgent, at: now) else { return false }
            defer { state.isAsleep = false }
            return state.isAsleep
        }
        if mustWake { event.signal() }
    }

    func isShared(_ subject: RecordSubject) -> Bool {
        if case .signal = subject { configuration.sharesSignals } else { true }
    }

    // MARK: For the threads

    var isClosing: Bool { state.withLock { $0.isClosing } }

    func withState<Result>(_ body: (inout State) -> Result) -> Result { state.withLock { body(&$0) } }

    func open(_ role: String) throws -> RedisConnection {
        var options = try configuration.options()
        options.clientName = "pulsefs-\(role):\(configuration.origin.name)"
        let server = options.url.description
        state.withLock { $0.status.server = server }
        return try RedisConnection.open(options)
    }

    /// Runs `body` until the mirror closes, with a pause after each error.
    ///
    /// - Parameters:
    ///   - event: Ends a pause when the mirror closes.
    ///   - body: Calls its argument when its connection is up.
    func retry(_ event: EventFD, _ body: (() -> Void) throws -> Void, onError: (any Error) -> Void) {
        var backoff = Backoff()
        while !isClosing {
            var upSince: ContinuousClock.Instant?
            do {
                try body { upSince = .now }
            } catch {
                onError(error)
                backoff.connectionEnded(upSince: upSince)
                sleep(until: .now + backoff.pause(isPermanent: Self.isPermanent(error)), event)
            }
        }
    }

    /// Returns early when the mirror closes.
    func sleep(until end: ContinuousClock.Instant, _ event: EventFD) {
        while !isClosing, ContinuousClock.now < end { _ = event.wait(until: end) }
    }

    private static func isPermanent(_ error: any Error) -> Bool { (error as? RedisError)?.isPermanent ?? true }

    /// Updates a link after an error.
    @discardableResult
    func update(
        _ link: WritableKeyPath<MirrorStatus, MirrorStatus.Link> & Sendable, _ name: String, _ error: any Error
    ) -> Bool {
        update(link, name, Self.isPermanent(error) ? .refused : .down, reason: "\(error)")
    }

    /// Updates a link, and logs a change.
    ///
    /// - Returns: Whether the state changed, and not only the reason.
    @discardableResult
    func update(
        _ link: WritableKeyPath<MirrorStatus, MirrorStatus.Link> & Sendable, _ name: String, _ new: MirrorStatus.State,
        reason: String? = nil
    ) -> Bool {
        let now = WallTime.now
        let (old, server) = state.withLock { state in
            let old = state.status[keyPath: link]
            if old.state == new {
                state.status[keyPath: link].reason = reason
            } else {
                state.status[keyPath: link] = MirrorStatus.Link(new, since: now, reason: reason)
            }
            return (old, state.status.server)
        }
        guard old.state != new || old.reason != reason else { return false }
        switch new {
        case .up, .connecting: log.info("\(name): \(new.rawValue)", metadata: ["server": "\(server)"])
        case .down: log.warning("\(name): down: \(reason ?? "")", metadata: ["server": "\(server)"])
        case .refused: log.error("\(name): refused: \(reason ?? "")", metadata: ["server": "\(server)"])
        }
        return old.state != new
    }

    // MARK: Status

    /// Records that the server has replied to a request made at `start`.
    func recordRoundTrip(since start: ContinuousClock.Instant) {
        let now = ContinuousClock.now
        state.withLock { state in
            state.status.roundTripMicroseconds = Int64((now - start) / .microseconds(1))
            state.lastReply = now
        }
    }

    /// Without a reply for this long the server counts as down, whatever keeps the sender from noticing.
    private static let silenceLimit: Duration = .seconds(5)

    package var status: MirrorStatus {
        let now = ContinuousClock.now
        return state.withLock { state in
            var status = state.status
            if status.heartbeats.state == .up, let lastReply = state.lastReply, now - lastReply > Self.silenceLimit {
                let since = WallTime.now + (lastReply - now)
                status.heartbeats = MirrorStatus.Link(.down, since: since, reason: "nothing has been heard of it since")
            }
            status.queueLength = state.queue.count
            status.coalesced = state.queue.coalesced
            status.dropped = state.queue.dropped
            return status
        }
    }
}

/// The pause before the next attempt to connect.
///
/// Doubles with each failure up to 2 s, with jitter so that many daemons do not reconnect at once. Errors that need a
/// person are retried every 4 s.
struct Backoff: Sendable {
    private static let shortest: Duration = .milliseconds(100)
    private static let longest: Duration = .seconds(2)
    private static let permanent: Duration = .seconds(4)
    /// A connection that lasted this long resets the pause.
    private static let stableAfter: Duration = .seconds(5)

    private var next = shortest

    mutating func connectionEnded(upSince: ContinuousClock.Instant?, at now: ContinuousClock.Instant = .now) {
        if let upSince, now - upSince >= Self.stableAfter { next = Self.shortest }
    }

    /// - Parameter random: 0 to 1; shortens the pause by up to a third.
    mutating func pause(isPermanent: Bool, random: Double = .random(in: 0...1)) -> Duration {
        let pause = isPermanent ? Self.permanent : next
        next = min(next * 2, Self.longest)
        return pause - pause * (random / 3)
    }
}

/// The Redis server's clock, which stamps the records of all origins, as an offset from the local one.
///
/// 0 until the first answer, or if the server refuses TIME. The server reads its clock between question and answer, so a
/// slow answer replaces a quick one only if the two contradict each other.
final class SharedClock: Sendable {
    /// In nanoseconds; added to the local wall clock.
    private let offset = Atomic<Int64>(0)
    /// Maximum error of `offset`, in nanoseconds; nil before the first answer.
    private let uncertainty = Mutex<Int64?>(nil)
    /// Maximum drift between two answers, in nanoseconds.
    private static let drift: Int64 = 20_000
    /// Differences beyond these would overflow the arithmetic.
    private static let plausibleDistance: Range<Duration> = .seconds(-1_000_000_000)..<(.seconds(1_000_000_000))
    private static let plausibleRoundTrip: Range<Duration> = .seconds(-1_000_000_000)..<(.seconds(60))

    var isKnown: Bool { uncertainty.withLock { $0 != nil } }

    func shared(_ wall: WallTime) -> WallTime { wall + .nanoseconds(offset.load(ordering: .relaxed)) }

    /// Updates the offset from a reply to TIME: seconds and microseconds.
    ///
    /// - Parameters:
    ///   - asked: The local time before the command.
    ///   - answered: The local time after the reply.
    /// - Returns: The change of the offset.
    func set(_ reply: RedisReply, asked: WallTime, answered: WallTime) -> Duration {
        guard case .array(let parts) = reply, parts.count == 2, let seconds = parts[0].text.flatMap({ Int64($0) }),
            let microseconds = parts[1].text.flatMap({ Int32($0) }), (0..<1_000_000).contains(microseconds)
        else { return .zero }
        let server = WallTime(seconds: seconds, nanoseconds: microseconds * 1000)
        let roundTrip = answered - asked
        let distance = server - (asked + roundTrip / 2)
        guard Self.plausibleDistance.contains(distance), Self.plausibleRoundTrip.contains(roundTrip) else {
            return .zero
        }
        return uncertainty.withLock { uncertainty in
            let (new, old) = (Int64(distance / .nanoseconds(1)), offset.load(ordering: .relaxed))
            let newUncertainty = Int64(abs(roundTrip / .nanoseconds(1))) / 2
            if let known = uncertainty.map({ $0 + Self.drift }) {
                uncertainty = known
                guard newUncertainty < known || abs(new - old) > known + newUncertainty else { return .zero }
            }
            uncertainty = newUncertainty
            offset.store(new, ordering: .relaxed)
            return .nanoseconds(new - old)
        }
    }
}

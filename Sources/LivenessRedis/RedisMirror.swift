import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

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
        var heartbeats: MirrorStatus.Link
        var records: MirrorStatus.Link
        var subscription: MirrorStatus.Link
        var sent: UInt64 = 0
        var received: UInt64 = 0
        var malformed: UInt64 = 0
        var hasDuplicateOrigin = false
        var roundTrip: Duration?
        var lastReply: ContinuousClock.Instant?
        /// The URL of the last connection, without credentials.
        var server = "(not read yet)"
        var runtimeIDs: MirrorStatus.IDMap?
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
        state = Mutex(State(heartbeats: link, records: link, subscription: link))
    }

    /// Starts the two threads.
    ///
    /// - Parameters:
    ///   - store: The table to copy.
    ///   - receiver: Receives the changes of other origins.
    package func start(
        mirroring store: InMemoryLivenessStore, receiver: any SharedRecordReceiver
    ) throws(Errno) {
        let sender = MirrorSender(for: self, store: store)
        // Not joined: `close` waits for their events, with a timeout.
        _ = try Thread(named: "mirror") {
            sender.run()
            self.senderEnded.signal()
        }
        let listener = MirrorListener(for: self, receiver: receiver, event: listenerEvent)
        _ = try Thread(named: "mirror-listener") {
            listener.run()
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

    package func enqueue(_ record: Record, of subject: RecordSubject) { enqueue(.touched(subject, record)) }

    package func enqueueForget(of subject: RecordSubject, stamp: HLCTimestamp) { enqueue(.forgotten(subject, stamp)) }

    private func enqueue(_ message: MirrorQueue.Message) {
        guard isShared(message.subject) else { return }
        let now = ContinuousClock.now
        let mustWake = state.withLock { state in
            guard state.queue.add(message, at: now) else { return false }
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
        state.withLock { $0.server = server }
        return try RedisConnection.open(options)
    }

    static func isPermanent(_ error: any Error) -> Bool { (error as? RedisError)?.isPermanent ?? true }

    /// Updates a link after an error.
    @discardableResult
    func update(
        _ link: WritableKeyPath<State, MirrorStatus.Link> & Sendable, _ name: String, _ error: any Error
    ) -> Bool {
        update(link, name, Self.isPermanent(error) ? .refused : .down, reason: "\(error)")
    }

    /// Updates a link, and logs a change.
    ///
    /// - Returns: Whether the state changed, and not only the reason.
    @discardableResult
    func update(
        _ link: WritableKeyPath<State, MirrorStatus.Link> & Sendable, _ name: String, _ new: MirrorStatus.State,
        reason: String? = nil
    ) -> Bool {
        let now = WallTime.now
        let (old, server) = state.withLock { state in
            let old = state[keyPath: link]
            if old.state == new {
                state[keyPath: link].reason = reason
            } else {
                state[keyPath: link] = MirrorStatus.Link(new, since: now, reason: reason)
            }
            return (old, state.server)
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

    func recordRoundTrip(_ time: Duration, at now: ContinuousClock.Instant) {
        state.withLock { state in
            state.roundTrip = time
            state.lastReply = now
        }
    }

    /// Without a reply for this long the server counts as down, whatever keeps the sender from noticing.
    private static let silenceLimit: Duration = .seconds(5)

    package var status: MirrorStatus {
        let now = ContinuousClock.now
        return state.withLock { state in
            var heartbeats = state.heartbeats
            if heartbeats.state == .up, let lastReply = state.lastReply, now - lastReply > Self.silenceLimit {
                let since = WallTime.now + (lastReply - now)
                heartbeats = MirrorStatus.Link(.down, since: since, reason: "nothing has been heard of it since")
            }
            return MirrorStatus(
                server: state.server, heartbeats: heartbeats, records: state.records,
                subscription: state.subscription, townName: configuration.townName, queueLength: state.queue.count,
                coalesced: state.queue.coalesced, dropped: state.queue.dropped, sent: state.sent,
                received: state.received, malformed: state.malformed,
                roundTripMicroseconds: state.roundTrip.map { Int64($0 / .microseconds(1)) },
                runtimeIds: state.runtimeIDs)
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

import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// A copy of the liveness table in Redis, and a window on the tables of others.
///
///     touch ──note──▶ MirrorQueue ──▶ sender ──▶ Redis ──▶ listener ──▶ records of others
///
/// Whoever touches pays for a place in the queue and never waits for the server. One thread (`MirrorSender`) sends what is
/// due, in batches; one (`MirrorListener`) receives what others publish. Whatever happens to the server: once it is back,
/// everything that is alive is sent again, and what others did meanwhile is caught up with.
package final class RedisMirror: LivenessMirror {
    struct State {
        var queue = MirrorQueue()
        /// Whether the sender sleeps, and has to be woken for what is due at once.
        var isAsleep = false
        var isClosing = false
        var heartbeats: MirrorStatus.Link
        var records: MirrorStatus.Link
        var subscription: MirrorStatus.Link
        var sent: UInt64 = 0
        var received: UInt64 = 0
        var malformed: UInt64 = 0
        /// Whether another run of our own origin was heard of.
        var hasNamesake = false
        var roundTrip: Duration?
        /// When the server last answered.
        var heardAt: ContinuousClock.Instant?
        /// Without credentials; of the last connection.
        var server = "(not read yet)"
        var runtimeIDs: MirrorStatus.IDMap?
    }

    let configuration: MirrorConfiguration
    let clock = SharedClock()
    /// Tells this run from others of the same origin, if there are such.
    let bootID = String(UInt64.random(in: 1...UInt64.max), radix: 16)
    let log: Logger
    let event: EventFD
    private let listenersWakeup: EventFD
    private let senderEnded: EventFD
    private let listenerEnded: EventFD
    private let state: Mutex<State>

    package init(_ configuration: MirrorConfiguration, log: Logger) throws(Errno) {
        self.configuration = configuration
        self.log = log
        event = try EventFD()
        listenersWakeup = try EventFD()
        senderEnded = try EventFD()
        listenerEnded = try EventFD()
        let link = MirrorStatus.Link(.connecting, since: .now)
        state = Mutex(State(heartbeats: link, records: link, subscription: link))
    }

    /// Starts the two threads.
    ///
    /// - Parameters:
    ///   - store: What is sent again after each interruption.
    ///   - receiver: Where records of others go.
    package func start(
        mirroring store: InMemoryLivenessStore, receiver: any SharedRecordReceiver
    ) throws(Errno) {
        let sender = MirrorSender(for: self, store: store)
        // Not joined: `close` waits for their words, and not for ever.
        _ = try Thread(named: "mirror") {
            sender.run()
            self.senderEnded.raise()
        }
        let listener = MirrorListener(for: self, receiver: receiver, event: listenersWakeup)
        _ = try Thread(named: "mirror-listener") {
            listener.run()
            self.listenerEnded.raise()
        }
    }

    /// Sends what waits, if that can be done in time, and ends.
    ///
    /// Nothing is taken back: keys vanish by themselves.
    package func close(within limit: Duration) {
        state.withLock { $0.isClosing = true }
        event.raise()
        listenersWakeup.raise()
        let end = ContinuousClock.now + limit
        _ = senderEnded.wait(until: end)
        _ = listenerEnded.wait(until: end)
    }

    // MARK: Filling the queue

    package func stamp(_ now: WallTime) -> HLCTimestamp {
        HLCTimestamp(clock.shared(now), by: configuration.origin)
    }

    package func enqueue(_ record: Record, of subject: RecordSubject) {
        note(.touched(subject, record))
    }

    package func enqueueForget(of subject: RecordSubject, stamp: HLCTimestamp) {
        note(.forgotten(subject, stamp))
    }

    private func note(_ message: MirrorQueue.Message) {
        guard isShared(message.subject) else { return }
        let now = ContinuousClock.now
        let isToBeWoken = state.withLock { state in
            let isFirst = state.queue.add(message, at: now)
            defer { if isFirst { state.isAsleep = false } }
            return isFirst && state.isAsleep
        }
        if isToBeWoken { event.raise() }
    }

    func isShared(_ subject: RecordSubject) -> Bool {
        if case .signal = subject { return configuration.sharesSignals }
        return true
    }

    // MARK: The threads' business

    var isClosing: Bool { state.withLock { $0.isClosing } }

    func change<Result>(_ body: (inout State) -> Result) -> Result {
        state.withLock { body(&$0) }
    }

    /// Notes how a link is doing; says so in the log when that is news.
    ///
    /// - Returns: Whether it does otherwise than before, and not just for another reason.
    @discardableResult
    func note(
        _ link: WritableKeyPath<State, MirrorStatus.Link> & Sendable, _ name: String, _ news: MirrorStatus.State,
        reason: String? = nil
    ) -> Bool {
        let now = WallTime.now
        let (isNews, isOther) = state.withLock { state in
            let old = state[keyPath: link]
            guard old.state != news || old.reason != reason else { return (false, false) }
            if old.state == news {
                state[keyPath: link].reason = reason
            } else {
                state[keyPath: link] = MirrorStatus.Link(news, since: now, reason: reason)
            }
            return (true, old.state != news)
        }
        guard isNews else { return false }
        let server = state.withLock { $0.server }
        switch news {
        case .up, .connecting: log.info("\(name): \(news.rawValue)", metadata: ["server": "\(server)"])
        case .down: log.warning("\(name): down: \(reason ?? "")", metadata: ["server": "\(server)"])
        case .refused: log.error("\(name): refused: \(reason ?? "")", metadata: ["server": "\(server)"])
        }
        return isOther
    }

    /// Notes what has ended a link.
    @discardableResult
    func note(
        _ link: WritableKeyPath<State, MirrorStatus.Link> & Sendable, _ name: String, _ error: any Error
    ) -> Bool {
        note(link, name, Self.isPermanent(error) ? .refused : .down, reason: "\(error)")
    }

    static func isPermanent(_ error: any Error) -> Bool {
        (error as? RedisError)?.isPermanent ?? true
    }

    func open(_ role: String) throws -> RedisConnection {
        var options = try configuration.options()
        options.clientName = "pulsefs-\(role):\(configuration.origin.name)"
        let server = options.url.description
        state.withLock { $0.server = server }
        return try RedisConnection.open(options)
    }

    // MARK: Status

    func noteRoundTrip(_ time: Duration, at now: ContinuousClock.Instant) {
        state.withLock { state in
            state.roundTrip = time
            state.heardAt = now
        }
    }

    /// After this long without a word from the server it is not up, whatever keeps the sender from noticing.
    private static let longestSilence: Duration = .seconds(5)

    package var status: MirrorStatus {
        let now = ContinuousClock.now
        return state.withLock { state in
            var heartbeats = state.heartbeats
            if heartbeats.state == .up, let heardAt = state.heardAt, now - heardAt > Self.longestSilence {
                let since = WallTime.now + (heardAt - now)
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

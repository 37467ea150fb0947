import Linux
import Liveness
import Logging

/// Sends local changes to Redis, on a thread of its own.
///
/// Sleeps until a change is due, looks up its current form in the table, and sends batches. Every 1.5 seconds it probes
/// whether the server accepts writes: a server that is stopped, or has become read-only, does not say so by itself.
struct MirrorSender {
    /// Between two probes; with `RedisOptions.replyTimeout` it bounds how long a status can be wrong.
    static let probeInterval: Duration = .milliseconds(1500)
    /// Messages in a batch.
    private static let batchSize = 512
    /// Approximate bytes of documents in a batch: what a slow line carries within the reply timeout.
    private static let batchBytes = 128 << 10
    /// Between two batches, so that more touches are coalesced under load.
    private static let batchPause: Duration = .milliseconds(20)
    /// Before records are retried that the server refused while it accepted heartbeats.
    private static let recordsPause: Duration = .seconds(4)
    /// After this time a name is entered into the index again.
    private static let indexInterval: Duration = .seconds(3600)
    /// Timeout for a look at the file of runtime ids, whose disk may hang.
    private static let fileTimeout: Duration = .seconds(1)
    /// A larger change of the shared clock means that stamps were made with a wrong one.
    private static let clockTolerance: Duration = .milliseconds(500)

    private let mirror: RedisMirror
    private let store: InMemoryLivenessStore
    private let keys: MirrorKeys
    private let ids: RuntimeIDs?
    /// Subjects to send in their current form, because the server may not have them.
    private var backlog: ArraySlice<RecordSubject> = []
    /// Runtimes whose touch a stopped server may still execute when it resumes.
    private var possiblyDelivered: Set<RuntimeID> = []
    /// When each name was last entered into the index.
    private var index: [String: ContinuousClock.Instant] = [:]
    private var nextProbe = ContinuousClock.now
    /// When to retry records; nil while the server accepts them.
    private var recordsRetry: ContinuousClock.Instant?

    init(for mirror: RedisMirror, store: InMemoryLivenessStore) {
        self.mirror = mirror
        self.store = store
        keys = MirrorKeys(mirror.configuration)
        ids = mirror.configuration.runtimeIDs.map { RuntimeIDs(path: $0) }
    }

    mutating func run() {
        mirror.retry(mirror.event) { whenUp in
            try serve(try mirror.open("mirror"), whenUp: whenUp)
        } onError: { error in
            if mirror.update(\.heartbeats, "mirror", error) {
                store.mirrorChanged(isUp: false, reason: "\(error)")
            }
            mirror.update(\.records, "records", error)
        }
    }

    /// Sends over a connection until it fails, or the mirror closes and nothing is left.
    private mutating func serve(_ connection: RedisConnection, whenUp: () -> Void) throws {
        index = [:]
        try probe(connection)
        try retryRecords(connection)
        loadBacklog()
        // A server without memory passes the probe and refuses the backlog.
        while try send(connection), !backlog.isEmpty {}
        if mirror.update(\.heartbeats, "mirror", .up) { store.mirrorChanged(isUp: true, reason: nil) }
        if recordsRetry == nil { mirror.update(\.records, "records", .up) }
        whenUp()
        while true {
            let start = ContinuousClock.now
            if start >= nextProbe { try probe(connection) }
            if let retry = recordsRetry, start >= retry {
                try retryRecords(connection)
                if recordsRetry == nil { loadBacklog() }
            }
            let isLast = mirror.isClosing
            if try send(connection, isLast: isLast) {
                mirror.sleep(until: start + Self.batchPause, mirror.event)
                continue
            }
            guard !isLast else { return }
            try wait(connection)
        }
    }

    /// Waits until a change is due, the server sends something, or the next probe.
    private func wait(_ connection: RedisConnection) throws {
        let limit: ContinuousClock.Instant? = mirror.withState { state in
            guard !state.isClosing, state.queue.due != .now else { return nil }
            state.isAsleep = true
            guard case .at(let due) = state.queue.due else { return nextProbe }
            return min(nextProbe, due)
        }
        guard let limit else { return }
        let reply = try connection.receive(until: limit, orRaised: mirror.event)
        mirror.withState { $0.isAsleep = false }
        _ = mirror.event.wait(until: .now)
        if reply != nil { throw RedisError.protocolViolation("a reply to no command") }
    }

    // MARK: Probing

    /// Checks that the server accepts writes and still has the index, and reads its clock.
    private mutating func probe(_ connection: RedisConnection) throws {
        if let map = ids?.refresh(within: Self.fileTimeout) {
            report(map)
            // Runtimes may have other names now.
            loadBacklog()
        }
        let asked = WallTime.now
        let start = ContinuousClock.now
        let replies = try connection.pipeline([RedisCommand("TIME"), keys.heartbeats.probe, keys.isIndexed])
        let change = mirror.clock.set(replies[0], asked: asked, answered: .now)
        if max(change, .zero - change) > Self.clockTolerance {
            store.moveStamps(of: mirror.configuration.origin, by: change)
            loadBacklog()
        }
        _ = try replies[1].checked()
        if replies[2] == .integer(0), !index.isEmpty {
            // The database was flushed.
            index = [:]
            loadBacklog()
        }
        mirror.recordRoundTrip(since: start)
        nextProbe = .now + Self.probeInterval
    }

    private func report(_ map: MirrorStatus.IDMap) {
        mirror.withState { $0.status.runtimeIds = map }
        let file: Logger.Metadata = ["file": "\(mirror.configuration.runtimeIDs ?? "")"]
        if let problem = map.problem {
            mirror.log.error("runtime ids: \(problem); the previous map stays in use", metadata: file)
        } else {
            mirror.log.info("runtime ids: \(map.entries)", metadata: file)
        }
    }

    /// Checks whether the server accepts records; heartbeats are sent in either case.
    private mutating func retryRecords(_ connection: RedisConnection) throws {
        let reply = try connection.pipeline([keys.removeExpired(at: mirror.clock.shared(.now))])[0]
        if let text = reply.error { return pauseRecords(text) }
        recordsRetry = nil
    }

    private mutating func pauseRecords(_ text: String) {
        index = [:]
        recordsRetry = .now + Self.recordsPause
        mirror.update(\.records, "records", RedisError(reply: text))
    }

    // MARK: Sending

    /// Everything last changed here, alive or not, has to be sent.
    private mutating func loadBacklog() {
        backlog = store.subjects(of: mirror.configuration.origin).filter(mirror.isShared)[...]
    }

    /// Sends a batch of the backlog and of the changes that are due.
    ///
    /// - Parameter isLast: Ignores the rate limit.
    /// - Returns: Whether there was anything to send.
    private mutating func send(_ connection: RedisConnection, isLast: Bool = false) throws -> Bool {
        let refill = backlog.prefix(Self.batchSize)
        backlog = backlog.dropFirst(refill.count)
        let now = ContinuousClock.now
        let (waiting, hasOverflowed) = mirror.withState { state in
            state.queue.requeue(refill, at: now)
            let waiting = state.queue.dequeue(Self.batchSize, at: now, isLast: isLast)
            return (waiting, backlog.isEmpty && state.queue.resetOverflow())
        }
        if hasOverflowed { loadBacklog() }
        guard !waiting.isEmpty else { return !backlog.isEmpty }
        var rest = store.messages(about: waiting, by: mirror.configuration.origin)[...]
        while !rest.isEmpty {
            let batch = rest.prefix(ofBytes: Self.batchBytes)
            let runtimes = batch.lazy.compactMap(\.touchedRuntime)
            let refusal: RedisError?
            do {
                refusal = try send(batch, over: connection)
            } catch {
                possiblyDelivered.formUnion(runtimes)
                requeue(rest, wereRefused: false)
                throw error
            }
            if let refusal {
                requeue(rest, wereRefused: true)
                throw refusal
            }
            if !possiblyDelivered.isEmpty { possiblyDelivered.subtract(runtimes) }
            mirror.withState { $0.status.sent += UInt64(batch.count) }
            rest = rest.dropFirst(batch.count)
        }
        return true
    }

    private func requeue(_ messages: ArraySlice<MirrorQueue.Message>, wereRefused: Bool) {
        mirror.withState { $0.queue.requeue(messages.lazy.map(\.subject), wereRefused: wereRefused, at: .now) }
    }

    /// - Returns: The error, if the server refuses heartbeats.
    private mutating func send(
        _ batch: ArraySlice<MirrorQueue.Message>, over connection: RedisConnection
    ) throws -> RedisError? {
        let now = ContinuousClock.now
        let heartbeats = batch.compactMap { heartbeat($0, at: now) }
        if !heartbeats.isEmpty {
            let replies = try connection.pipeline(heartbeats)
            mirror.recordRoundTrip(since: now)
            if let text = replies.firstError { return RedisError(reply: text) }
        }
        guard recordsRetry == nil else { return nil }
        let records = records(batch, at: now)
        guard !records.isEmpty else { return nil }
        if let text = try connection.pipeline(records).firstError {
            pauseRecords(text)
        } else {
            mirror.update(\.records, "records", .up)
        }
        return nil
    }

    private func heartbeat(_ message: MirrorQueue.Message, at now: ContinuousClock.Instant) -> RedisCommand? {
        guard case .runtime(let id) = message.subject else { return nil }
        let name = ids?.map[id] ?? id.description
        guard !keys.isReserved(name) else { return nil }
        // Since the end of a runtime that was ended or forgotten.
        let age: Duration
        switch message {
        case .touched(_, let record):
            if let exit = record.exit {
                age = now - exit.at
            } else if let command = keys.heartbeat(record, of: name, at: now) {
                return command
            } else {
                return possiblyDelivered.contains(id) ? keys.heartbeats.forget(name) : nil
            }
        case .forgotten(_, let stamp): age = mirror.clock.shared(.now) - stamp.time
        }
        // After that time our key has expired, and one that exists is another client's.
        return age < MirrorConfiguration.longestHeartbeat ? keys.heartbeats.forget(name) : nil
    }

    private mutating func records(
        _ batch: ArraySlice<MirrorQueue.Message>, at now: ContinuousClock.Instant
    ) -> [RedisCommand] {
        var names: [String] = []
        var commands: [RedisCommand] = []
        let shared = mirror.clock.shared(.now)
        if index.count > 2 * batch.count + 10_000 { index = index.filter { now - $0.value <= Self.indexInterval } }
        for message in batch {
            var record = SharedRecord(message)
            record.bootID = mirror.bootID
            let kept = keys.store(record, at: shared)
            guard !kept.isEmpty else { continue }
            commands += kept
            let name = keys.name(of: message.subject)
            if index[name].map({ now - $0 > Self.indexInterval }) ?? true {
                names.append(name)
                index[name] = now
            }
        }
        return commands + keys.addToIndex(names, at: shared)
    }
}

extension [RedisReply] {
    fileprivate var firstError: String? { lazy.compactMap(\.error).first }
}

extension ArraySlice<MirrorQueue.Message> {
    /// As many messages as fit into a number of bytes, at least one.
    fileprivate func prefix(ofBytes limit: Int) -> Self {
        var bytes = 0
        return prefix { message in
            let isFirst = bytes == 0
            bytes += 512
            if case .touched(_, let record) = message { bytes += 2 * (record.touch.document?.bytes.count ?? 0) }
            return isFirst || bytes <= limit
        }
    }
}

extension MirrorQueue.Message {
    /// Nil unless it is about a record of a runtime.
    fileprivate var touchedRuntime: RuntimeID? {
        if case .touched(.runtime(let id), _) = self { id } else { nil }
    }
}

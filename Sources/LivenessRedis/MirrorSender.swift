import Linux
import Liveness
import Synchronization

/// The thread that sends local changes to Redis.
///
/// Sleeps until a change is due, looks up its current form in the table, and sends batches. Every 1.5 seconds it probes
/// whether the server accepts writes: a server that is stopped, or has become read-only, does not say so by itself.
final class MirrorSender: Sendable {
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

    init(for mirror: RedisMirror, store: InMemoryLivenessStore) {
        self.mirror = mirror
        self.store = store
        keys = MirrorKeys(mirror.configuration)
    }

    /// The thread's own state.
    private struct Work {
        var ids: RuntimeIDs?
        /// Subjects to send in their current form, because the server may not have them.
        var backlog: ArraySlice<RecordSubject> = []
        /// Runtimes whose touch a stopped server may still execute when it resumes.
        var possiblyDelivered: Set<RuntimeID> = []
        /// When each name was last entered into the index.
        var index: [String: ContinuousClock.Instant] = [:]
        var nextProbe = ContinuousClock.now
        /// When to retry records; nil while the server accepts them.
        var recordsRetry: ContinuousClock.Instant?
    }

    func run() {
        var backoff = Backoff()
        var work = Work()
        work.ids = mirror.configuration.runtimeIDs.map { RuntimeIDs(path: $0) }
        while !mirror.isClosing {
            var upSince: ContinuousClock.Instant?
            do {
                try serve(try mirror.open("mirror"), &work, whenUp: { upSince = .now })
            } catch {
                if mirror.update(\.heartbeats, "mirror", error) {
                    store.mirrorChanged(isUp: false, reason: "\(error)")
                }
                mirror.update(\.records, "records", error)
                backoff.connectionEnded(upSince: upSince)
                sleep(until: .now + backoff.pause(isPermanent: RedisMirror.isPermanent(error)))
            }
        }
    }

    /// Sends over a connection until it fails, or the mirror closes and nothing is left.
    private func serve(_ connection: RedisConnection, _ work: inout Work, whenUp: () -> Void) throws {
        work.index = [:]
        try probe(connection, &work)
        try retryRecords(connection, &work)
        work.backlog = ownSubjects()
        // A server without memory passes the probe and refuses the backlog.
        while try send(connection, &work), !work.backlog.isEmpty {}
        if mirror.update(\.heartbeats, "mirror", .up) { store.mirrorChanged(isUp: true, reason: nil) }
        if work.recordsRetry == nil { mirror.update(\.records, "records", .up) }
        whenUp()
        while true {
            let start = ContinuousClock.now
            if start >= work.nextProbe { try probe(connection, &work) }
            if let retry = work.recordsRetry, start >= retry {
                try retryRecords(connection, &work)
                if work.recordsRetry == nil { work.backlog = ownSubjects() }
            }
            let isLast = mirror.isClosing
            if try send(connection, &work, isLast: isLast) {
                sleep(until: start + Self.batchPause)
                continue
            }
            guard !isLast else { return }
            try wait(connection, until: work.nextProbe)
        }
    }

    // MARK: Waiting

    /// Waits until a change is due, the server sends something, or the next probe.
    private func wait(_ connection: RedisConnection, until probe: ContinuousClock.Instant) throws {
        let limit: ContinuousClock.Instant? = mirror.withState { state in
            var limit = probe
            switch state.queue.due {
            case .now: return nil
            case .at(let due): limit = min(limit, due)
            case nil: break
            }
            state.isAsleep = !state.isClosing
            return state.isClosing ? nil : limit
        }
        guard let limit else { return }
        let reply = try connection.receive(until: limit, orRaised: mirror.event)
        mirror.withState { $0.isAsleep = false }
        _ = mirror.event.wait(until: .now)
        if reply != nil { throw RedisError.protocolViolation("a reply to no command") }
    }

    /// Returns early when the mirror closes.
    private func sleep(until end: ContinuousClock.Instant) {
        while !mirror.isClosing, ContinuousClock.now < end { _ = mirror.event.wait(until: end) }
    }

    // MARK: Probing

    /// Checks that the server accepts writes and still has the index, and reads its clock.
    private func probe(_ connection: RedisConnection, _ work: inout Work) throws {
        if let update = work.ids?.refresh(within: Self.fileTimeout) {
            report(update)
            // Runtimes may have other names now.
            work.backlog = ownSubjects()
        }
        let asked = WallTime.now
        let start = ContinuousClock.now
        let replies = try connection.pipeline([RedisCommand("TIME"), keys.heartbeats.probe, keys.isIndexed])
        let change = mirror.clock.set(replies[0], asked: asked, answered: .now)
        if abs(change / .seconds(1)) > Self.clockTolerance / .seconds(1) {
            store.moveStamps(of: mirror.configuration.origin, by: change)
            work.backlog = ownSubjects()
        }
        _ = try replies[1].checked()
        if replies[2] == .integer(0), !work.index.isEmpty {
            // The database was flushed.
            work.index = [:]
            work.backlog = ownSubjects()
        }
        let end = ContinuousClock.now
        mirror.recordRoundTrip(end - start, at: end)
        work.nextProbe = end + Self.probeInterval
    }

    private func report(_ update: RuntimeIDs.Update) {
        let path = mirror.configuration.runtimeIDs ?? ""
        mirror.withState { $0.runtimeIDs = MirrorStatus.IDMap(entries: update.count, problem: update.problem) }
        if let problem = update.problem {
            mirror.log.error("runtime ids: \(problem); the previous map stays in use", metadata: ["file": "\(path)"])
        } else {
            mirror.log.info("runtime ids: \(update.count)", metadata: ["file": "\(path)"])
        }
    }

    /// Checks whether the server accepts records; heartbeats are sent in either case.
    private func retryRecords(_ connection: RedisConnection, _ work: inout Work) throws {
        let reply = try connection.pipeline([keys.removeExpired(at: mirror.clock.shared(.now))])[0]
        if let text = reply.error { return pauseRecords(text, &work) }
        work.recordsRetry = nil
    }

    private func pauseRecords(_ text: String, _ work: inout Work) {
        work.index = [:]
        work.recordsRetry = .now + Self.recordsPause
        mirror.update(\.records, "records", RedisError(reply: text))
    }

    // MARK: Sending

    /// Everything last changed here, alive or not.
    private func ownSubjects() -> ArraySlice<RecordSubject> {
        store.subjects(of: mirror.configuration.origin).filter(mirror.isShared)[...]
    }

    /// Sends a batch of the backlog and of the changes that are due.
    ///
    /// - Parameter isLast: Ignores the rate limit.
    /// - Returns: Whether there was anything to send.
    private func send(_ connection: RedisConnection, _ work: inout Work, isLast: Bool = false) throws -> Bool {
        let refill = work.backlog.prefix(Self.batchSize)
        work.backlog = work.backlog.dropFirst(refill.count)
        let again = store.messages(about: refill, by: mirror.configuration.origin)
        let now = ContinuousClock.now
        let (waiting, hasOverflowed) = mirror.withState { state in
            state.queue.requeue(again, at: now)
            return (
                state.queue.dequeue(Self.batchSize, at: now, isLast: isLast),
                work.backlog.isEmpty && state.queue.resetOverflow()
            )
        }
        if hasOverflowed { work.backlog = ownSubjects() }
        guard !waiting.isEmpty else { return !work.backlog.isEmpty }
        // Drops what other origins have overtaken.
        var rest = store.current(waiting)[...]
        while !rest.isEmpty {
            let batch = rest.prefix(ofBytes: Self.batchBytes)
            let refusal: RedisError?
            do {
                refusal = try send(batch, over: connection, &work)
            } catch {
                work.possiblyDelivered.formUnion(batch.lazy.compactMap(\.touchedRuntime))
                mirror.withState { $0.queue.requeue(rest, at: .now) }
                throw error
            }
            if let refusal {
                mirror.withState { $0.queue.requeue(rest, wereRefused: true, at: .now) }
                throw refusal
            }
            if !work.possiblyDelivered.isEmpty {
                work.possiblyDelivered.subtract(batch.lazy.compactMap(\.touchedRuntime))
            }
            mirror.withState { $0.sent += UInt64(batch.count) }
            rest = rest.dropFirst(batch.count)
        }
        return true
    }

    /// - Returns: The error, if the server refuses heartbeats.
    private func send(
        _ batch: ArraySlice<MirrorQueue.Message>, over connection: RedisConnection, _ work: inout Work
    ) throws -> RedisError? {
        let now = ContinuousClock.now
        let heartbeats = batch.compactMap { heartbeat($0, work, at: now) }
        if !heartbeats.isEmpty {
            let replies = try connection.pipeline(heartbeats)
            let end = ContinuousClock.now
            mirror.recordRoundTrip(end - now, at: end)
            if let text = replies.firstError { return RedisError(reply: text) }
        }
        guard work.recordsRetry == nil else { return nil }
        let records = records(batch, &work, at: now)
        guard !records.isEmpty else { return nil }
        if let text = try connection.pipeline(records).firstError {
            pauseRecords(text, &work)
        } else {
            mirror.update(\.records, "records", .up)
        }
        return nil
    }

    private func heartbeat(
        _ message: MirrorQueue.Message, _ work: Work, at now: ContinuousClock.Instant
    ) -> RedisCommand? {
        guard case .runtime(let id) = message.subject else { return nil }
        let name = work.ids?.map[id] ?? id.description
        switch message {
        case .touched(_, let record):
            if let exit = record.exit {
                return now - exit.at < MirrorConfiguration.longestHeartbeat ? keys.heartbeats.forget(name) : nil
            }
            if let command = keys.heartbeat(record, of: name, at: now) { return command }
            return work.possiblyDelivered.contains(id) ? keys.heartbeats.forget(name) : nil
        case .forgotten(_, let stamp):
            // After that time our key has expired, and one that exists is another client's.
            let age = mirror.clock.shared(.now) - stamp.time
            return age < MirrorConfiguration.longestHeartbeat ? keys.heartbeats.forget(name) : nil
        }
    }

    private func records(
        _ batch: ArraySlice<MirrorQueue.Message>, _ work: inout Work, at now: ContinuousClock.Instant
    ) -> [RedisCommand] {
        var names: [String] = []
        var commands: [RedisCommand] = []
        let shared = mirror.clock.shared(.now)
        if work.index.count > 2 * batch.count + 10_000 {
            work.index = work.index.filter { now - $0.value <= Self.indexInterval }
        }
        for message in batch {
            var record = SharedRecord(message)
            record.bootID = mirror.bootID
            let kept = keys.store(record, at: shared)
            guard !kept.isEmpty else { continue }
            commands += kept
            let name = keys.name(of: message.subject)
            if work.index[name].map({ now - $0 > Self.indexInterval }) ?? true {
                names.append(name)
                work.index[name] = now
            }
        }
        return commands + keys.addToIndex(names, at: shared)
    }
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

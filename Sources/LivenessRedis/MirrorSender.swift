import Liveness
import Synchronization
import SystemCalls

/// The thread that tells Redis what happened here.
///
/// It sleeps until something is due, sends that in one batch and reads the replies. Twice in three seconds it asks the
/// server whether changes are taken: a server that is stopped, or has become read-only, says nothing by itself.
final class MirrorSender: Sendable {
    /// Between two questions; with `RedisOptions.replyTimeout` it bounds how long a status can be wrong.
    private static let beat: Duration = .milliseconds(1500)
    /// Messages in a batch.
    private static let batchSize = 512
    /// Between two batches: while touches pour in, they are worth waiting for a little.
    private static let pause: Duration = .milliseconds(20)
    /// Before records are tried again that the server would not take while it took heartbeats.
    private static let recordsPause: Duration = .seconds(4)
    /// After this long a name is entered into the index once more.
    private static let indexInterval: Duration = .seconds(3600)

    private let mirror: RedisMirror
    private let store: InMemoryLivenessStore
    private let keys: MirrorKeys

    init(for mirror: RedisMirror, store: InMemoryLivenessStore) {
        self.mirror = mirror
        self.store = store
        keys = MirrorKeys(mirror.configuration)
    }

    /// What the thread knows besides the queue.
    private struct Work {
        var ids: RuntimeIDFile?
        /// Records of ours that are to be sent as they are now, because the server may not have them.
        var backlog: ArraySlice<MirrorQueue.Message> = []
        /// Runtimes of which a server was told that may get to it later than it says, if it was stopped just then.
        var doubtful: Set<RuntimeID> = []
        /// The names in the index, and when they were entered.
        var index: [String: ContinuousClock.Instant] = [:]
        var nextBeat = ContinuousClock.now
        /// When records may be tried again; nil while they are taken.
        var recordsAgain: ContinuousClock.Instant?
        var takesRecords: Bool { recordsAgain == nil }
    }

    func run() {
        var backoff = Backoff()
        var work = Work()
        work.ids = mirror.configuration.runtimeIDs.map { RuntimeIDFile(path: $0) }
        while !mirror.isClosing {
            do {
                let connection = try mirror.open("mirror")
                try serve(connection, &work, whenUp: { backoff.reset() })
            } catch {
                mirror.note(\.heartbeats, "mirror", error)
                mirror.note(\.records, "records", error)
                let pause = backoff.pause(needsAPerson: RedisMirror.needsAPerson(error))
                sleep(until: .now + pause)
            }
        }
    }

    /// Sends over a connection until it breaks, or the mirror is closed and nothing is left.
    private func serve(_ connection: RedisConnection, _ work: inout Work, whenUp: () -> Void) throws {
        work.index = [:]
        work.recordsAgain = nil
        try ask(connection, &work)
        try tryRecords(connection, &work)
        work.backlog = ownRecords()
        // One without memory says yes to the question and no to what counts.
        while try send(connection, &work), !work.backlog.isEmpty {}
        mirror.note(\.heartbeats, "mirror", .up)
        whenUp()
        while true {
            let start = ContinuousClock.now
            if start >= work.nextBeat { try ask(connection, &work) }
            if let again = work.recordsAgain, start >= again {
                try tryRecords(connection, &work)
                if work.takesRecords { work.backlog = ownRecords() }
            }
            if try send(connection, &work) {
                sleep(until: start + Self.pause)
                continue
            }
            guard !mirror.isClosing else { return }
            try wait(connection, until: work.nextBeat)
        }
    }

    // MARK: Waiting

    /// Waits until something is due, the server says something, or for the next question.
    private func wait(_ connection: RedisConnection, until beat: ContinuousClock.Instant) throws {
        let limit: ContinuousClock.Instant? = mirror.change { state in
            var limit = beat
            switch state.queue.due {
            case .now: return nil
            case .at(let due): limit = min(limit, due)
            case nil: break
            }
            state.isAsleep = !state.isClosing
            return state.isClosing ? nil : limit
        }
        guard let limit else { return }
        let reply = try connection.receive(until: limit, orRaised: mirror.wakeup)
        mirror.change { $0.isAsleep = false }
        // Whatever it was raised for is looked at now.
        _ = mirror.wakeup.wait(until: .now)
        if reply != nil { throw RedisError.protocolViolation("a reply to no command") }
    }

    /// Waits, unless the mirror is being closed.
    private func sleep(until end: ContinuousClock.Instant) {
        while !mirror.isClosing, ContinuousClock.now < end { _ = mirror.wakeup.wait(until: end) }
    }

    // MARK: Asking

    /// Asks whether the server is there and takes changes, and what time it is.
    private func ask(_ connection: RedisConnection, _ work: inout Work) throws {
        if work.ids?.refresh() == true {
            note(work.ids?.problem, entries: work.ids?.map.count ?? 0)
            // Runtimes may have other names now.
            work.backlog = ownRecords()
        }
        let asked = WallTime.now
        let start = ContinuousClock.now
        let replies = try connection.pipeline([RedisCommand("TIME"), keys.heartbeats.probe])
        mirror.clock.set(replies[0], asked: asked, answered: .now)
        if case .error(let text) = replies[1] { throw RedisError(reply: text) }
        let end = ContinuousClock.now
        mirror.change { $0.roundTrip = end - start }
        work.nextBeat = end + Self.beat
    }

    private func note(_ problem: String?, entries: Int) {
        let path = mirror.configuration.runtimeIDs ?? ""
        mirror.change { $0.runtimeIDs = MirrorStatus.IDMap(entries: entries, problem: problem) }
        if let problem {
            mirror.log.error("runtime ids: \(problem); the map of before stays", metadata: ["file": "\(path)"])
        } else {
            mirror.log.info("runtime ids: \(entries)", metadata: ["file": "\(path)"])
        }
    }

    /// Sees whether records are taken; that they are not keeps nobody from being told of as alive.
    private func tryRecords(_ connection: RedisConnection, _ work: inout Work) throws {
        let reply = try connection.pipeline([keys.clear(at: mirror.clock.shared(.now))])[0]
        note(errorOfRecords: reply.error, &work)
    }

    private func note(errorOfRecords text: String?, _ work: inout Work) {
        guard let text else {
            work.recordsAgain = nil
            return mirror.note(\.records, "records", .up)
        }
        work.recordsAgain = .now + Self.recordsPause
        mirror.note(\.records, "records", RedisError(reply: text))
    }

    // MARK: Sending

    /// What was touched here last, whether alive or not: for a server that may have nothing.
    private func ownRecords() -> ArraySlice<MirrorQueue.Message> {
        store.records.filter { subject, record in
            mirror.isShared(subject) && record.touch.stamp.origin == mirror.configuration.origin
        }.map { .touched($0.subject, $0.record) }[...]
    }

    /// Sends what is due.
    ///
    /// - Returns: Whether there was anything.
    private func send(_ connection: RedisConnection, _ work: inout Work) throws -> Bool {
        let now = ContinuousClock.now
        let refill = work.backlog.prefix(Self.batchSize)
        work.backlog = work.backlog.dropFirst(refill.count)
        let (batch, hasOverflowed) = mirror.change { state in
            // As if it had never been told; what is in the queue already is newer, and stays.
            state.queue.putBack(refill, at: now)
            return (state.queue.take(Self.batchSize, at: now), work.backlog.isEmpty && state.queue.takeOverflow())
        }
        if hasOverflowed { work.backlog = ownRecords() }
        guard !batch.isEmpty else { return !work.backlog.isEmpty }
        let refusal: RedisError?
        do {
            refusal = try tell(batch, over: connection, &work, at: now)
        } catch {
            work.doubtful.formUnion(batch.lazy.compactMap(\.touchedRuntime))
            mirror.change { $0.queue.putBack(batch, at: now) }
            throw error
        }
        if let refusal {
            mirror.change { $0.queue.putBack(batch, wereRefused: true, at: now) }
            throw refusal
        }
        if !work.doubtful.isEmpty { work.doubtful.subtract(batch.lazy.compactMap(\.touchedRuntime)) }
        mirror.change { $0.sent += UInt64(batch.count) }
        return true
    }

    /// - Returns: Why the server does not take it, if it does not.
    private func tell(
        _ batch: [MirrorQueue.Message], over connection: RedisConnection, _ work: inout Work,
        at now: ContinuousClock.Instant
    ) throws -> RedisError? {
        let heartbeats = batch.compactMap { heartbeat($0, work, at: now) }
        let records = work.takesRecords ? self.records(batch, &work, at: now) : []
        let start = ContinuousClock.now
        let replies = try connection.pipeline(heartbeats + records)
        mirror.change { $0.roundTrip = ContinuousClock.now - start }
        if let text = replies.prefix(heartbeats.count).firstError { return RedisError(reply: text) }
        if let text = replies.dropFirst(heartbeats.count).firstError {
            work.index = [:]
            note(errorOfRecords: text, &work)
        }
        return nil
    }

    private func heartbeat(
        _ message: MirrorQueue.Message, _ work: Work, at now: ContinuousClock.Instant
    ) -> RedisCommand? {
        guard case .runtime(let id) = message.subject else { return nil }
        let name = work.ids?.map[id] ?? id.description
        return switch message {
        case .touched(_, let record):
            keys.heartbeat(record, of: name, at: now)
                ?? (isToBeTakenBack(id, work, at: now) ? keys.heartbeats.forget(name) : nil)
        case .forgotten: keys.heartbeats.forget(name)
        }
    }

    /// Whether a runtime that has expired may be told of all the same, by what a server was sent long ago.
    private func isToBeTakenBack(_ id: RuntimeID, _ work: Work, at now: ContinuousClock.Instant) -> Bool {
        work.doubtful.contains(id) && store.record(of: id)?.isAlive(at: now) != true
    }

    private func records(
        _ batch: [MirrorQueue.Message], _ work: inout Work, at now: ContinuousClock.Instant
    ) -> [RedisCommand] {
        var names: [String] = []
        var commands: [RedisCommand] = []
        for message in batch {
            let name = keys.name(of: message.subject)
            if work.index[name].map({ now - $0 > Self.indexInterval }) ?? true {
                names.append(name)
                work.index[name] = now
            }
            commands += keys.keep(SharedRecord(message))
        }
        return commands + keys.enter(names, at: mirror.clock.shared(.now))
    }
}

extension MirrorQueue.Message {
    /// Nil unless it is a touch, and of a runtime.
    fileprivate var touchedRuntime: RuntimeID? {
        if case .touched(.runtime(let id), _) = self { id } else { nil }
    }
}

extension RedisReply {
    /// The server's words, if it is an error.
    var error: String? { if case .error(let text) = self { text } else { nil } }
}

extension Sequence<RedisReply> {
    var firstError: String? { lazy.compactMap(\.error).first }
}

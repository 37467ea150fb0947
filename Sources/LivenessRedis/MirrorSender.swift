import Linux
import Liveness
import Synchronization

/// The thread that tells Redis what happened here.
///
/// It sleeps until something is due, looks up what the table says of it now, sends that in batches and reads the replies.
/// Twice in three seconds it asks the server whether changes are taken: a server that is stopped, or has become
/// read-only, says nothing by itself.
final class MirrorSender: Sendable {
    /// Between two questions; with `RedisOptions.replyTimeout` it bounds how long a status can be wrong.
    static let beat: Duration = .milliseconds(1500)
    /// Messages in a batch.
    private static let batchSize = 512
    /// Bytes of documents in a batch, about: what a slow line carries within the time for a reply.
    private static let batchBytes = 128 << 10
    /// Between two batches: while touches pour in, they are worth waiting for a little.
    private static let pause: Duration = .milliseconds(20)
    /// Before records are tried again that the server would not take while it took heartbeats.
    private static let recordsPause: Duration = .seconds(4)
    /// After this long a name is entered into the index once more.
    private static let indexInterval: Duration = .seconds(3600)
    /// How long a file that is looked at may take; it may be on a disk that hangs.
    private static let patience: Duration = .seconds(1)
    /// By more than this, a change of the shared clock is one of what we knew of it.
    private static let tolerance: Duration = .milliseconds(500)

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
        var ids: RuntimeIDs?
        /// What of ours is to be sent as it is then, because the server may not have it.
        var backlog: ArraySlice<RecordSubject> = []
        /// Runtimes of which a server was told that may get to it later than it says, if it was stopped just then.
        var possiblyDelivered: Set<RuntimeID> = []
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
        work.ids = mirror.configuration.runtimeIDs.map { RuntimeIDs(path: $0) }
        while !mirror.isClosing {
            var upSince: ContinuousClock.Instant?
            do {
                try serve(try mirror.open("mirror"), &work, whenUp: { upSince = .now })
            } catch {
                if mirror.note(\.heartbeats, "mirror", error) {
                    store.mirrorChanged(isUp: false, reason: "\(error)")
                }
                mirror.note(\.records, "records", error)
                backoff.note(upSince: upSince)
                sleep(until: .now + backoff.pause(isPermanent: RedisMirror.isPermanent(error)))
            }
        }
    }

    /// Sends over a connection until it breaks, or the mirror is closed and nothing is left.
    private func serve(_ connection: RedisConnection, _ work: inout Work, whenUp: () -> Void) throws {
        work.index = [:]
        try ask(connection, &work)
        try tryRecords(connection, &work)
        work.backlog = ownSubjects()
        // One without memory says yes to the question and no to what counts.
        while try send(connection, &work), !work.backlog.isEmpty {}
        if mirror.note(\.heartbeats, "mirror", .up) { store.mirrorChanged(isUp: true, reason: nil) }
        if work.takesRecords { mirror.note(\.records, "records", .up) }
        whenUp()
        while true {
            let start = ContinuousClock.now
            if start >= work.nextBeat { try ask(connection, &work) }
            if let again = work.recordsAgain, start >= again {
                try tryRecords(connection, &work)
                if work.takesRecords { work.backlog = ownSubjects() }
            }
            let isLast = mirror.isClosing
            if try send(connection, &work, isLast: isLast) {
                sleep(until: start + Self.pause)
                continue
            }
            guard !isLast else { return }
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
        let reply = try connection.receive(until: limit, orRaised: mirror.event)
        mirror.change { $0.isAsleep = false }
        // Whatever it was raised for is looked at now.
        _ = mirror.event.wait(until: .now)
        if reply != nil { throw RedisError.protocolViolation("a reply to no command") }
    }

    /// Waits, unless the mirror is being closed.
    private func sleep(until end: ContinuousClock.Instant) {
        while !mirror.isClosing, ContinuousClock.now < end { _ = mirror.event.wait(until: end) }
    }

    // MARK: Asking

    /// Asks whether the server is there, takes changes and has what it was told, and what time it is.
    private func ask(_ connection: RedisConnection, _ work: inout Work) throws {
        if let news = work.ids?.refresh(within: Self.patience) {
            note(news)
            // Runtimes may have other names now.
            work.backlog = ownSubjects()
        }
        let asked = WallTime.now
        let start = ContinuousClock.now
        let replies = try connection.pipeline([RedisCommand("TIME"), keys.heartbeats.probe, keys.isIndexed])
        let change = mirror.clock.set(replies[0], asked: asked, answered: .now)
        if abs(change / .seconds(1)) > Self.tolerance / .seconds(1) {
            // What was stamped by what we took the time for.
            store.moveStamps(of: mirror.configuration.origin, by: change)
            work.backlog = ownSubjects()
        }
        _ = try replies[1].checked()
        if replies[2] == .integer(0), !work.index.isEmpty {
            // Somebody has emptied the database.
            work.index = [:]
            work.backlog = ownSubjects()
        }
        let end = ContinuousClock.now
        mirror.noteRoundTrip(end - start, at: end)
        work.nextBeat = end + Self.beat
    }

    private func note(_ news: RuntimeIDs.News) {
        let path = mirror.configuration.runtimeIDs ?? ""
        mirror.change { $0.runtimeIDs = MirrorStatus.IDMap(entries: news.count, problem: news.problem) }
        if let problem = news.problem {
            mirror.log.error("runtime ids: \(problem); the map of before stays", metadata: ["file": "\(path)"])
        } else {
            mirror.log.info("runtime ids: \(news.count)", metadata: ["file": "\(path)"])
        }
    }

    /// Sees whether records may be taken; that they are not keeps nobody from being told of as alive.
    private func tryRecords(_ connection: RedisConnection, _ work: inout Work) throws {
        let reply = try connection.pipeline([keys.clear(at: mirror.clock.shared(.now))])[0]
        if let text = reply.error { return refuseRecords(text, &work) }
        // They are up when one was taken.
        work.recordsAgain = nil
    }

    private func refuseRecords(_ text: String, _ work: inout Work) {
        work.index = [:]
        work.recordsAgain = .now + Self.recordsPause
        mirror.note(\.records, "records", RedisError(reply: text))
    }

    // MARK: Sending

    /// What was touched or forgotten here last, whether alive or not: for a server that may have nothing.
    private func ownSubjects() -> ArraySlice<RecordSubject> {
        store.subjects(of: mirror.configuration.origin).filter(mirror.isShared)[...]
    }

    /// Sends what is due.
    ///
    /// - Parameter isLast: Whether nothing may wait for its second any more.
    /// - Returns: Whether there was anything.
    private func send(_ connection: RedisConnection, _ work: inout Work, isLast: Bool = false) throws -> Bool {
        let refill = work.backlog.prefix(Self.batchSize)
        work.backlog = work.backlog.dropFirst(refill.count)
        let again = store.messages(about: refill, by: mirror.configuration.origin)
        let now = ContinuousClock.now
        let (waited, hasOverflowed) = mirror.change { state in
            // As if they had never been told.
            state.queue.requeue(again, at: now)
            return (
                state.queue.dequeue(Self.batchSize, at: now, isLast: isLast),
                work.backlog.isEmpty && state.queue.resetOverflow()
            )
        }
        if hasOverflowed { work.backlog = ownSubjects() }
        guard !waited.isEmpty else { return !work.backlog.isEmpty }
        // Others may have been there since, and theirs is not ours to tell.
        var rest = store.current(waited)[...]
        while !rest.isEmpty {
            let batch = rest.prefix(ofBytes: Self.batchBytes)
            let refusal: RedisError?
            do {
                refusal = try tell(batch, over: connection, &work)
            } catch {
                work.possiblyDelivered.formUnion(batch.lazy.compactMap(\.touchedRuntime))
                mirror.change { $0.queue.requeue(rest, at: .now) }
                throw error
            }
            if let refusal {
                mirror.change { $0.queue.requeue(rest, wereRefused: true, at: .now) }
                throw refusal
            }
            if !work.possiblyDelivered.isEmpty {
                work.possiblyDelivered.subtract(batch.lazy.compactMap(\.touchedRuntime))
            }
            mirror.change { $0.sent += UInt64(batch.count) }
            rest = rest.dropFirst(batch.count)
        }
        return true
    }

    /// - Returns: Why the server does not take it, if it does not.
    private func tell(
        _ batch: ArraySlice<MirrorQueue.Message>, over connection: RedisConnection, _ work: inout Work
    ) throws -> RedisError? {
        let now = ContinuousClock.now
        let heartbeats = batch.compactMap { heartbeat($0, work, at: now) }
        if !heartbeats.isEmpty {
            let replies = try connection.pipeline(heartbeats)
            let end = ContinuousClock.now
            mirror.noteRoundTrip(end - now, at: end)
            if let text = replies.firstError { return RedisError(reply: text) }
        }
        guard work.takesRecords else { return nil }
        let records = records(batch, &work, at: now)
        guard !records.isEmpty else { return nil }
        if let text = try connection.pipeline(records).firstError {
            refuseRecords(text, &work)
        } else {
            mirror.note(\.records, "records", .up)
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
            // Of one that was forgotten longer ago there is no key of ours, but perhaps somebody else's.
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
            let kept = keys.keep(record, at: shared)
            guard !kept.isEmpty else { continue }
            commands += kept
            let name = keys.name(of: message.subject)
            if work.index[name].map({ now - $0 > Self.indexInterval }) ?? true {
                names.append(name)
                work.index[name] = now
            }
        }
        return commands + keys.enter(names, at: shared)
    }
}

extension ArraySlice<MirrorQueue.Message> {
    /// As many as have about so many bytes, and one at least.
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

import Linux
import Liveness

/// The thread that hears of what others who share the town's name have done.
///
/// It listens first and asks for all that there is then, over a second connection: nothing that happens in between is
/// missed, and what comes twice is known by its stamp. A connection that says nothing is asked for a sign of life.
final class MirrorListener: Sendable {
    private static let beat: Duration = .milliseconds(1500)
    /// How long a sign of life may take.
    private static let patience: Duration = .seconds(2)
    /// Records asked for at once.
    private static let batchSize = 64
    /// How long to wait for the sender to learn the time.
    private static let patienceForTime: Duration = .seconds(3)

    private let mirror: RedisMirror
    private let receiver: any SharedRecordReceiver
    private let event: EventFD
    private let keys: MirrorKeys

    init(for mirror: RedisMirror, receiver: any SharedRecordReceiver, event: EventFD) {
        self.mirror = mirror
        self.receiver = receiver
        self.event = event
        keys = MirrorKeys(mirror.configuration)
    }

    func run() {
        var backoff = Backoff()
        while !mirror.isClosing {
            var upSince: ContinuousClock.Instant?
            do {
                try listen(whenUp: { upSince = .now })
            } catch {
                mirror.note(\.subscription, "subscription", error)
                backoff.note(upSince: upSince)
                let end = ContinuousClock.now + backoff.pause(isPermanent: RedisMirror.isPermanent(error))
                while !mirror.isClosing, ContinuousClock.now < end { _ = event.wait(until: end) }
            }
        }
    }

    private func listen(whenUp: () -> Void) throws {
        let connection = try mirror.open("listener")
        try connection.send([RedisCommand("SUBSCRIBE", keys.channel)])
        guard let confirmation = try connection.receive(until: .now + Self.patience, orRaised: event) else {
            if mirror.isClosing { return }
            throw RedisError.timedOut("confirmation")
        }
        _ = try confirmation.checked()
        try catchUp()
        mirror.note(\.subscription, "subscription", .up)
        whenUp()
        var isAsked = false
        while !mirror.isClosing {
            let limit = ContinuousClock.now + (isAsked ? Self.patience : Self.beat)
            if let reply = try connection.receive(until: limit, orRaised: event) {
                isAsked = false
                hear(reply)
            } else if isAsked, ContinuousClock.now >= limit {
                throw RedisError.timedOut("sign of life")
            } else if !isAsked {
                try connection.send([RedisCommand("PING")])
                isAsked = true
            }
        }
    }

    private func hear(_ reply: RedisReply) {
        // Pongs, too, come as arrays here.
        guard case .array(let parts) = reply, parts.count == 3, parts[0] == .string(Array("message".utf8)),
            case .string(let bytes) = parts[2]
        else { return }
        guard let record = SharedRecord(bytes) else {
            mirror.change { $0.malformed += 1 }
            return
        }
        // What we said ourselves is no news.
        guard record.bootID != mirror.bootID else { return }
        if record.stamp.origin == mirror.configuration.origin { warnOfNamesake() }
        take([record])
    }

    /// Takes in all records that there are, ours of before a restart included.
    private func catchUp() throws {
        // Stamps mean nothing before.
        let end = ContinuousClock.now + Self.patienceForTime
        while !mirror.clock.isKnown, !mirror.isClosing, ContinuousClock.now < end {
            _ = event.wait(until: .now + .milliseconds(20))
        }
        let connection = try mirror.open("catch-up")
        var offset = 0
        while !mirror.isClosing {
            let answer = try connection.pipeline([keys.names(from: offset, at: mirror.clock.shared(.now))])[0].checked()
            guard case .array(let elements) = answer else { throw RedisError.protocolViolation("no list of records") }
            try catchUp(with: elements.compactMap(\.text), over: connection)
            guard elements.count == MirrorKeys.page else { return }
            offset += elements.count
        }
    }

    private func catchUp(with names: [String], over connection: RedisConnection) throws {
        var names = names[...]
        while !names.isEmpty, !mirror.isClosing {
            let some = names.prefix(Self.batchSize)
            names = names.dropFirst(some.count)
            let answer = try connection.pipeline([RedisCommand(["MGET"] + some.map(keys.key(named:)))])[0].checked()
            guard case .array(let values) = answer else { throw RedisError.protocolViolation("no list of values") }
            take(
                values.compactMap { value in
                    guard case .string(let bytes) = value else { return nil }
                    guard let record = SharedRecord(bytes) else {
                        mirror.change { $0.malformed += 1 }
                        return nil
                    }
                    // Of our own files the disk tells more than what we said of them in an earlier life.
                    if case .signal = record.subject, record.stamp.origin == mirror.configuration.origin { return nil }
                    return record
                })
        }
    }

    private func warnOfNamesake() {
        let isFirst = mirror.change { state in
            defer { state.hasNamesake = true }
            return !state.hasNamesake
        }
        guard isFirst else { return }
        mirror.log.error(
            "somebody else goes by our name; give one of the two machines another host name",
            metadata: ["origin": "\(mirror.configuration.origin)"])
    }

    /// Hands records on; each keeps its place by its stamp, whatever the order they come in.
    private func take(_ records: [SharedRecord]) {
        let instant = ContinuousClock.now
        let wall = WallTime.now
        let shared = mirror.clock.shared(wall)
        for record in records where mirror.isShared(record.subject) {
            guard record.isPlausible(shared: shared) else {
                mirror.change { $0.malformed += 1 }
                continue
            }
            if let (touch, exit) = record.touch(shared: shared, wall: wall, instant: instant) {
                receiver.receive(touch, exit: exit)
            } else {
                receiver.receiveForget(
                    record.subject, stamp: record.stamp, at: record.happened(shared: shared, wall: wall))
            }
        }
        let others = records.count { $0.stamp.origin != mirror.configuration.origin }
        mirror.change { $0.received += UInt64(others) }
    }
}

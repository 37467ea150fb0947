import Linux
import Liveness

/// Receives the changes of other origins, on a thread of its own.
///
/// Subscribes first and then reads all stored records over a second connection, so that nothing in between is missed;
/// duplicates are recognized by their stamps. Pings a silent connection.
struct MirrorListener {
    private static let pingInterval: Duration = .milliseconds(1500)
    private static let replyTimeout: Duration = .seconds(2)
    /// Records read at once.
    private static let batchSize = 64
    /// How long to wait for the sender to read the server's clock.
    private static let clockTimeout: Duration = .seconds(3)

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
        mirror.retry(event) { whenUp in
            try listen(whenUp: whenUp)
        } onError: { error in
            mirror.update(\.subscription, "subscription", error)
        }
    }

    private func listen(whenUp: () -> Void) throws {
        let connection = try mirror.open("listener")
        try connection.send([RedisCommand("SUBSCRIBE", keys.channel)])
        guard let confirmation = try connection.receive(until: .now + Self.replyTimeout, orRaised: event) else {
            if mirror.isClosing { return }
            throw RedisError.timedOut("confirmation")
        }
        _ = try confirmation.checked()
        try catchUp()
        mirror.update(\.subscription, "subscription", .up)
        whenUp()
        var isPinged = false
        while !mirror.isClosing {
            let limit = ContinuousClock.now + (isPinged ? Self.replyTimeout : Self.pingInterval)
            if let reply = try connection.receive(until: limit, orRaised: event) {
                isPinged = false
                receive(reply)
            } else if isPinged, ContinuousClock.now >= limit {
                throw RedisError.timedOut("sign of life")
            } else if !isPinged {
                try connection.send([RedisCommand("PING")])
                isPinged = true
            }
        }
    }

    private func receive(_ reply: RedisReply) {
        // Pongs are arrays here, too.
        guard case .array(let parts) = reply, parts.count == 3, parts[0] == .string(Array("message".utf8)),
            case .string(let bytes) = parts[2], let record = decode(bytes), record.bootID != mirror.bootID
        else { return }
        if record.stamp.origin == mirror.configuration.origin { warnOfDuplicateOrigin() }
        deliver([record])
    }

    private func decode(_ bytes: [UInt8]) -> SharedRecord? {
        let record = SharedRecord(bytes)
        if record == nil { mirror.withState { $0.status.malformed += 1 } }
        return record
    }

    /// Reads all stored records, including our own of before a restart.
    private func catchUp() throws {
        // Stamps cannot be judged before.
        let end = ContinuousClock.now + Self.clockTimeout
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
        for start in stride(from: 0, to: names.count, by: Self.batchSize) where !mirror.isClosing {
            let batch = names[start...].prefix(Self.batchSize).map(keys.key(named:))
            let answer = try connection.pipeline([RedisCommand(["MGET"] + batch)])[0].checked()
            guard case .array(let values) = answer else { throw RedisError.protocolViolation("no list of values") }
            let records = values.compactMap { value -> SharedRecord? in
                if case .string(let bytes) = value { decode(bytes) } else { nil }
            }
            // The backing files know more about our own signal files than our records of before the restart.
            deliver(
                records.filter { record in
                    guard case .signal = record.subject else { return true }
                    return record.stamp.origin != mirror.configuration.origin
                })
        }
    }

    private func warnOfDuplicateOrigin() {
        let isFirst = mirror.withState { state in
            defer { state.hasDuplicateOrigin = true }
            return !state.hasDuplicateOrigin
        }
        guard isFirst else { return }
        mirror.log.error(
            "another daemon uses the same origin; give one of the two machines another host name",
            metadata: ["origin": "\(mirror.configuration.origin)"])
    }

    private func deliver(_ records: [SharedRecord]) {
        let instant = ContinuousClock.now
        let wall = WallTime.now
        let shared = mirror.clock.shared(wall)
        for record in records where mirror.isShared(record.subject) {
            guard record.isPlausible(shared: shared) else {
                mirror.withState { $0.status.malformed += 1 }
                continue
            }
            if let (touch, exit) = record.touch(shared: shared, wall: wall, instant: instant) {
                receiver.receive(touch, exit: exit)
            } else {
                receiver.receiveForget(
                    record.subject, stamp: record.stamp, at: record.localTime(shared: shared, wall: wall))
            }
        }
        let others = records.count { $0.stamp.origin != mirror.configuration.origin }
        mirror.withState { $0.status.received += UInt64(others) }
    }
}

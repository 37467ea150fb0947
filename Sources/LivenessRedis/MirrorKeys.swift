import Liveness

/// A mirror's keys, and the commands that change them; all keys expire.
///
/// Besides Multica's keys (`HeartbeatKeys`):
///
/// pulsefs:<town>:<origin>:r:<id>      record of a runtime, written by its origin alone
/// pulsefs:<town>:<origin>:s:<path>    record of a signal file; both escaped, see `SharedRecord`
/// pulsefs:<town>:index                sorted set of their names by expiry time, because KEYS is not allowed
/// pulsefs:<town>:changes              channel on which each record is published
struct MirrorKeys: Sendable {
    let heartbeats: HeartbeatKeys
    private let family: String
    private let origin: Origin

    /// A touch sent within this time keeps its ttl unchanged.
    private static let delayTolerance: Duration = .milliseconds(100)

    init(_ configuration: MirrorConfiguration) {
        heartbeats = HeartbeatKeys(prefix: configuration.prefix)
        family = "pulsefs:\(configuration.townName):"
        origin = configuration.origin
    }

    /// Whether the heartbeat of an id would be one of the other keys, with a prefix such as `pulsefs:`.
    func isReserved(_ id: String) -> Bool { (heartbeats.prefix + id).utf8.starts(with: family.utf8) }

    /// Sets a heartbeat for the rest of the record's life; nil when that is over.
    func heartbeat(_ record: Record, of id: String, at now: ContinuousClock.Instant) -> RedisCommand? {
        // A touch may date from before its receipt.
        let ttl = min(record.deadline - record.touch.receipt, MirrorConfiguration.longestHeartbeat)
        let age = now - record.touch.receipt
        guard age < ttl else { return nil }
        return heartbeats.touch(id, ttl: age < Self.delayTolerance ? ttl : ttl - age)
    }

    // MARK: Records

    var channel: String { family + "changes" }
    var index: String { family + "index" }

    /// The name of our own record, in the index and after the family in its key.
    func name(of subject: RecordSubject) -> String { "\(origin.name):\(SharedRecord.name(of: subject))" }

    func key(named name: String) -> String { family + name }

    /// Stores a record for the rest of a day since its stamp, and publishes it; empty when the day is over.
    ///
    /// Uses PSETEX, so that clients that monitor SET see heartbeats only.
    ///
    /// - Parameter now: By the shared clock.
    func store(_ record: SharedRecord, at now: WallTime) -> [RedisCommand] {
        let left = (MirrorConfiguration.retention - max(.zero, now - record.stamp.time)).milliseconds
        guard left > 0 else { return [] }
        let key = key(named: name(of: record.subject))
        let bytes = record.encoded(by: origin)
        return [
            RedisCommand([Array("PSETEX".utf8), Array(key.utf8), Array("\(left)".utf8), bytes]),
            RedisCommand([Array("PUBLISH".utf8), Array(channel.utf8), bytes]),
        ]
    }

    /// Adds names to the index until a day after their records expire.
    func addToIndex(_ names: [String], at now: WallTime) -> [RedisCommand] {
        guard !names.isEmpty else { return [] }
        let end = "\(now.seconds + 2 * MirrorConfiguration.retention.components.seconds)"
        return [
            RedisCommand(["ZADD", index] + names.flatMap { [end, $0] }),
            RedisCommand("PEXPIRE", index, "\(2 * MirrorConfiguration.retention.milliseconds)"),
        ]
    }

    /// Removes expired names from the index.
    func removeExpired(at now: WallTime) -> RedisCommand {
        RedisCommand("ZREMRANGEBYSCORE", index, "-inf", "(\(now.seconds)")
    }

    /// Maximum number of names in a reply.
    static let page = 4096

    /// Asks for names, the last to expire first: names that expire meanwhile do not shift the rest.
    func names(from offset: Int, at now: WallTime) -> RedisCommand {
        RedisCommand("ZREVRANGEBYSCORE", index, "+inf", "\(now.seconds)", "LIMIT", "\(offset)", "\(Self.page)")
    }

    var isIndexed: RedisCommand { RedisCommand("EXISTS", index) }
}

/// Multica's keys, which exist while a runtime is alive: a prefix and the id, as it is.
struct HeartbeatKeys: Sendable {
    let prefix: String

    func touch(_ id: String, ttl: Duration) -> RedisCommand {
        let (unit, count) = Self.expiry(ttl)
        return RedisCommand("SET", prefix + id, "1", unit, "\(count)")
    }

    func areAlive(_ ids: [String]) -> RedisCommand { RedisCommand(["MGET"] + ids.map { prefix + $0 }) }

    func forget(_ id: String) -> RedisCommand { RedisCommand("DEL", prefix + id) }

    /// Changes nothing, but is refused where writes are: no runtime's id has a control character.
    var probe: RedisCommand { RedisCommand("DEL", prefix + "\tprobe") }

    /// The arguments of SET: whole seconds, or else milliseconds, rounded up, and at most a century.
    ///
    /// Redis refuses what its clock cannot represent.
    static func expiry(_ ttl: Duration) -> (unit: String, count: Int64) {
        let ttl = min(ttl, .seconds(100 * 366 * 86_400))
        let upward = .milliseconds(1) - Duration(secondsComponent: 0, attosecondsComponent: 1)
        let milliseconds = (ttl + upward).milliseconds
        return milliseconds % 1000 == 0 ? ("EX", milliseconds / 1000) : ("PX", milliseconds)
    }
}

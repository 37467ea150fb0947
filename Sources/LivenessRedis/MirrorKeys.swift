import Liveness

/// The keys of a mirror, and the commands that change them.
///
/// Besides Multica's (`HeartbeatKeys`) there is a family that begins with `pulsefs:<town>:`. `<origin>:r:<id>` and
/// `<origin>:s:<path>` are whole records, each written by its origin alone. `index` has their names with the time of their
/// end, since nobody may ask for all keys. `changes` is the channel on which each is published. All of them expire.
struct MirrorKeys: Sendable {
    let heartbeats: HeartbeatKeys
    private let family: String
    private let origin: Origin

    /// How late a touch may be sent and still be taken for one of this moment.
    private static let instant: Duration = .milliseconds(100)

    init(_ configuration: MirrorConfiguration) {
        heartbeats = HeartbeatKeys(prefix: configuration.prefix)
        family = "pulsefs:\(configuration.townName):"
        origin = configuration.origin
    }

    // MARK: Who is alive

    /// Tells of a touch; nil when it does not count any more.
    ///
    /// The time that is left runs from the touch.
    func heartbeat(_ record: Record, of id: String, at now: ContinuousClock.Instant) -> RedisCommand? {
        let ttl = min(record.deadline - record.touch.at, MirrorConfiguration.longestHeartbeat)
        let age = now - record.touch.at
        guard age < ttl else { return nil }
        return heartbeats.touch(id, ttl: age < Self.instant ? ttl : ttl - age)
    }

    // MARK: Records

    var channel: String { family + "changes" }
    var index: String { family + "index" }

    /// The name of a record of ours, in the index and after the family in its key.
    func name(of subject: RecordSubject) -> String {
        "\(origin.name):\(SharedRecord.name(of: subject))"
    }

    func key(named name: String) -> String { family + name }

    /// Keeps a record for as long as is left of a day since its stamp, and tells all who listen.
    ///
    /// Not by SET, which so is about heartbeats only for whoever looks on.
    ///
    /// - Parameter now: By the shared clock.
    /// - Returns: Nothing for what is over.
    func keep(_ record: SharedRecord, at now: WallTime) -> [RedisCommand] {
        let left = (MirrorConfiguration.retention - max(.zero, now - record.stamp.time)).milliseconds
        guard left > 0 else { return [] }
        let key = key(named: name(of: record.subject))
        let bytes = record.encoded(by: origin)
        return [
            RedisCommand([Array("PSETEX".utf8), Array(key.utf8), Array("\(left)".utf8), bytes]),
            RedisCommand([Array("PUBLISH".utf8), Array(channel.utf8), bytes]),
        ]
    }

    /// Enters names into the index, until a while after the end of what they name.
    func enter(_ names: [String], at now: WallTime) -> [RedisCommand] {
        guard !names.isEmpty else { return [] }
        let end = "\(now.seconds + 2 * MirrorConfiguration.retention.components.seconds)"
        return [
            RedisCommand(["ZADD", index] + names.flatMap { [end, $0] }),
            RedisCommand("PEXPIRE", index, "\(2 * MirrorConfiguration.retention.milliseconds)"),
        ]
    }

    /// Takes names out of the index whose time has come.
    func clear(at now: WallTime) -> RedisCommand {
        RedisCommand("ZREMRANGEBYSCORE", index, "-inf", "(\(now.seconds)")
    }

    /// How many names are asked for at once.
    static let page = 4096

    /// Asks for names of records, those that end last first: what ends meanwhile moves none of the rest.
    func names(from offset: Int, at now: WallTime) -> RedisCommand {
        RedisCommand("ZREVRANGEBYSCORE", index, "+inf", "\(now.seconds)", "LIMIT", "\(offset)", "\(Self.page)")
    }

    /// Asks whether the index is there.
    var isIndexed: RedisCommand { RedisCommand("EXISTS", index) }
}

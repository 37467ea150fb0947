import Liveness

/// Multica's keys: that a runtime is alive, for whoever knows nothing of pulsefs.
struct HeartbeatKeys: Sendable {
    /// What they begin with.
    let prefix: String

    func touch(_ id: String, ttl: Duration) -> RedisCommand {
        let (unit, count) = Self.expiry(ttl)
        return RedisCommand("SET", prefix + id, "1", unit, "\(count)")
    }

    func areAlive(_ ids: [String]) -> RedisCommand { RedisCommand(["MGET"] + ids.map { prefix + $0 }) }

    func forget(_ id: String) -> RedisCommand { RedisCommand("DEL", prefix + id) }

    /// A command that changes nothing, but is refused where changes are: no runtime's id has a colon.
    var probe: RedisCommand { RedisCommand("DEL", prefix + ":probe") }

    /// How SET is told of a time to live: in seconds, or in milliseconds if those are not whole, rounded up.
    ///
    /// A century is for ever; Redis refuses what its clock cannot reach.
    static func expiry(_ ttl: Duration) -> (unit: String, count: Int64) {
        let (seconds, attoseconds) = min(ttl, .seconds(100 * 366 * 86_400)).components
        guard attoseconds != 0 else { return ("EX", seconds) }
        let attosecondsPerMillisecond: Int64 = 1_000_000_000_000_000
        let milliseconds = seconds * 1000 + (attoseconds + attosecondsPerMillisecond - 1) / attosecondsPerMillisecond
        return milliseconds % 1000 == 0 ? ("EX", milliseconds / 1000) : ("PX", milliseconds)
    }
}

/// What a Redis server answers to one command (RESP2).
package enum RedisReply: Hashable, Sendable {
    /// `+OK`
    case status(String)
    /// `-ERR …`: the server's own words, which may repeat arguments of the command.
    case error(String)
    case integer(Int64)
    case string([UInt8])
    case array([RedisReply])
    case null
}

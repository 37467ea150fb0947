import CHiredis

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

extension RedisReply {
    /// The reply itself unless it is an error, which is thrown in words fit for people.
    package func checked() throws(RedisError) -> RedisReply {
        if case .error(let text) = self { throw RedisError(reply: text) }
        return self
    }

    /// The text of a status or string.
    package var text: String? {
        switch self {
        case .status(let text): text
        case .string(let bytes): String(decoding: bytes, as: UTF8.self)
        default: nil
        }
    }

    /// Copies what hiredis has read; the reader has limited how deep it goes.
    init(_ reply: redisReply) throws(RedisError) {
        let bytes = UnsafeRawBufferPointer(start: reply.str, count: reply.str == nil ? 0 : reply.len)
        switch reply.type {
        case REDIS_REPLY_STATUS: self = .status(String(decoding: bytes, as: UTF8.self))
        case REDIS_REPLY_ERROR: self = .error(String(decoding: bytes, as: UTF8.self))
        case REDIS_REPLY_INTEGER: self = .integer(reply.integer)
        case REDIS_REPLY_STRING: self = .string(Array(bytes))
        case REDIS_REPLY_NIL: self = .null
        case REDIS_REPLY_ARRAY:
            let elements = UnsafeBufferPointer(start: reply.element, count: reply.element == nil ? 0 : reply.elements)
            self = .array(
                try elements.map { element throws(RedisError) in
                    guard let element else { throw .protocolViolation("an array with a hole") }
                    return try RedisReply(element.pointee)
                })
        default: throw .protocolViolation("a reply of a type that was not asked for")
        }
    }
}

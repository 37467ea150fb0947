import CHiredis

/// A Redis server's reply to one command (RESP2).
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
    /// Throws an error reply, in words fit for people.
    package func checked() throws(RedisError) -> RedisReply {
        if let error { throw RedisError(reply: error) }
        return self
    }

    /// The text of an error reply.
    var error: String? { if case .error(let text) = self { text } else { nil } }

    /// The text of a status or string.
    package var text: String? {
        switch self {
        case .status(let text): text
        case .string(let bytes): String(decoding: bytes, as: UTF8.self)
        default: nil
        }
    }

    /// Copies a reply of hiredis; the reader has limited its depth.
    fileprivate init(_ reply: redisReply) throws(RedisError) {
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

extension Sequence<RedisReply> {
    var firstError: String? { lazy.compactMap(\.error).first }
}

/// Parses replies from a stream of bytes.
///
/// No input makes it trap or use much memory: a reply beyond a limit is an error, after which the reader is unusable.
/// Not thread-safe.
final class RedisReplyReader {
    /// Bytes received that are not part of a complete reply.
    static let maximumUnread = 16 << 20
    /// Elements of all arrays in a reply together.
    static let maximumElements = 1 << 20
    /// Bytes of a line.
    static let maximumLine = 64 << 10

    /// Bytes fed since the last reply that `next` returned.
    private(set) var unread = 0

    private let reader: UnsafeMutablePointer<redisReader>
    private let limits: UnsafeMutablePointer<chiredis_limits>

    init() {
        limits = .allocate(capacity: 1)
        limits.initialize(to: chiredis_limits())
        limits.pointee.room = UInt64(Self.maximumElements)
        guard let reader = chiredis_create_reader(limits) else { fatalError("out of memory") }
        self.reader = reader
    }

    deinit {
        redisReaderFree(reader)
        limits.deallocate()
    }

    func feed(_ bytes: RawSpan) throws(RedisError) {
        unread += bytes.byteCount
        guard unread <= Self.maximumUnread else {
            throw .protocolViolation("a reply of more than \(Self.maximumUnread) bytes")
        }
        let isFed = bytes.withUnsafeBytes { bytes in
            redisReaderFeed(reader, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count) == REDIS_OK
        }
        guard isFed else { throw failure }
    }

    /// The next complete reply; nil if there is none yet.
    func next() throws(RedisError) -> RedisReply? {
        var found: UnsafeMutableRawPointer?
        guard redisReaderGetReply(reader, &found) == REDIS_OK else { throw failure }
        guard let found else {
            try checkIncomplete()
            return nil
        }
        defer { freeReplyObject(found) }
        unread = reader.pointee.len - reader.pointee.pos
        limits.pointee.room = UInt64(Self.maximumElements)
        return try RedisReply(found.assumingMemoryBound(to: redisReply.self).pointee)
    }

    private func checkIncomplete() throws(RedisError) {
        let announced = chiredis_awaited_string(reader)
        guard announced <= Self.maximumUnread else {
            throw .protocolViolation("a string of more than \(Self.maximumUnread) bytes")
        }
        guard announced >= 0 || reader.pointee.len - reader.pointee.pos <= Self.maximumLine else {
            throw .protocolViolation("a line of more than \(Self.maximumLine) bytes")
        }
    }

    private var failure: RedisError {
        // The reader reports an array beyond its limits as a lack of memory.
        guard reader.pointee.err != REDIS_ERR_OOM else {
            return .protocolViolation("arrays too long, or nested too deep")
        }
        let words = withUnsafeBytes(of: &reader.pointee.errstr) {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        return .protocolViolation(words.printable(upTo: 100))
    }
}

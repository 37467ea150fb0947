import CHiredis

/// Finds replies in a stream of bytes, whatever those are.
///
/// No input makes it trap or take much memory: a reply that goes beyond one of the limits is an error. After an error
/// the reader is of no more use. Used by one thread at a time.
final class RedisReplyReader {
    /// Of bytes received that no reply has been made of, in bytes.
    static let maximumUnread = 16 << 20
    /// Of all arrays in one reply together.
    static let maximumElements = 1 << 20
    /// Of a reply that is one line, or a line that announces a length, in bytes.
    static let maximumLine = 64 << 10

    /// How many bytes have been fed since the last reply that `next` returned.
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

    /// The next reply that is complete.
    func next() throws(RedisError) -> RedisReply? {
        var found: UnsafeMutableRawPointer?
        guard redisReaderGetReply(reader, &found) == REDIS_OK else { throw failure }
        guard let found else {
            try checkUnfinished()
            return nil
        }
        defer { freeReplyObject(found) }
        unread = reader.pointee.len - reader.pointee.pos
        limits.pointee.room = UInt64(Self.maximumElements)
        return try RedisReply(found.assumingMemoryBound(to: redisReply.self).pointee)
    }

    private func checkUnfinished() throws(RedisError) {
        let announced = chiredis_awaited_string(reader)
        guard announced <= Self.maximumUnread else {
            throw .protocolViolation("a string of more than \(Self.maximumUnread) bytes")
        }
        guard announced >= 0 || reader.pointee.len - reader.pointee.pos <= Self.maximumLine else {
            throw .protocolViolation("a line of more than \(Self.maximumLine) bytes")
        }
    }

    private var failure: RedisError {
        // What the reader calls a lack of memory is an array that was refused, as far as anybody has seen.
        guard reader.pointee.err != REDIS_ERR_OOM else {
            return .protocolViolation("arrays too long, or nested too deep")
        }
        let words = withUnsafeBytes(of: &reader.pointee.errstr) {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        return .protocolViolation(words.printable(upTo: 100))
    }
}

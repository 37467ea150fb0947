import CHiredis

/// A Redis command: name and arguments.
package struct RedisCommand: Hashable, Sendable, CustomStringConvertible {
    package let arguments: [[UInt8]]

    package init(_ arguments: [[UInt8]]) { self.arguments = arguments }

    package init(_ words: [String]) { arguments = words.map { Array($0.utf8) } }

    package init(_ words: String...) { self.init(words) }

    /// Appends the command's RESP encoding: an array of bulk strings.
    func append(to bytes: inout [UInt8]) {
        bytes += "*\(arguments.count)\r\n".utf8
        for argument in arguments {
            bytes += "$\(argument.count)\r\n".utf8
            bytes += argument
            bytes += "\r\n".utf8
        }
    }

    /// The command's name only: arguments may be passwords.
    package var description: String { arguments.first.map { String(decoding: $0, as: UTF8.self) } ?? "" }
}

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

/// Why a Redis command failed.
///
/// Never contains a user, a password or an argument, so it may be logged and shown.
package enum RedisError: Error, Hashable, CustomStringConvertible {
    case unreachable(String, why: String)
    case timedOut(String)
    /// The server closed the connection.
    case closed
    /// The peer does not speak RESP2.
    case protocolViolation(String)
    /// The TLS handshake failed, usually because of the certificate.
    case tlsRefused(String)
    /// Authentication or authorization failed; with the error code.
    case refused(String)
    /// The database does not exist, or the user may not select it.
    case noSuchDatabase(Int)
    /// The server is a replica.
    case readOnly
    /// No sentinel knows a primary, or the one it names is none.
    case noPrimary(String)
    /// Any other error reply, truncated and printable.
    case server(String)

    /// From an error reply to any command but AUTH.
    package init(reply text: String) {
        switch Self.code(of: text) {
        case "WRONGPASS", "NOAUTH", "NOPERM", "DENIED": self = .refused(Self.code(of: text))
        case "READONLY": self = .readOnly
        default:
            // The server repeats the arguments of an unknown command.
            let end = text.firstRange(of: ", with args beginning with")?.lowerBound ?? text.endIndex
            self = .server(String(text[..<end]).printable(upTo: 200))
        }
    }

    /// From an error reply to AUTH, which may repeat the password.
    init(replyToAuthentication text: String) {
        let code = Self.code(of: text)
        switch code {
        case "LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN": self = .server(code)
        // Sent before the server reads the command.
        case _ where text == Self.tooManyClients: self = .server(Self.tooManyClients)
        default: self = .refused(code)
        }
    }

    static let tooManyClients = "ERR max number of clients reached"

    /// The first word of an error reply, which by convention is a code.
    static func code(of text: String) -> String {
        let code = text.prefix { $0 != " " }
        let isCode = code.utf8.allSatisfy { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) }
        return isCode && (1...20).contains(code.utf8.count) ? String(code) : "ERR"
    }

    /// Whether it needs a person.
    package var isPermanent: Bool {
        switch self {
        case .refused, .noSuchDatabase, .tlsRefused: true
        case .unreachable, .timedOut, .closed, .protocolViolation, .readOnly, .noPrimary, .server: false
        }
    }

    package var description: String {
        switch self {
        case .unreachable(let place, let why): "Redis at \(place) cannot be reached: \(why)."
        case .timedOut(let what): "Redis took too long: no \(what) in time."
        case .closed: "Redis closed the connection."
        case .protocolViolation(let what): "What answered does not speak like Redis: \(what)."
        case .tlsRefused(let why): "There is no encrypted connection to Redis: \(why)."
        case .refused("NOPERM"): "The Redis user lacks a permission (NOPERM): give its ACL the commands and keys."
        case .refused("NOAUTH"): "Redis asks for a password (NOAUTH), and none was given."
        case .refused(let code): "Redis does not accept the user or password (\(code))."
        case .noSuchDatabase(let number): "Redis does not let us use database \(number)."
        case .readOnly: "Redis is a read-only replica (READONLY)."
        case .noPrimary(let why): "There is no Redis primary: \(why)."
        case .server(let text): "Redis answered with an error: \(text)"
        }
    }
}

extension String {
    /// Truncated to a number of bytes, with a dot for all but printable ASCII.
    func printable(upTo maximum: Int) -> String {
        String(
            decoding: utf8.prefix(maximum).map { (0x20..<0x7F).contains($0) ? $0 : UInt8(ascii: ".") }, as: UTF8.self)
    }
}

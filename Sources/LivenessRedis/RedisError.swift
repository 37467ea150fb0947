/// Why a Redis command failed.
///
/// Never contains a user, a password or an argument, so it may be logged and shown.
package enum RedisError: Error, Hashable {
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
}

extension RedisError: CustomStringConvertible {
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

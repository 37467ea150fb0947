import Glibc
import Liveness

/// The location of a Redis server, with credentials. Brackets mark what may be left out:
///
///     redis://[user:password@]host[:6379][/0]              also rediss://, with TLS
///     unix://[user:password@]/path/of/socket[?db=0]
///     redis+sentinel://[user:password@]host[:26379][,host…]/service[/0][?sentinel_user=…&sentinel_password=…]
///                                                          also rediss+sentinel://, all of it with TLS
///
/// `:password@` is for a server without users. The credentials before the @ of a sentinel URL are the data node's.
/// Special characters in a user or password are written as %XX.
package struct RedisURL: Hashable, Sendable, CustomStringConvertible {
    package enum Place: Hashable, Sendable {
        case server(Host)
        /// The path of a Unix socket, valid for `sockaddr_un`.
        case socket([UInt8])
        case sentinels([Host], service: String)
    }

    package struct Host: Hashable, Sendable, CustomStringConvertible {
        /// A name or an address; an IPv6 address without brackets.
        package let name: String
        package let port: UInt16

        package init(name: String, port: UInt16) {
            self.name = name
            self.port = port
        }

        package var description: String { name.contains(":") ? "[\(name)]:\(port)" : "\(name):\(port)" }
    }

    /// For AUTH; bytes, because Redis compares bytes.
    package struct Credentials: Hashable, Sendable, CustomStringConvertible {
        let user: [UInt8]?
        let password: [UInt8]

        package var description: String { "(not shown)" }
    }

    package let place: Place
    package let isEncrypted: Bool
    package let database: Int
    package let credentials: Credentials?
    /// The sentinels' own.
    package let sentinelCredentials: Credentials?

    /// Whether the URL contains credentials.
    package var holdsSecret: Bool { credentials != nil || sentinelCredentials != nil }

    package init(_ text: String) throws(Invalid) {
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F }) else { throw .unprintable }
        guard !text.utf8.contains(UInt8(ascii: "#")) else { throw .unencoded }
        let (scheme, rest) = try Self.scheme(of: Array(text.utf8))
        let (location, query) = rest.divided(atFirst: "?") ?? (rest, [])
        let authority = location.prefix { $0 != UInt8(ascii: "/") }
        let path = location[authority.endIndex...]
        let at = authority.lastIndex(of: UInt8(ascii: "@"))
        let userInfo = authority[..<(at ?? authority.startIndex)]
        let hosts = at.map { authority[($0 + 1)...] } ?? authority

        isEncrypted = scheme.hasPrefix("rediss")
        credentials = try Self.credentials(userInfo)
        // The password contains an unescaped slash or question mark.
        let isCut = query.contains(UInt8(ascii: "@")) || (scheme != "unix" && path.contains(UInt8(ascii: "@")))
        guard !isCut else { throw .unencoded }
        var parameters = try Self.parameters(query)
        var sentinelCredentials: Credentials?
        switch scheme {
        case "redis", "rediss":
            place = .server(try Self.host(hosts, port: 6379))
            database = try Self.database(path.dropFirst())
        case "unix":
            guard hosts.isEmpty else { throw .socketWithHost }
            place = .socket(try Self.socketPath(path))
            database = try Self.database(parameters.removeValue(forKey: "db") ?? [])
        default:
            let sentinels = try hosts.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
                .map { host throws(Invalid) in try Self.host(host, port: 26379) }
            let (service, database) = path.dropFirst().divided(atFirst: "/") ?? (path.dropFirst(), [])
            guard !service.isEmpty else { throw .service }
            place = .sentinels(sentinels, service: String(decoding: try service.percentDecoded(), as: UTF8.self))
            self.database = try Self.database(database)
            let user = parameters.removeValue(forKey: "sentinel_user")
            let password = parameters.removeValue(forKey: "sentinel_password")
            guard user == nil || password != nil else { throw .userWithoutPassword }
            sentinelCredentials = try password.map { password throws(Invalid) in
                Credentials(user: try user?.percentDecoded(), password: try password.percentDecoded())
            }
        }
        guard parameters.isEmpty else { throw .parameter }
        self.sentinelCredentials = sentinelCredentials
    }

    /// The URL without credentials.
    package var description: String {
        let scheme = isEncrypted ? "rediss" : "redis"
        return switch place {
        case .server(let host): "\(scheme)://\(host)/\(database)"
        case .socket(let path): "unix://\(String(decoding: path, as: UTF8.self))?db=\(database)"
        case .sentinels(let hosts, let service):
            "\(scheme)+sentinel://\(hosts.map(\.description).joined(separator: ","))/\(service)/\(database)"
        }
    }
}

// MARK: - Parsing

extension RedisURL {
    /// Why a URL is invalid; does not contain the URL, which may have a password.
    package enum Invalid: String, Error, CaseIterable, CustomStringConvertible {
        case unprintable = "A Redis URL must not contain spaces or control characters."
        case scheme = "A Redis URL begins with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://."
        case unencoded = "In a user or password of a Redis URL, the characters / ? # @ : % are written as %XX."
        case percent = "In a Redis URL, each % must be followed by two hexadecimal digits."
        case userWithoutPassword =
            "A user in a Redis URL needs a password: user:password@, or :password@ without a user."
        case host = "A Redis URL needs a host, which is a name, an IPv4 address or an IPv6 address in brackets."
        case unbracketed = "An IPv6 address in a Redis URL is written in brackets."
        case port = "The port in a Redis URL must be a number from 1 to 65535."
        case database = "The database in a Redis URL must be a number from 0 to 2147483647."
        case socketWithHost = "The path in a unix:// URL must begin with a slash: unix:///run/redis.sock."
        case socketPath = "The path in a unix:// URL must have from 2 to 107 bytes and no NUL byte."
        case service = "A sentinel URL needs the name of a service after the hosts: redis+sentinel://host/service."
        case parameter =
            "After the ? of a Redis URL may stand db= (unix), or sentinel_user= and sentinel_password= (sentinel)."

        package var description: String { rawValue }
    }

    private typealias Bytes = ArraySlice<UInt8>

    private static func scheme(of text: [UInt8]) throws(Invalid) -> (String, Bytes) {
        guard let (scheme, rest) = text[...].divided(atFirst: ":"), rest.starts(with: "//".utf8) else { throw .scheme }
        let name = String(decoding: scheme, as: UTF8.self).lowercased()
        guard ["redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"].contains(name) else { throw .scheme }
        return (name, rest.dropFirst(2))
    }

    private static func credentials(_ userInfo: Bytes) throws(Invalid) -> Credentials? {
        guard !userInfo.isEmpty else { return nil }
        guard let (user, password) = userInfo.divided(atFirst: ":") else { throw .userWithoutPassword }
        if user.isEmpty, password.isEmpty { return nil }
        return Credentials(
            user: user.isEmpty ? nil : try user.percentDecoded(), password: try password.percentDecoded())
    }

    private static func host(_ text: Bytes, port: UInt16) throws(Invalid) -> Host {
        if text.first == UInt8(ascii: "[") {
            guard let (address, rest) = text.dropFirst().divided(atFirst: "]") else { throw .host }
            let name = String(decoding: try address.percentDecoded(), as: UTF8.self)
            var binary = in6_addr()
            // The resolver checks a zone, as in fe80::1%eth0.
            let digits = String(name.prefix { $0 != "%" })
            guard inet_pton(AF_INET6, digits, &binary) == 1, name.utf8.allSatisfy({ $0 > 0x20 }) else { throw .host }
            return Host(name: name, port: try Self.port(rest, or: port))
        }
        let end = text.firstIndex(of: UInt8(ascii: ":")) ?? text.endIndex
        guard !text[end...].dropFirst().contains(UInt8(ascii: ":")) else { throw .unbracketed }
        let name = text[..<end]
        guard !name.isEmpty, name.allSatisfy(RuntimeID.isAllowedInName) else { throw .host }
        return Host(name: String(decoding: name, as: UTF8.self), port: try Self.port(text[end...], or: port))
    }

    /// Parses `:6379`, or nothing.
    private static func port(_ text: Bytes, or standard: UInt16) throws(Invalid) -> UInt16 {
        guard let colon = text.first else { return standard }
        guard colon == UInt8(ascii: ":"), let port = decimal(text.dropFirst(), digits: 5),
            let port = UInt16(exactly: port), port > 0
        else { throw .port }
        return port
    }

    private static func database(_ text: Bytes) throws(Invalid) -> Int {
        if text.isEmpty { return 0 }
        guard let number = decimal(text, digits: 10), let number = Int32(exactly: number) else { throw .database }
        return Int(number)
    }

    private static func decimal(_ text: Bytes, digits: Int) -> Int? {
        guard text.count <= digits, text.allSatisfy({ 0x30...0x39 ~= $0 }) else { return nil }
        return Int(String(decoding: text, as: UTF8.self))
    }

    private static func socketPath(_ text: Bytes) throws(Invalid) -> [UInt8] {
        let path = try text.percentDecoded()
        // sun_path has 108 bytes, the last of which is NUL.
        guard (2...107).contains(path.count), !path.contains(0) else { throw .socketPath }
        return path
    }

    /// Parses name-value pairs joined by `&`; the values stay encoded.
    private static func parameters(_ query: Bytes) throws(Invalid) -> [String: Bytes] {
        var parameters: [String: Bytes] = [:]
        for parameter in query.split(separator: UInt8(ascii: "&")) {
            guard let (name, value) = parameter.divided(atFirst: "="),
                parameters.updateValue(value, forKey: String(decoding: name, as: UTF8.self)) == nil
            else { throw .parameter }
        }
        return parameters
    }
}

extension ArraySlice<UInt8> {
    fileprivate func divided(atFirst separator: Unicode.Scalar) -> (Self, Self)? {
        firstIndex(of: UInt8(ascii: separator)).map { (self[..<$0], self[($0 + 1)...]) }
    }

    fileprivate func percentDecoded() throws(RedisURL.Invalid) -> [UInt8] {
        var (decoded, rest) = ([UInt8](), self)
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                decoded.append(byte)
                continue
            }
            guard let high = rest.popFirst()?.hexadecimalValue, let low = rest.popFirst()?.hexadecimalValue else {
                throw .percent
            }
            decoded.append(high << 4 | low)
        }
        return decoded
    }
}

extension UInt8 {
    fileprivate var hexadecimalValue: UInt8? { Character(Unicode.Scalar(self)).hexDigitValue.map { UInt8($0) } }
}

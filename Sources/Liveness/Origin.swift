/// A pulsefs that shares its records with others: one mounted town on one host.
///
/// An object, so that each of many records pays for a reference only.
public final class Origin: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Tells this one from all others that share a town name, also after a restart: `build1.3f2a9c00`.
    public let name: String
    /// The host, as people call it.
    public let host: String

    /// - Parameters:
    ///   - path: Where the town is mounted; two of one host may share a town name.
    ///   - machine: What else tells it from others of the same host name and path.
    public convenience init(host: String, path: String, machine: String = "") {
        let hash = (path + "\0" + machine).utf8.reduce(0x811c_9dc5 as UInt32) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
        let digits = String(hash, radix: 16)
        self.init(
            name: Self.sanitized(host) + "." + String(repeating: "0", count: 8 - digits.utf8.count) + digits, host: host
        )
    }

    package init(name: String, host: String) {
        self.name = name
        self.host = host
    }

    public var description: String { name }

    public static func == (one: Origin, other: Origin) -> Bool { one.name == other.name }
    public static func < (one: Origin, other: Origin) -> Bool { one.name < other.name }
    public func hash(into hasher: inout Hasher) { hasher.combine(name) }

    /// A name as it may stand between the colons of a Redis key.
    private static func sanitized(_ host: String) -> String {
        let dash = UInt8(ascii: "-")
        let bytes = host.utf8.map { RuntimeID.isAllowed($0) && $0 != UInt8(ascii: "/") ? $0 : dash }
        return String(decoding: bytes, as: UTF8.self)
    }
}

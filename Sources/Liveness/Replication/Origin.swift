/// One mounted town on one host, among all that share a town name; A class, because many records share one.
public final class Origin: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Unique among the origins of a town name, and the same after a restart: `build1.3f2a9c00`.
    public let name: String
    public let host: String

    /// - Parameters:
    ///   - path: The mountpoint; two mounts of one host may share a town name.
    ///   - machine: Distinguishes machines with the same host name and path.
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

    /// The host name with dashes for what may not stand in a Redis key.
    private static func sanitized(_ host: String) -> String {
        let dash = UInt8(ascii: "-")
        let bytes = host.utf8.map { RuntimeID.isAllowed($0) && $0 != UInt8(ascii: "/") ? $0 : dash }
        return String(decoding: bytes, as: UTF8.self)
    }
}

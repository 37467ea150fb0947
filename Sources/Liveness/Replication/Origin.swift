/// One mounted town on one host, among all that share a town name.
///
/// A class, because many records share one.
public final class Origin: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Unique among the origins of a town name, and the same after a restart: `build1.3f2a9c00`.
    public let name: String
    public let host: String

    /// - Parameters:
    ///   - path: The mountpoint; two mounts of one host may share a town name.
    ///   - machine: Distinguishes machines with the same host name and path.
    public convenience init(host: String, path: String, machine: String = "") {
        let hash = (path + "\0" + machine).utf8.reduce(0x811c_9dc5 as UInt32) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
        // Names are parts of Redis keys.
        let name = host.utf8.map { RuntimeID.isAllowedInName($0) ? $0 : UInt8(ascii: "-") }
        self.init(name: String(decoding: name, as: UTF8.self) + "." + hash.padded(to: 8, radix: 16), host: host)
    }

    package init(name: String, host: String) {
        self.name = name
        self.host = host
    }

    public var description: String { name }

    public static func == (one: Origin, other: Origin) -> Bool { one.name == other.name }
    public static func < (one: Origin, other: Origin) -> Bool { one.name < other.name }
    public func hash(into hasher: inout Hasher) { hasher.combine(name) }
}

/// Orders changes of one record across origins.
///
/// A hybrid logical clock: the time of receipt by the shared clock, moved past the last known change of the record. All
/// origins that have seen the same changes agree on the last. (Kulkarni et al., "Logical Physical Clocks", 2014.)
public struct HLCTimestamp: Hashable, Comparable, Sendable {
    public var time: WallTime
    /// Breaks ties; nil for a change made here without a mirror.
    public var origin: Origin?

    public init(_ time: WallTime, by origin: Origin? = nil) {
        self.time = time
        self.origin = origin
    }

    /// This timestamp, or the next one of its origin after `other` if that is later.
    func later(than other: HLCTimestamp) -> HLCTimestamp {
        self > other ? self : HLCTimestamp(other.time + .nanoseconds(1), by: origin)
    }

    public static func < (first: HLCTimestamp, second: HLCTimestamp) -> Bool {
        if first.time != second.time { return first.time < second.time }
        guard let origin = second.origin else { return false }
        return first.origin.map { $0 < origin } ?? true
    }
}

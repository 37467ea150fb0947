/// Stores the heartbeats of runtimes.
///
/// Thread-safe. A runtime is alive from a touch until at least `ttl` later, then expires by itself.
public protocol LivenessStore: Sendable {
    /// Whether the store can answer queries.
    var isAvailable: Bool { get }

    /// Records that a runtime is alive now. Throws `NonPositiveTTL`, or an error of the store.
    func touch(_ id: RuntimeID, ttl: Duration) throws

    /// Whether each runtime is alive, in the order of `ids`; false for an unknown one.
    ///
    /// Nil if the store cannot tell.
    func areAlive(_ ids: [RuntimeID]) -> [Bool]?

    func forget(_ id: RuntimeID) throws
}

/// The store of a program without one: ignores touches and answers no query.
public struct NoOpLivenessStore: LivenessStore {
    public init() {}

    public var isAvailable: Bool { false }

    public func touch(_ id: RuntimeID, ttl: Duration) throws { try NonPositiveTTL.check(ttl) }

    public func areAlive(_ ids: [RuntimeID]) -> [Bool]? { nil }

    public func forget(_ id: RuntimeID) {}
}

public struct NonPositiveTTL: Error, Hashable, CustomStringConvertible {
    public let ttl: Duration

    package static func check(_ ttl: Duration) throws(NonPositiveTTL) {
        guard ttl > .zero else { throw NonPositiveTTL(ttl: ttl) }
    }

    public var description: String { "A touch must count for longer than \(ttl)." }
}

/// Why a text is not a duration.
public struct UnreadableDuration: Error, Hashable, CustomStringConvertible {
    public let description: String
}

extension Duration {
    /// 100 years.
    package static let maximumTTL: Duration = .seconds(3_155_760_000)

    private static let nanosecondsPerUnit: [String: Int64] = [
        "ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000,
    ]

    /// Parses a whole number above 0 and a unit, `90s`, up to 100 years.
    public init(spelled text: String) throws(UnreadableDuration) {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let unit = Self.nanosecondsPerUnit[String(text.dropFirst(digits.count))], let count = Int64(digits),
            count > 0
        else {
            throw UnreadableDuration(
                description:
                    "'\(text)' is no duration: write a whole number above 0 and a unit, as in 500ms, 90s, 5m, 1h.")
        }
        let (nanoseconds, overflow) = count.multipliedReportingOverflow(by: unit)
        guard !overflow, .nanoseconds(nanoseconds) <= Self.maximumTTL else {
            throw UnreadableDuration(description: "'\(text)' is longer than 100 years.")
        }
        self = .nanoseconds(nanoseconds)
    }

    /// The text from which `init(spelled:)` makes this duration, in the largest unit without a remainder: `5h`, `90s`;
    /// `0s` for zero.
    package var spelled: String {
        guard self != .zero else { return "0s" }
        let (seconds, attoseconds) = components
        // 100 years fit into an Int64.
        let nanoseconds = seconds * 1_000_000_000 + attoseconds / 1_000_000_000
        let units = Self.nanosecondsPerUnit.sorted { $0.value > $1.value }
        let (unit, size) = units.first { nanoseconds % $0.value == 0 } ?? ("ns", 1)
        return "\(nanoseconds / size)\(unit)"
    }

    /// Whole milliseconds, rounded down.
    package var milliseconds: Int64 {
        components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    }
}

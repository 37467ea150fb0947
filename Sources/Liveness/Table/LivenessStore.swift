/// Where runtimes' heartbeats are kept and asked for.
///
/// Any thread may call any of these. A runtime is alive from its touch until at least `ttl` later, then expired,
/// without anybody doing anything; a touch never shortens the life that an earlier one promised.
public protocol LivenessStore: Sendable {
    /// Whether the store can answer at all. If not, callers fall back on what else they know.
    var isAvailable: Bool { get }

    /// Notes that a runtime is alive now. Throws `NonPositiveTTL`, or what keeps the store from noting it.
    func touch(_ id: RuntimeID, ttl: Duration) throws

    /// Whether each runtime is alive now: an answer for every id, in their order, false for one that was never touched.
    ///
    /// Nil as a whole if the store cannot say, which is not the same as nobody being alive.
    func areAlive(_ ids: [RuntimeID]) -> [Bool]?

    /// Makes a runtime one that was never touched.
    func forget(_ id: RuntimeID) throws
}

/// A touch was to count for no time at all.
public struct NonPositiveTTL: Error, Hashable, CustomStringConvertible {
    public let ttl: Duration

    /// Throws unless `ttl` is longer than nothing.
    package static func check(_ ttl: Duration) throws(NonPositiveTTL) {
        guard ttl > .zero else { throw NonPositiveTTL(ttl: ttl) }
    }

    public var description: String { "A touch must count for longer than \(ttl)." }
}

/// The store of a program that has none: touches vanish, and nobody's life can be told.
public struct NoOpLivenessStore: LivenessStore {
    public init() {}

    public var isAvailable: Bool { false }

    public func touch(_ id: RuntimeID, ttl: Duration) throws {
        try NonPositiveTTL.check(ttl)
    }

    public func areAlive(_ ids: [RuntimeID]) -> [Bool]? { nil }

    public func forget(_ id: RuntimeID) {}
}

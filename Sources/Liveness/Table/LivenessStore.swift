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

    /// Removes a runtime.
    func forget(_ id: RuntimeID) throws
}

public struct NonPositiveTTL: Error, Hashable, CustomStringConvertible {
    public let ttl: Duration

    package static func check(_ ttl: Duration) throws(NonPositiveTTL) {
        guard ttl > .zero else { throw NonPositiveTTL(ttl: ttl) }
    }

    public var description: String { "A touch must count for longer than \(ttl)." }
}

/// The store of a program without one: ignores touches and answers no query.
public struct NoOpLivenessStore: LivenessStore {
    public init() {}

    public var isAvailable: Bool { false }

    public func touch(_ id: RuntimeID, ttl: Duration) throws {
        try NonPositiveTTL.check(ttl)
    }

    public func areAlive(_ ids: [RuntimeID]) -> [Bool]? { nil }

    public func forget(_ id: RuntimeID) {}
}

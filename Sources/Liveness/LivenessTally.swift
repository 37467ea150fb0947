/// What has happened to a liveness table since it was made.
public struct LivenessTally: Hashable, Sendable {
    /// Runtimes that were silent for their ttl.
    public var expired: UInt64 = 0
    public var forgotten: UInt64 = 0
    /// How long after the deadline the last expiry was noticed; nil before the first.
    public var expiryLag: Duration?
}

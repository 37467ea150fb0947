import Liveness

package struct MirrorConfiguration: Sendable {
    /// Multica's.
    package static let defaultPrefix = "mul:runtime:hb:"
    /// Multica takes a runtime for dead after 150 s: no key may outlive that.
    package static let longestHeartbeat: Duration = .seconds(90)
    /// How long records are kept after the last touch, as in the table.
    static let retention: Duration = LivenessTable.defaultRetention

    /// The server, read again for each connection.
    package var options: @Sendable () throws -> RedisOptions
    /// Of heartbeat keys.
    package var prefix = defaultPrefix
    /// Shared by the origins that exchange records.
    package var townName: String
    package var origin: Origin
    /// Whether records of signal files are exchanged.
    package var sharesSignals = false
    /// Path of a `RuntimeIDMap`.
    package var runtimeIDs: String?

    package init(
        townName: String, origin: Origin, options: @escaping @Sendable () throws -> RedisOptions
    ) {
        self.townName = townName
        self.origin = origin
        self.options = options
    }
}

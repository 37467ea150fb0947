import Liveness

/// What the person who mounts decides of a mirror.
package struct MirrorConfiguration: Sendable {
    /// Multica's.
    package static let defaultPrefix = "mul:runtime:hb:"
    /// Multica takes a runtime for dead after 150 s: a key must not say otherwise for longer.
    package static let longestHeartbeat: Duration = .seconds(90)
    /// For how long records outlive their last touch: as long as a table keeps expired ones.
    static let retention: Duration = LivenessTable.defaultRetention

    /// Where the server is, asked anew at each connection.
    package var options: @Sendable () throws -> RedisOptions
    /// Of the keys that tell who is alive.
    package var prefix = defaultPrefix
    /// Under which records are shared.
    package var townName: String
    /// Who we are among those who share it.
    package var origin: Origin
    /// Whether documents of signal files are shared.
    package var sharesSignals = false
    /// The file of a `RuntimeIDMap`.
    package var runtimeIDs: String?

    package init(
        townName: String, origin: Origin, options: @escaping @Sendable () throws -> RedisOptions
    ) {
        self.townName = townName
        self.origin = origin
        self.options = options
    }
}

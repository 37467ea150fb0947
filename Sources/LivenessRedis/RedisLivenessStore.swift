import Liveness
import Synchronization

/// Multica's liveness store: a Redis key with a time to live for each runtime.
///
/// Unlike in memory, a shorter touch shortens a life, because SET replaces the time to live. The server's clock decides.
///
/// Calls block for the server and for each other. The connection is made on demand. After a failure calls fail at once
/// until a pause is over.
package final class RedisLivenessStore: LivenessStore {
    private let options: RedisOptions
    private let keys: HeartbeatKeys
    private let pause: Duration
    // Held during I/O, because a connection is not thread-safe.
    private let link = Mutex(Link())

    private struct Link {
        var connection: RedisConnection?
        /// The last error, and when to connect again.
        var failure: (error: RedisError, until: ContinuousClock.Instant)?
    }

    package init(
        _ options: RedisOptions, prefix: String = MirrorConfiguration.defaultPrefix, pause: Duration = .seconds(1)
    ) {
        self.options = options
        keys = HeartbeatKeys(prefix: prefix)
        self.pause = pause
    }

    package var isAvailable: Bool { (try? ask(RedisCommand("PING"))) == .status("PONG") }

    package func touch(_ id: RuntimeID, ttl: Duration) throws {
        try NonPositiveTTL.check(ttl)
        _ = try ask(keys.touch(id.description, ttl: ttl))
    }

    package func areAlive(_ ids: [RuntimeID]) -> [Bool]? {
        guard !ids.isEmpty else { return [] }
        guard case .array(let values)? = try? ask(keys.areAlive(ids.map(\.description))), values.count == ids.count
        else { return nil }
        return values.map { $0 != .null }
    }

    package func forget(_ id: RuntimeID) throws { _ = try ask(keys.forget(id.description)) }

    private func ask(_ command: RedisCommand) throws(RedisError) -> RedisReply {
        try link.withLock { link throws(RedisError) in
            let isIdle = link.connection != nil
            do throws(RedisError) {
                return try ask(command, over: &link)
            } catch .closed where isIdle {
                // The server closed an idle connection or was restarted. Every command is idempotent.
                return try ask(command, over: &link)
            }
        }
    }

    private func ask(_ command: RedisCommand, over link: inout Link) throws(RedisError) -> RedisReply {
        if link.connection == nil, let failure = link.failure, ContinuousClock.now < failure.until {
            throw failure.error
        }
        let reply: RedisReply
        do throws(RedisError) {
            let connection = if let open = link.connection { open } else { try RedisConnection.open(options) }
            (link.connection, link.failure) = (connection, nil)
            reply = try connection.pipeline([command])[0]
        } catch {
            // A connection that was closed is opened again at once.
            if link.connection == nil || error != .closed { link.failure = (error, .now + pause) }
            link.connection = nil
            throw error
        }
        do throws(RedisError) {
            return try reply.checked()
        } catch {
            // Another node may be the primary by now.
            if error == .readOnly { link.connection = nil }
            throw error
        }
    }
}

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

    package init(
        _ options: RedisOptions, prefix: String = MirrorConfiguration.defaultPrefix, pause: Duration = .seconds(1)
    ) {
        self.options = options
        keys = HeartbeatKeys(prefix: prefix)
        self.pause = pause
    }

    // MARK: LivenessStore

    package var isAvailable: Bool {
        (try? ask(RedisCommand("PING"))) == .status("PONG")
    }

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

    package func forget(_ id: RuntimeID) throws {
        _ = try ask(keys.forget(id.description))
    }

    private func ask(_ command: RedisCommand) throws(RedisError) -> RedisReply {
        try link.withLock { link throws(RedisError) in
            let isIdle = link.connection != nil
            do throws(RedisError) {
                return try link.ask(command, options, pause)
            } catch .closed where isIdle {
                // The server closed an idle connection or was restarted. Every command is idempotent.
                return try link.ask(command, options, pause)
            }
        }
    }

    private struct Link {
        var connection: RedisConnection?
        /// The last error, and when to connect again.
        var failure: (error: RedisError, until: ContinuousClock.Instant)?

        mutating func ask(
            _ command: RedisCommand, _ options: RedisOptions, _ pause: Duration
        ) throws(RedisError) -> RedisReply {
            let connection = try connect(options, pause)
            let reply: RedisReply
            do throws(RedisError) {
                reply = try connection.pipeline([command])[0]
            } catch {
                self.connection = nil
                if error != .closed { failure = (error, .now + pause) }
                throw error
            }
            do throws(RedisError) {
                return try reply.checked()
            } catch {
                // Another node may be the primary by now.
                if error == .readOnly { self.connection = nil }
                throw error
            }
        }

        private mutating func connect(_ options: RedisOptions, _ pause: Duration) throws(RedisError) -> RedisConnection
        {
            if let connection { return connection }
            if let failure, ContinuousClock.now < failure.until { throw failure.error }
            do throws(RedisError) {
                let made = try RedisConnection.open(options)
                (connection, failure) = (made, nil)
                return made
            } catch {
                failure = (error, .now + pause)
                throw error
            }
        }
    }
}

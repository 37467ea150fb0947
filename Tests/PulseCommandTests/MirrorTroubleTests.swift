import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// Redis failures: agents do not notice, the status reports them, and everything recovers.
    @Suite(.needsRedis) struct MirrorTroubleTests {
        /// The promised time to detect a failure and to recover.
        static var limit: Promise { Promise(.seconds(5)) }

        /// A server failure and its end.
        struct Trouble: Sendable, CustomTestStringConvertible {
            let testDescription: String
            let state: Mirror.State
            let begin: @Sendable (RedisServer) throws -> Void
            let end: @Sendable (RedisServer) throws -> Void
        }

        static let troubles = [
            Trouble(testDescription: "stopped", state: .down) {
                $0.pause()
            } end: {
                $0.resume()
            },
            Trouble(testDescription: "killed, and restarted empty", state: .down) {
                $0.kill()
            } end: {
                try $0.restart()
            },
            Trouble(testDescription: "turned read-only", state: .down) {
                try $0.cli("REPLICAOF", "127.0.0.1", "1")
            } end: {
                try $0.cli("REPLICAOF", "NO", "ONE")
            },
            Trouble(testDescription: "full", state: .down) {
                try $0.cli("CONFIG", "SET", "maxmemory", "1")
            } end: {
                try $0.cli("CONFIG", "SET", "maxmemory", "0")
            },
            Trouble(testDescription: "password changed", state: .refused) {
                try $0.cli("ACL", "SETUSER", "mirror", "resetpass", ">other")
                try $0.cli("CLIENT", "KILL", "USER", "mirror")
            } end: {
                try $0.cli("ACL", "SETUSER", "mirror", "resetpass", ">secret")
            },
        ]

        @Test(arguments: troubles) func troubleIsNoticedByTheStatusAlone(_ trouble: Trouble) throws {
            let redis = try RedisServer {
                $0.listensOnLoopback = false
                $0.users = ["mirror on >secret ~* &* +@all"]
            }
            try Self.expectRecovery(
                from: trouble.state, redis, through: "unix://mirror:secret@\(redis.socketPath)",
                begin: { try trouble.begin(redis) }, end: { try trouble.end(redis) })
        }

        @Test func networkThatSwallowsEverythingIsNoticedByTheStatusAlone() throws {
            let redis = try RedisServer.onSocket()
            try withNetwork(to: redis.socketPath) { network in
                try Self.expectRecovery(
                    from: .down, redis, through: "unix://\(network.path)", begin: { network.condition = .lost },
                    end: { network.condition = .good })
            }
        }

        @Test func slowNetworkDoesNotSlowTouches() throws {
            let redis = try RedisServer.onSocket()
            try withNetwork(to: redis.socketPath) { network in
                try withMountedTown("--redis", "unix://\(network.path)") { town in
                    #expect(try eventually { try town.mirror.isUp })
                    let roundTrip = Promise(.milliseconds(400))
                    let findings = try BusyAgents.work(in: town, as: ["amy", "ben"]) {
                        network.condition = .slow(.milliseconds(200))
                        let isSlow = try eventually { try town.mirror.roundTripMicroseconds ?? 0 >= 400_000 }
                        #expect(isSlow)
                        #expect(try town.mirror.isUp)
                        #expect(try eventually { try redis.alive(["amy", "ben"]).count == 2 })
                    }
                    #expect(findings.failures == [])
                    // Less than one round trip: no call waited for one.
                    #expect(roundTrip.isKept(by: findings.slowest), "\(findings.slowest)")
                }
            }
        }

        @Test(arguments: [true, false]) func townIsMountedAtOnceWithoutAServer(thatAccepts isListening: Bool) throws {
            let redis = try RedisServer.onSocket()
            if isListening { redis.pause() } else { redis.kill() }
            defer { redis.resume() }
            try withTown { town in
                let usual = try ContinuousClock().measure { try town.mount() }
                try town.unmount()
                // Less than the timeout for a server that does not reply: the mount does not wait for it.
                let promise = Promise(.milliseconds(1500))
                let taken = try ContinuousClock().measure { try town.mount(["--redis", redis.url]) }
                #expect(promise.isKept(by: taken - usual), "\(taken), usually \(usual)")
                try town.touch("max")
                #expect(try eventually(within: Self.limit) { try town.mirror.heartbeats.state == .down })
                if isListening { redis.resume() } else { try redis.restart() }
                #expect(try eventually(within: Self.limit) { try redis.isAlive("max") && town.mirror.isUp })
                try town.unmount()
            }
        }

        /// A stopped server executes the commands in its socket buffer when it continues.
        @Test func touchThatAStoppedServerExecutesTooLateIsWithdrawn() throws {
            let redis = try RedisServer.onSocket()
            try withMountedTown("--redis", redis.url, "--ttl", "6s") { town in
                #expect(try eventually { try town.mirror.isUp })
                redis.pause()
                defer { redis.resume() }
                try town.touch("max")
                #expect(try eventually { try town.status().runtimes.alive == 0 })
                redis.resume()
                #expect(try eventually(within: Self.limit) { try town.mirror.isUp })
                // Well before the ttl, which the server counts from then on.
                #expect(try eventually(within: Promise(.seconds(3))) { try !redis.isAlive("max") })
            }
        }

        /// Lets a server fail and recover while agents work and runtimes come and go.
        private static func expectRecovery(
            from state: Mirror.State, _ redis: RedisServer, through url: String, begin: () throws -> Void,
            end: () throws -> Void
        ) throws {
            try withTown { town in
                try withMountedTown(options: ["--redis-file", redisFile(url, town), "--ttl", "2s"]) { brief in
                    try town.mount(["--redis-file", redisFile(url, town)])
                    for id in ["steady", "left"] { try town.touch(id) }
                    try brief.touch("brief")
                    #expect(try eventually { try redis.alive(["steady", "left", "brief"]).count == 3 })
                    #expect(try eventually { try town.mirror.isUp && brief.mirror.isUp })
                    let agents = ["amy", "ben"]
                    let findings = try BusyAgents.work(in: town, as: agents) {
                        try begin()
                        #expect(try eventually(within: Self.limit) { try town.mirror.heartbeats.state == state })
                        #expect(try town.mirror.heartbeats.reason != nil)
                        try town.forget("left")
                        try town.touch("late")
                        #expect(try eventually { try brief.status().runtimes.alive == 0 })
                        // The state is stable.
                        #expect(try town.mirror.heartbeats.state == state)
                        try end()
                        let all = ["steady", "left", "brief", "late"] + agents
                        let healed = try eventually(within: Self.limit) {
                            try redis.alive(all) == Set(["steady", "late"] + agents) && town.mirror.isUp
                        }
                        let (alive, mirror) = (try redis.alive(all), try town.mirror)
                        #expect(healed, "\(alive), \(mirror)")
                    }
                    #expect(findings.writes > 10)
                    #expect(findings.failures == [])
                    #expect(findings.areInTime, "\(findings.slowest)")
                    try town.unmount()
                }
            }
        }

        /// A file with a URL, including the password.
        private static func redisFile(_ url: String, _ town: MountedTown) throws -> String {
            let file = "\(town.scratch.path)/redis"
            try Client.write(url, to: file, mode: 0o600)
            return file
        }
    }
}

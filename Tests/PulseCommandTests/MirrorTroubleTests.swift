import Glibc
import RedisServing
import Testing

extension EndToEnd {
    /// Whatever happens to Redis: agents notice nothing, the status says so, and afterwards all is as it should be.
    @Suite(.needsRedis) struct MirrorTroubleTests {
        /// What a status may lag behind, and how long mending may take.
        static let limit: Duration = .promised(.seconds(5))

        /// Something that goes wrong with a server, and is mended again.
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

        @Test func networkThatIsSlowSlowsNobodyDown() throws {
            let redis = try RedisServer.onSocket()
            try withNetwork(to: redis.socketPath) { network in
                try withMountedTown("--redis", "unix://\(network.path)") { town in
                    #expect(try eventually { try town.mirror.isUp })
                    let findings = try BusyAgents.work(in: town, as: ["amy", "ben"]) {
                        network.condition = .slow(.milliseconds(200))
                        let isSlow = try eventually { try town.mirror.roundTripMicroseconds ?? 0 >= 400_000 }
                        #expect(isSlow)
                        #expect(try town.mirror.isUp)
                        #expect(try eventually { try redis.alive(["amy", "ben"]).count == 2 })
                    }
                    #expect(findings.failures == [])
                    // Less than one round trip: nobody has waited for one.
                    #expect(findings.slowest < .milliseconds(400))
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
                let taken = try ContinuousClock().measure { try town.mount(["--redis", redis.url]) }
                // Less than the patience with a server that does not reply: nobody has waited for it.
                #expect(taken - usual < .milliseconds(1500))
                try town.touch("max")
                #expect(try eventually(within: Self.limit) { try town.mirror.heartbeats.state == .down })
                if isListening { redis.resume() } else { try redis.restart() }
                #expect(try eventually(within: Self.limit) { try redis.isAlive("max") && town.mirror.isUp })
                try town.unmount()
            }
        }

        /// A server that is stopped still has what was sent to it last, and takes it to heart when it goes on.
        @Test func touchThatAStoppedServerHearsOfTooLateIsTakenBack() throws {
            let redis = try RedisServer.onSocket()
            try withMountedTown("--redis", redis.url, "--ttl", "6s") { town in
                #expect(try eventually { try town.mirror.isUp })
                redis.pause()
                defer { redis.resume() }
                try town.touch("max")
                #expect(try eventually { try town.status().runtimes.alive == 0 })
                redis.resume()
                #expect(try eventually(within: Self.limit) { try town.mirror.isUp })
                // Well before the ttl that it counts from then on.
                #expect(try eventually(within: .seconds(3)) { try !redis.isAlive("max") })
            }
        }

        /// Goes through trouble with a server, with agents at work and runtimes that come and go meanwhile.
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
                        // It stays so, and does not flicker.
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
                    #expect(findings.slowest < .promised(.seconds(1)))
                    try town.unmount()
                }
            }
        }

        /// A file with a URL, password and all.
        private static func redisFile(_ url: String, _ town: MountedTown) throws -> String {
            let file = "\(town.scratch.path)/redis"
            try Client.write(url, to: file, mode: 0o600)
            return file
        }
    }
}

import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// Connections over TLS and by sentinels.
    @Suite(.needsRedis) struct MirrorTransportTests {
        /// The permissions that docs/REDIS.md lists.
        private static let commands = """
            +set +del +psetex +publish +subscribe +zadd +zrevrangebyscore +zremrangebyscore +exists +pexpire +mget +time +ping \
            +client|setname +select
            """

        @Test(arguments: [true, false]) func documentedPermissionsAreEnough(includesRecords: Bool) throws {
            let keys = "~mul:runtime:hb:*" + (includesRecords ? " ~pulsefs:* &pulsefs:*" : "")
            let redis = try RedisServer {
                $0.listensOnLoopback = false
                $0.users = ["pulse on >secret resetchannels \(keys) \(Self.commands)"]
            }
            try withTown { town in
                try town.mount(
                    ["--town-name", "gt", "--share"],
                    environment: ["PULSEFS_REDIS_URL": "unix://pulse:secret@\(redis.socketPath)"])
                let expected: Mirror.State = includesRecords ? .up : .refused
                let isTold = try eventually {
                    let mirror = try town.mirror
                    return mirror.heartbeats.state == .up && mirror.records.state == expected
                        && mirror.subscription.state == expected
                }
                #expect(isTold)
                try town.touch("max")
                #expect(try eventually { try redis.isAlive("max") })
                try town.forget("max")
                #expect(try eventually { try !redis.isAlive("max") })
                #expect(try town.mirror.heartbeats.state == .up)
                #expect(try town.mirror.records.state == expected)
                try town.unmount()
            }
        }

        @Test func mirrorFollowsAFailover() throws {
            let primary = try RedisServer()
            let replica = try RedisServer { $0.replicaOf = primary }
            try replica.wait(for: "replication") { try $0.cli("INFO", "replication").contains("master_link_status:up") }
            let sentinel = try RedisServer { $0.watches = ("gt", primary) }
            try sentinel.wait(for: "the replica") {
                try $0.cli("SENTINEL", "REPLICAS", "gt").contains("\(replica.port)")
            }
            try withMountedTown("--redis", "redis+sentinel://127.0.0.1:\(sentinel.port)/gt") { town in
                #expect(try eventually { try town.mirror.isUp })
                try town.touch("max")
                #expect(try eventually { try replica.isAlive("max") })
                let findings = try BusyAgents.work(in: town, as: ["amy"]) {
                    primary.kill()
                    try town.touch("late")
                    // The sentinel closes all client connections when it promotes the replica.
                    try replica.wait(for: "fail-over", seconds: 30) { replica in
                        (try? replica.cli("ROLE"))?.hasPrefix("master") == true
                    }
                    let follows = try eventually(within: Promise(.seconds(5))) {
                        try replica.alive(["max", "late", "amy"]).count == 3 && town.mirror.isUp
                    }
                    #expect(follows)
                }
                #expect(findings.failures == [])
                #expect(findings.areInTime, "\(findings.slowest)")
                #expect(try town.mirror.server == "redis+sentinel://127.0.0.1:\(sentinel.port)/gt/0")
            }
        }

        @Test func certificateIsChecked() throws {
            let redis = try RedisServer { $0.certificateNames = "IP:127.0.0.1" }
            let stranger = try RedisServer { $0.certificateNames = "IP:127.0.0.1" }
            let url = "rediss://127.0.0.1:\(redis.tlsPort)"
            try withMountedTown("--redis", url, "--redis-ca", stranger.caFile) { town in
                try town.touch("max")
                #expect(try eventually { try town.mirror.heartbeats.state == .refused })
                #expect(try eventually { try town.mirror.subscription.state == .refused })
                #expect(try town.mirror.heartbeats.reason?.contains("certificate") == true)
                #expect(try !redis.isAlive("max"))
                try town.remount(["--redis", url, "--redis-ca", redis.caFile])
                #expect(try eventually { try town.mirror.isUp })
                try town.touch("max")
                #expect(try eventually { try redis.isAlive("max") })
            }
        }

        /// The certificate is for an address.
        @Test func certificateOfAnotherHostIsRefused() throws {
            let redis = try RedisServer { $0.certificateNames = "IP:127.0.0.1" }
            try withMountedTown("--redis", "rediss://localhost:\(redis.tlsPort)", "--redis-ca", redis.caFile) { town in
                let isRefused = try eventually { try town.mirror.heartbeats.state == .refused }
                #expect(isRefused)
            }
        }
    }
}

import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// The commands that the mirror sends to Redis, and how other clients see them.
    @Suite(.needsRedis) struct MirrorCommandTests {
        struct Wording: Sendable, CustomTestStringConvertible {
            let options: [String]
            let touch: String
            var testDescription: String { options.joined(separator: " ") }
        }

        static let wordings = [
            Wording(options: [], touch: #""SET" "mul:runtime:hb:max" "1" "EX" "90""#),
            Wording(options: ["--ttl", "1500ms"], touch: #""SET" "mul:runtime:hb:max" "1" "PX" "1500""#),
            Wording(options: ["--ttl", "10m"], touch: #""SET" "mul:runtime:hb:max" "1" "EX" "90""#),
            Wording(
                options: ["--ttl", "30s", "--redis-prefix", "other:"], touch: #""SET" "other:max" "1" "EX" "30""#),
        ]

        @Test(arguments: wordings) func touchIsOneSet(_ wording: Wording) throws {
            let redis = try RedisServer.onSocket()
            try withMountedTown(options: ["--redis", redis.url] + wording.options) { town in
                #expect(try eventually { try town.mirror.isUp })
                let monitor = try Monitor(redis)
                try town.touch("max")
                let isTold = eventually(within: Promise(.seconds(1))) { !monitor.lines(with: #""SET""#).isEmpty }
                #expect(isTold)
                // The same with any options.
                if wording.options == [] { #expect(monitor.waitForSilence()) }
                #expect(monitor.words(with: #""SET""#) == [wording.touch])
            }
        }

        @Test func unlinkIsOneDelete() throws {
            let redis = try RedisServer.onSocket()
            try withMountedTown("--redis", redis.url) { town in
                try town.touch("max")
                #expect(try eventually { try redis.isAlive("max") })
                let monitor = try Monitor(redis)
                try town.forget("max")
                #expect(eventually(within: Promise(.seconds(1))) { !monitor.lines(with: "hb:max").isEmpty })
                try town.touch("next")
                #expect(eventually { !monitor.lines(with: "hb:next").isEmpty })
                #expect(monitor.words(with: "hb:max") == [#""DEL" "mul:runtime:hb:max""#])
            }
        }

        @Test func frequentTouchesAreSentOncePerSecondAndAtTheEnd() throws {
            let redis = try RedisServer.onSocket()
            try withMountedTown("--redis", redis.url) { town in
                #expect(try eventually { try town.mirror.isUp })
                let monitor = try Monitor(redis)
                let end = ContinuousClock.now + .milliseconds(2300)
                var round = 0
                while .now < end {
                    round += 1
                    for id in ["max", "joe"] { try town.touch(id, "round \(round)") }
                }
                #expect(round > 50)
                #expect(monitor.waitForSilence())
                for id in ["max", "joe"] {
                    let times = monitor.lines(with: #""SET" "mul:runtime:hb:\#(id)""#).map(\.time)
                    #expect((3...4).contains(times.count), "\(times)")
                    #expect(zip(times, times.dropFirst()).allSatisfy { $1 - $0 > 0.98 }, "\(times)")
                    let last = try #require(monitor.words(with: ":r:\(id)").last { $0.hasPrefix(#""PSETEX""#) })
                    #expect(last.contains("round \(round)"))
                }
                #expect(try town.mirror.coalesced >= 2 * (round - 4))
            }
        }

        @Test func touchWithoutARuntimeIsNotMirrored() throws {
            let redis = try RedisServer.onSocket()
            try withMountedTown("--redis", redis.url) { town in
                #expect(try eventually { try town.mirror.isUp })
                let monitor = try Monitor(redis)
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                try town.touch("next")
                #expect(eventually { !monitor.lines(with: "hb:next").isEmpty })
                #expect(monitor.words(with: #""SET""#) == [#""SET" "mul:runtime:hb:next" "1" "EX" "90""#])
            }
        }

        /// A Redis client that uses only a socket.
        private static let stranger = #"""
            import socket, sys, time
            server = socket.socket(socket.AF_UNIX); server.connect(sys.argv[1]); replies = server.makefile("rb")
            def alive(id):
                key = b"mul:runtime:hb:" + id
                server.sendall(b"*3\r\n$4\r\nMGET\r\n$%d\r\n%s\r\n$1\r\nx\r\n" % (len(key), key))
                assert replies.readline() == b"*2\r\n"
                value = replies.readline()
                if value != b"$-1\r\n":
                    assert (value, replies.readline()) == (b"$1\r\n", b"1\r\n")
                assert replies.readline() == b"$-1\r\n"
                return value != b"$-1\r\n"
            def wait(expected):
                limit = time.monotonic() + 5
                while alive(b"max") != expected:
                    assert time.monotonic() < limit, expected
                    time.sleep(0.005)
                return time.monotonic()
            begin = wait(True); print("%.3f" % (wait(False) - begin))
            """#

        @Test(.needs("python3")) func strangerSeesARuntimeAliveForItsTTL() throws {
            let redis = try RedisServer.onSocket()
            try withMountedTown("--redis", redis.url, "--ttl", "1s") { town in
                #expect(try eventually { try town.mirror.isUp })
                let stranger = try Command("python3", "-c", Self.stranger, redis.socketPath).start()
                try town.touch("max")
                let outcome = try stranger.wait()
                #expect(outcome.status == 0, "\(outcome)")
                let life = Double(outcome.output.dropLast()) ?? 0
                #expect((0.5...1.1).contains(life), "\(life)")
            }
        }
    }
}

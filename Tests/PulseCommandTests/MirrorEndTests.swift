import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// What an ended town leaves in Redis, and what a starting town finds there.
    @Suite(.needsRedis) struct MirrorEndTests {
        @Test func keysOfADeadTownVanishAtTheirTTL() throws {
            let redis = try RedisServer.onSocket()
            try withMountedTown("--redis", redis.url, "--ttl", "4s") { town in
                #expect(try eventually { try town.mirror.isUp })
                let (_, touched) = try Bracket.around { try town.touch("max") }
                let (isAlive, seen) = try Bracket.around { try eventually { try redis.isAlive("max") } }
                #expect(isAlive)
                // The server received the ttl between these times and counts it by its own clock.
                let sent = touched.through(seen)
                town.killAll()
                #expect(eventually { town.processes.isEmpty })
                let (answer, asked) = try Bracket.around { try redis.cli("PTTL", "mul:runtime:hb:max") }
                let left = (Double(answer.dropLast()) ?? 0) / 1000
                let expected = sent.age(at: asked).left(of: 4)
                #expect(expected.contains(left), "\(left), \(expected)")
                #expect(try redis.isSilent(about: "max", from: sent.end + .seconds(4)))
                try town.unmount()
            }
        }

        @Test func runtimesAreSeenAgainWithTheirTrueAgeAfterARestart() throws {
            let redis = try RedisServer.onSocket()
            let options = ["--redis", redis.url, "--town-name", "gt"]
            try withTown { town in
                let (_, first) = try Bracket.around {
                    try town.mount(options)
                    #expect(try eventually { try town.mirror.isUp })
                }
                let (_, touched) = try Bracket.around { try town.touch("max", "gt sling") }
                try town.touch("left")
                try town.forget("left")
                #expect(try eventually { try town.mirror.queueLength == 0 })
                let former = try #require(try town.runtime("max"))
                // Long enough to be measurable as an age.
                #expect(try eventually { try town.runtime("max")?.ageSeconds ?? 0 > 1 })
                try town.unmount()
                // The document is there, too, with its time in whole seconds.
                try Client.unlink(town.heartbeat("max"))
                let (isSeen, second) = try Bracket.around {
                    try town.mount(options)
                    return try eventually { try town.runtime("max") != nil }
                }
                #expect(isSeen)
                let (view, read) = try Bracket.around { try town.runtime("max") }
                let max = try #require(view)
                #expect(max.state == "alive")
                #expect(max.lastCommand == "gt sling")
                // Both towns took the server's time, with an error of up to half the round trip.
                let moved = try max.evidence.received - former.evidence.received
                #expect(abs(moved) < (first.length + second.length) / 2, "\(moved)")
                let age = touched.age(at: read)
                let (told, left) = (try #require(max.ageSeconds), try #require(max.ttlLeftSeconds))
                #expect(age.contains(told + moved), "\(told), moved by \(moved); \(age)")
                #expect(abs(told + left - 90) < 0.003)
                #expect(try town.runtime("left") == nil)
                try town.unmount()
            }
        }

        /// A server that answers the handshake and then misbehaves.
        struct Imposter: Sendable, CustomTestStringConvertible {
            let testDescription: String
            /// Its reply to each command.
            let answer: [UInt8]
            /// What it sends to subscribers, endlessly.
            var broadcast: [UInt8] = []
            /// The number of bytes after which the test has seen enough.
            var enough = 64 << 20

            /// Serves one connection until it ends.
            func play(_ connection: CInt, in listening: ListeningSocket, counting sent: Counter) {
                func reply(_ bytes: [UInt8]) -> Bool {
                    sent.add(bytes.count)
                    return Network.sendAll(bytes, to: connection) { !listening.isOver }
                }
                var question = [UInt8](repeating: 0, count: 65_536)
                while !listening.isOver {
                    guard ListeningSocket.wait(for: connection, milliseconds: 10) else { continue }
                    let count = recv(connection, &question, question.count, 0)
                    guard count > 0 else { return }
                    let text = String(decoding: question.prefix(count), as: UTF8.self)
                    for line in text.split(separator: "\r\n") where line.hasPrefix("*") {
                        guard reply(text.contains("CLIENT") ? Array("+OK\r\n".utf8) : answer) else { return }
                    }
                    guard text.contains("SUBSCRIBE"), !broadcast.isEmpty else { continue }
                    while !listening.isOver, reply(broadcast) {}
                }
            }
        }

        static let imposters = [
            Imposter(
                testDescription: "garbage", answer: (0..<65_536).map { UInt8(truncatingIfNeeded: $0 &* 7919 >> 5) }),
            Imposter(testDescription: "a line without end", answer: Array("+".utf8) + filler),
            Imposter(testDescription: "a string without end", answer: Array("$999999999999\r\n".utf8) + filler),
            Imposter(testDescription: "arrays without end", answer: Array("*1000000\r\n".utf8) + filler),
            Imposter(testDescription: "nested arrays", answer: Array(String(repeating: "*1\r\n", count: 9000).utf8)),
            Imposter(testDescription: "more replies than questions", answer: many("+OK\r\n")),
            Imposter(
                testDescription: "messages without end", answer: Array("*0\r\n".utf8),
                broadcast: many(
                    "*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$2000\r\n\(String(repeating: "z", count: 2000))\r\n"),
                // A debug build is slow with each byte.
                enough: 4 << 20),
        ]

        private static let filler = [UInt8](repeating: UInt8(ascii: "9"), count: 1 << 20)

        private static func many(_ text: String) -> [UInt8] {
            Array(String(repeating: text, count: 65_536 / text.utf8.count).utf8)
        }

        @Test(arguments: imposters) func imposterDoesNotMakeTheTownGrow(_ imposter: Imposter) throws {
            try TemporaryDirectory.with { scratch in
                let sent = Counter()
                try ListeningSocket.with("\(scratch.path)/redis.sock") { connection, listening in
                    imposter.play(connection, in: listening, counting: sent)
                } _: { listening in
                    try withMountedTown("--redis", "unix://\(listening.path)") { town in
                        let findings = try BusyAgents.work(in: town, as: ["amy"]) {
                            try town.touch("max")
                            let hadTheirWay = eventually { sent.value > imposter.enough || listening.connections >= 6 }
                            #expect(hadTheirWay)
                        }
                        #expect(findings.failures == [])
                        #expect(findings.areInTime, "\(findings.slowest)")
                        let peak = try Self.peakMemory(of: town.status().workerPid)
                        #expect(peak < 150 << 20, "\(peak >> 20) MiB")
                        let mirror = try town.mirror
                        #expect((mirror.subscription.state == .up) == !imposter.broadcast.isEmpty, "\(mirror)")
                        #expect((mirror.malformed > 0) == !imposter.broadcast.isEmpty)
                    }
                }
            }
        }

        /// In bytes.
        private static func peakMemory(of pid: pid_t) throws -> Int {
            let line = try Client.read("/proc/\(pid)/status").split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
            return try #require(line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) }) << 10
        }
    }
}

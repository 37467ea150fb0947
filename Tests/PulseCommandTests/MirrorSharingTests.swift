import Dispatch
import Glibc
import Synchronization
import TestSupport
import Testing

extension EndToEnd {
    /// Two towns with the same name and the same Redis.
    @Suite(.inEachScope, .needsRedis) struct MirrorSharingTests {
        /// The promised time until a town sees a change in the other.
        private static var soon: Promise { Promise(.seconds(1)) }

        private func withTowns(
            _ options: String..., at redis: RedisServer,
            _ body: (_ here: MountedTown, _ there: MountedTown) throws -> Void
        ) throws {
            let options = ["--redis", redis.url, "--town-name", "gt"] + options
            try withMountedTown(options: options) { here in
                try withMountedTown(options: options) { there in
                    #expect(try eventually { try here.mirror.isUp && there.mirror.isUp })
                    try body(here, there)
                }
            }
        }

        @Test func touchHereIsSeenThere() throws {
            let redis = try RedisServer.onSocket()
            try withTowns("--share", at: redis) { here, there in
                try here.touch("max", "gt sling")
                #expect(try eventually(within: Self.soon) { try there.runtime("max")?.state == "alive" })
                #expect(try there.runtime("max")?.lastCommand == "gt sling")
                #expect(try there.status().runtimes.alive == 1)
                // Like the session's own file.
                #expect(try Client.read(there.heartbeat("max")) == Client.read(here.heartbeat("max")))

                try there.forget("max")
                #expect(try eventually(within: Self.soon) { try here.runtime("max") == nil })
                #expect(eventually(within: Self.soon) { !Client.exists(here.heartbeat("max")) })
                #expect(try !redis.isAlive("max"))
            }
        }

        @Test func lastDocumentIsReadInBothWithItsTimeAndSize() throws {
            let redis = try RedisServer.onSocket()
            let start = ContinuousClock.now
            try withTowns("--share", at: redis) { here, there in
                // Both have taken the server's time, with an error of up to half the round trip.
                let error = (ContinuousClock.now - start) / .seconds(1)
                for (round, towns) in [(here, there), (there, here), (there, here)].enumerated() {
                    let text = KeepaliveDocument.text("gt \(round)", filler: 1000 * round)
                    try Client.write(text, to: towns.0.keepalive)
                    #expect(eventually(within: Self.soon) { (try? Client.read(towns.1.keepalive)) == text })
                    let (one, other) = (try FileStatus(towns.0.keepalive), try FileStatus(towns.1.keepalive))
                    #expect(Int(other.st_size) == text.utf8.count)
                    #expect(abs(one.modified - other.modified) < error)
                    #expect(
                        try Client.names(in: "\(towns.1.path)/.runtime").sorted() == ["heartbeats", "keepalive.json"])
                }
                try Client.unlink(here.keepalive)
                #expect(eventually(within: Self.soon) { !Client.exists(there.keepalive) })
            }
        }

        @Test func bothAgreeOnTheLastDocumentAfterBothHaveWrittenInALoop() throws {
            let redis = try RedisServer.onSocket()
            try withTowns("--share", at: redis) { here, there in
                let (failures, reads) = (Failures(), Counter())
                let towns = [here, there]
                for town in towns { try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive) }
                DispatchQueue.concurrentPerform(iterations: 4) { number in
                    let town = towns[number % 2]
                    failures.record {
                        for round in 0..<400 {
                            if number < 2 {
                                let text = KeepaliveDocument.text("\(number) \(round)", filler: round * 7919 % 5000)
                                try Client.write(text, to: town.keepalive)
                            } else {
                                try Self.readWhole(town.keepalive)
                                reads.add(1)
                            }
                        }
                    }
                }
                #expect(failures.all == [])
                #expect(reads.value == 800)
                let areTold = try eventually { try towns.allSatisfy { try $0.mirror.queueLength == 0 } }
                #expect(areTold)
                let agree = try eventually(within: Self.soon) {
                    try Client.read(here.keepalive) == Client.read(there.keepalive)
                }
                #expect(agree)
                #expect(try KeepaliveDocument(Client.read(here.keepalive)).lastCommand?.hasSuffix("399") == true)
            }
        }

        /// Checks that a document is whole and that its size matches fstat(2).
        private static func readWhole(_ path: String) throws {
            let file = try Client.open(path, O_RDONLY)
            defer { try? Client.close(file) }
            let size = Int(try FileStatus(file).st_size)
            let text = try Client.read(file, piece: 700)
            _ = try KeepaliveDocument(text)
            guard text.utf8.count == size else {
                throw Command.Failed(description: "\(text.utf8.count) bytes, and fstat reports \(size)")
            }
        }

        @Test func bothKnowAllAfterRedisWasKilledAndHasLostEverything() throws {
            let redis = try RedisServer.onSocket()
            try withTowns("--share", at: redis) { here, there in
                try here.touch("amy")
                try there.touch("ben")
                #expect(try eventually(within: Self.soon) { try here.status().runtimes.alive == 2 })
                redis.kill()
                #expect(
                    try eventually {
                        try here.mirror.heartbeats.state == .down && there.mirror.heartbeats.state == .down
                    })
                try here.touch("max")
                try here.forget("amy")
                try Client.write(KeepaliveDocument.text("gt here"), to: here.keepalive)
                let last = KeepaliveDocument.text("gt there")
                try Client.write(last, to: there.keepalive)
                try redis.restart()
                let areBack = try eventually(within: Promise(.seconds(5))) {
                    try redis.alive(["amy", "ben", "max"]) == ["ben", "max"]
                        && [here, there].allSatisfy { town in
                            try town.runtime("amy") == nil && town.runtime("ben") != nil && town.runtime("max") != nil
                                && Client.read(town.keepalive) == last
                        }
                }
                #expect(areBack)
                #expect(try here.status().runtimes.alive == 2)
            }
        }

        @Test func withoutShareOnlyRuntimesAreSeen() throws {
            let redis = try RedisServer.onSocket()
            try withTowns(at: redis) { here, there in
                try withMountedTown("--redis", redis.url, "--town-name", "other", "--share") { other in
                    try Client.write(KeepaliveDocument.text("gt here"), to: here.keepalive)
                    try here.touch("max")
                    #expect(try eventually(within: Self.soon) { try there.runtime("max") != nil })
                    #expect(!Client.exists(there.keepalive))
                    #expect(!Client.exists(there.heartbeat("max")))
                    #expect(try eventually { try other.mirror.isUp })
                    #expect(try other.mirror.received == 0)
                    #expect(try other.status().runtimes.alive == 0)
                }
            }
        }
    }
}

/// Errors collected from threads.
private final class Failures: Sendable {
    private let failures = Mutex<[String]>([])

    var all: [String] { failures.withLock { $0 } }

    func record(_ body: () throws -> Void) {
        do {
            try body()
        } catch {
            failures.withLock { $0.append("\(error)") }
        }
    }
}

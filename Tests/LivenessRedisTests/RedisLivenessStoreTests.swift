import Liveness
import Synchronization
import TestSupport
import Testing

@testable import LivenessRedis

@Suite(.onOwnThread, .needsRedis, .timeLimit(.minutes(5))) struct RedisLivenessStoreTests {
    private let mayor: RuntimeID
    private let deacon: RuntimeID

    init() throws {
        mayor = try RuntimeID("mayor")
        deacon = try RuntimeID("deacon")
    }

    private func store(
        _ url: String, replyTimeout: Duration = .seconds(5), pause: Duration = .milliseconds(10)
    ) throws -> RedisLivenessStore {
        RedisLivenessStore(
            RedisOptions(url: try RedisURL(url), connectTimeout: .seconds(5), replyTimeout: replyTimeout),
            pause: pause)
    }

    private func store(_ server: RedisServer) throws -> RedisLivenessStore {
        try store("unix://\(server.socketPath)")
    }

    // MARK: Wire

    @Test func commandsAreThoseOfMultica() throws {
        let heard = Mutex<[UInt8]>([])
        let answers = ["+OK\r\n", "+OK\r\n", "*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n1\r\n", ":1\r\n", "+PONG\r\n"]
        let server = try FakeServer { peer in
            for answer in answers {
                let bytes = peer.receive()
                heard.withLock { $0 += bytes }
                peer.send(answer)
            }
            peer.waitForEnd()
        }
        let store = try store(server.url)
        try store.touch(mayor, ttl: Touch.defaultTTL)
        #expect(store.areAlive([mayor, deacon, mayor]) == [true, false, true])
        try store.forget(mayor)
        #expect(store.isAvailable)
        let words = String(decoding: heard.withLock { $0 }, as: UTF8.self).split(separator: "\r\n")
            .filter { !$0.hasPrefix("$") && !$0.hasPrefix("*") }
        #expect(
            words.joined(separator: " ") == """
                CLIENT SETNAME pulsefs SET mul:runtime:hb:mayor 1 EX 90 MGET mul:runtime:hb:mayor \
                mul:runtime:hb:deacon mul:runtime:hb:mayor DEL mul:runtime:hb:mayor PING
                """)
    }

    @Test(
        arguments: [
            (Duration.seconds(90), "EX", 90), (.seconds(1), "EX", 1), (.milliseconds(1500), "PX", 1500),
            (.nanoseconds(1), "PX", 1), (.microseconds(1001), "PX", 2), (.seconds(1) + .nanoseconds(1), "PX", 1001),
            (.seconds(Int64.max), "EX", 100 * 366 * 86_400),
        ] as [(Duration, String, Int64)])
    func timeToLiveIsRoundedUp(_ ttl: Duration, _ unit: String, _ count: Int64) {
        #expect(HeartbeatKeys.expiry(ttl) == (unit, count))
    }

    @Test func longestTimeToLiveIsAccepted() throws {
        let server = try RedisServer { $0.listensOnLoopback = false }
        try store(server).touch(mayor, ttl: .seconds(Int64.max))
        #expect(try server.cli("GET", "mul:runtime:hb:mayor") == "1\n")
    }

    @Test func oneSecondIsOverAfterOneAndAHalfOfRealTime() throws {
        let server = try RedisServer { $0.listensOnLoopback = false }
        let store = try store(server)
        let start = ContinuousClock.now
        try store.touch(mayor, ttl: .seconds(1))
        let touched = ContinuousClock.now
        var lastAlive = start
        try server.wait(for: "end of a second") { _ in
            let asked = ContinuousClock.now
            guard store.areAlive([mayor]) == [true] else { return true }
            lastAlive = asked
            return false
        }
        #expect(store.areAlive([mayor]) == [false])
        #expect(ContinuousClock.now - start > .milliseconds(990))
        // Holds on any machine: the server answers after it is asked, and the key expires a second after the touch.
        #expect(lastAlive - touched < .milliseconds(1500))
    }

    // MARK: Outages

    @Test func closedConnectionIsReopened() throws {
        let server = try RedisServer { $0.listensOnLoopback = false }
        let store = try store("unix://\(server.socketPath)", pause: .seconds(3600))
        for _ in 0..<3 {
            #expect(store.isAvailable)
            try server.cli("CLIENT", "KILL", "TYPE", "normal")
            try store.touch(mayor, ttl: Touch.defaultTTL)
        }
    }

    @Test func storeRecoversWithItsServer() throws {
        let server = try RedisServer()
        let store = try store("redis://127.0.0.1:\(server.port)")
        try store.touch(mayor, ttl: Touch.defaultTTL)
        server.kill()
        #expect(!store.isAvailable)
        #expect(store.areAlive([mayor]) == nil)
        #expect(throws: RedisError.self) { try store.touch(mayor, ttl: Touch.defaultTTL) }
        #expect(throws: RedisError.self) { try store.forget(mayor) }
        try server.restart()
        try server.wait(for: "store to be back") { _ in store.areAlive([mayor]) == [false] }
    }

    @Test func deadServerIsNotAskedAgainBeforeThePause() throws {
        let server = try FakeServer { $0.waitForEnd() }
        let store = try store(server.url, replyTimeout: .milliseconds(200), pause: .seconds(3600))
        for _ in 0..<1000 { #expect(store.areAlive([mayor]) == nil) }
        // All but the first fail without a connection.
        #expect(server.clientCount == 1)
    }

    @Test func promotedReplicaIsUsedAtOnce() throws {
        let server = try RedisServer { $0.configuration = ["replicaof 127.0.0.1 1"] }
        let store = try store("unix://\(server.socketPath)", pause: .seconds(3600))
        #expect(throws: RedisError.readOnly) { try store.touch(mayor, ttl: Touch.defaultTTL) }
        try server.cli("REPLICAOF", "NO", "ONE")
        try store.touch(mayor, ttl: Touch.defaultTTL)
    }

    @Test func threadsMayCallAtOnce() async throws {
        let server = try RedisServer { $0.listensOnLoopback = false }
        let store = try store(server)
        let ids = try (0..<64).map { try RuntimeID("runtime-\($0)") }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<4 {
                group.addTask {
                    for id in ids[(worker * 16)..<(worker * 16 + 16)] {
                        try store.touch(id, ttl: Touch.defaultTTL)
                        #expect(store.areAlive([id]) == [true])
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(store.areAlive(ids)?.allSatisfy { $0 } == true)
    }
}

import Foundation
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import TestSupport
import Testing

@testable import LivenessRedis

/// The mirror with a table and real servers, without a file system.
@Suite(.onOwnThread, .needsRedis, .timeLimit(.minutes(5))) struct MirrorTests {
    private struct Mirrored {
        let store: InMemoryLivenessStore
        let mirror: RedisMirror
        let receiver = Receiver()

        init(
            _ server: RedisServer, town: String = "town", path: String = "/gt",
            watcher: (any LivenessWatcher)? = nil, _ configure: (inout MirrorConfiguration) -> Void = { _ in }
        ) throws {
            let url = try RedisURL("unix://\(server.socketPath)")
            var configuration = MirrorConfiguration(
                townName: town, origin: Origin(host: "here", path: path)
            ) { RedisOptions(url: url) }
            configure(&configuration)
            let mirror = try RedisMirror(configuration, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            let store = InMemoryLivenessStore(
                table: LivenessTable(isShared: true), mirror: mirror, watcher: watcher, wallTime: { .now })
            receiver.store.withLock { $0 = store }
            try mirror.start(mirroring: store, receiver: receiver)
            self.mirror = mirror
            self.store = store
        }

        func touch(_ id: String, ttl: Duration = .seconds(90), age: Duration = .zero, document: String? = nil) throws {
            store.touch(
                Touch(
                    runtime: try RuntimeID(id), receivedAt: .now + (.zero - age), at: .now - age, ttl: ttl,
                    document: document.map { Document(Array($0.utf8)) }, source: .written))
        }
    }

    /// Merges received changes into a table, as a town does.
    private final class Receiver: SharedRecordReceiver {
        let store = Mutex<InMemoryLivenessStore?>(nil)

        func receive(_ touch: Touch, exit: Record.Exit?) {
            _ = store.withLock { $0 }?.receive(touch, exit: exit)
        }

        func receiveForget(_ subject: RecordSubject, stamp: HLCTimestamp, at time: WallTime) {
            _ = store.withLock { $0 }?.receiveForget(subject, stamp: stamp)
        }
    }

    private func eventually(
        within limit: Duration = .seconds(10), _ what: Comment, _ isSo: () throws -> Bool
    ) rethrows {
        let end = ContinuousClock.now + limit
        while ContinuousClock.now < end {
            if try isSo() { return }
            usleep(5000)
        }
        Issue.record(what)
    }

    private func left(_ id: String, _ server: RedisServer) throws -> Int {
        Int(try server.cli("PTTL", "mul:runtime:hb:\(id)").trimmingCharacters(in: .whitespacesAndNewlines)) ?? -3
    }

    // MARK: Events

    private final class Watcher: LivenessWatcher {
        func eventsChanged() {}
        func deadlineMovedEarlier() {}
    }

    @Test func upAndDownAreReportedOnceEach() throws {
        let server = try RedisServer()
        let mirrored = try Mirrored(server, watcher: Watcher())
        defer { mirrored.mirror.close(within: .seconds(1)) }
        func events() -> [LivenessEvent] { mirrored.store.events(from: 1, limit: 100).events }
        eventually("the mirror is up") { events().count == 1 }
        server.kill()
        try mirrored.touch("mayor")
        eventually("the mirror is down") { events().contains { $0.kind == .mirrorDown } }
        try server.restart()
        eventually("the mirror is up again") { events().last?.kind == .mirrorUp }
        let links = events().filter { $0.kind != .touched }
        #expect(links.map(\.kind) == [.mirrorUp, .mirrorDown, .mirrorUp])
        #expect(links.map { $0.reason == nil } == [true, false, true])
    }

    // MARK: Time to live

    @Test func timeRunsFromTheTouchAndNotFromTheSending() throws {
        let server = try RedisServer()
        let mirrored = try Mirrored(server)
        defer { mirrored.mirror.close(within: .seconds(1)) }
        try mirrored.touch("old", age: .seconds(20))
        try mirrored.touch("dead", age: .seconds(90))
        try mirrored.touch("long", ttl: .seconds(600))
        try mirrored.touch("longer", ttl: .seconds(600), age: .seconds(60))
        try mirrored.touch("last")
        try eventually("the last is sent") { try left("last", server) > 0 }
        #expect(try (60_000...70_000).contains(left("old", server)))
        #expect(try left("dead", server) == -2)
        #expect(try (80_000...90_000).contains(left("long", server)))
        #expect(try (20_000...30_000).contains(left("longer", server)))
    }

    @Test func touchesDuringAnOutageAreSentWithTheTimeLeft() throws {
        let server = try RedisServer()
        server.kill()
        let mirrored = try Mirrored(server)
        defer { mirrored.mirror.close(within: .seconds(1)) }
        try mirrored.touch("dead", ttl: .milliseconds(300))
        try mirrored.touch("alive", ttl: .seconds(30))
        try mirrored.touch("forgotten", ttl: .seconds(30))
        try mirrored.touch("later", ttl: .seconds(30))
        mirrored.store.forget(try RuntimeID("forgotten"))
        let touched = ContinuousClock.now
        eventually("it is down") { mirrored.mirror.status.heartbeats.state == .down }
        while ContinuousClock.now < touched + .milliseconds(1300) { usleep(10_000) }
        try server.restart()
        try eventually(within: .seconds(5), "they are sent") { try left("later", server) > 0 }
        try eventually(within: .seconds(5), "they are sent") { try left("alive", server) > 0 }
        #expect(try left("alive", server) <= 28_700)
        #expect(try left("dead", server) == -2)
        #expect(try left("forgotten", server) == -2)
        #expect(mirrored.mirror.status.heartbeats.state == .up)
    }

    @Test func serverThatLosesEverythingIsRefilledAtOnce() throws {
        let server = try RedisServer()
        let mirrored = try Mirrored(server)
        defer { mirrored.mirror.close(within: .seconds(1)) }
        for number in 0..<2000 { try mirrored.touch("runtime-\(number)") }
        try mirrored.touch("dead", ttl: .seconds(1))
        try eventually("all are there") { try server.cli("ZCARD", "pulsefs:town:index").contains("2001") }
        server.kill()
        try server.restart()
        try eventually(within: .seconds(5), "all are there again") {
            try server.cli("EVAL", "return #redis.call('keys', 'mul:*')", "0").contains("2000")
        }
    }

    // MARK: Other origins

    @Test func originsOfOneTownSeeTouchesAndForgets() throws {
        let server = try RedisServer()
        let one = try Mirrored(server)
        defer { one.mirror.close(within: .seconds(1)) }
        let id = try RuntimeID("gastown/polecats/furiosa")
        try one.touch("\(id)", age: .seconds(5), document: "{\"early\":1}")
        try one.touch("gone")
        one.store.forget(try RuntimeID("gone"))
        eventually("they are sent") { one.mirror.status.sent >= 2 && one.mirror.status.queueLength == 0 }

        // A later origin reads all stored records, with their age.
        let other = try Mirrored(server, path: "/elsewhere")
        defer { other.mirror.close(within: .seconds(1)) }
        eventually("it is found") { other.store.record(of: id) != nil }
        let record = try #require(other.store.record(of: id))
        #expect(record.touch.document == Document(Array("{\"early\":1}".utf8)))
        #expect(record.touch.stamp.origin == Origin(host: "here", path: "/gt"))
        let age = ContinuousClock.now - record.touch.at
        #expect((.seconds(5)..<Duration.seconds(15)).contains(age))
        #expect(other.store.record(of: try RuntimeID("gone")) == nil)

        // Later changes come through the channel, without reading everything again.
        eventually("both listen") {
            one.mirror.status.subscription.state == .up && other.mirror.status.subscription.state == .up
        }
        let reads = try server.calls(of: "zrevrangebyscore")
        one.store.forget(id)
        eventually("it is forgotten") { other.store.record(of: id) == nil }
        try other.touch("back")
        try eventually("it is seen") { one.store.record(of: try RuntimeID("back")) != nil }
        #expect(try server.calls(of: "zrevrangebyscore") == reads)
    }

    @Test func idsOfAnyTextReachOtherOrigins() throws {
        let server = try RedisServer()
        let one = try Mirrored(server)
        let other = try Mirrored(server, path: "/elsewhere")
        defer {
            one.mirror.close(within: .seconds(1))
            other.mirror.close(within: .seconds(1))
        }
        let ids = try ["/home/x y", "e\u{301}", "\u{E9}", "100%: \"a\"", ":probe", "a//b/"].map { try RuntimeID($0) }
        eventually("it listens") { other.mirror.status.subscription.state == .up }
        for id in ids { try one.touch(id.description) }
        for id in ids {
            try eventually("\(id) has a heartbeat") { try left(id.description, server) > 0 }
            eventually("\(id) arrives") { other.store.isAlive(id) }
        }
        #expect(other.mirror.status.malformed == 0)
        one.store.forget(ids[0])
        eventually("it is forgotten") { other.store.record(of: ids[0]) == nil }
        try eventually("its heartbeat is deleted") { try left(ids[0].description, server) == -2 }
    }

    @Test func originsOfAnotherTownSeeNothing() throws {
        let server = try RedisServer()
        let one = try Mirrored(server)
        let other = try Mirrored(server, town: "other", path: "/other")
        defer {
            one.mirror.close(within: .seconds(1))
            other.mirror.close(within: .seconds(1))
        }
        try one.touch("mine")
        try eventually("it is sent") { try left("mine", server) > 0 }
        eventually("it listens") { other.mirror.status.subscription.state == .up }
        #expect(other.mirror.status.received == 0)
        #expect(other.store.record(of: try RuntimeID("mine")) == nil)
    }

    @Test func malformedMessagesAreCounted() throws {
        let server = try RedisServer()
        let mirrored = try Mirrored(server)
        defer { mirrored.mirror.close(within: .seconds(1)) }
        eventually("it listens") { mirrored.mirror.status.subscription.state == .up }
        _ = try server.cli("PUBLISH", "pulsefs:town:changes", "hello")
        eventually("it is counted") { mirrored.mirror.status.malformed == 1 }
    }

    @Test func lostSubscriptionMissesNoChange() throws {
        let server = try RedisServer()
        let one = try Mirrored(server)
        let other = try Mirrored(server, path: "/elsewhere")
        defer {
            one.mirror.close(within: .seconds(1))
            other.mirror.close(within: .seconds(1))
        }
        eventually("both listen") {
            one.mirror.status.subscription.state == .up && other.mirror.status.subscription.state == .up
        }
        for round in 0..<5 {
            _ = try server.cli("CLIENT", "KILL", "TYPE", "pubsub")
            try one.touch("round-\(round)")
            try eventually(within: .seconds(5), "it is seen all the same") {
                other.store.record(of: try RuntimeID("round-\(round)")) != nil
            }
        }
    }

    @Test func forgetElsewhereCancelsWaitingMessages() throws {
        let server = try RedisServer()
        let one = try Mirrored(server)
        let other = try Mirrored(server, path: "/elsewhere")
        defer {
            one.mirror.close(within: .seconds(1))
            other.mirror.close(within: .seconds(1))
        }
        let id = try RuntimeID("max")
        try one.touch("max")
        eventually("it is seen") { other.store.record(of: id) != nil }
        try one.touch("max")
        let last = try #require(one.store.record(of: id)).touch.stamp
        eventually("it is later by the clock of both") { other.mirror.stamp(.now) > last }
        other.store.forget(id)
        eventually("it is forgotten here") { one.store.record(of: id) == nil }
        eventually("nothing waits") { one.mirror.status.queueLength == 0 && other.mirror.status.queueLength == 0 }
        // Messages are sent in order, so everything before the last has been sent.
        try one.touch("later")
        try eventually("the later is there") { try left("later", server) > 0 }
        #expect(try left("max", server) == -2)
        #expect(other.store.record(of: id) == nil)
    }

    @Test func lastTouchBeforeTheEndIsSentAtOnce() throws {
        let server = try RedisServer()
        let one = try Mirrored(server)
        let other = try Mirrored(server, path: "/elsewhere")
        defer { other.mirror.close(within: .seconds(1)) }
        let id = try RuntimeID("max")
        try one.touch("max", document: "{\"first\":1}")
        eventually("it is seen") { other.store.record(of: id) != nil }
        let last = Document(Array("{\"last\":1}".utf8))
        try one.touch("max", document: "{\"last\":1}")
        one.mirror.close(within: .seconds(5))
        eventually("the last is seen") { other.store.record(of: id)?.touch.document == last }
    }

    @Test func flushedDatabaseIsRefilled() throws {
        let server = try RedisServer()
        let mirrored = try Mirrored(server)
        defer { mirrored.mirror.close(within: .seconds(1)) }
        try mirrored.touch("max")
        try eventually("it is there") { try left("max", server) > 0 }
        eventually("records are taken") { mirrored.mirror.status.records.state == .up }
        _ = try server.cli("FLUSHALL")
        try eventually(within: .seconds(5), "it is there again") { try left("max", server) > 0 }
        try eventually("the record, too") { try server.cli("ZCARD", "pulsefs:town:index").contains("1") }
    }

    @Test func stampsMadeBeforeTheServersTimeWasKnownAreCorrected() throws {
        let server = try RedisServer()
        server.kill()
        let mirrored = try Mirrored(server)
        defer { mirrored.mirror.close(within: .seconds(1)) }
        // The local clock appears to be an hour behind.
        let past = WallTime.now + .seconds(-3600)
        _ = mirrored.mirror.clock.set(
            .array(["\(past.seconds)", "0"].map { .string(Array($0.utf8)) }), asked: .now, answered: .now)
        try mirrored.touch("max")
        #expect(try #require(mirrored.store.record(of: RuntimeID("max"))).touch.stamp.time < past + .seconds(10))
        try server.restart()
        eventually("its stamp is right") {
            guard let id = try? RuntimeID("max"), let stamp = mirrored.store.record(of: id)?.touch.stamp else {
                return false
            }
            return stamp.time > past + .seconds(3590)
        }
    }

    // MARK: Load

    /// 10,000 runtimes, each touched ten times a second for PULSEFS_MIRROR_SECONDS.
    @Test func noRuntimeIsSentMoreThanOnceASecond() throws {
        let seconds = ProcessInfo.processInfo.environment["PULSEFS_MIRROR_SECONDS"].flatMap(Int.init) ?? 3
        let server = try RedisServer()
        let mirrored = try Mirrored(server)
        defer { mirrored.mirror.close(within: .seconds(1)) }
        let ids = try (0..<10_000).map { try RuntimeID("runtime-\($0)") }
        eventually("it is up") { mirrored.mirror.status.heartbeats.state == .up }
        _ = try server.cli("CONFIG", "RESETSTAT")
        let start = ContinuousClock.now
        var rounds = 0
        var longestQueue = 0
        while ContinuousClock.now < start + .seconds(seconds) {
            for id in ids { try mirrored.store.touch(id, ttl: .seconds(90)) }
            rounds += 1
            longestQueue = max(longestQueue, mirrored.mirror.status.queueLength)
            let next = start + .milliseconds(100 * rounds)
            while ContinuousClock.now < next { usleep(1000) }
        }
        let took = ContinuousClock.now - start
        let status = mirrored.mirror.status
        #expect(longestQueue <= 10_000)
        #expect(status.dropped == 0)
        #expect(status.heartbeats.state == .up)
        let count = try server.calls(of: "set")
        #expect(count <= 10_000 * (Int(took / .seconds(1)) + 1))
        try eventually("each is alive there") {
            try server.cli("EVAL", "return #redis.call('keys', 'mul:*')", "0").contains("10000")
        }
        print(
            "mirror load: \(rounds * ids.count) touches in \(took): \(count) SETs, \(status.coalesced) coalesced, queue ≤ \(longestQueue), round trip \(status.roundTripMicroseconds ?? 0) µs"
        )
    }
}

extension RedisServer {
    /// How often a command was executed since the start or CONFIG RESETSTAT.
    fileprivate func calls(of command: String) throws -> Int {
        let start = "cmdstat_\(command):calls="
        let line = try cli("INFO", "commandstats").split(whereSeparator: \.isNewline).first { $0.hasPrefix(start) }
        return line.flatMap { Int($0.dropFirst(start.count).prefix { $0.isNumber }) } ?? 0
    }
}

import Glibc
import Liveness
import Logging
import Synchronization
import TestSupport
import Testing

@testable import LivenessRedis

/// Error replies in the middle of a pipeline, and connections that end there.
@Suite(.onOwnThread, .timeLimit(.minutes(5))) struct PipelineErrorTests {
    private static let errors = [
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "MOVED 3999 127.0.0.1:6381",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "READONLY You can't write against a read only replica.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    ]

    private func open(_ server: FakeServer) throws -> RedisConnection {
        try RedisConnection.open(
            RedisOptions(url: RedisURL(server.url), connectTimeout: .seconds(10), replyTimeout: .seconds(10)))
    }

    @Test(arguments: errors)
    func errorReplyConcernsItsCommandAlone(_ text: String) throws {
        let redis = try ScriptedRedis()
        let connection = try open(redis.server)
        redis.fail(.init(command: "SET", after: 2, error: text))
        let commands = (0..<5).map { RedisCommand("SET", "key-\($0)", "1") }
        let replies = try connection.pipeline(commands)
        #expect(replies == (0..<5).map { $0 == 2 ? .error(text) : .status("OK") })
        #expect(redis.keys(withPrefix: "key-") == ["key-0", "key-1", "key-3", "key-4"])
        let failure = #expect(throws: RedisError.self) { _ = try replies[2].checked() }
        #expect(failure?.isPermanent == false)
        // The connection stays usable.
        #expect(try connection.pipeline(commands) == replies.map { _ in .status("OK") })
    }

    /// The connection ends after every number of bytes of the replies.
    @Test func replyCutAtAnyByteIsAnErrorAndNoReply() throws {
        let replies = Array("+OK\r\n:12\r\n$5\r\nab\r\nc\r\n*2\r\n$-1\r\n$1\r\nx\r\n-OOM no\r\n".utf8)
        let commands = ["SET", "INCR", "GET", "MGET", "SET"].map { RedisCommand($0, "a") }
        let cut = Atomic(0)
        let server = try FakeServer { peer in
            _ = peer.receive()
            peer.send("+OK\r\n")
            _ = peer.receive()
            peer.send(Array(replies.prefix(cut.load(ordering: .sequentiallyConsistent))))
        }
        for count in 0..<replies.count {
            cut.store(count, ordering: .sequentiallyConsistent)
            let connection = try open(server)
            #expect(throws: RedisError.closed, "after \(count) bytes") { _ = try connection.pipeline(commands) }
        }
        cut.store(replies.count, ordering: .sequentiallyConsistent)
        let complete = try open(server).pipeline(commands)
        #expect(
            complete == [
                .status("OK"), .integer(12), .string(Array("ab\r\nc".utf8)), .array([.null, .string([0x78])]),
                .error("OOM no"),
            ])
    }

    // MARK: The mirror

    private final class Ignoring: LivenessWatcher, SharedRecordReceiver {
        func eventsChanged() {}
        func deadlineMovedEarlier() {}
        func receive(_ touch: Touch, exit: Record.Exit?) {}
        func receiveForget(_ subject: RecordSubject, stamp: HLCTimestamp, at time: WallTime) {}
    }

    private func withMirror(
        _ redis: ScriptedRedis, _ body: (InMemoryLivenessStore, RedisMirror) throws -> Void
    ) throws {
        let url = try RedisURL(redis.server.url)
        let configuration = MirrorConfiguration(townName: "town", origin: Origin(host: "here", path: "/gt")) {
            RedisOptions(url: url)
        }
        let mirror = try RedisMirror(configuration, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let store = InMemoryLivenessStore(
            table: LivenessTable(isShared: true), mirror: mirror, watcher: Ignoring(), wallTime: { .now })
        try mirror.start(mirroring: store, receiver: Ignoring())
        defer { mirror.close(within: .seconds(1)) }
        try expect("the mirror is up") { mirror.status.heartbeats.state == .up }
        try body(store, mirror)
    }

    private func expect(_ what: Comment, _ condition: () throws -> Bool) throws {
        #expect(try eventually(within: .seconds(30), condition), what)
    }

    @Test(arguments: errors)
    func heartbeatsRefusedInTheMiddleAreSentAgain(_ text: String) throws {
        let redis = try ScriptedRedis()
        try withMirror(redis) { store, mirror in
            redis.fail(.init(command: "SET", after: 50, error: text))
            let ids = try (0..<100).map { try RuntimeID("runtime-\($0)") }
            for id in ids { try store.touch(id, ttl: .seconds(90)) }
            try expect("the error has occurred") { redis.hasFailed }
            try expect("all are alive there") {
                redis.keys(withPrefix: MirrorConfiguration.defaultPrefix).count == ids.count
            }
            try expect("the mirror is up again") { mirror.status.heartbeats.state == .up }
            try expect("nothing waits") { mirror.status.queueLength == 0 }
            func links() -> [LivenessEvent] {
                store.events(from: 1, limit: 1000).events.filter { $0.kind != .touched }
            }
            try expect("the events are there") { links().count >= 3 }
            let events = links()
            #expect(events.map(\.kind) == [.mirrorUp, .mirrorDown, .mirrorUp])
            #expect(events[1].reason == "\(RedisError(reply: text))")
            #expect(redis.keys(withPrefix: "pulsefs:town:").count == ids.count)
        }
    }

    @Test(arguments: ["PSETEX", "PUBLISH", "ZADD"])
    func recordsRefusedInTheMiddleDoNotStopHeartbeats(_ command: String) throws {
        let redis = try ScriptedRedis()
        try withMirror(redis) { store, mirror in
            redis.fail(.init(command: command, after: command == "ZADD" ? 0 : 3, error: Self.errors[3]))
            let ids = try (0..<10).map { try RuntimeID("runtime-\($0)") }
            for id in ids { try store.touch(id, ttl: .seconds(90)) }
            try expect("records are down") { mirror.status.records.state == .down }
            #expect(mirror.status.records.reason == "\(RedisError(reply: Self.errors[3]))")
            #expect(mirror.status.heartbeats.state == .up)
            try expect("heartbeats are sent") {
                redis.keys(withPrefix: MirrorConfiguration.defaultPrefix).count == ids.count
            }
            try expect("records are up again") { mirror.status.records.state == .up }
            #expect(redis.keys(withPrefix: "pulsefs:town:").count == ids.count)
        }
    }
}

import CLinux
import Glibc
import TestSupport
import Testing

@testable import LivenessRedis

/// A hostile server can only cause an error, soon and with bounded memory.
@Suite(.onOwnThread, .serialized, .timeLimit(.minutes(5))) struct HostileServerTests {
    /// Twenty times the timeouts, for a loaded machine.
    private let soon = Duration.seconds(10)

    private func open(_ url: String) throws -> RedisConnection {
        try RedisConnection.open(
            RedisOptions(url: RedisURL(url), connectTimeout: .milliseconds(500), replyTimeout: .milliseconds(500)))
    }

    /// The process's maximum resident memory, in bytes.
    private func peakMemory() -> Int {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return usage.ru_maxrss * 1024
    }

    private static let megabyte = 1 << 20

    enum HostileReply: String, CaseIterable {
        case garbage, zeroes, newlines, line, string, array, integers, nesting, replies, truncated, silence, drip,
            nothing

        /// Sent after a valid start.
        func play(_ peer: FakeServer.Peer) {
            switch self {
            case .garbage:
                var random = SplitMix64(state: 1)
                let block = (0..<megabyte).map { _ in UInt8.random(in: 0...255, using: &random) }
                for _ in 0..<64 where peer.send(block) {}
            case .zeroes: peer.send(endlessly: [UInt8](repeating: 0, count: megabyte))
            case .newlines: peer.send(endlessly: Array(repeatElement("\r\n", count: megabyte).joined().utf8))
            case .line:
                peer.send("+")
                peer.send(endlessly: [UInt8](repeating: UInt8(ascii: "a"), count: megabyte))
            case .string:
                peer.send("$9223372036854775807\r\n")
                peer.send(endlessly: [UInt8](repeating: UInt8(ascii: "a"), count: megabyte))
            case .array:
                peer.send("*2147483647\r\n")
                peer.send(endlessly: Array(repeatElement(":1\r\n", count: megabyte / 4).joined().utf8))
            case .integers:
                peer.send("*1048576\r\n")
                peer.send(endlessly: Array(repeatElement("*0\r\n", count: megabyte / 4).joined().utf8))
            case .nesting: peer.send(endlessly: Array(repeatElement("*1\r\n", count: megabyte / 4).joined().utf8))
            case .replies: peer.send(endlessly: Array(repeatElement("+OK\r\n", count: megabyte / 5).joined().utf8))
            case .truncated: peer.send("$10\r\nabc")
            case .silence: peer.waitForEnd()
            case .drip: while peer.send("*1\r\n"), poll(nil, 0, 50) == 0 {}
            case .nothing: break
            }
        }

        private var megabyte: Int { HostileServerTests.megabyte }
    }

    @Test(arguments: HostileReply.allCases)
    func hostileReplyIsAnErrorSoon(_ hostile: HostileReply) throws {
        let before = peakMemory()
        let server = try FakeServer { peer in
            _ = peer.receive()
            peer.send("+OK\r\n")
            hostile.play(peer)
        }
        let connection = try open(server.url)
        let start = ContinuousClock.now
        let failure = #expect(throws: RedisError.self) {
            // Some servers send a reply to the first.
            _ = try connection.pipeline([RedisCommand("GET", "a")])
            _ = try connection.pipeline([RedisCommand("GET", "a")])
        }
        #expect(ContinuousClock.now - start < soon)
        #expect(peakMemory() - before < 256 * Self.megabyte)
        switch hostile {
        case .silence: #expect(failure == .timedOut("reply from \(server.url)"))
        case .nothing: #expect(failure == .closed)
        default: break
        }
        // The connection keeps its error.
        let later = #expect(throws: RedisError.self) { try connection.pipeline([RedisCommand("PING")]) }
        #expect(later == failure)
    }

    @Test(arguments: HostileReply.allCases)
    func hostileReplyToTheFirstCommandIsAnError(_ hostile: HostileReply) throws {
        // Valid replies to every command.
        guard hostile != .replies else { return }
        let server = try FakeServer { hostile.play($0) }
        let start = ContinuousClock.now
        #expect(throws: RedisError.self) { _ = try open(server.url) }
        #expect(ContinuousClock.now - start < soon)
    }

    @Test func unreadRepliesDoNotFillMemory() throws {
        let before = peakMemory()
        let server = try FakeServer { peer in
            _ = peer.receive()
            peer.send("+OK\r\n")
            peer.send(endlessly: Array(repeatElement("+OK\r\n", count: Self.megabyte / 5).joined().utf8))
        }
        let connection = try open(server.url)
        let large = RedisCommand([Array("SET".utf8), [UInt8](repeating: 0, count: 32 * Self.megabyte)])
        #expect(throws: RedisError.self) { try connection.send([large]) }
        #expect(peakMemory() - before < 384 * Self.megabyte)
    }

    @Test func closedSocketRaisesNoSignal() throws {
        let server = try FakeServer { peer in
            _ = peer.receive()
            peer.send("+OK\r\n")
        }
        let connection = try open(server.url)
        let large = RedisCommand([Array("SET".utf8), [UInt8](repeating: 0, count: 8 * Self.megabyte)])
        #expect(throws: RedisError.closed) { try connection.pipeline([large]) }
    }

    @Test func lastReplyBeforeTheEndIsRead() throws {
        let server = try FakeServer { $0.send("-ERR max number of clients reached\r\n") }
        #expect(throws: RedisError.server("ERR max number of clients reached")) { _ = try open(server.url) }
    }

    // MARK: Secrets

    @Test(arguments: [
        "-ERR unknown command `AUTH`, with args beginning with: `ada`, `topsecret`, \r\n",
        "-WRONGPASS topsecret\r\n", "-topsecret\r\n", "-ada:topsecret is wrong\r\n",
    ])
    func repliesToAuthenticationAreNotRepeated(_ reply: String) throws {
        let server = try FakeServer { peer in
            _ = peer.receive()
            peer.send(reply)
            peer.waitForEnd()
        }
        let failure = #expect(throws: RedisError.self) {
            _ = try open("redis://ada:topsecret@127.0.0.1:\(server.port)")
        }
        let shown = "\(String(describing: failure)) \(String(reflecting: failure))"
        #expect(!shown.contains("topsecret") && !shown.contains("ada"))
        #expect(failure?.isPermanent == true)
    }

    @Test func argumentsOfUnknownCommandsAreNotRepeated() {
        let text =
            "ERR unknown command 'X', with args beginning with: 'topsecret'\u{1B}[2J"
            + String(repeating: "a", count: 500)
        #expect(RedisError(reply: text) == .server("ERR unknown command 'X'"))
        #expect(RedisError(reply: "ERR \u{1B}" + String(repeating: "a", count: 500)).description.utf8.count < 300)
        #expect("\(RedisCommand("AUTH", "topsecret"))" == "AUTH")
    }

    // MARK: Connecting

    @Test func connectionWithoutAnswerTimesOut() throws {
        // A listener with a full backlog drops connections.
        let (listener, port) = try FakeServer.listen(backlog: 0)
        defer { close(listener) }
        let host = RedisURL.Host(name: "127.0.0.1", port: port)
        guard case .found(let addresses)? = SocketAddress.resolve(host, within: .seconds(1)) else { return }
        var queue: [CInt] = []
        defer { for socket in queue { close(socket) } }
        for _ in 0..<8 {
            do { queue.append(try addresses[0].connect(until: .now + .milliseconds(100)).release()) } catch { break }
        }
        #expect(queue.count < 8)
        let start = ContinuousClock.now
        #expect(throws: RedisError.timedOut("connection to redis://127.0.0.1:\(port)")) {
            _ = try open("redis://127.0.0.1:\(port)")
        }
        #expect(ContinuousClock.now - start < soon)
    }

    @Test func unixSocketWhoseQueueIsFullTimesOut() throws {
        var template = Array("/tmp/pulsefs-socket-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        let directory = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        defer { rmdir(directory) }
        let path = Array("\(directory)/s".utf8)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        let listener = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { close(listener) }
        let isListening = withUnsafeBytes(of: address) { bytes in
            // because the bytes are those of a sockaddr_un.
            let generic = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            return bind(listener, generic, socklen_t(bytes.count)) == 0 && listen(listener, 0) == 0
        }
        try #require(isListening)
        defer { unlink("\(directory)/s") }
        let first = try SocketAddress(path: path).connect(until: .now + .seconds(1)).release()
        defer { close(first) }
        #expect(throws: RedisError.timedOut("connection to unix://\(directory)/s?db=0")) {
            _ = try open("unix://\(directory)/s")
        }
    }

    @Test func nameThatDoesNotExistIsUnreachable() throws {
        let start = ContinuousClock.now
        let failure = #expect(throws: RedisError.self) { _ = try open("redis://no-such-host.invalid") }
        #expect(failure?.isPermanent == false)
        #expect(ContinuousClock.now - start < soon)
    }

    @Test func serverWithoutTLSIsRefusedAsSuch() throws {
        let server = try FakeServer { peer in
            _ = peer.receive()
            peer.send("-ERR unknown command\r\n")
            peer.waitForEnd()
        }
        let failure = #expect(throws: RedisError.self) { _ = try open("rediss://127.0.0.1:\(server.port)") }
        guard case .tlsRefused? = failure else { return #expect(Bool(false), "\(String(describing: failure))") }
    }

    @Test(arguments: [HostileReply.silence, .nothing, .garbage, .zeroes])
    func failedHandshakeIsAnError(_ hostile: HostileReply) throws {
        let server = try FakeServer { hostile.play($0) }
        let start = ContinuousClock.now
        #expect(throws: RedisError.self) { _ = try open("rediss://127.0.0.1:\(server.port)") }
        #expect(ContinuousClock.now - start < soon)
    }

    @Test func endlessRecordIsAnError() throws {
        // The header of a handshake record with a message of 16 MB.
        let server = try FakeServer { peer in
            peer.send([0x16, 3, 3, 0x40, 0, 2, 0xFF, 0xFF, 0xFF])
            peer.send(endlessly: [UInt8](repeating: 0x16, count: Self.megabyte))
        }
        let start = ContinuousClock.now
        #expect(throws: RedisError.self) { _ = try open("rediss://127.0.0.1:\(server.port)") }
        #expect(ContinuousClock.now - start < soon)
    }
}

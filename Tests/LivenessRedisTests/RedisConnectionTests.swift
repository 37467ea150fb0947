import Glibc
import Linux
import TestSupport
import Testing

@testable import LivenessRedis

@Suite(.onOwnThread, .needsRedis, .timeLimit(.minutes(5))) struct RedisConnectionTests {
    private let ping = RedisCommand("PING")

    private func open(_ url: String, caFile: String? = nil, replyTimeout: Duration = .seconds(5)) throws
        -> RedisConnection
    {
        try RedisConnection.open(
            RedisOptions(
                url: RedisURL(url), caFile: caFile, clientName: "test", connectTimeout: .seconds(5),
                replyTimeout: replyTimeout))
    }

    @Test func everyKindOfAddressConnects() throws {
        let server = try RedisServer()
        for url in [
            "unix://\(server.socketPath)", "redis://127.0.0.1:\(server.port)", "redis://[::1]:\(server.port)",
            "redis://localhost:\(server.port)",
        ] {
            #expect(try open(url).pipeline([ping]) == [.status("PONG")], "\(url)")
        }
    }

    @Test func nameIsShownInTheListOfClients() throws {
        let server = try RedisServer()
        let connection = try open("redis://127.0.0.1:\(server.port)")
        #expect(try server.cli("CLIENT", "LIST").contains("name=test "))
        #expect(try connection.pipeline([ping]) == [.status("PONG")])
    }

    @Test func databaseIsSelected() throws {
        let server = try RedisServer { $0.configuration = ["databases 4"] }
        let connection = try open("unix://\(server.socketPath)?db=3")
        #expect(try connection.pipeline([RedisCommand("SET", "a", "1")]) == [.status("OK")])
        #expect(try server.cli("-n", "3", "GET", "a") == "1\n")

        let failure = #expect(throws: RedisError.noSuchDatabase(4)) {
            _ = try open("redis://127.0.0.1:\(server.port)/4")
        }
        #expect(failure?.isPermanent == true)
    }

    @Test func serverThatIsNotThereIsUnreachable() throws {
        let server = try RedisServer()
        server.kill()
        for url in ["unix://\(server.socketPath)", "redis://127.0.0.1:\(server.port)", "redis://[::1]:\(server.port)"] {
            let failure = #expect(throws: RedisError.self) { _ = try open(url) }
            guard case .unreachable? = failure else {
                Issue.record("\(String(describing: failure))")
                continue
            }
            #expect(failure?.isPermanent == false)
        }
    }

    // MARK: Users

    @Test func passwordAloneOrWithUserOpens() throws {
        let server = try RedisServer {
            $0.password = "s3cr@t/"
            $0.users = ["ada on >pass:word ~* &* +@all"]
        }
        for login in [":s3cr%40t%2F", "default:s3cr%40t%2F", "ada:pass%3Aword"] {
            #expect(try open("redis://\(login)@127.0.0.1:\(server.port)").pipeline([ping]) == [.status("PONG")])
            #expect(try open("unix://\(login)@\(server.socketPath)").pipeline([ping]) == [.status("PONG")])
        }
    }

    @Test func wrongPasswordNeedsAPersonAndIsNotRepeated() throws {
        let server = try RedisServer { $0.password = "right" }
        for (login, reason) in [
            (":topsecret@", RedisError.refused("WRONGPASS")), ("ada:topsecret@", .refused("WRONGPASS")),
            ("", .refused("NOAUTH")),
        ] {
            let failure = #expect(throws: reason) { _ = try open("redis://\(login)127.0.0.1:\(server.port)/1") }
            #expect(failure?.isPermanent == true)
            #expect(failure?.description.contains("topsecret") == false)
        }
        let openToAll = try RedisServer()
        #expect(throws: RedisError.refused("ERR")) { _ = try open("redis://:topsecret@127.0.0.1:\(openToAll.port)") }
    }

    @Test func userWithFewPermissionsIsRefusedTheRest() throws {
        let server = try RedisServer { $0.users = ["ada on >secret ~mul:* +set +mget"] }
        let url = "unix://ada:secret@\(server.socketPath)"
        let connection = try open(url)
        let replies = try connection.pipeline([
            RedisCommand("SET", "mul:a", "1"), RedisCommand("SET", "other", "1"), RedisCommand("DEL", "mul:a"), ping,
        ])
        #expect(replies[0] == .status("OK"))
        for reply in replies[1...] {
            let failure = #expect(throws: RedisError.refused("NOPERM")) { _ = try reply.checked() }
            #expect(failure?.isPermanent == true)
        }
        #expect(throws: RedisError.refused("NOPERM")) { _ = try open(url + "?db=1") }
    }

    // MARK: Pipelines

    @Test func eachCommandHasItsReply() throws {
        let server = try RedisServer()
        let connection = try open("unix://\(server.socketPath)")
        let binary: [UInt8] = [0, 13, 10, 255]
        let replies = try connection.pipeline([
            RedisCommand([Array("SET".utf8), binary, []]), RedisCommand([Array("GET".utf8), binary]),
            RedisCommand("NONSENSE", "topsecret"), RedisCommand("MGET", "no", "such"), RedisCommand("INCR", "n"),
        ])
        #expect(Array(replies[0...1]) == [.status("OK"), .string([])])
        let failure = #expect(throws: RedisError.self) { _ = try replies[2].checked() }
        #expect(failure?.description.contains("topsecret") == false)
        #expect(Array(replies[3...]) == [.array([.null, .null]), .integer(1)])
        #expect(try connection.pipeline([]) == [])
    }

    @Test(arguments: [false, true])
    func tenThousandCommandsGoInOnePipeline(isEncrypted: Bool) throws {
        let server = try RedisServer { if isEncrypted { $0.certificateNames = "IP:127.0.0.1" } }
        let url = isEncrypted ? "rediss://127.0.0.1:\(server.tlsPort)" : "redis://127.0.0.1:\(server.port)"
        let connection = try open(url, caFile: server.caFile, replyTimeout: .seconds(30))
        // More than the buffers of both directions hold: a client that only sends would wait for ever.
        let texts = (0..<10_000).map { "\($0) " + String(repeating: "x", count: 1000) }
        let replies = try connection.pipeline(texts.map { RedisCommand("ECHO", $0) })
        #expect(replies == texts.map { .string(Array($0.utf8)) })
        #expect(try connection.pipeline([ping]) == [.status("PONG")])
    }

    @Test func stoppedServerTimesOut() throws {
        let server = try RedisServer()
        let connection = try open("redis://127.0.0.1:\(server.port)", replyTimeout: .milliseconds(300))
        server.pause()
        defer { server.resume() }
        let start = ContinuousClock.now
        let failure = #expect(throws: RedisError.self) { try connection.pipeline([ping]) }
        guard case .timedOut? = failure else { return #expect(Bool(false), "\(String(describing: failure))") }
        #expect(throws: RedisError.self) {
            _ = try open("redis://127.0.0.1:\(server.port)", replyTimeout: .milliseconds(300))
        }
        #expect(ContinuousClock.now - start < .seconds(5))
    }

    @Test func replicaIsReadOnly() throws {
        let server = try RedisServer { $0.configuration = ["replicaof 127.0.0.1 1"] }
        let reply = try open("unix://\(server.socketPath)").pipeline([RedisCommand("SET", "a", "1")])[0]
        let failure = #expect(throws: RedisError.readOnly) { _ = try reply.checked() }
        #expect(failure?.isPermanent == false)
    }

    // MARK: Subscriptions

    @Test(arguments: [false, true])
    func messagesAreReceivedOneByOne(isEncrypted: Bool) throws {
        let server = try RedisServer { if isEncrypted { $0.certificateNames = "IP:127.0.0.1" } }
        let url = isEncrypted ? "rediss://127.0.0.1:\(server.tlsPort)" : "redis://127.0.0.1:\(server.port)"
        let connection = try open(url, caFile: server.caFile)
        try connection.send([RedisCommand("SUBSCRIBE", "a"), ping, RedisCommand("PING", "x")])
        #expect(
            try connection.receive(until: .now + .seconds(5))
                == .array([.string(Array("subscribe".utf8)), .string(Array("a".utf8)), .integer(1)]))
        // Received together with the first.
        for text in ["", "x"] {
            let pong = RedisReply.array([.string(Array("pong".utf8)), .string(Array(text.utf8))])
            #expect(try connection.receive(until: .now) == pong)
        }
        #expect(try connection.receive(until: .now + .milliseconds(20)) == nil)
        try server.cli("PUBLISH", "a", "news")
        #expect(
            try connection.receive(until: .now + .seconds(5))
                == .array(["message", "a", "news"].map { .string(Array($0.utf8)) }))
    }

    @Test func eventEndsTheWaitAndStaysSignalled() throws {
        let server = try RedisServer()
        let connection = try open("unix://\(server.socketPath)")
        let event = try EventFD()
        event.signal()
        let start = ContinuousClock.now
        #expect(try connection.receive(until: start + .seconds(30), orRaised: event) == nil)
        #expect(ContinuousClock.now - start < .seconds(10))
        #expect(event.wait(until: .now))
        #expect(!event.wait(until: .now))
    }

    @Test func endOfAnIdleConnectionIsNoticed() throws {
        let server = try RedisServer()
        let connection = try open("unix://\(server.socketPath)")
        #expect(try connection.receive(until: .now) == nil)
        try server.cli("CLIENT", "KILL", "TYPE", "normal")
        #expect(throws: RedisError.closed) { try connection.receive(until: .now + .seconds(5)) }
        #expect(throws: RedisError.closed) { try connection.pipeline([ping]) }
    }

    // MARK: TLS

    @Test func certificateOfATrustedAuthorityIsAccepted() throws {
        let server = try RedisServer { $0.certificateNames = "DNS:localhost,IP:127.0.0.1,IP:::1" }
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            let connection = try open("rediss://\(host):\(server.tlsPort)", caFile: server.caFile)
            #expect(try connection.pipeline([ping]) == [.status("PONG")], "\(host)")
        }
    }

    @Test func certificateIsRefused() throws {
        let server = try RedisServer { $0.certificateNames = "DNS:redis.example.org,IP:127.0.0.2" }
        let other = try RedisServer { $0.certificateNames = "DNS:localhost" }
        for (url, caFile) in [
            ("rediss://localhost:\(server.tlsPort)", Optional(server.caFile)),
            ("rediss://127.0.0.1:\(server.tlsPort)", server.caFile),
            ("rediss://localhost:\(other.tlsPort)", server.caFile),
            ("rediss://localhost:\(other.tlsPort)", nil),
            ("rediss://localhost:\(other.tlsPort)", "/nonexistent"),
        ] {
            let failure = #expect(throws: RedisError.self) { _ = try open(url, caFile: caFile) }
            guard case .tlsRefused? = failure else {
                Issue.record("\(url): \(String(describing: failure))")
                continue
            }
            #expect(failure?.isPermanent == true)
        }
    }

    @Test func missingClientCertificateIsAnError() throws {
        let server = try RedisServer {
            $0.certificateNames = "DNS:localhost"
            $0.configuration = ["tls-auth-clients yes"]
        }
        let failure = #expect(throws: RedisError.self) {
            _ = try open("rediss://localhost:\(server.tlsPort)", caFile: server.caFile)
        }
        guard case .tlsRefused? = failure else { return #expect(Bool(false), "\(String(describing: failure))") }
    }

    // MARK: Sentinels

    @Test func sentinelLeadsToThePrimaryAndItsSuccessor() throws {
        let primary = try RedisServer()
        let replica = try RedisServer { $0.replicaOf = primary }
        try primary.wait(for: "replica") { try $0.cli("INFO", "replication").contains("state=online") }
        let sentinel = try RedisServer {
            $0.watches = ("town", primary)
            $0.password = "watch"
        }
        try sentinel.wait(for: "sentinel to see the replica") {
            try $0.cli("SENTINEL", "REPLICAS", "town").contains("\(replica.port)")
        }
        // The first sentinel does not exist.
        let url = "redis+sentinel://127.0.0.1:1,127.0.0.1:\(sentinel.port)/town/2?sentinel_password=watch"
        let role = { (url: String) throws in try open(url).pipeline([RedisCommand("INFO", "server")])[0].text ?? "" }
        #expect(try role(url).contains("tcp_port:\(primary.port)"))
        #expect(throws: RedisError.refused("WRONGPASS")) {
            _ = try open(url.replacing("sentinel_password=watch", with: "sentinel_password=topsecret"))
        }
        let unknown = #expect(throws: RedisError.self) { _ = try open(url.replacing("/town/", with: "/village/")) }
        guard case .noPrimary? = unknown else { return #expect(Bool(false), "\(String(describing: unknown))") }

        primary.kill()
        try sentinel.wait(for: "failover", seconds: 60) { _ in
            (try? role(url).contains("tcp_port:\(replica.port)")) == true
        }
    }

    @Test func replicaNamedAsPrimaryIsRefused() throws {
        let replica = try RedisServer { $0.configuration = ["replicaof 127.0.0.1 1"] }
        let liar = try FakeServer { peer in
            _ = peer.receive()
            peer.send("+OK\r\n")
            _ = peer.receive()
            peer.send("*2\r\n$9\r\n127.0.0.1\r\n$\("\(replica.port)".utf8.count)\r\n\(replica.port)\r\n")
            peer.waitForEnd()
        }
        let failure = #expect(throws: RedisError.self) { _ = try open("redis+sentinel://127.0.0.1:\(liar.port)/town") }
        guard case .noPrimary? = failure else { return #expect(Bool(false), "\(String(describing: failure))") }
        #expect(failure?.isPermanent == false)
    }
}

import Glibc
import RedisServing
import SystemCalls
import Testing

@testable import LivenessRedis

@Suite(.onOwnThread, .needsRedis) struct RedisConnectionTests {
    private let ping = RedisCommand("PING")

    private func open(_ url: String, caFile: String? = nil, replyTimeout: Duration = .seconds(5)) throws
        -> RedisConnection
    {
        try RedisConnection.open(
            RedisOptions(
                url: RedisURL(url), caFile: caFile, clientName: "test", connectTimeout: .seconds(5),
                replyTimeout: replyTimeout))
    }

    @Test func everyWayInAnswers() throws {
        let server = try RedisServer()
        for url in [
            "unix://\(server.socketPath)", "redis://127.0.0.1:\(server.port)", "redis://[::1]:\(server.port)",
            "redis://localhost:\(server.port)",
        ] {
            #expect(try open(url).pipeline([ping]) == [.status("PONG")], "\(url)")
        }
    }
}

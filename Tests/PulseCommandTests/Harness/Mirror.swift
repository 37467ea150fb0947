import FoundationEssentials
import Glibc
import SystemPackage
import TestSupport
import Testing

/// The mirror section of `.pulse/status.json`.
struct Mirror: Decodable {
    struct Link: Decodable {
        let state: State
        let since: String
        let reason: String?
    }

    enum State: String, Decodable, Sendable {
        case connecting, up, down, refused
    }

    struct IDMap: Decodable {
        let entries: Int
        let problem: String?
    }

    let server: String
    let heartbeats: Link
    let records: Link
    let subscription: Link
    let townName: String
    let queueLength: Int
    let coalesced: Int
    let dropped: Int
    let sent: Int
    let received: Int
    let malformed: Int
    let roundTripMicroseconds: Int?
    let runtimeIds: IDMap?

    var isUp: Bool { heartbeats.state == .up && records.state == .up && subscription.state == .up }
}

/// The content of `.pulse/runtimes/<id>.json`.
struct RuntimeView: Decodable {
    struct Evidence: Decodable {
        let source: String
        let by: String?
        let writtenBy: String?
        let signal: String?
        let receivedAt: String
        let pid: pid_t?
        let program: String?

        /// `receivedAt`, in seconds since 1970.
        var received: Double { get throws { try HeartbeatReading.seconds(receivedAt) } }
    }
    struct Moment: Decodable {
        let at: String
        let ageSeconds: Double
    }
    struct Clocks: Decodable {
        let beat: Moment?
        let work: Moment?
        let backgroundWork: Moment?
        let cpuSeconds: Double?
    }
    struct OnBehalf: Decodable {
        let writtenBy: String
        let ageSeconds: Double
        let pid: pid_t?
        let program: String?
    }
    struct Rival: Decodable {
        let host: String
        let pid: pid_t?
        let program: String?
    }
    let state: String
    let evidence: Evidence
    let clocks: Clocks
    let onBehalf: OnBehalf?
    let contestedBy: Rival?
    /// Nil for a runtime that gave no sign of life and has no process.
    let ageSeconds: Double?
    /// Nil for a runtime that lives as long as its process.
    let ttlLeftSeconds: Double?
    let exitedAt: String?
    let rootPid: pid_t?
    let rootStopped: Bool?
    let expectedIdleUntil: String?
    let lastCommand: String?
    let reportedState: String?
    let document: String?
}

extension MountedTown {
    struct NoMirror: Error {}

    var mirror: Mirror {
        get throws {
            guard let mirror = try status().mirror else { throw NoMirror() }
            return mirror
        }
    }

    /// Nil for an unknown or forgotten runtime.
    func runtime(_ id: String) throws -> RuntimeView? {
        let file = "\(path)/.pulse/runtimes/\(id).json"
        let text: String
        if let user {
            let outcome = try Command("cat", file, as: user).run()
            if outcome.status != 0 { return nil }
            text = outcome.output
        } else {
            guard Client.exists(file), let read = try? Client.read(file) else { return nil }
            text = read
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(RuntimeView.self, from: Data(text.utf8))
    }

    func heartbeat(_ id: String) -> String { "\(path)/.runtime/heartbeats/\(id).json" }

    /// Writes the heartbeat of the session of this name.
    func touch(_ id: String, _ command: String = "gt prime") throws {
        try Client.write(KeepaliveDocument.text(command), to: heartbeat(id))
    }

    func forget(_ id: String) throws { try Client.unlink(heartbeat(id)) }
}

extension RedisServer {
    /// Without a password.
    var url: String { "unix://\(socketPath)" }

    /// A server that listens only on its Unix socket.
    static func onSocket() throws -> RedisServer { try RedisServer { $0.listensOnLoopback = false } }

    /// The runtimes that a client without knowledge of pulsefs sees as alive.
    func alive(_ ids: [String]) throws -> Set<String> {
        Set(try ids.filter { try cli("EXISTS", "mul:runtime:hb:\($0)").hasPrefix("1") })
    }

    func isAlive(_ id: String) throws -> Bool { try alive([id]) == [id] }

    /// Polls until a runtime is not alive any more.
    ///
    /// - Returns: Whether no poll at `limit` or later found it alive.
    func isSilent(about id: String, from limit: ContinuousClock.Instant) throws -> Bool {
        var last: ContinuousClock.Instant?
        let isGone = try eventually {
            let asked = ContinuousClock.now
            guard try isAlive(id) else { return true }
            last = asked
            return false
        }
        #expect(isGone)
        return last.map { $0 < limit } ?? true
    }
}

/// All commands that a server receives from now on.
final class Monitor {
    private let command: RunningCommand

    init(_ server: RedisServer) throws {
        command = try Command("redis-cli", "-s", server.socketPath, "monitor").start()
        let printed = eventually { command.printed.hasPrefix("OK\n") }
        guard printed else { throw Command.Failed(description: "MONITOR is not answered: \(command.printed)") }
    }

    struct Line {
        /// By the server's clock, in seconds.
        let time: Double
        /// Quoted as by MONITOR: `"SET" "key" "1"`.
        let words: String
    }

    /// All lines with a word in them.
    ///
    /// Words are quoted.
    func lines(with word: String) -> [Line] {
        command.printed.split(separator: "\n").compactMap { line in
            guard line.contains(word), let time = Double(line.prefix { $0 != " " }),
                let start = line.firstRange(of: "] ")?.upperBound
            else { return nil }
            return Line(time: time, words: String(line[start...]))
        }
    }

    func words(with word: String) -> [String] { lines(with: word).map(\.words) }

    /// Waits until the mirror has been idle for longer than it delays any change.
    func waitForSilence() -> Bool {
        // It sends TIME every 1.5 s and delays a touch by at most 1 s.
        let before = lines(with: #""TIME""#).count
        return eventually { lines(with: #""TIME""#).count >= before + 2 }
    }
}

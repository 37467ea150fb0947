import Linux
import Liveness
import Synchronization

@testable import LivenessRedis

/// A Redis server in this process that knows a mirror's commands and answers some of them with an error.
final class ScriptedRedis: Sendable {
    private final class Content: Sendable {
        let state = Mutex(State())
    }

    private struct State {
        var strings: [String: [UInt8]] = [:]
        var executed: [String: Int] = [:]
        var faults: [Fault] = []
    }

    /// An error reply to one command: the first `after` of its name are executed.
    struct Fault: Sendable {
        let command: String
        let after: Int
        let error: String
    }

    let server: FakeServer
    private let content: Content

    init() throws {
        let content = Content()
        self.content = content
        server = try FakeServer(isConcurrent: true) { peer in
            let reader = RedisReplyReader()
            while case let bytes = peer.receive(), !bytes.isEmpty {
                var replies: [UInt8] = []
                do throws(RedisError) {
                    try reader.feed(bytes.span.bytes)
                    while case .array(let words)? = try reader.next() {
                        replies += content.state.withLock { Self.execute(words, &$0) }
                    }
                } catch {
                    return
                }
                if !peer.send(replies) { return }
            }
        }
    }

    /// Answers the next commands with errors.
    func fail(_ faults: Fault...) {
        content.state.withLock { state in
            state.executed = [:]
            state.faults = faults
        }
    }

    /// Whether every fault has occurred.
    var hasFailed: Bool { content.state.withLock { $0.faults.isEmpty } }

    func keys(withPrefix prefix: String) -> Set<String> {
        content.state.withLock { Set($0.strings.keys.filter { $0.hasPrefix(prefix) }) }
    }

    private static func execute(_ command: [RedisReply], _ state: inout State) -> [UInt8] {
        let words = command.map { $0.text ?? "" }
        let name = words[0]
        if let index = state.faults.firstIndex(where: { $0.command == name }) {
            if state.executed[name, default: 0] == state.faults[index].after {
                return Array("-\(state.faults.remove(at: index).error)\r\n".utf8)
            }
            state.executed[name, default: 0] += 1
        }
        switch name {
        case "SET", "PSETEX":
            guard case .string(let value)? = command.dropFirst(name == "SET" ? 2 : 3).first else { break }
            state.strings[words[1]] = value
            return Array("+OK\r\n".utf8)
        case "CLIENT", "SELECT": return Array("+OK\r\n".utf8)
        case "DEL": return Array(":\(state.strings.removeValue(forKey: words[1]) == nil ? 0 : 1)\r\n".utf8)
        case "TIME": return Array("*2\r\n$10\r\n\(WallTime.now.seconds)\r\n$1\r\n0\r\n".utf8)
        case "EXISTS", "ZADD", "PEXPIRE", "PUBLISH", "ZREMRANGEBYSCORE": return Array(":1\r\n".utf8)
        case "SUBSCRIBE": return Array("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n".utf8)
        case "PING": return Array("*2\r\n$4\r\npong\r\n$0\r\n\r\n".utf8)
        case "ZREVRANGEBYSCORE": return Array("*0\r\n".utf8)
        default: break
        }
        return Array("-ERR unknown command '\(name)'\r\n".utf8)
    }
}

import FoundationEssentials
import Glibc
import TestSupport
import Testing

/// A reader of a town's `.pulse/events`, from now on.
final class EventReader {
    struct Event: Decodable {
        let event: String
        let runtime: String?
        let source: String?
        let by: String?
        let pid: pid_t?
        let host: String?
        let onBehalfOf: String?
        let writtenBy: String?
        let otherPid: pid_t?
        let otherHost: String?
    }

    private let command: RunningCommand

    init(_ town: MountedTown) throws {
        command = try Command("cat", "\(town.path)/.pulse/events", limit: .seconds(300)).start()
        #expect(try eventually { try town.status().events?.readers == 1 })
    }

    deinit {
        command.send(SIGTERM)
        _ = try? command.wait()
    }

    /// The events so far that concern a runtime.
    func events(of runtime: String) throws -> [Event] {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        // The last line may be half written.
        let text = command.printed
        return try text[..<(text.lastIndex(of: "\n") ?? text.startIndex)].split(separator: "\n")
            .map { try decoder.decode(Event.self, from: Data($0.utf8)) }
            .filter { $0.runtime == runtime || $0.onBehalfOf == runtime }
    }

    /// The kinds of these events.
    func kinds(of runtime: String) throws -> [String] { try events(of: runtime).map(\.event) }
}

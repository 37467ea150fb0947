import ArgumentParser
import Daemon
import Glibc
import Linux
import Liveness

/// `pulsefs alive`.
struct Alive: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Tell whether runtimes are alive.",
        discussion: """
            One line for each runtime: state, id, time since the last touch, and its source. A runtime is alive, expired \
            (its ttl has passed), exited (its process has ended) or never (unknown to the town).

            Exit status: 0 all are alive, 1 not all, 2 could not tell or not mounted.
            """)

    @Argument(help: .town, completion: .directory)
    var town: String

    @Argument(help: .runtime, completion: .runtimes)
    var ids: [String]

    @Flag(help: "Print a JSON object instead.")
    var json = false

    /// What --json prints.
    private struct Report: Encodable {
        let town: String
        let allAlive: Bool
        let runtimes: [RuntimeFile]
    }

    func validate() throws {
        for id in ids { _ = try parseRuntimeID(id) }
    }

    func run() throws {
        let allAlive: Bool
        do {
            allAlive = try ask()
        } catch {
            // Any failure: 1 would mean that a runtime is not alive.
            throw Failure("\(error)", .couldNotTell)
        }
        if !allAlive { throw ExitCode(ExitStatus.failed.rawValue) }
    }

    /// Prints the runtimes, and returns whether all are alive.
    private func ask() throws -> Bool {
        let place = try TownPath(town)
        guard let mount = place.mount else { throw Failure("\(place.path) is not mounted.") }
        let runtimes = try RuntimeFile.read(try ids.map(parseRuntimeID), of: mount).get(from: mount)
        let allAlive = runtimes.allSatisfy(\.isAlive)
        if json {
            print(try JSONText.encode(Report(town: place.path, allAlive: allAlive, runtimes: runtimes)))
        } else {
            show(runtimes)
        }
        return allAlive
    }

    private func show(_ runtimes: [RuntimeFile]) {
        let host = Host.name
        let width = runtimes.map(\.id.count).max() ?? 0
        for runtime in runtimes {
            let state = TerminalText.printable(runtime.state)
            var line = "\(TerminalText.fitted(state, to: max(7, state.count)))  "
            guard let age = runtime.ageSeconds else {
                print(line + runtime.id)
                continue
            }
            line += "\(TerminalText.fitted(runtime.id, to: width))  \(describe(seconds: age)) ago"
            if let words = runtime.evidence?.words(on: host) { line += "  \(TerminalText.printable(words))" }
            print(line)
        }
    }
}

extension ArgumentHelp {
    static var town: ArgumentHelp { ArgumentHelp("The mounted directory.", valueName: "town") }
    static var runtime: ArgumentHelp {
        ArgumentHelp("A runtime id: mayor, gastown/polecats/furiosa, a UUID, a session.", valueName: "id")
    }
}

/// Parses an id; throws a message for the user.
func parseRuntimeID(_ text: String) throws -> RuntimeID {
    do {
        return try RuntimeID(text)
    } catch {
        throw ValidationError("'\(TerminalText.printable(text))' is not a runtime id. \(error)")
    }
}

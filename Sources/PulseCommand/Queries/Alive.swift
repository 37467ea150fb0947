import ArgumentParser
import Glibc
import Liveness

/// `pulsefs alive`.
struct Alive: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say whether runtimes are alive.",
        discussion: """
            A line for each: its state, its id, how long ago it was touched, and by what. A runtime is alive, expired \
            when its ttl is over, exited when its process is known to have ended, or never when the town does not know \
            it.

            Exit status: 0 all are alive, 1 not all, 2 could not tell, also where nothing is mounted.
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
            // Whatever it is: 1 would say that somebody is not alive.
            throw Failure("\(error)", .couldNotTell)
        }
        if !allAlive { throw ExitCode(ExitStatus.failed.rawValue) }
    }

    /// Prints what is known of each, and says whether all are alive.
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
        ArgumentHelp("Who: mayor, gastown/polecats/furiosa, a UUID, a session.", valueName: "id")
    }
}

/// Reads an id; for what is none, says why.
func parseRuntimeID(_ text: String) throws -> RuntimeID {
    do {
        return try RuntimeID(text)
    } catch {
        throw ValidationError("'\(TerminalText.printable(text))' is no runtime id. \(error)")
    }
}

import ArgumentParser
import Glibc

/// The `pulsefs` program.
@main
struct PulseFS: ParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "pulsefs",
        abstract: "A directory tree in which small files tell who is alive.",
        discussion: """
            pulsefs mounts over a town, a directory tree in which many agents work. Everything in it stays what it was, \
            except the signal files, by which the town's tools tell each other that they are alive: those are kept in \
            memory, so that nobody ever reads half of one, and pulsefs knows whose touch is recent and whose is not.

              pulsefs mount ~/town                        lay pulsefs over ~/town
              echo 'hello' > ~/town/.runtime/keepalive.json
              cat ~/town/.runtime/keepalive.json          the last touch, always whole
              cat ~/town/.pulse/status.json               what pulsefs knows
              pulsefs unmount ~/town                      plain files again, nothing lost

            \(ExitStatus.overview)
            """,
        version: version,
        subcommands: [
            Mount.self, Unmount.self, Status.self, Alive.self, TouchCommand.self, ForgetCommand.self, Watch.self,
            Doctor.self, Manual.self, KeeperCommand.self, WorkerCommand.self,
        ]
    )

    static func main() {
        // A reader of our output or messages that has gone is an error to be reported, not a reason to die.
        signal(SIGPIPE, SIG_IGN)
        // So is a file larger than a limit allows, or one client could end the mount for all.
        signal(SIGXFSZ, SIG_IGN)
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            printError(failure.message)
            Glibc.exit(failure.status.rawValue)
        } catch  where exitCode(for: error) == .validationFailure {
            // The message alone: with the help and usage that the parser adds, nobody would find it.
            let message = message(for: error).split(separator: "\n").first ?? "wrong arguments"
            printError("\(message)\(message.last?.isPunctuation == true ? "" : ".") See 'pulsefs --help'.")
            Glibc.exit(ExitStatus.usage.rawValue)
        } catch {
            exit(withError: error)
        }
    }

    /// Prints one line for a person, on standard error.
    static func printError(_ message: String) {
        var line = "pulsefs: \(message)\n"
        line.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}

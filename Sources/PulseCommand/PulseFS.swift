import ArgumentParser
import Daemon
import Glibc

/// The `pulsefs` program.
@main
struct PulseFS: ParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "pulsefs",
        abstract: "A file system in which heartbeat files tell which agents are alive.",
        discussion: """
            pulsefs mounts over a town, a directory tree in which many agents work. All files stay as they are, except \
            signal files, with which tools tell each other that they are alive. pulsefs keeps these in memory: no reader \
            ever sees half a document, and every touch has a time to live.

              mkdir -p ~/town/.runtime/heartbeats
              pulsefs mount ~/town                        # mount pulsefs over ~/town
              echo '{"state":"working"}' > ~/town/.runtime/heartbeats/gt-nux.json
              cat ~/town/.runtime/heartbeats/gt-nux.json  # the last document, always whole
              pulsefs alive ~/town gt-nux                 # who is alive
              cat ~/town/.pulse/status.json               # the state of the town
              pulsefs unmount ~/town                      # plain files again, nothing lost

            \(ExitStatus.overview)
            """,
        version: version,
        subcommands: [
            Mount.self, Unmount.self, Upgrade.self, Status.self, Alive.self, TouchCommand.self, ForgetCommand.self,
            Watch.self,
            Doctor.self, PresetCommand.self, Manual.self, KeeperCommand.self, WorkerCommand.self,
        ]
    )

    static func main() {
        // A closed pipe and a file size limit are errors of a call. They must not kill the process.
        signal(SIGPIPE, SIG_IGN)
        signal(SIGXFSZ, SIG_IGN)
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            printError(failure.message)
            Glibc.exit(failure.status.rawValue)
        } catch  where exitCode(for: error) == .validationFailure {
            // Only the message, without the parser's help and usage.
            let message = message(for: error)
            printError("\(message)\(message.hasSuffix(".") ? "" : ".") See 'pulsefs --help'.")
            Glibc.exit(ExitStatus.usage.rawValue)
        } catch {
            exit(withError: error)
        }
    }

    /// Prints one line for the user on standard error.
    static func printError(_ message: String) {
        var line = "pulsefs: \(TerminalText.printable(message))\n"
        line.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}

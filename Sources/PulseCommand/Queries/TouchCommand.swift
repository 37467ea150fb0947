import ArgumentParser
import CLinux
import Daemon
import Glibc
import Linux
import Liveness
import SystemPackage

struct TouchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "touch",
        abstract: "Touch a runtime: record that it is alive.",
        discussion: """
            For tools without a signal file. The same as 'touch TOWN/.pulse/alive/ID', or with --ttl as \
            'echo 90s > TOWN/.pulse/alive/ID'. No document changes.
            """)

    @Argument(help: .town, completion: .directory)
    var town: String

    @Argument(help: .runtime, completion: .runtimes, transform: { try RuntimeID($0) })
    var id: RuntimeID

    @Option(
        help: ArgumentHelp(
            "How long the touch proves life: 500ms, 90s, 5m, 1h. By default the ttl of the mount.",
            valueName: "duration"),
        transform: { text in
            _ = try Duration(spelled: text)
            return text
        })
    var ttl: String?

    func run() throws {
        let mount = try TownPath(town).requireMount()
        // An id is a file, or a directory if it is a prefix of other ids; that may change at any time. The path
        // `gastown@/witness@/@` always means the id `gastown/witness`.
        let path = id.names.map { "\($0)@/" }.joined() + "@"
        let answer = try TownAnswer.ask { [ttl] () throws(Errno) in
            // The town records the name of the thread as the program.
            clinux_name_this_thread("pulsefs")
            let top = try OwnedDescriptor(openingPulse: "alive", of: mount)
            let file = try OwnedDescriptor(openingLong: path, in: top.rawValue, O_WRONLY | O_CREAT, mode: 0o644)
            if let ttl {
                let text = ttl + "\n"
                _ = try retryingInterrupts { write(file.rawValue, text, text.utf8.count) }
            } else {
                _ = try retryingInterrupts { futimens(file.rawValue, nil) }
            }
            // The town validates at close(2).
            guard close(file.release()) == 0 else { throw .current }
        }
        try answer.get(from: mount, orFail: "cannot touch \(id)")
    }
}

struct ForgetCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forget",
        abstract: "Forget a runtime.",
        discussion: """
            Its state is 'never' until the next touch. Signal files keep their documents. To forget an unknown runtime \
            is no error.
            """)

    @Argument(help: .town, completion: .directory)
    var town: String

    @Argument(help: .runtime, completion: .runtimes, transform: { try RuntimeID($0) })
    var id: RuntimeID

    func run() throws {
        let mount = try TownPath(town).requireMount()
        let answer = try TownAnswer.ask { [id] () throws(Errno) in
            // `alive` does not contain expired ones.
            let runtimes = try OwnedDescriptor(openingPulse: "runtimes", of: mount)
            do throws(Errno) {
                try withShortPath(id.reportPath, in: runtimes.rawValue) { (path, directory) throws(Errno) in
                    _ = try retryingInterrupts { unlinkat(directory, path, 0) }
                }
            } catch .noSuchFileOrDirectory {}
        }
        try answer.get(from: mount, orFail: "cannot forget \(id)")
    }
}

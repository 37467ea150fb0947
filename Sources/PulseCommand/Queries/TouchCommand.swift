import ArgumentParser
import Daemon
import Glibc
import SystemPackage

/// `pulsefs touch`.
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

    @Argument(help: .runtime, completion: .runtimes)
    var id: String

    @Option(
        help: ArgumentHelp(
            "How long the touch proves life: 500ms, 90s, 5m, 1h. By default the ttl of the mount.",
            valueName: "duration"))
    var ttl: String?

    func validate() throws {
        _ = try parseRuntimeID(id)
        if let ttl { _ = try MountOptions.parseDuration(ttl) }
    }

    func run() throws {
        let place = try TownPath(town)
        guard let mount = place.mount else { throw Failure("\(place.path) is not mounted.", .notMounted) }
        let answer = try AliveDirectory.touch(try parseRuntimeID(id), ttl: ttl, of: mount)
        if case .failed(let error) = answer { throw Failure("cannot touch \(id): \(error)") }
        try answer.get(from: mount)
    }
}

/// `pulsefs forget`.
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

    @Argument(help: .runtime, completion: .runtimes)
    var id: String

    func validate() throws {
        _ = try parseRuntimeID(id)
    }

    func run() throws {
        let place = try TownPath(town)
        guard let mount = place.mount else { throw Failure("\(place.path) is not mounted.", .notMounted) }
        let answer = try AliveDirectory.forget(try parseRuntimeID(id), of: mount)
        if case .failed(let error) = answer { throw Failure("cannot forget \(id): \(error)") }
        try answer.get(from: mount)
    }
}

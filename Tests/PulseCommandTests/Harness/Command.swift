import CLinux
import Glibc
import SystemPackage

/// A program to be run with a limit: nothing that touches a mount may hold the suite for ever.
///
/// It runs in a process group of its own with standard input from memory or `/dev/null`, and a small environment that is
/// the same on every machine.
struct Command: Sendable {
    var words: [String]
    var directory = "/"
    /// Added to `standardEnvironment`, or in the place of what is there.
    var environment: [String: String] = [:]
    var user: User?
    var limit: Duration = .seconds(30)

    init(
        _ words: String..., in directory: String = "/", environment: [String: String] = [:], as user: User? = nil,
        limit: Duration = .seconds(30)
    ) {
        self.init(words, in: directory, environment: environment, as: user, limit: limit)
    }

    init(
        _ words: [String], in directory: String = "/", environment: [String: String] = [:], as user: User? = nil,
        limit: Duration = .seconds(30)
    ) {
        self.words = words
        self.directory = directory
        self.environment = environment
        self.user = user
        self.limit = limit
    }

    /// An ordinary user.
    ///
    /// Known to the system by name: `fusermount3` asks for it.
    struct User: Sendable {
        let id: uid_t
        let group: gid_t

        static let nobody = User(id: 65534, group: 65534)
    }

    struct Outcome: Sendable, CustomStringConvertible {
        let words: [String]
        /// The exit status, or 128 and the number of the signal that killed it.
        let status: Int32
        let output: String
        let errors: String

        func expectSuccess() throws {
            guard status == 0 else { throw Failed(description: description) }
        }

        var description: String {
            "\(words.joined(separator: " ").prefix(300)): status \(status)\n\(output.suffix(2000))\n\(errors.suffix(2000))"
        }
    }

    /// A command that went wrong, with all it said.
    struct Failed: Error, CustomStringConvertible {
        let description: String
    }

    /// Runs it to its end, whatever that is.
    func run() throws -> Outcome {
        try start().wait()
    }

    /// Runs it, expects success, and returns what it printed.
    @discardableResult
    func output() throws -> String {
        let outcome = try run()
        guard outcome.status == 0 else { throw Failed(description: "\(outcome)") }
        return outcome.output
    }

    func start() throws -> RunningCommand {
        try RunningCommand(self)
    }

    /// Whether a program is installed.
    static func isInstalled(_ program: String) -> Bool {
        path.split(separator: ":").contains { access("\($0)/\(program)", X_OK) == 0 }
    }

    // The system's own first: version managers put slow wrappers into people's PATH that other users cannot run.
    private static let path =
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"
        + (getenv("PATH").map { String(cString: $0) } ?? "")

    private static let standardEnvironment = [
        "PATH": path, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": "1700000000 +0000",
        "GIT_COMMITTER_DATE": "1700000000 +0000",
    ]

    fileprivate var fullEnvironment: [String] {
        Self.standardEnvironment.merging(environment) { $1 }.map { "\($0)=\($1)" }
    }

    fileprivate var fullWords: [String] {
        guard let user else { return words }
        // The directory may be one that only this user can enter, root included.
        return ["setpriv", "--reuid=\(user.id)", "--regid=\(user.group)", "--clear-groups", "env", "-C", directory]
            + words
    }
}

/// A command that has been started.
///
/// Killed, with its group, when nobody holds it any more.
final class RunningCommand {
    let pid: pid_t
    private let command: Command
    private let output: FileDescriptor
    private let errors: FileDescriptor
    private let exited: FileDescriptor
    private var isReaped = false
    private let deadline: ContinuousClock.Instant

    fileprivate init(_ command: Command) throws {
        self.command = command
        deadline = .now + command.limit
        // Memory rather than pipes: it never fills, and a grandchild that lives on holds nobody up.
        output = try Self.memory("output")
        errors = try Self.memory("errors")

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output.rawValue, 1)
        posix_spawn_file_actions_adddup2(&actions, errors.rawValue, 2)
        posix_spawn_file_actions_addclosefrom_np(&actions, 3)
        posix_spawn_file_actions_addchdir_np(&actions, command.user == nil ? command.directory : "/")
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // The thread that runs a test has signals blocked, which a program would inherit.
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK))

        // PATH is looked up by env(1), in the environment that the command gets.
        let words = ["/usr/bin/env", "-i"] + command.fullEnvironment + command.fullWords
        let arguments = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid = pid_t()
        let failure = posix_spawn(&pid, words[0], &actions, &attributes, arguments, [nil])
        guard failure == 0 else { throw Errno(rawValue: failure) }
        self.pid = pid
        exited = FileDescriptor(rawValue: clinux_pidfd_open(pid))
    }

    deinit {
        if !isReaped {
            kill(-pid, SIGKILL)
            _ = hasEnded(by: .now + .seconds(5))
            waitpid(pid, nil, WNOHANG)
        }
        for descriptor in [output, errors, exited] { try? descriptor.close() }
    }

    var isRunning: Bool { !isReaped && !hasEnded(by: .now) }

    func send(_ signal: CInt) {
        kill(pid, signal)
    }

    /// Waits for its end, then ends what is left of its group.
    ///
    /// - Throws: `Command.Failed` at its limit.
    func wait() throws -> Command.Outcome {
        precondition(!isReaped, "a command is waited for once")
        let isInTime = hasEnded(by: deadline)
        kill(-pid, SIGKILL)
        guard hasEnded(by: .now + .seconds(5)) else {
            throw Command.Failed(description: "cannot be killed: \(command.words)")
        }
        var word: CInt = 0
        waitpid(pid, &word, 0)
        isReaped = true
        let signal = word & 0x7f
        let outcome = Command.Outcome(
            words: command.words, status: signal == 0 ? (word >> 8) & 0xff : 128 + signal,
            output: try Self.text(output), errors: try Self.text(errors))
        guard isInTime else { throw Command.Failed(description: "not done within \(command.limit): \(outcome)") }
        return outcome
    }

    /// What it has said so far where errors go.
    var printedErrors: String { (try? Self.text(errors)) ?? "" }

    /// What it has printed so far.
    var printed: String { (try? Self.text(output)) ?? "" }

    private func hasEnded(by instant: ContinuousClock.Instant) -> Bool {
        var question = pollfd(fd: exited.rawValue, events: Int16(POLLIN), revents: 0)
        while true {
            let left = max(.zero, instant - .now)
            let milliseconds = left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000
            let answered = poll(&question, 1, CInt(clamping: milliseconds))
            if answered == 1 { return true }
            if answered == 0 { return false }
        }
    }

    private static func memory(_ name: String) throws -> FileDescriptor {
        let memory = memfd_create(name, UInt32(MFD_CLOEXEC))
        guard memory >= 0 else { throw Errno(rawValue: errno) }
        return FileDescriptor(rawValue: memory)
    }

    private static func text(_ memory: FileDescriptor) throws -> String {
        var bytes: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = try block.withUnsafeMutableBytes {
                try memory.read(fromAbsoluteOffset: Int64(bytes.count), into: $0)
            }
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += block.prefix(count)
        }
    }
}

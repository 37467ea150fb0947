import CLinux
import Glibc
import SystemPackage
import TestSupport

/// A program with a time limit: a hung mount must not hang the suite.
///
/// It runs in its own process group, with standard input from `/dev/null` and a small environment that is the same on
/// every machine.
struct Command: Sendable {
    var words: [String]
    var directory = "/"
    /// Added to `standardEnvironment`, replacing variables of the same name.
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
    /// It has an entry in /etc/passwd, which `fusermount3` needs.
    struct User: Sendable {
        let id: uid_t
        let group: gid_t

        static let nobody = User(id: 65534, group: 65534)
    }

    struct Outcome: Sendable, CustomStringConvertible {
        let words: [String]
        /// The exit status, or 128 plus the number of the signal that killed it.
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

    /// A failed command, with its output.
    struct Failed: Error, CustomStringConvertible {
        let description: String
    }

    /// Runs it and returns its outcome, success or not.
    func run() throws -> Outcome {
        try start().wait()
    }

    /// Runs it, expects success, and returns its standard output.
    @discardableResult
    func output() throws -> String {
        let outcome = try run()
        guard outcome.status == 0 else { throw Failed(description: "\(outcome)") }
        return outcome.output
    }

    func start() throws -> RunningCommand {
        try RunningCommand(self)
    }

    private static let standardEnvironment = [
        "PATH": programPath, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": "1700000000 +0000",
        "GIT_COMMITTER_DATE": "1700000000 +0000",
        // Nothing is left in /var/lib; `mount-scripts/test` removes this.
        "PULSEFS_STATE_DIRECTORY": getenv("PULSEFS_STATE_DIRECTORY").map { String(cString: $0) }
            ?? "/tmp/pulsefs-test-state",
    ]

    fileprivate var fullEnvironment: [String] {
        Self.standardEnvironment.merging(environment) { $1 }.map { "\($0)=\($1)" }
    }

    fileprivate var fullWords: [String] {
        guard let user else { return words }
        // The directory may be accessible to this user only, not even to root.
        return ["setpriv", "--reuid=\(user.id)", "--regid=\(user.group)", "--clear-groups", "env", "-C", directory]
            + words
    }
}

/// Runs a shell script that ends at the first command that fails, and returns what it printed.
///
/// `refused COMMAND…` expects a command to fail. In `sh -e`, a `!` before a command that succeeds does not end the script.
@discardableResult
func shell(
    _ script: String, in directory: String = "/", as user: Command.User? = nil, limit: Duration = .seconds(30)
) throws -> String {
    let refused = #"refused() { if "$@"; then echo "not refused: $*" >&2; exit 1; fi; }"#
    return try Command("sh", "-euc", "\(refused)\n\(script)", in: directory, as: user, limit: limit).output()
}

/// A running command.
///
/// Killed with its process group on deinit.
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
        // Memory, not pipes: it never fills, and a grandchild that lives on does not block the reader.
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
        // The test's thread blocks signals, and a shell's background job ignores SIGINT; a program would inherit both.
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        // env(1) searches PATH in the command's environment.
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

    /// Waits for its end, then kills the rest of its process group.
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

    /// Its standard error so far.
    var printedErrors: String { (try? Self.text(errors)) ?? "" }

    /// Its standard output so far.
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

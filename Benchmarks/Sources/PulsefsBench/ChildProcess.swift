import CGNU
import Glibc
import SystemPackage

/// A spawned program and its standard output.
///
/// The output goes to a file, not to a pipe: a daemon started by the program may keep the descriptor open for ever.
/// A program still running at deinitialization is killed with its process group.
final class ChildProcess {
    let name: String
    private let pid: pid_t
    private let output: FileDescriptor
    private let hasOwnGroup: Bool
    private var waitStatus: Int32?

    /// Starts a program from the PATH, with no input and no blocked signal.
    ///
    /// Output goes to the file `outputPath`, or into memory. With `inOwnGroup` a terminal's ^C does not reach the program.
    ///
    /// The corresponding C function is `posix_spawnp`.
    init(_ arguments: [String], outputPath: String? = nil, inOwnGroup: Bool = true) throws {
        name = arguments.joined(separator: " ")
        hasOwnGroup = inOwnGroup
        if let outputPath {
            output = try FileDescriptor.open(
                FilePath(outputPath), .readWrite, options: [.create, .truncate, .closeOnExec],
                permissions: .ownerReadWrite)
        } else {
            output = FileDescriptor(rawValue: memfd_create("pulsefs-bench", UInt32(MFD_CLOEXEC)))
            guard output.rawValue >= 0 else { throw BenchFailure("memfd_create", Errno(rawValue: errno)) }
        }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output.rawValue, STDOUT_FILENO)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var noSignals = sigset_t()
        sigemptyset(&noSignals)
        posix_spawnattr_setsigmask(&attributes, &noSignals)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | (inOwnGroup ? POSIX_SPAWN_SETPGROUP : 0)))

        let argv = arguments.map { strdup($0) } + [nil]
        defer { for string in argv { free(string) } }
        var pid: pid_t = 0
        let code = posix_spawnp(&pid, arguments[0], &actions, &attributes, argv, environ)
        self.pid = pid
        guard code == 0 else {
            waitStatus = code
            throw BenchFailure("cannot start \(arguments[0])", Errno(rawValue: code))
        }
    }

    deinit {
        if waitStatus == nil {
            kill(hasOwnGroup ? -pid : pid, SIGKILL)
            // Without waiting: a child blocked in a hung mount ends only when the mount is aborted.
            waitpid(pid, nil, WNOHANG)
        }
        try? output.close()
    }

    /// Whether the program has ended; reaps it.
    func hasEnded() -> Bool {
        var status: Int32 = 0
        if waitStatus == nil, waitpid(pid, &status, WNOHANG) == pid { waitStatus = status }
        return waitStatus != nil
    }

    /// Blocks until the program ends.
    func wait() {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        waitStatus = status
    }

    /// Throws unless the program has ended with status 0.
    func checkStatus() throws {
        guard let waitStatus, waitStatus != 0 else { return }
        let signal = waitStatus & 0x7f
        throw BenchFailure(
            "\(name) " + (signal == 0 ? "ended with \(waitStatus >> 8 & 0xff)" : "was killed by signal \(signal)"))
    }

    func printed() throws -> [UInt8] { try readFile("/proc/self/fd/\(output.rawValue)") }
}

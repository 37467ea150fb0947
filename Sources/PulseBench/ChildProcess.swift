import Glibc
import SystemPackage

/// A process spawned from here, with what it prints collected.
///
/// Its output goes into a file without a name, not a pipe: a daemon that it leaves behind may keep the descriptor, and
/// nobody waits for the end of it. A child still running when this goes away is killed.
struct ChildProcess: ~Copyable {
    let name: String
    private let pid: pid_t
    private let output: FileDescriptor
    private var waitStatus: Int32?

    /// Starts `executable` in a process group of its own (a terminal's ^C is the parent's to judge), no signal blocked.
    init(spawning executable: String, _ arguments: [String]) throws {
        let output = try unnamedFile()
        do {
            pid = try spawn([executable] + arguments, output: output)
        } catch {
            try? output.close()
            throw BenchFailure("cannot start \(executable)", error)
        }
        self.output = output
        name = ([executable] + arguments).joined(separator: " ")
        waitStatus = nil
    }

    deinit {
        if waitStatus == nil {
            kill(-pid, SIGKILL)
            // Not waited for: a child stuck in a hung mount ends only when that is aborted.
            waitpid(pid, nil, WNOHANG)
        }
        try? output.close()
    }

    /// Whether it has ended; reaps it then.
    mutating func hasEnded() -> Bool {
        if waitStatus != nil { return true }
        var status: Int32 = 0
        guard waitpid(pid, &status, WNOHANG) == pid else { return false }
        waitStatus = status
        return true
    }

    /// The exit code of a child that has ended; killed by a signal counts as 128 and its number, as in a shell.
    var exitCode: Int32? {
        guard let waitStatus else { return nil }
        let terminationSignal = waitStatus & 0x7f
        return terminationSignal == 0 ? (waitStatus >> 8) & 0xff : 128 + terminationSignal
    }

    /// What it has printed.
    func printed() throws(Errno) -> [UInt8] {
        try GoFile(path: "/proc/self/fd/\(output.rawValue)").read()
    }
}

/// Starts a program, found by the PATH, with its standard output going to `output` and nothing to read.
private func spawn(_ arguments: [String], output: FileDescriptor) throws(Errno) -> pid_t {
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
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP))

    var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
    argv.append(nil)
    defer { for argument in argv { free(argument) } }
    var pid: pid_t = 0
    let code = posix_spawnp(&pid, arguments[0], &actions, &attributes, argv, environ)
    guard code == 0 else { throw Errno(rawValue: code) }
    return pid
}

/// A file in /tmp that has lost its name.
private func unnamedFile() throws -> FileDescriptor {
    var path = Array("/tmp/pulsefs-bench.XXXXXX".utf8CString)
    let descriptor = mkstemp(&path)
    guard descriptor >= 0 else { throw BenchFailure("cannot make a file in /tmp", Errno(rawValue: errno)) }
    unlink(path)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    return FileDescriptor(rawValue: descriptor)
}

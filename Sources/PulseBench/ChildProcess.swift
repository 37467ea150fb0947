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
    init(spawning executable: String, _ arguments: [String], environment: [String: String] = [:]) throws {
        let output = try unnamedFile()
        do {
            pid = try spawn([executable] + arguments, output: output, group: .own, environment: environment)
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

/// A file in /tmp that has lost its name.
private func unnamedFile() throws -> FileDescriptor {
    var path = Array("/tmp/pulsefs-bench.XXXXXX".utf8CString)
    let descriptor = mkstemp(&path)
    guard descriptor >= 0 else { throw BenchFailure("cannot make a file in /tmp", Errno(rawValue: errno)) }
    unlink(path)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    return FileDescriptor(rawValue: descriptor)
}

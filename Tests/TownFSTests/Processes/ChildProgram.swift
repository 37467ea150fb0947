import CLinux
import Glibc
import Linux
import SystemPackage

@testable import TownFS

/// A child process that runs a shell script and reads lines from the test.
///
/// Killed on deinit.
final class ChildProgram {
    let pid: pid_t
    private let input: OwnedDescriptor
    private let output: OwnedDescriptor
    private var isReaped = false

    /// Returns when the script has printed its first line.
    init(_ script: String, environment: [String: String] = [:], in directory: String = "/") throws {
        var (toChild, fromChild): ([CInt], [CInt]) = ([-1, -1], [-1, -1])
        _ = try retryingInterrupts { pipe2(&toChild, O_CLOEXEC) }
        _ = try retryingInterrupts { pipe2(&fromChild, O_CLOEXEC) }
        input = OwnedDescriptor(takingOwnershipOf: toChild[1])
        output = OwnedDescriptor(takingOwnershipOf: fromChild[0])
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, toChild[0], 0)
        posix_spawn_file_actions_adddup2(&actions, fromChild[1], 1)
        posix_spawn_file_actions_addchdir_np(&actions, directory)
        let words = ["sh", "-c", script].map { (text: String) in strdup(text) }
        let variables = environment.merging(["PATH": "/usr/bin:/bin"]) { mine, _ in mine }.map { name, value in
            strdup("\(name)=\(value)")
        }
        defer { for text in words + variables { free(text) } }
        var pid: pid_t = 0
        let failure = posix_spawn(&pid, "/bin/sh", &actions, nil, words + [nil], variables + [nil])
        self.pid = pid
        close(toChild[0])
        close(fromChild[1])
        guard failure == 0 else { throw Errno(rawValue: failure) }
        hear()
    }

    /// Waits for a line from the child.
    func hear() {
        var byte: UInt8 = 0
        while read(output.rawValue, &byte, 1) == 1, byte != UInt8(ascii: "\n") {}
    }

    /// Sends the line that lets the script continue.
    func goOn() {
        _ = write(input.rawValue, "\n", 1)
    }

    func end() {
        guard !isReaped else { return }
        isReaped = true
        kill(pid, SIGKILL)
        var status: CInt = 0
        waitpid(pid, &status, 0)
    }

    deinit { end() }
}

import CLinux
import Glibc
import SystemPackage

/// A child process (posix_spawnp(3), waitpid(2)); Swift code never forks.
package struct ChildProcess: ~Copyable {
    /// A descriptor of the child.
    package enum Descriptor {
        /// A copy of one of ours.
        case inherited(CInt)
        case null
    }

    package let pid: pid_t
    /// A pidfd: readable once the process has ended.
    package let exited: OwnedDescriptor

    /// Environment with which a Swift program dies at once when it crashes.
    ///
    /// Otherwise the runtime's backtracer keeps the process, and everybody who waits for an answer, for seconds.
    package static let withoutBacktrace = ["SWIFT_BACKTRACE=enable=no"]

    /// Starts a program, found by `PATH`.
    ///
    /// The child gets exactly the given descriptors, numbered from 0. No signal is blocked or ignored. The child leads
    /// its own process group, so a terminal's interrupt reaches only us.
    ///
    /// - Parameters:
    ///   - isDetached: Whether the child leads its own session and has `/` as its directory.
    ///   - environment: Added after our own environment, which wins for a name that is in both.
    package static func spawn(
        _ program: String, _ arguments: [String], descriptors: [Descriptor], isDetached: Bool = false,
        environment: [String] = []
    ) throws(Errno) -> ChildProcess {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // Copies above the range of the child's numbers, so that no dup2 overwrites the source of a later one.
        var sources: [SharedDescriptor] = []
        for (number, descriptor) in descriptors.enumerated() {
            switch descriptor {
            case .null:
                posix_spawn_file_actions_addopen(&actions, CInt(number), "/dev/null", O_RDWR, 0)
            case .inherited(let ours):
                let copy = SharedDescriptor(
                    try OwnedDescriptor(duplicating: ours, atLeast: CInt(descriptors.count)))
                sources.append(copy)
                posix_spawn_file_actions_adddup2(&actions, copy.rawValue, CInt(number))
            }
        }
        posix_spawn_file_actions_addclosefrom_np(&actions, CInt(descriptors.count))
        if isDetached { posix_spawn_file_actions_addchdir_np(&actions, "/") }

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        let group = isDetached ? POSIX_SPAWN_SETSID : POSIX_SPAWN_SETPGROUP
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF) | Int16(group))

        var pid = pid_t()
        let inherited = currentEnvironment()
        let failure = withCStrings(arguments) { arguments in
            withCStrings(inherited + environment) { environment in
                posix_spawnp(&pid, program, &actions, &attributes, arguments, environment)
            }
        }
        withExtendedLifetime(sources) {}
        guard failure == 0 else { throw Errno(rawValue: failure) }
        let exited = try retryingInterrupts { clinux_pidfd_open(pid) }
        return ChildProcess(pid: pid, exited: OwnedDescriptor(takingOwnershipOf: exited))
    }

    /// Waits for the end and reaps the process; call it once.
    ///
    /// - Returns: the exit status, or 128 plus the number of the signal that killed it, as in a shell.
    package borrowing func wait() -> Int32 {
        var status: CInt = 0
        while waitpid(pid, &status, 0) == -1, Errno.current == .interrupted {}
        let signal = status & 0x7f
        return signal == 0 ? (status >> 8) & 0xff : 128 + signal
    }

    package func send(_ signal: CInt) { kill(pid, signal) }

    private static func currentEnvironment() -> [String] {
        var variables: [String] = []
        guard var next = clinux_environment() else { return [] }
        while let variable = next.pointee {
            variables.append(String(cString: variable))
            next += 1
        }
        return variables
    }
}

/// Calls `body` with a null-terminated array of C strings.
private func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    return pointers.withUnsafeMutableBufferPointer {
        // because it contains at least the terminating nil.
        body($0.baseAddress!)
    }
}

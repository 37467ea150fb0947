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
        let copies = try copies(of: descriptors)
        for (number, copy) in copies.enumerated() {
            posix_spawn_file_actions_adddup2(&actions, copy.rawValue, CInt(number))
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
        withExtendedLifetime(copies) {}
        guard failure == 0 else { throw Errno(rawValue: failure) }
        let exited = try retryingInterrupts { clinux_pidfd_open(pid) }
        return ChildProcess(pid: pid, exited: OwnedDescriptor(takingOwnershipOf: exited))
    }

    private init(pid: pid_t, exited: consuming OwnedDescriptor) {
        self.pid = pid
        self.exited = exited
    }

    /// Executes another program in this process.
    ///
    /// The program gets the given descriptors, numbered from 0, and others that are not close-on-exec. If it throws, they
    /// have replaced some of this process, which has to end then.
    package static func execute(
        _ program: String, _ arguments: [String], descriptors: [Descriptor]
    ) throws(Errno) -> Never {
        let copies = try copies(of: descriptors)
        for (number, copy) in copies.enumerated() {
            _ = try retryingInterrupts { dup2(copy.rawValue, CInt(number)) }
        }
        _ = withCStrings(arguments) { execv(program, $0) }
        throw .current
    }

    /// Copies above the range of the given numbers, so that no dup2 overwrites the source of a later one.
    private static func copies(of descriptors: [Descriptor]) throws(Errno) -> [SharedDescriptor] {
        let null = try OwnedDescriptor(opening: "/dev/null", in: AT_FDCWD, O_RDWR)
        var copies: [SharedDescriptor] = []
        for descriptor in descriptors {
            let source = if case .inherited(let ours) = descriptor { ours } else { null.rawValue }
            copies.append(SharedDescriptor(try OwnedDescriptor(duplicating: source, atLeast: CInt(descriptors.count))))
        }
        return copies
    }

    /// A process that another one has started, and that may have ended.
    package init(adopting pid: pid_t) throws(Errno) {
        let exited: CInt
        do throws(Errno) {
            exited = try retryingInterrupts { clinux_pidfd_open(pid) }
        } catch .noSuchProcess {
            exited = try retryingInterrupts { eventfd(1, CInt(EFD_CLOEXEC)) }
        }
        self.init(pid: pid, exited: OwnedDescriptor(takingOwnershipOf: exited))
    }

    /// Waits for the end and reaps the process.
    ///
    /// Call it once.
    ///
    /// - Returns: the exit status, or 128 plus the number of the signal that killed it, as in a shell; nil for an adopted
    ///   process.
    package borrowing func wait() -> Int32? {
        var status: CInt = 0
        while waitpid(pid, &status, 0) == -1 {
            guard Errno.current == .interrupted else {
                var question = pollfd(fd: exited.rawValue, events: Int16(POLLIN), revents: 0)
                while poll(&question, 1, -1) != 1 {}
                return nil
            }
        }
        let signal = status & 0x7f
        return signal == 0 ? (status >> 8) & 0xff : 128 + signal
    }

    package var hasEnded: Bool {
        var questions = [pollfd(fd: exited.rawValue, events: Int16(POLLIN), revents: 0)]
        return poll(&questions, until: .now)
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

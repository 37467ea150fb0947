import CLinux
import Glibc
import Linux
import SystemPackage

/// A process that we have started and will wait for.
///
/// Nothing forks in Swift: it is spawned.
///
/// The corresponding C functions are `posix_spawn` and `waitpid`.
struct ChildProcess: ~Copyable {
    /// What becomes of a descriptor number in the child.
    enum Descriptor {
        /// The child's copy of one of ours.
        case inherited(CInt)
        case null
    }

    let pid: pid_t
    /// Readable once the process has ended.
    let exited: OwnedDescriptor

    /// For `spawn`: has the Swift runtime let a process that crashes die at once.
    ///
    /// Where it finds its backtracer, it would hold the process for seconds, and all who wait for an answer with it, and
    /// then print pieces of its memory.
    static let dyingAtOnce = ["SWIFT_BACKTRACE=enable=no"]

    /// Starts a program with the descriptors given, 0 for the first, and no others.
    ///
    /// Its signals are as at boot: none blocked, none ignored. It leads a process group of its own, so that a
    /// terminal's interrupt is ours alone to act on.
    ///
    /// - Parameters:
    ///   - isDetached: In a session of its own too, with `/` as its directory.
    ///   - environment: Added to ours, which counts where both say something.
    static func spawn(
        _ program: String, _ arguments: [String], descriptors: [Descriptor], isDetached: Bool = false,
        environment: [String] = []
    ) throws(Errno) -> ChildProcess {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // First all out of the way of the numbers they shall have, then each to its number.
        var sources: [OwnedDescriptorBox] = []
        for (number, descriptor) in descriptors.enumerated() {
            switch descriptor {
            case .null:
                posix_spawn_file_actions_addopen(&actions, CInt(number), "/dev/null", O_RDWR, 0)
            case .inherited(let ours):
                let copy = try retryingInterrupts { fcntl(ours, F_DUPFD_CLOEXEC, CInt(descriptors.count)) }
                sources.append(OwnedDescriptorBox(OwnedDescriptor(takingOwnershipOf: copy)))
                posix_spawn_file_actions_adddup2(&actions, copy, CInt(number))
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
        let inherited = Self.environmentNow()
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

    /// Waits for the end, and takes the process off the kernel's list.
    ///
    /// To be called once.
    ///
    /// - Returns: the exit status, or 128 and the number of the signal that killed it, as a shell says.
    borrowing func wait() -> Int32 {
        var status: CInt = 0
        while waitpid(pid, &status, 0) == -1, Errno.current == .interrupted {}
        let signal = status & 0x7f
        return signal == 0 ? (status >> 8) & 0xff : 128 + signal
    }

    func send(_ signal: CInt) {
        kill(pid, signal)
    }

    private static func environmentNow() -> [String] {
        var variables: [String] = []
        guard var next = clinux_environment() else { return [] }
        while let variable = next.pointee {
            variables.append(String(cString: variable))
            next += 1
        }
        return variables
    }
}

/// Lets an array hold descriptors.
private final class OwnedDescriptorBox {
    let descriptor: OwnedDescriptor
    init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
}

/// Calls `body` with a null-terminated array of C strings.
private func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    return pointers.withUnsafeMutableBufferPointer {
        // because it has the terminating element at least.
        body($0.baseAddress!)
    }
}

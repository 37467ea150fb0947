import Glibc
import Linux
import Liveness

/// The root processes of runtimes, each with a pidfd that reports its end.
///
///     tmux ── sh ── claude ── bash ── gt
///                   ╰── GT_ROLE=gastown/polecats/nux ──╯      claude is the root process
struct RootProcesses: Sendable {
    /// A process, distinct from a later one with the same number.
    struct Process: Hashable, Sendable {
        let pid: pid_t
        /// Start of its first thread, in clock ticks since boot.
        let startTime: UInt64
        let program: String

        var described: Touch.Process { Touch.Process(pid: pid, program: program) }
    }

    private struct Watched {
        let process: Process
        let descriptor: Descriptor
        var runtimes: Set<RuntimeID> = []
    }

    /// A process that has ended.
    ///
    /// Releasing it closes the descriptor.
    struct Ended {
        let process: Process
        /// Runtimes without another root process.
        let runtimes: [RuntimeID]
        fileprivate let descriptor: Descriptor
    }

    private var watched: [pid_t: Watched] = [:]
    private var roots: [RuntimeID: Set<pid_t>] = [:]

    var count: Int { watched.count }

    /// A root process of a runtime that has not ended.
    func root(of runtime: RuntimeID) -> pid_t? { roots[runtime]?.min() }

    /// The watched process with this number.
    func process(_ pid: pid_t) -> Process? { watched[pid]?.process }

    /// Adds a process with its pidfd.
    ///
    /// No process with this number may be watched.
    mutating func watch(_ process: Process, _ descriptor: Descriptor) {
        watched[process.pid] = Watched(process: process, descriptor: descriptor)
    }

    /// Makes a watched process a root of a runtime.
    mutating func add(_ runtime: RuntimeID, to pid: pid_t) {
        watched[pid]?.runtimes.insert(runtime)
        roots[runtime, default: []].insert(pid)
    }

    /// Removes a process that has ended.
    mutating func end(_ pid: pid_t) -> Ended? {
        guard let ended = watched.removeValue(forKey: pid) else { return nil }
        let runtimesWithoutRoot = ended.runtimes.filter { runtime in
            roots[runtime]?.remove(pid)
            guard roots[runtime]?.isEmpty == true else { return false }
            roots[runtime] = nil
            return true
        }
        return Ended(process: ended.process, runtimes: Array(runtimesWithoutRoot), descriptor: ended.descriptor)
    }
}

import Glibc
import Linux
import Liveness

/// The processes that runtimes are, each with a descriptor that tells of its end.
///
///     tmux ── sh ── claude ── bash ── gt
///                   ╰── GT_ROLE=gastown/polecats/nux ──╯      claude is the root process
struct RootProcesses: Sendable {
    /// A process, and nobody who gets its number later.
    struct Process: Hashable, Sendable {
        let pid: pid_t
        /// Of its first thread, in clock ticks since boot.
        let startTime: UInt64
        let program: String

        var described: Touch.Process { Touch.Process(pid: pid, program: program) }
    }

    private struct Watched {
        let process: Process
        let descriptor: Descriptor
        var runtimes: Set<RuntimeID> = []
    }

    /// One that has ended.
    ///
    /// Whoever gets it closes the descriptor by letting go.
    struct Ended {
        let process: Process
        /// Those that have no other root process.
        let runtimes: [RuntimeID]
        fileprivate let descriptor: Descriptor
    }

    private var watched: [pid_t: Watched] = [:]
    private var roots: [RuntimeID: Set<pid_t>] = [:]

    var count: Int { watched.count }

    /// A root process of a runtime, which has not been seen to end.
    func root(of runtime: RuntimeID) -> pid_t? { roots[runtime]?.min() }

    /// The process that is watched under a number.
    func process(_ pid: pid_t) -> Process? { watched[pid]?.process }

    /// Watches a process, by its pidfd.
    ///
    /// None may be watched under its number.
    mutating func watch(_ process: Process, _ descriptor: Descriptor) {
        watched[process.pid] = Watched(process: process, descriptor: descriptor)
    }

    /// Makes a watched process a root of a runtime.
    mutating func add(_ runtime: RuntimeID, to pid: pid_t) {
        watched[pid]?.runtimes.insert(runtime)
        roots[runtime, default: []].insert(pid)
    }

    /// Takes back a process that has ended.
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

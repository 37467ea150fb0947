import Glibc
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

    /// A process that has ended; releasing it closes the descriptor.
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

    /// Adds a process with its pidfd; no process with this number may be watched.
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

/// When `/proc` may be searched next.
///
/// A search waits 50 ms after its reason, so that a runtime's next process has time to appear. Searches that follow one
/// another become rarer, down to two a second, so that an exit is reported within a second; and they take at most a
/// twentieth of the time.
struct SearchPace {
    private static let shortest: Duration = .milliseconds(50)
    private static let longest: Duration = .milliseconds(500)
    private static let afterFailure: Duration = .seconds(1)

    private(set) var next = ContinuousClock.now
    private var pause = Self.shortest
    private var lastEnd: ContinuousClock.Instant?

    mutating func ended(from start: ContinuousClock.Instant, to end: ContinuousClock.Instant) {
        let isFrequent = lastEnd.map { start - $0 < Self.longest * 8 } ?? false
        pause = isFrequent ? min(pause * 2, Self.longest) : Self.shortest
        next = end + max(pause, (end - start) * 19)
        lastEnd = end
    }

    /// A root process has ended, and no search was due.
    mutating func requested(at now: ContinuousClock.Instant) {
        next = max(next, now + Self.shortest)
    }

    /// After a search that could not read `/proc`.
    mutating func failed(at now: ContinuousClock.Instant) {
        next = now + Self.afterFailure
    }
}

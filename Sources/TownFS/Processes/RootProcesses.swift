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

        /// How long it has run, or would have.
        var age: Duration { ClockTicks.age(since: startTime) }

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
        /// Those of them whose document named the process.
        let naming: Set<RuntimeID>
        fileprivate let descriptor: Descriptor
    }

    private var watched: [pid_t: Watched] = [:]
    private var roots: [RuntimeID: Set<pid_t>] = [:]
    /// Runtimes whose only root process is the one that their document names.
    private(set) var named: Set<RuntimeID> = []
    /// Processor time of the root process at the runtime's last beat or work, in clock ticks.
    private var processorTimes: [RuntimeID: (pid: pid_t, ticks: UInt64)] = [:]

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

    /// Makes a watched process the only root of a runtime, as its document says.
    ///
    /// - Returns: Processes that are no root of any runtime any more.
    mutating func name(_ runtime: RuntimeID, _ pid: pid_t) -> [pid_t] {
        let former = (roots[runtime] ?? []).subtracting([pid])
        roots[runtime] = [pid]
        watched[pid]?.runtimes.insert(runtime)
        named.insert(runtime)
        for other in former { watched[other]?.runtimes.remove(runtime) }
        return former.filter { watched[$0]?.runtimes.isEmpty == true }
    }

    /// Forgets a process that is no root of any runtime.
    mutating func remove(_ pid: pid_t) -> Descriptor? {
        guard watched[pid]?.runtimes.isEmpty == true else { return nil }
        return watched.removeValue(forKey: pid)?.descriptor
    }

    /// Other root processes of a runtime.
    func others(of runtime: RuntimeID, than pid: pid_t) -> [Process] {
        (roots[runtime] ?? []).filter { $0 != pid }.compactMap { watched[$0]?.process }
    }

    mutating func noteProcessorTime(_ ticks: UInt64, of pid: pid_t, for runtime: RuntimeID) {
        processorTimes[runtime] = (pid, ticks)
    }

    /// Processor time of a root process since the runtime's last beat or work; nil if that is not known.
    func processorTime(_ ticks: UInt64, of pid: pid_t, for runtime: RuntimeID) -> Duration? {
        guard let noted = processorTimes[runtime], noted.pid == pid, noted.ticks <= ticks else { return nil }
        return ClockTicks.duration(ticks - noted.ticks)
    }

    /// Removes a process that has ended.
    mutating func end(_ pid: pid_t) -> Ended? {
        guard let ended = watched.removeValue(forKey: pid) else { return nil }
        let runtimesWithoutRoot = ended.runtimes.filter { runtime in
            roots[runtime]?.remove(pid)
            guard roots[runtime]?.isEmpty == true else { return false }
            roots[runtime] = nil
            processorTimes[runtime] = nil
            return true
        }
        let naming = named.intersection(runtimesWithoutRoot)
        named.subtract(naming)
        return Ended(
            process: ended.process, runtimes: Array(runtimesWithoutRoot), naming: naming,
            descriptor: ended.descriptor)
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

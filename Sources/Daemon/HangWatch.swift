import CLinux
import Glibc
import Linux

/// Finds threads of a worker that should have finished a request long ago.
///
/// A thread that waits for a disk, a network or another file system is in a system call of that kind, and nothing is wrong
/// with the worker. One that computes all the time, or waits for a lock while no thread waits for anything else, will not
/// end.
struct HangWatch {
    /// How often to look.
    static let interval: Duration = .seconds(5)
    /// How long a request may take.
    ///
    /// Tests lower it (`PULSEFS_HANG_LIMIT`, in seconds).
    static let limit: Duration =
        getenv("PULSEFS_HANG_LIMIT").flatMap { Int(String(cString: $0)) }.map { .seconds($0) } ?? .seconds(30)
    /// Its threads print where they are when they get it, on standard error.
    static let backtraceSignal = SIGUSR1

    /// Has the threads of this process obey `backtraceSignal`.
    static func installBacktrace() {
        var frame: UnsafeMutableRawPointer?
        backtrace(&frame, 1)
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { clinux_print_backtrace($0) }
        action.sa_flags = SA_RESTART
        sigaction(backtraceSignal, &action, nil)
    }

    /// What a thread does.
    enum Activity {
        case running
        case waitingForLock
        /// In another system call, or unknown.
        case waiting
    }

    /// A request on a thread; the requests of two mounts may have one number.
    private struct Work: Hashable {
        let unique: UInt64
        let thread: pid_t
    }

    private var since: [Work: ContinuousClock.Instant] = [:]

    /// Looks at what the threads of a worker are executing.
    ///
    /// - Parameter activity: What a thread does.
    /// - Returns: The threads that hang.
    mutating func look(
        at executing: [(unique: UInt64, thread: pid_t)], now: ContinuousClock.Instant,
        activity: (pid_t) -> Activity
    ) -> [pid_t] {
        let known = since
        let work = executing.map { Work(unique: $0.unique, thread: $0.thread) }
        since = Dictionary(work.map { ($0, known[$0] ?? now) }) { first, _ in first }
        let late = work.filter { now - (since[$0] ?? now) >= Self.limit }
        guard !late.isEmpty else { return [] }
        let activities = late.map { (thread: $0.thread, activity: activity($0.thread)) }
        // What waits for a lock may wait for a thread that waits for a disk.
        let waitsForDisk = activities.contains { $0.activity == .waiting }
        return activities.compactMap { thread, activity in
            activity == .running || activity == .waitingForLock && !waitsForDisk ? thread : nil
        }
    }

    /// What a thread of another process does, from proc(5).
    static func activity(of thread: pid_t, in process: pid_t) -> Activity {
        let directory = "/proc/\(process)/task/\(thread)"
        guard let call = try? ProcFS.text("\(directory)/syscall").split(separator: " ").first else { return .waiting }
        if call.hasPrefix("running") { return .running }
        return Int(call) == Int(SYS_futex) ? .waitingForLock : .waiting
    }
}

import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

/// Reads processes from `/proc` without waiting for one that blocks the read.
///
/// Reading a command line or an environment takes the process's mmap lock. A thread in a page fault or in munmap(2) may
/// hold that lock for ever: its disk hangs, the server of another mount is stopped, or it waits for this mount. ps(1)
/// blocks then, too. A separate thread does the reading, and is abandoned if it blocks; that process is not read again
/// before the thread returns. The lock is known to be free if the process has one thread, which waits for a reply or
/// does not wait for a disk.
final class ProcessReader: Sendable {
    /// Reading takes about ten microseconds on an idle machine.
    private static let timeout: Duration = .milliseconds(500)
    /// For each process of a search.
    private static let searchTimeout: Duration = .milliseconds(200)
    /// With so many blocked threads, nothing is read.
    private static let maximumBlocked = 64

    private let blocked = Mutex<Set<pid_t>>([])
    private let threads = HelperThreads()
    fileprivate let rules: IdentityRules

    /// - Parameter rules: How processes name their runtime.
    init(rules: IdentityRules) {
        self.rules = rules
    }

    /// Nil if there is no such thread or it cannot be read in time.
    ///
    /// - Parameter isWaiting: Whether the thread waits for the reply to its request.
    func read(_ thread: pid_t, isWaiting: Bool) -> ProcessInfo.Snapshot? {
        guard let stat = ProcessFiles(number: thread).stat() else { return nil }
        if isWaiting, stat.threads == 1, !Self.mayShareMemory(stat) { return ProcessInfo.Snapshot(of: thread, rules) }
        return read([thread], timeout: Self.timeout).first
    }

    /// Whether a process may use its parent's memory, as between vfork(2) and execve(2): threads of the parent may hold
    /// its locks.
    private static func mayShareMemory(_ stat: ProcessStat) -> Bool {
        ProcessFiles(number: stat.parent).stat().map { stat.image.mayShareMemory(with: $0.image) } ?? false
    }

    /// The processes that can be read in time, in order.
    func read(_ processes: [pid_t]) -> [ProcessInfo.Snapshot] {
        read(processes, timeout: Self.searchTimeout)
    }

    private func read(_ processes: [pid_t], timeout: Duration) -> [ProcessInfo.Snapshot] {
        var readings: [ProcessInfo.Snapshot] = []
        var rest = processes[...]
        while !rest.isEmpty {
            let blocked = blocked.withLock { $0 }
            guard blocked.count < Self.maximumBlocked else { break }
            let reachable = rest.filter { !blocked.contains($0) }
            guard let batch = try? Batch(of: reachable, self) else { break }
            let (read, count) = batch.wait(timeout)
            readings += read
            rest = reachable[count...]
        }
        return readings
    }

    /// Processes that one thread reads in order.
    private final class Batch: Sendable {
        private struct State {
            var readings: [ProcessInfo.Snapshot] = []
            /// Number of processes read.
            var count = 0
            var isAbandoned = false
        }

        private let processes: [pid_t]
        private let reader: ProcessReader
        private let state = Mutex(State())
        private let done: EventFD

        init(of processes: [pid_t], _ reader: ProcessReader) throws(Errno) {
            self.processes = processes
            self.reader = reader
            done = try EventFD()
            try reader.threads.start({ self.run() }, completion: { self.done.signal() })
        }

        private func run() {
            for process in processes {
                let reading = ProcessInfo.Snapshot(of: process, reader.rules)
                let isAbandoned = state.withLock { state in
                    if let reading { state.readings.append(reading) }
                    state.count += 1
                    return state.isAbandoned
                }
                if isAbandoned {
                    reader.blocked.withLock { _ = $0.remove(process) }
                    return
                }
            }
        }

        /// - Parameter timeout: For each process.
        /// - Returns: The readings, and the number of processes tried. The last one has no reading if it blocked.
        func wait(_ timeout: Duration) -> (readings: [ProcessInfo.Snapshot], count: Int) {
            var before = 0
            while true {
                let isDone = done.wait(until: .now + timeout)
                let outcome: (readings: [ProcessInfo.Snapshot], count: Int)? = state.withLock { state in
                    if isDone || state.count == processes.count { return (state.readings, processes.count) }
                    guard state.count == before else {
                        before = state.count
                        return nil
                    }
                    state.isAbandoned = true
                    // Inserted under the lock, before the thread can remove it.
                    reader.blocked.withLock { _ = $0.insert(processes[state.count]) }
                    return (state.readings, state.count + 1)
                }
                if let outcome { return outcome }
            }
        }
    }
}

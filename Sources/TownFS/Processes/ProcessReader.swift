import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

/// Reads what `/proc` says of processes, and does not wait for those that hold it up.
///
/// To read a command line or an environment takes a lock of that process's memory. A thread of it that waits in a page
/// fault or in munmap(2), for a disk that hangs, for another mount whose server is stopped, or for us, may hold that for
/// ever: ps(1) hangs then, too. So reading is done by a thread that is left behind when it hangs, and nobody is sent after
/// it until it comes back. Only of a process whose one thread waits for our answer, or for no disk, it is known that nobody
/// holds the lock.
final class ProcessReader: Sendable {
    /// A healthy process is read in some ten microseconds, but the machine may be busy.
    private static let patience: Duration = .milliseconds(500)
    /// With one of many, whoever waits for all of them has less.
    private static let patienceInSearch: Duration = .milliseconds(200)
    /// When so many hang, nobody is read any more.
    private static let mostHanging = 64

    private let hanging = Mutex<Set<pid_t>>([])
    private let threads = HelperThreads()

    /// Nil when there is no such thread, when it cannot be seen, or not in time.
    ///
    /// - Parameter isAsking: Whether it waits for our answer.
    func read(_ thread: pid_t, isAsking: Bool) -> ProcessInfo.Snapshot? {
        guard let stat = ProcessFiles(number: thread).stat() else { return nil }
        if isAsking, stat.threads == 1, !Self.mayShareMemory(stat) { return ProcessInfo.Snapshot(of: thread) }
        return read([thread], patience: Self.patience).first
    }

    /// Whether a process may use its parent's memory, as between vfork(2) and execve(2): threads of the parent may hold its
    /// locks.
    private static func mayShareMemory(_ stat: ProcessStat) -> Bool {
        ProcessFiles(number: stat.parent).stat().map { stat.image.mayShareMemory(with: $0.image) } ?? false
    }

    /// Those of many that can be seen in time, in their order.
    func read(_ processes: [pid_t]) -> [ProcessInfo.Snapshot] {
        read(processes, patience: Self.patienceInSearch)
    }

    private func read(_ processes: [pid_t], patience: Duration) -> [ProcessInfo.Snapshot] {
        var readings: [ProcessInfo.Snapshot] = []
        var rest = processes[...]
        while !rest.isEmpty {
            let hanging = hanging.withLock { $0 }
            guard hanging.count < Self.mostHanging else { break }
            let reachable = rest.filter { !hanging.contains($0) }
            guard let batch = try? Batch(of: reachable, self) else { break }
            let (read, count) = batch.wait(patience)
            readings += read
            rest = reachable[count...]
        }
        return readings
    }

    /// Processes that one thread reads in turn.
    private final class Batch: Sendable {
        private struct State {
            var readings: [ProcessInfo.Snapshot] = []
            /// How many have been read.
            var count = 0
            var isLeftBehind = false
        }

        private let processes: [pid_t]
        private let reader: ProcessReader
        private let state = Mutex(State())
        private let done: EventFD

        init(of processes: [pid_t], _ reader: ProcessReader) throws(Errno) {
            self.processes = processes
            self.reader = reader
            done = try EventFD()
            try reader.threads.start({ self.run() }, completion: { self.done.raise() })
        }

        private func run() {
            for process in processes {
                let reading = ProcessInfo.Snapshot(of: process)
                let isLeftBehind = state.withLock { state in
                    if let reading { state.readings.append(reading) }
                    state.count += 1
                    return state.isLeftBehind
                }
                if isLeftBehind {
                    reader.hanging.withLock { _ = $0.remove(process) }
                    return
                }
            }
        }

        /// - Parameter patience: How long each may take.
        /// - Returns: What was read, and of how many processes; of the last of them nothing if it hangs.
        func wait(_ patience: Duration) -> (readings: [ProcessInfo.Snapshot], count: Int) {
            var before = 0
            while true {
                let isDone = done.wait(until: .now + patience)
                let outcome: (readings: [ProcessInfo.Snapshot], count: Int)? = state.withLock { state in
                    if isDone || state.count == processes.count { return (state.readings, processes.count) }
                    guard state.count == before else {
                        before = state.count
                        return nil
                    }
                    state.isLeftBehind = true
                    // Before its thread can see that, and take it out again.
                    reader.hanging.withLock { _ = $0.insert(processes[state.count]) }
                    return (state.readings, state.count + 1)
                }
                if let outcome { return outcome }
            }
        }
    }
}

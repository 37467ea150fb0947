import Glibc
import Liveness
import Synchronization
import SystemCalls

/// Reads what `/proc` says of processes, and does not wait for those that hold it up.
///
/// To read a command line or an environment takes a lock of that process's memory. A thread of it that waits in a page
/// fault, for a disk that hangs, for another mount whose server is stopped, or for us, may hold that for ever: ps(1) hangs
/// then, too. So each is read on a thread of its own, which is left to itself if it takes too long. Only of a process whose
/// one thread waits for our answer, or for no disk, it is known that nobody holds the lock.
final class ProcessReader: Sendable {
    private struct State {
        /// Threads that have not come back yet.
        var reading = 0
        /// Processes that did not let themselves be read, and when.
        var unreadable: [pid_t: (startTime: UInt64, at: ContinuousClock.Instant)] = [:]
    }

    /// A healthy process is read in some ten microseconds, but the machine may be busy.
    private static let patience: Duration = .milliseconds(100)
    /// Before a process is tried again that took longer.
    private static let pause: Duration = .seconds(1)
    private static let mostThreads = 16
    private static let mostUnreadable = 1024

    private let state = Mutex(State())

    /// Nil when there is no such thread, when it cannot be seen, or not in time.
    ///
    /// - Parameter isAsking: Whether it waits for our answer.
    func read(_ thread: pid_t, isAsking: Bool) -> Caller.Reading? {
        guard let stat = ProcessFiles(number: thread).stat() else { return nil }
        if stat.threads == 1, isAsking || !stat.isWaitingForDisk { return Caller.Reading(of: thread) }
        let now = ContinuousClock.now
        let mayTry = state.withLock { state in
            if let known = state.unreadable[thread] {
                guard known.startTime != stat.image.startTime || now - known.at > Self.pause else { return false }
                state.unreadable[thread] = nil
            }
            guard state.reading < Self.mostThreads else { return false }
            state.reading += 1
            return true
        }
        guard mayTry else { return nil }
        do {
            let outcome = try within(Self.patience) { [self] in
                defer { state.withLock { $0.reading -= 1 } }
                return Outcome(reading: Caller.Reading(of: thread))
            }
            if let outcome { return outcome.reading }
            state.withLock { state in
                if state.unreadable.count >= Self.mostUnreadable { state.unreadable = [:] }
                state.unreadable[thread] = (stat.image.startTime, now)
            }
        } catch {
            // No thread could be had.
            state.withLock { $0.reading -= 1 }
        }
        return nil
    }

    private struct Outcome: Sendable {
        let reading: Caller.Reading?
    }
}

import Linux
import Synchronization
import SystemPackage

/// Threads for calls that may hang, such as a look at a process or a directory that another mount holds up.
///
/// The caller waits for a limited time. A thread that hangs is left behind; one that does not is used again.
final class HelperThreads: Sendable {
    private static let mostIdle = 2

    private let idle = Mutex<[Helper]>([])

    deinit {
        for helper in idle.withLock({ $0 }) { helper.end() }
    }

    /// Runs a job on another thread, then `completion` on the same.
    func start(_ job: @escaping @Sendable () -> Void, completion: @escaping @Sendable () -> Void) throws(Errno) {
        let known = idle.withLock { $0.popLast() }
        let helper = if let known { known } else { try Helper() }
        helper.start { [weak self] in
            job()
            // Before the completion: a caller that waits for it finds the thread for its next job.
            let isKept = self?.keep(helper) ?? false
            completion()
            return isKept
        }
    }

    /// Runs a job on another thread, and waits for it.
    ///
    /// - Returns: Whether it has ended within the limit. If not, it still runs.
    func run(within limit: Duration, _ job: @escaping @Sendable () -> Void) -> Bool {
        do throws(Errno) {
            let done = try EventFD()
            try start(job) { done.signal() }
            return done.wait(until: .now + limit)
        } catch {
            return false
        }
    }

    private func keep(_ helper: Helper) -> Bool {
        idle.withLock { idle in
            guard idle.count < Self.mostIdle else { return false }
            idle.append(helper)
            return true
        }
    }

    private final class Helper: Sendable {
        /// Returns whether the thread is to wait for another job.
        typealias Job = @Sendable () -> Bool

        private let job = Mutex<Job?>(nil)
        private let event: EventFD

        init() throws(Errno) {
            event = try EventFD()
            _ = try Thread(named: "helper") { self.run() }
        }

        func start(_ next: @escaping Job) {
            job.withLock { $0 = next }
            event.signal()
        }

        func end() { event.signal() }

        private func run() {
            while true {
                event.wait()
                let next = job.withLock { job in
                    defer { job = nil }
                    return job
                }
                guard let next, next() else { return }
            }
        }
    }
}

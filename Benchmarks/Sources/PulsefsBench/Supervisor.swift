import ArgumentParser
import FoundationEssentials
import Glibc

/// Runs the work of a benchmark in child processes, each with a deadline.
///
/// The benchmark itself never touches a mount, because a mount may hang. SIGINT, SIGTERM and SIGHUP are blocked and only
/// consumed while waiting; they become a thrown `ExitCode`, so that every `defer` runs. Single-threaded.
final class Supervisor {
    private var awaited = sigset_t()
    private var stopRequest: ExitCode?
    /// How much longer than expected a child may take.
    let patience: Duration

    init(patience: Duration) {
        self.patience = patience
        sigemptyset(&awaited)
        for number in [SIGINT, SIGTERM, SIGHUP, SIGCHLD] { sigaddset(&awaited, number) }
        sigprocmask(SIG_BLOCK, &awaited, nil)
    }

    /// Runs a program to its end and returns what it printed; a status other than 0 is an error.
    ///
    /// With `uninterrupted` a stop request waits: for work that must not be left half done.
    @discardableResult
    func run(_ arguments: [String], uninterrupted: Bool = false) throws -> String {
        let child = try ChildProcess(arguments)
        return String(decoding: try output(of: child, uninterrupted: uninterrupted), as: UTF8.self)
    }

    /// Runs a job in a child process and returns its result.
    func run<Result: Decodable>(_ job: Job, taking time: Duration = .zero) throws -> Result {
        try result(of: start(job), taking: time)
    }

    /// Starts a job that runs beside others.
    func start(_ job: Job) throws -> ChildProcess {
        let json = String(decoding: try JSONEncoder().encode(job), as: UTF8.self)
        return try ChildProcess(["/proc/\(getpid())/exe", "child", json])
    }

    /// Waits for a started job.
    func result<Result: Decodable>(of child: ChildProcess, taking time: Duration) throws -> Result {
        try JSONDecoder().decode(Result.self, from: Data(try output(of: child, taking: time)))
    }

    /// Does nothing for a while.
    func idle(for time: Duration) throws {
        let end = ContinuousClock.now + time
        while awaitSignal(until: end) { try throwIfAskedToStop() }
    }

    private func output(
        of child: ChildProcess, taking time: Duration = .zero, uninterrupted: Bool = false
    ) throws -> [UInt8] {
        let deadline = ContinuousClock.now + time + patience
        while !child.hasEnded() {
            if !uninterrupted { try throwIfAskedToStop() }
            guard awaitSignal(until: deadline) else {
                throw BenchFailure("gave up after \(time + patience) on: \(child.name)")
            }
        }
        try child.checkStatus()
        return try child.printed()
    }

    private func throwIfAskedToStop() throws {
        if let stopRequest { throw stopRequest }
    }

    /// Waits for a signal and remembers a stop request; false when the time is up.
    private func awaitSignal(until deadline: ContinuousClock.Instant) -> Bool {
        let (seconds, attoseconds) = ContinuousClock.now.duration(to: deadline).components
        guard seconds >= 0, attoseconds >= 0 else { return false }
        var timeout = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
        let number = sigtimedwait(&awaited, nil, &timeout)
        if number > 0, number != SIGCHLD { stopRequest = ExitCode(128 + number) }
        return true
    }
}

/// Whether the PATH has a program of this name.
func isInstalled(_ program: String) -> Bool {
    let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
    return program.contains("/") || path.split(separator: ":").contains { access("\($0)/\(program)", X_OK) == 0 }
}

import ArgumentParser
import FoundationEssentials
import Glibc

/// Runs the steps of a benchmark as child processes, each with a deadline, and turns a request to stop into an error.
///
/// The benchmark itself never touches a mount: whatever may hang does so in a child. SIGINT, SIGTERM and SIGHUP are blocked
/// and looked for only while waiting, so they arrive as a thrown `ExitCode` and every `defer` on the way out gets its turn.
/// One thread only.
final class Supervisor {
    /// This program's own file, for children that play one of its roles.
    private let ownExecutable = "/proc/self/exe"
    private var awaited = sigset_t()
    private var requestToStop: ExitCode?

    /// How far a step may run past the time it is meant to take.
    let patience: Duration

    init(patience: Duration) {
        self.patience = patience
        sigemptyset(&awaited)
        for number in [SIGINT, SIGTERM, SIGHUP, SIGCHLD] { sigaddset(&awaited, number) }
        sigprocmask(SIG_BLOCK, &awaited, nil)
    }

    /// Runs one role of this program to its end and decodes what it printed.
    func play<Result: Decodable>(_ role: [String], taking time: Duration = .zero) throws -> Result {
        try result(of: try start(role), taking: time)
    }

    /// Starts a role that is to run beside another.
    func start(_ role: [String]) throws -> ChildProcess {
        try ChildProcess(spawning: ownExecutable, ["role"] + role)
    }

    /// Waits for a started role and decodes what it printed.
    func result<Result: Decodable>(of child: consuming ChildProcess, taking time: Duration = .zero) throws -> Result {
        try wait(for: &child, taking: time)
        guard child.exitCode == 0 else { throw BenchFailure("a step failed: \(child.name)") }
        return try JSONDecoder().decode(Result.self, from: Data(try child.printed()))
    }

    /// Runs another program to its end; gives its exit code and what it printed.
    ///
    /// With `uninterrupted` a request to stop waits for the next step: for what must not be left half done.
    func run(
        _ program: String,
        _ arguments: [String],
        environment: [String: String] = [:],
        uninterrupted: Bool = false
    ) throws -> (exitCode: Int32, printed: [UInt8]) {
        var child = try ChildProcess(spawning: program, arguments, environment: environment)
        try wait(for: &child, taking: .zero, uninterrupted: uninterrupted)
        return (child.exitCode ?? 0, try child.printed())
    }

    /// Does nothing for a while.
    func idle(for time: Duration) throws {
        let end = ContinuousClock.now + time
        while awaitSignal(until: end) { try throwIfAskedToStop() }
    }

    private func wait(for child: inout ChildProcess, taking time: Duration, uninterrupted: Bool = false) throws {
        let deadline = ContinuousClock.now + time + patience
        while !child.hasEnded() {
            if !uninterrupted { try throwIfAskedToStop() }
            if !awaitSignal(until: deadline) {
                throw BenchFailure("gave up after \(time + patience) on: \(child.name)")
            }
        }
    }

    private func throwIfAskedToStop() throws {
        if let requestToStop { throw requestToStop }
    }

    /// Waits for any of the awaited signals, noting a request to stop; false when the time is up.
    private func awaitSignal(until deadline: ContinuousClock.Instant) -> Bool {
        let left = ContinuousClock.now.duration(to: deadline)
        guard left > .zero else { return false }
        let (seconds, attoseconds) = left.components
        var timeout = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
        let number = sigtimedwait(&awaited, nil, &timeout)
        if number > 0, number != SIGCHLD { requestToStop = ExitCode(128 + number) }
        return true
    }
}

import Glibc
import SystemPackage

/// What a process still computes after a burst of touches: a worker that polls, or puts work off, is found out here.
enum TouchBurst {
    /// How long after the end of the burst the count begins.
    static let grace = Duration.milliseconds(1)

    /// Does the bursts and gives, for each, the CPU time in microseconds that `process` took in the window after it.
    ///
    /// This happens in the process of the caller, as only that knows the end of its burst to the microsecond.
    static func cpuAfterBursts(
        of touches: Int, on file: GoFile, process: pid_t, window: Duration, bursts: Int
    ) throws -> [Double] {
        try (0..<bursts).map { burst in
            for touch in 0..<touches {
                try file.write(CheckedDocument(number: burst * touches + touch, length: 16).bytes)
            }
            MonotonicTime.now.advanced(by: grace).sleep()
            let before = try cpuTime(of: process)
            MonotonicTime.now.advanced(by: window).sleep()
            return (try cpuTime(of: process) - before).microseconds
        }
    }

    /// The CPU time of all its threads so far, to the nanosecond.
    private static func cpuTime(of process: pid_t) throws(BenchFailure) -> Duration {
        var clock = clockid_t()
        let code = clock_getcpuclockid(process, &clock)
        var time = timespec()
        guard code == 0, clock_gettime(clock, &time) == 0 else {
            throw BenchFailure(
                "cannot read the CPU time of process \(process)", Errno(rawValue: code == 0 ? errno : code))
        }
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}

extension MonotonicTime {
    func advanced(by time: Duration) -> MonotonicTime {
        MonotonicTime(nanoseconds: nanoseconds + Int(time / .nanoseconds(1)))
    }
}

import CLinux
import FoundationEssentials
import Glibc
import SystemPackage

/// The cores on which a thread may run.
struct CoreAffinity {
    private var cores = cpu_set_t()

    init(only core: Int) {
        withUnsafeMutableBytes(of: &cores) { $0[core / 8] |= 1 << (core % 8) }
    }

    /// Those of a thread, or of this process's first one by 0.
    init(ofThread thread: pid_t) throws(Errno) {
        guard sched_getaffinity(thread, MemoryLayout<cpu_set_t>.size, &cores) == 0 else {
            throw Errno(rawValue: errno)
        }
    }

    /// The corresponding C function is `sched_setaffinity`.
    func apply(toThread thread: pid_t) throws(Errno) {
        var cores = cores
        guard sched_setaffinity(thread, MemoryLayout<cpu_set_t>.size, &cores) == 0 else {
            throw Errno(rawValue: errno)
        }
    }

    /// The last of the cores, which has the fewest interrupts as a rule.
    var last: Int? {
        withUnsafeBytes(of: cores) { bytes in
            (0..<bytes.count * 8).last { bytes[$0 / 8] & 1 << ($0 % 8) != 0 }
        }
    }
}

/// Keeps all threads of a process on one core while `body` runs, then puts them back to where they were.
///
/// A thread that has begun meanwhile goes where the first thread was. Only for processes that the benchmark has started.
func withProcess<Result>(_ process: pid_t, onCore core: Int, body: () throws -> Result) throws -> Result {
    let before = try threads(of: process).map { ($0, try CoreAffinity(ofThread: $0)) }
    defer {
        let known = Dictionary(before) { first, _ in first }
        for thread in (try? threads(of: process)) ?? [] {
            // A thread may have ended meanwhile.
            try? (known[thread] ?? before.first?.1)?.apply(toThread: thread)
        }
    }
    for (thread, _) in before { try CoreAffinity(only: core).apply(toThread: thread) }
    return try body()
}

private func threads(of process: pid_t) throws -> [pid_t] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task").compactMap { pid_t($0) }
}

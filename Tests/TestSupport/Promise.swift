import Glibc

/// A time limit that the documentation promises, measured from the moment this value is made.
///
/// The promise is for a machine that has a processor and a disk to spare. The kernel counts the time in which a task
/// waited for one of them (`some` in `/proc/pressure`, proc(5)) and the time that the hypervisor took away (`steal` in
/// `/proc/stat`). The limit grows by that time, up to `timeout` times the promise. On an idle machine the limit is the
/// promise itself.
///
/// `PULSEFS_TEST_PATIENCE=1` holds the program to the promise whatever the machine does.
package struct Promise: Sendable {
    package let limit: Duration
    private let start: ContinuousClock.Instant
    private let stalledBefore: Duration?

    package init(_ limit: Duration) {
        self.limit = limit
        stalledBefore = Self.stalled()
        start = .now
    }

    /// Whether no more time has passed than the promise and the machine allow.
    package var isKept: Bool { isKept(by: .now - start) }

    /// Whether something that took `duration`, since the promise was made, was in time.
    package func isKept(by duration: Duration) -> Bool {
        duration <= limit || duration <= allowed
    }

    /// The limit plus the time that the machine was busy since the promise was made.
    package var allowed: Duration {
        let longest = limit * Self.timeout
        guard let stalledBefore, let stalled = Self.stalled() else { return longest }
        return min(longest, limit + (stalled - stalledBefore))
    }

    private static let timeout = getenv("PULSEFS_TEST_PATIENCE").flatMap { Int(String(cString: $0)) } ?? 5

    /// The time since boot in which tasks waited for the machine; nil on a kernel that does not count it.
    private static func stalled() -> Duration? {
        guard let cpu = pressure("cpu"), let io = pressure("io") else { return nil }
        return cpu + io + steal
    }

    private static func pressure(_ resource: String) -> Duration? {
        // some avg10=0.00 avg60=0.00 avg300=0.00 total=9343121
        guard let line = firstLine(of: "/proc/pressure/\(resource)"), line.hasPrefix("some "),
            let total = line.split(separator: "=").last.flatMap({ Int($0) })
        else { return nil }
        return .microseconds(total)
    }

    private static var steal: Duration {
        // cpu user nice system idle iowait irq softirq steal …, in ticks.
        let fields = firstLine(of: "/proc/stat")?.split(separator: " ") ?? []
        guard fields.count > 8, let ticks = Int(fields[8]) else { return .zero }
        return .seconds(Double(ticks) / Double(sysconf(CInt(_SC_CLK_TCK))))
    }

    private static func firstLine(of path: String) -> Substring? {
        readText(path)?.split(separator: "\n").first
    }
}

/// The content of a small file; nil if it cannot be read.
func readText(_ path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var (bytes, block) = ([UInt8](), [UInt8](repeating: 0, count: 4096))
    while case let count = read(file, &block, block.count), count > 0 { bytes += block[..<count] }
    return String(decoding: bytes, as: UTF8.self)
}

import Glibc

/// The machine and the user of a run.
struct Machine: Codable {
    let kernel: String
    let architecture: String
    let cores: Int
    /// The "model name" of `/proc/cpuinfo`, if any.
    let processor: String?
    let user: String

    init() {
        var names = utsname()
        uname(&names)
        kernel = text(names.release)
        architecture = text(names.machine)
        cores = sysconf(Int32(_SC_NPROCESSORS_ONLN))
        let model = (try? readText("/proc/cpuinfo"))?.split(separator: "\n").first { $0.hasPrefix("model name") }
        processor = model?.split(separator: ":").last.map { String($0.drop { $0 == " " }) }
        user = getpwuid(geteuid()).map { String(cString: $0.pointee.pw_name) } ?? "\(geteuid())"
    }

    /// In one line, as a report begins.
    var line: String {
        "Linux \(kernel) \(architecture), \(cores) cores" + (processor.map { ", \($0)" } ?? "") + ", as \(user)"
    }
}

/// What else the machine did during a run.
struct Noise: Codable {
    /// Load average of the last minute, at the beginning of the run.
    let loadBefore: Double
    /// The same at the end; the run itself adds one to two.
    let loadAfter: Double
    /// Share of all CPU time that the hypervisor took away.
    let stolenShare: Double

    /// Reads the counters at the beginning of a run.
    struct Watch {
        private let load = loadAverage()
        private let ticks = cpuTicks()

        func finish() -> Noise {
            let now = cpuTicks()
            let total = now.total - ticks.total
            let stolen = total > 0 ? Double(now.stolen - ticks.stolen) / Double(total) : 0
            return Noise(loadBefore: load, loadAfter: loadAverage(), stolenShare: stolen)
        }
    }

    /// In one line, with the spread over the rounds of the run's figures.
    func line(spreads: [Double]) -> String {
        let spread = Percentiles(spreads).map { percentiles in
            "; half of the figures spread by less than \(percent(percentiles.median)) over the rounds, "
                + "the noisiest by \(percent(percentiles[1]))"
        }
        return "Noise: load average \(number(loadBefore)) before, \(number(loadAfter)) after; "
            + "\(percent(stolenShare, digits: 1)) of CPU time stolen by the hypervisor" + (spread ?? "")
    }
}

/// All cores' time since boot, in clock ticks, from the first line of `/proc/stat`: user, nice, system, idle, iowait, irq,
/// softirq, steal.
private func cpuTicks() -> (total: Int, stolen: Int) {
    let line = (try? readText("/proc/stat"))?.prefix { $0 != "\n" } ?? ""
    let fields = line.split(separator: " ").dropFirst().prefix(8).compactMap { Int($0) }
    return (fields.reduce(0, +), fields.count > 7 ? fields[7] : 0)
}

private func loadAverage() -> Double {
    var averages = [0.0]
    return getloadavg(&averages, 1) == 1 ? averages[0] : 0
}

/// A fixed array of C characters, which Swift imports as a tuple.
private func text<Characters>(_ characters: Characters) -> String {
    withUnsafeBytes(of: characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

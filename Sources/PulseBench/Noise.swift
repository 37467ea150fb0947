import Glibc

/// What else the machine did during a run, as far as it can be seen from inside.
struct Noise: Codable {
    /// The load average of the last minute when the run began, before it did anything.
    let loadBefore: Double
    /// The same at its end; the run itself counts for one to two.
    let loadAfter: Double
    /// The share of all CPU time that the hypervisor gave to others while something here was ready to run.
    let stolenShare: Double

    /// Takes down what it begins with.
    struct Watch {
        private let load = loadAverage()
        private let time = CPUTime()

        func finish() -> Noise {
            let now = CPUTime()
            let total = now.total - time.total
            let stolen = total > 0 ? Double(now.stolen - time.stolen) / Double(total) : 0
            return Noise(loadBefore: load, loadAfter: loadAverage(), stolenShare: stolen)
        }
    }

    /// In one line, with how far the rounds of each figure lay apart.
    func line(spreads: [Double]) -> String {
        let spread = Percentiles(spreads).map { percentiles in
            "; half of the figures spread by less than \(percent(percentiles.median, digits: 0)) over the rounds, "
                + "the noisiest by \(percent(percentiles[1], digits: 0))"
        }
        return "Noise: load average \(number(loadBefore)) before, \(number(loadAfter)) after; "
            + "\(percent(stolenShare, digits: 1)) of CPU time stolen by the hypervisor" + (spread ?? "")
    }
}

/// All cores' time since the start, in clock ticks: the first line of `/proc/stat`.
private struct CPUTime {
    let total: Int
    let stolen: Int

    init() {
        let text = String(decoding: (try? GoFile(path: "/proc/stat").read()) ?? [], as: UTF8.self)
        // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in user's already.
        let fields = text.prefix { $0 != "\n" }.split(separator: " ").dropFirst().prefix(8).compactMap { Int($0) }
        total = fields.reduce(0, +)
        stolen = fields.count > 7 ? fields[7] : 0
    }
}

private func loadAverage() -> Double {
    var averages = [0.0]
    return getloadavg(&averages, 1) == 1 ? averages[0] : 0
}

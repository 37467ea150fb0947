extension TableReport {
    /// The medians as bars; the thin line goes on to p99.
    var chart: BarChart {
        let kinds = touches.map { ("touch: \($0.kind.rawValue)", $0.times) }
        let others = [
            ("a record made", fill), ("a record made, old ones freed", sweep),
            ("touch while \(settings.expiring) expire", expiry.during),
        ]
        return BarChart(
            title: "The liveness table",
            notes: [machine.line, "\(settings.records) records; medians, thin lines: up to p99"],
            axis: "µs, logarithmic; shorter is better",
            origin: nil,
            series: ["p50"],
            groups: (kinds + others).map { name, times in
                BarChart.Group(label: name, bars: [.value(times.p50, times.p50...max(times.p50, times.p99))])
            })
    }
}

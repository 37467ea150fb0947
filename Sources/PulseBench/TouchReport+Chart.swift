extension TouchReport {
    /// The medians of each operation as bars; the thin line is what the rounds ranged over.
    var chart: BarChart {
        var groups = rows(of: targets, suffix: "")
        if let oneCore { groups += rows(of: oneCore.targets, suffix: ", one core") }
        if let clients, clients.count == targets.count {
            let count = settings.clients ?? 0
            groups += [("write", \Client.write.p50), ("read", \Client.read.p50)].map { name, figure in
                BarChart.Group(
                    label: "\(name), \(count) clients",
                    bars: clients.map { bar(of: $0.clients.map { $0[keyPath: figure] }) })
            }
        }
        return BarChart(
            title: "A touch and a read of a signal file",
            notes: [
                machine.line,
                "\(settings.rounds) rounds of \(settings.samples); medians, thin lines: lowest and highest round or client",
            ],
            axis: "µs, logarithmic; shorter is better",
            origin: nil,
            series: targets.map { "\($0.target.rawValue) (\($0.fileSystem))" },
            groups: groups)
    }

    private func rows(of targets: [some TouchLatencies], suffix: String) -> [BarChart.Group] {
        [
            BarChart.Group(label: "write" + suffix, bars: targets.map { bar(of: $0.write.roundP50) }),
            BarChart.Group(label: "read" + suffix, bars: targets.map { bar(of: $0.read.roundP50) }),
            BarChart.Group(label: "open" + suffix, bars: targets.map { bar(of: $0.open.roundP50) }),
        ]
    }

    private func bar(of sample: [Double]) -> BarChart.Bar {
        guard let median = Percentiles(sample)?.median, let low = sample.min(), let high = sample.max() else {
            return .missing("not measured")
        }
        return .value(median, low...high)
    }
}

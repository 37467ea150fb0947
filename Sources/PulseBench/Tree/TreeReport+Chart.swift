extension TreeReport {
    /// The ratios to the plain directory as bars; the thin line is what the rounds ranged over.
    var chart: BarChart {
        let shown = targets.filter { $0.kind != .plain }
        return BarChart(
            title: "An agent's work in a tree: time as a multiple of the plain directory's",
            notes: [
                machine.line,
                "\(tree.files) files, \(tree.commits) commits, on \(settings.fileSystem); medians of \(settings.rounds) rounds, thin lines: lowest and highest round",
            ],
            axis: "× plain directory, logarithmic; shorter is better",
            origin: 1,
            series: shown.map { [$0.name, $0.version].compactMap(\.self).joined(separator: " ") },
            groups: steps.map { step in
                let plain = step.results.first { $0.target == targets[0].name }?.median
                return BarChart.Group(label: step.name, bars: shown.map { bar(of: $0, in: step, plain: plain) })
            })
    }

    private func bar(of place: Place, in step: Step, plain: Double?) -> BarChart.Bar {
        guard let result = step.results.first(where: { $0.target == place.name }), let ratio = result.toPlain,
            let plain, let low = result.rounds.min(), let high = result.rounds.max()
        else { return .missing("failed") }
        return .value(ratio, low / plain...high / plain)
    }
}

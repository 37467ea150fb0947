/// Makes the report of `pulsefs-bench touch`; times are µs, medians over the rounds.
struct TouchReport {
    let settings: TouchCommand
    let places: [TouchPlace]
    let version: String?
    let results: [TouchBenchmark.Results]
    /// The one core of the second measurement, if there was one.
    let core: String?
    let bursts: [Double]
    let servers: [TouchBenchmark.ServerCost]

    func report(noise: Noise) throws -> Report {
        let torn = zip(places, results).map { place, results in
            let torn = results.torn
            return "\(place.target.name) \(torn.empty) empty, \(torn.unparsable) unparsable, \(torn.mixed) mixed "
                + "beside \(torn.writes) writes"
        }
        var sections = [
            Report.Section(
                text: "µs, medians over the rounds; ± is the spread of the round medians",
                table: try latencies(\.times, suffix: "", extraColumns: ["torn reads", "file system"]) { index in
                    let torn = results[index].torn
                    return [
                        Report.Cell(text: "\(percent(torn.share, digits: 2)) of \(torn.reads)", value: torn.share),
                        .text(places[index].fileSystem),
                    ]
                }),
            Report.Section(text: "Torn: " + torn.joined(separator: "; ")),
        ]
        if let core {
            sections.append(
                .init(
                    text: "Client and worker both on core \(core):",
                    table: try latencies(\.oneCore, suffix: ", one core")))
        }
        if settings.clients > 0 { sections.append(try clientsSection()) }
        if let burst = Percentiles(bursts) {
            sections.append(
                .init(
                    text: "CPU time of the worker from 1 ms after a burst of \(TouchBenchmark.touchesInBurst) touches, "
                        + "in \(number(TouchBenchmark.burstWindow * 1_000)) ms: median \(number(burst.median)) µs, "
                        + "at worst \(number(burst[1])) µs, of \(bursts.count) bursts"))
        }
        if !servers.isEmpty { sections.append(serversSection) }
        return Report(
            title: "A touch and a read of a signal file", machine: Machine(), noise: noise,
            introduction: [
                "pulsefs \(version ?? "(version unknown)"); \(settings.rounds) rounds, order of targets rotated; each "
                    + "\(settings.samples) writes, reads, and opens of an ordinary file, then "
                    + "\(number(settings.tornSeconds)) s of one writer and one reader"
                    + (settings.polling ? "; each open file polled, as Go does" : "")
            ], sections: sections, axis: "µs, logarithmic; shorter is better")
    }

    /// A row for each target, then the first target's times as multiples of the others'.
    private func latencies(
        _ times: KeyPath<TouchBenchmark.Results, [TouchTimes]>, suffix: String, extraColumns: [String] = [],
        extraCells: (Int) -> [Report.Cell] = { _ in [] }
    ) throws -> Report.Table {
        let statistics = try results.map { results in
            try [\TouchTimes.writes, \.reads, \.opens].map { operation in
                try RoundStatistics(results[keyPath: times].map { $0[keyPath: operation] })
            }
        }
        let rows = places.indices.map { index in
            Report.Row(
                places[index].target.name,
                statistics[index].flatMap {
                    [.number($0[0.5], samples: $0.perRound(0.5)), .number($0[0.99]), .percent($0.spread)]
                } + extraCells(index))
        }
        let ratios = places.indices.dropFirst().map { index in
            Report.Row(
                "\(places[0].target.name) ÷ \(places[index].target.name)",
                zip(statistics[0], statistics[index]).flatMap { first, other -> [Report.Cell] in
                    let ratio = medianRatio(of: first.perRound(0.5), to: other.perRound(0.5))
                    return [.number(ratio), .text(""), .text("")]
                } + extraColumns.map { _ in .text("") })
        }
        return Report.Table(
            columns: ["write", "read", "open"].flatMap { ["\($0) p50", "p99", "±"] } + extraColumns,
            rows: rows + ratios, chartColumns: [0, 3, 6], chartsByColumn: true, chartSuffix: suffix)
    }

    /// Of each client the median over the rounds; the table shows the lowest and the highest client.
    private func clientsSection() throws -> Report.Section {
        func range(_ figures: [Double]) -> Report.Cell {
            let text = "\(number(figures.min() ?? 0))–\(number(figures.max() ?? 0))"
            return Report.Cell(text: text, value: Percentiles(figures)?.median, samples: figures)
        }
        let rows = try zip(places, results).map { place, results in
            Report.Row(
                place.target.name,
                try [\TouchTimes.writes, \.reads].flatMap { operation in
                    let clients = try (0..<settings.clients).map { client in
                        try RoundStatistics(results.clients.map { $0[client][keyPath: operation] })
                    }
                    let worst = clients.map { $0[0.99] / $0[0.5] }.max()
                    return [range(clients.map { $0[0.5] }), range(clients.map { $0[0.99] }), .number(worst)]
                })
        }
        return Report.Section(
            text: "\(settings.clients) clients at once, each writing and reading a file of its own; "
                + "lowest and highest of all clients:",
            table: .init(
                columns: ["write", "read"].flatMap { ["\($0) p50", "p99", "worst p99 ÷ p50"] }, rows: rows,
                chartColumns: [0, 3], chartsByColumn: true, chartSuffix: ", \(settings.clients) clients"))
    }

    private var serversSection: Report.Section {
        Report.Section(
            text: "Memory after a walk over \(settings.files) files, and CPU time in \(number(settings.idleSeconds)) s "
                + "without requests:",
            table: .init(
                columns: ["RSS KiB", "PSS KiB", "CPU ms"],
                rows: servers.map {
                    .init($0.name, [.count($0.rss), .count($0.pss), .number($0.idleTime / .milliseconds(1))])
                }))
    }
}

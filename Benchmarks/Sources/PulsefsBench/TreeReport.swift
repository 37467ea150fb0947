/// Makes the report of `pulsefs-bench tree`.
struct TreeReport {
    /// The first one is the plain directory.
    let targets: [Target]
    let records: [TreeBenchmark.Record]

    func report(noise: Noise, introduction: [String]) -> Report {
        Report(
            title: "An agent's work in a tree: time as a multiple of the plain directory's", machine: Machine(),
            noise: noise, introduction: introduction,
            sections: [.init(table: times)]
                + (targets.count > 1
                    ? [.init(text: "As a multiple of the plain directory's time:", table: ratios)] : []),
            axis: "× plain directory, logarithmic; shorter is better", origin: 1,
            failures: records.flatMap { $0.failureLines(targets) })
    }

    private var times: Report.Table {
        Report.Table(
            columns: targets.map { "\($0.name) ms" } + ["±"],
            rows: records.map { record in
                let cells = targets.indices.map { target -> Report.Cell in
                    guard let median = record.median(target) else { return .text("failed") }
                    return .number(median * 1_000, samples: record.rounds[target].map { $0 * 1_000 })
                }
                let spreads = cells.compactMap(\.samples).compactMap { Percentiles($0)?.spread }
                return .init(record.step.name, cells + [.percent(spreads.max())])
            })
    }

    /// All targets by the plain directory's median, the first town also by the faster peer's; variants by the first town, as
    /// the median of the ratios within each round.
    private var ratios: Report.Table {
        let others = Array(targets.indices.dropFirst())
        let towns = targets.indices.filter { targets[$0].kind == .pulsefs }
        let peers = targets.indices.filter { targets[$0].kind.isPeer }
        let compared = peers.isEmpty ? [] : towns.prefix(1)
        let variants = towns.dropFirst()
        return Report.Table(
            columns: others.map { targets[$0].name } + compared.map { "\(targets[$0].name) ÷ best peer" }
                + variants.map { "\(targets[$0].name) ÷ \(targets[towns[0]].name)" },
            rows: records.map { record in
                func multiple(_ target: Int, of divisor: Double?) -> Report.Cell {
                    guard let median = record.median(target) else { return .text("failed") }
                    guard let divisor else { return .text("") }
                    return .number(median / divisor, samples: record.rounds[target].map { $0 / divisor })
                }
                return .init(
                    record.step.name,
                    others.map { multiple($0, of: record.median(0)) }
                        + compared.map { multiple($0, of: peers.compactMap(record.median).min()) }
                        + variants.map { variant in
                            record.failures[variant] != nil
                                ? .text("failed")
                                : .number(medianRatio(of: record.rounds[variant], to: record.rounds[towns[0]]))
                        })
            }, chartColumns: Array(others.indices))
    }
}

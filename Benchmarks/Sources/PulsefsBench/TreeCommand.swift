import ArgumentParser

/// `pulsefs-bench tree`: the cost of an agent's work in a mounted tree.
struct TreeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tree",
        abstract: "Times git, grep, find, tar, cp, SQLite and others in a mounted tree.",
        discussion: """
            Does the same steps in a plain directory, in a town, and through bindfs and mergerfs where they are installed, \
            one after another within each round. The result of each step is checked. A step that fails has no figure, and \
            the exit code is 1.
            """
    )

    @OptionGroup var tree: TreeOptions
    @Option(
        help: ArgumentHelp(
            "Measure only these of pulsefs, bindfs and mergerfs (repeatable); the plain directory and variants always are.",
            valueName: "name"))
    var target: [String] = []
    @Option(help: "Rounds; a figure is the median over them.")
    var rounds = 5
    @OptionGroup var output: ReportOutput

    func validate() throws {
        guard rounds > 0 else { throw ValidationError("--rounds must be above 0.") }
        for name in target where !["pulsefs", "bindfs", "mergerfs"].contains(name) {
            throw ValidationError("There is no target '\(name)'.")
        }
    }

    func run() throws {
        warnIfDebugBuild()
        let supervisor = tree.towns.supervisor
        let report = try withScratchDirectory(in: tree.directory) { scratch in
            let watch = Noise.Watch()
            let peers = Target.peers.filter { isWanted($0.name) }
            let obstacles = try peers.map { try $0.obstacle(in: scratch, supervisor: supervisor) }
            let towns = try tree.towns.targets.filter { $0.name != "pulsefs" || isWanted($0.name) }
            let benchmark = TreeBenchmark(
                supervisor: supervisor, options: tree,
                targets: [.plain] + towns + zip(peers, obstacles).filter { $1 == nil }.map(\.0),
                steps: tree.selected(TreeStep.all), rounds: rounds,
                inputs: try TreeInputs(in: scratch, options: tree, supervisor: supervisor))
            let records = try benchmark.measure(in: scratch)
            let introduction = [
                "\(benchmark.inputs.description); targets on \(try Mount.type(at: scratch))",
                "\(rounds) rounds, order of targets rotated, new directories and mounts in each; "
                    + "medians over the rounds; ± is the widest spread of the round medians in a row", "",
            ]
            let programs = try benchmark.targets.compactMap { try $0.description(by: supervisor) }
            let absent = zip(peers, obstacles).compactMap { peer, obstacle in
                obstacle.map { "- \(peer.name) is not measured: \($0)" }
            }
            return TreeReport(targets: benchmark.targets, records: records)
                .report(noise: watch.finish(), introduction: introduction + programs + absent)
        }
        try output.write(report)
    }

    private func isWanted(_ name: String) -> Bool { target.isEmpty || target.contains(name) }
}

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

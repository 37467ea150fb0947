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

    @OptionGroup var towns: TownOptions
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
        let supervisor = Supervisor(patience: .seconds(tree.patienceSeconds))
        let report = try withScratchDirectory(in: tree.directory) { scratch in
            let watch = Noise.Watch()
            let peers = Target.peers.filter { isWanted($0.name) }
            let obstacles = try peers.map { try $0.obstacle(in: scratch, supervisor: supervisor) }
            let towns = try towns.targets.filter { $0.name != "pulsefs" || isWanted($0.name) }
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

import ArgumentParser

/// `pulsefs-bench requests`: the number of FUSE requests that each step causes.
struct RequestsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "requests",
        abstract: "Counts the FUSE requests of each step, by the kernel's tracepoint.",
        discussion: """
            Does the steps of 'tree', \(TreeStep.signalOperations) touches and as many reads of a signal file, once in a \
            fresh mount of each town and variant, and counts the requests that the kernel sends. RELEASE, RELEASEDIR and \
            FORGET are left out: no process waits for them. Only root may do this, on Linux 6.11 or later.
            """
    )

    @OptionGroup var towns: TownOptions
    @OptionGroup var tree: TreeOptions
    @OptionGroup var output: ReportOutput

    func run() throws {
        let supervisor = Supervisor(patience: .seconds(tree.patienceSeconds))
        let report = try withScratchDirectory(in: tree.directory) { scratch in
            try withTraceInstance(in: scratch, supervisor: supervisor) { instance in
                let watch = Noise.Watch()
                let benchmark = TreeBenchmark(
                    supervisor: supervisor, options: tree, targets: try towns.targets,
                    steps: tree.selected(TreeStep.all + TreeStep.signals), rounds: 1,
                    inputs: try TreeInputs(in: scratch, options: tree, supervisor: supervisor),
                    traceInstance: instance)
                let records = try benchmark.measure(in: scratch)
                let introduction =
                    ["\(benchmark.inputs.description); requests that a process waits for", ""]
                    + (try benchmark.targets.compactMap { try $0.description(by: supervisor) })
                return Self.report(benchmark.targets, records, noise: watch.finish(), introduction: introduction)
            }
        }
        try output.write(report)
    }

    /// The number of requests on all targets, then the first target's by opcode.
    static func report(
        _ targets: [Target], _ records: [TreeBenchmark.Record], noise: Noise, introduction: [String]
    ) -> Report {
        func awaited(_ record: TreeBenchmark.Record, _ target: Int) -> [String: Int] {
            record.requests[target].filter { !RequestCounter.background.contains($0.key) }
        }
        let rows = records.map { record in
            Report.Row(
                record.step.name,
                targets.indices.map { target in
                    record.failures[target] != nil
                        ? .text("failed") : .count(awaited(record, target).values.reduce(0, +))
                })
        }
        let opcodes = records.map { record in
            let counts = awaited(record, 0).sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            return "- \(record.step.name): " + counts.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        }
        return Report(
            title: "FUSE requests of each step", machine: Machine(), noise: noise, introduction: introduction,
            sections: [
                .init(
                    table: .init(
                        columns: targets.map(\.name), rows: rows, chartColumns: Array(targets.indices))),
                .init(text: "\(targets[0].name), by opcode:"), .init(text: opcodes.joined(separator: "\n")),
            ], axis: "requests, logarithmic; shorter is better",
            failures: records.flatMap { $0.failureLines(targets) })
    }
}

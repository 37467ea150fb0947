import ArgumentParser

/// `pulsefs-bench table`: what the liveness table costs by itself, at any size.
struct TableCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "table",
        abstract: "Times the liveness table in this process: touches, questions, expiry; and its memory.",
        discussion: """
            No file system takes part: this is what a touch costs when its request has been read, written and judged. \
            Touches are made as the worker makes them, through the store's lock, with real clocks.
            """
    )

    @Option(help: "Records in the table: runtimes, and a fifth of them heartbeat files.")
    var records = 1_000_000
    @Option(help: "Rounds; a figure is the median over them.")
    var rounds = 5
    @Option(help: "Touches a round and kind.")
    var touches = 100_000
    @Option(help: "Ids that are asked at once.")
    var batch = 10_000
    @OptionGroup var output: ReportOutput

    func validate() throws {
        guard records >= 10, rounds > 0, touches > 0, batch > 0 else {
            throw ValidationError("--records must be at least 10; --rounds, --touches and --batch, at least 1.")
        }
    }

    func run() throws {
        #if DEBUG
            warn("built for debugging: all figures come out too high; use a release build")
        #endif
        let benchmark = TableBenchmark(
            settings: TableReport.Settings(
                records: records, rounds: rounds, touches: touches, batch: batch, batches: 20,
                expiring: min(100_000, records)))
        try output.write(try benchmark.report())
    }
}

import ArgumentParser

/// `pulsefs-bench table`: the cost of the liveness table by itself.
struct TableCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "table",
        abstract: "Times the liveness table in this process: touches, questions, expiry; and its memory.",
        discussion: """
            No file system is involved: this is the cost of a touch after its request has been read, written and judged. \
            Touches are made as the worker makes them, through the store's lock, with real clocks.
            """
    )

    @Option(help: "Records in the table: runtimes, and a fifth of them heartbeat files.")
    var records = 1_000_000
    @Option(help: "Rounds; a figure is the median over them.")
    var rounds = 5
    @Option(help: "Touches for each round and kind.")
    var touches = 100_000
    @Option(help: "Ids that are asked at once.")
    var batch = 10_000
    @OptionGroup var output: ReportOutput

    /// Runtimes that expire at one instant.
    var expiring: Int { min(100_000, records) }

    func validate() throws {
        guard records >= 10, rounds > 0, touches > 0, batch > 0 else {
            throw ValidationError("--records must be at least 10; --rounds, --touches and --batch, at least 1.")
        }
    }

    func run() throws {
        warnIfDebugBuild()
        try output.write(try TableBenchmark(settings: self).report())
    }
}

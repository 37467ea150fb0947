/// Makes the report of `pulsefs-bench table`; times are µs, medians over the rounds.
struct TableReport {
    let settings: TableCommand
    /// Bytes for each record, by kind of population.
    let memory: [(name: String, records: Int, allocated: Double, resident: Double)]
    /// The CPU time of one in a series and the time of each, by round.
    let touches: [(name: String, means: [Double], times: [[Double]])]
    let interference: [TableBenchmark.Interference]
    /// The CPU time of each look for expired runtimes, by round.
    let looks: [[Double]]

    func report(noise: Noise) throws -> Report {
        let looks = try RoundStatistics(looks)
        let touchRows = try touches.map { name, means, times in
            let statistics = try RoundStatistics(times)
            let mean = Report.Cell.number(Percentiles(means)?.median)
            return Report.Row(
                name, [mean] + cells(statistics, [0.5, 0.99, 0.999, 1]) + [.percent(statistics.spread)])
        }
        let interferenceRows = try interference.map { work in
            let (during, quiet) = (try RoundStatistics(work.during), try RoundStatistics(work.quiet))
            let took = Report.Cell.number(Percentiles(work.tookMilliseconds)?.median)
            return Report.Row(work.name, [took] + cells(during, [0.5, 0.999, 1]) + cells(quiet, [0.5, 0.999, 1]))
        }
        return Report(
            title: "The liveness table", machine: Machine(), noise: noise,
            introduction: [
                "\(settings.records) records, a fifth of them heartbeat files; \(settings.rounds) rounds of "
                    + "\(settings.touches) touches of each kind, in random order"
            ],
            sections: [
                .init(
                    text:
                        "µs, medians over the rounds; ± is the spread of the round medians. The mean and the ids asked "
                        + "at once are CPU time; the others include one more reading of a clock",
                    table: .init(
                        columns: ["mean", "p50", "p99", "p99.9", "worst", "±"], rows: touchRows, chartColumns: [1])),
                .init(
                    text: "Touches by id during other work, and just before:",
                    table: .init(
                        columns: ["took ms", "p50", "p99.9", "worst", "before: p50", "p99.9", "worst"],
                        rows: interferenceRows)),
                .init(
                    text: "While they expire, a look at 64 takes \(number(looks[0.5])) µs of CPU time (p99 "
                        + "\(number(looks[0.99])), worst \(number(looks[1])))."),
                .init(
                    text: "Bytes for each record, without its document:",
                    table: .init(
                        columns: ["records", "allocated", "resident"],
                        rows: memory.map {
                            .init($0.name, [.count($0.records), .number($0.allocated), .number($0.resident)])
                        })),
            ], axis: "µs, logarithmic; shorter is better")
    }

    private func cells(_ statistics: RoundStatistics, _ shares: [Double]) -> [Report.Cell] {
        shares.map { .number(statistics[$0], samples: $0 == 0.5 ? statistics.perRound(0.5) : nil) }
    }
}

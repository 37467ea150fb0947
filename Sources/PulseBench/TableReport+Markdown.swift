extension TableReport {
    /// The report for people: Markdown that also reads well as it is.
    var markdown: String {
        var lines = [
            "The liveness table, in this process, on Linux \(machine.kernel) \(machine.architecture), "
                + "\(machine.cores) cores" + (machine.processor.map { ", \($0)" } ?? ""),
            "\(settings.records) records, a fifth of them heartbeat files; \(settings.rounds) rounds of \(settings.touches) touches of each kind, in random order",
            "µs, medians over the rounds; ± is the spread of the round medians. The mean, and ids asked at once, are processor time; all else has one more reading of a clock in it, and whatever else the machine did",
            noise.line(spreads: touches.map(\.times.spread) + [batches.spread]),
            "",
        ]
        lines += markdownTable(
            ["", "mean", "p50", "p99", "p99.9", "worst", "±"],
            touches.map { ["touch: \($0.kind.rawValue)", number($0.mean)] + cells($0.times) } + [
                ["a record made", ""] + cells(fill),
                ["a record made, and old ones freed", ""] + cells(sweep),
                ["\(settings.batch) ids asked at once", ""] + cells(batches),
            ])
        lines += ["", "Touches by id while something else goes on, and just before:", ""]
        lines += markdownTable(
            ["", "took ms", "p50", "p99.9", "worst", "before: p50", "p99.9", "worst"],
            [row("\(settings.expiring) expire at one instant", expiry)] + questions.map { row($0.question, $0.times) })
        lines += [
            "",
            "While they expire, 64 are looked at in \(number(slices.p50)) µs (p99 \(number(slices.p99)), worst \(number(slices.worst))), in processor time; the lock is let go after every 16.",
            "", "Bytes a record besides its document:", "",
        ]
        lines += markdownTable(
            ["runtimes", "records", "allocated", "resident"],
            memory.map { [$0.population, "\($0.records)", number($0.allocated), number($0.resident)] })
        return lines.joined(separator: "\n")
    }

    private func cells(_ times: Times) -> [String] {
        [
            number(times.p50), number(times.p99), number(times.p999), number(times.worst),
            percent(times.spread, digits: 0),
        ]
    }

    private func row(_ name: String, _ times: Meanwhile) -> [String] {
        [name, number(times.tookMilliseconds)]
            + [times.during, times.quiet].flatMap { [number($0.p50), number($0.p999), number($0.worst)] }
    }
}

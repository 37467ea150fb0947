extension TableReport {
    /// The report for people: Markdown that also reads well as it is.
    var markdown: String {
        var lines = [
            "The liveness table, in this process, on Linux \(machine.kernel) \(machine.architecture), "
                + "\(machine.cores) cores" + (machine.processor.map { ", \($0)" } ?? ""),
            "\(settings.records) records, a fifth of them heartbeat files; \(settings.rounds) rounds of \(settings.touches) touches of each kind, in random order",
            "µs, medians over the rounds; ± is the spread of the round medians. The mean, and ids asked at once, are processor time; all else has one more reading of a clock in it, and whatever else the machine did",
            "",
        ]
        lines += table(
            ["", "mean", "p50", "p99", "p99.9", "worst", "±"],
            touches.map { ["touch: \($0.kind.rawValue)", number($0.mean)] + cells($0.times) } + [
                ["a record made", ""] + cells(fill),
                ["a record made, and old ones freed", ""] + cells(sweep),
                ["\(settings.batch) ids asked at once", ""] + cells(batches),
            ])
        lines += ["", "Touches by id while something else goes on, and just before:", ""]
        lines += table(
            ["", "took ms", "p50", "p99.9", "worst", "before: p50", "p99.9", "worst"],
            [row("\(settings.expiring) expire at one instant", expiry)] + questions.map { row($0.question, $0.times) })
        lines += ["", "Bytes a record besides its document:", ""]
        lines += table(
            ["runtimes", "records", "allocated", "resident"],
            memory.map { [$0.population, "\($0.records)", number($0.allocated), number($0.resident)] })
        return lines.joined(separator: "\n")
    }

    private func cells(_ times: Times) -> [String] {
        [number(times.p50), number(times.p99), number(times.p999), number(times.worst), percent(times.spread)]
    }

    private func row(_ name: String, _ times: Meanwhile) -> [String] {
        [name, number(times.tookMilliseconds)]
            + [times.during, times.quiet].flatMap { [number($0.p50), number($0.p999), number($0.worst)] }
    }
}

/// Three significant digits or, from 100 up, all those before the point.
private func number(_ value: Double) -> String {
    let digits = value >= 100 ? 0 : value >= 10 ? 1 : 2
    let scale = [1.0, 10, 100][digits]
    let scaled = Int((value * scale).rounded())
    guard digits > 0 else { return "\(scaled)" }
    let fraction = String(scaled % Int(scale))
    return "\(scaled / Int(scale))." + String(repeating: "0", count: digits - fraction.count) + fraction
}

private func percent(_ share: Double) -> String { "\(Int((share * 100).rounded())) %" }

/// A Markdown table with its columns padded to one width; the first column is text, the others are ranged right.
private func table(_ head: [String], _ rows: [[String]]) -> [String] {
    let widths = head.indices.map { column in ([head] + rows).map { $0[column].count }.max() ?? 0 }
    func line(_ cells: [String]) -> String {
        let padded = zip(cells, widths).enumerated().map { column, cell in
            let padding = String(repeating: " ", count: cell.1 - cell.0.count)
            return column == 0 ? cell.0 + padding : padding + cell.0
        }
        return "| " + padded.joined(separator: " | ") + " |"
    }
    let rule = widths.enumerated().map { String(repeating: "-", count: $1 - 1) + ($0 == 0 ? "-" : ":") }
    return [line(head), "| " + rule.joined(separator: " | ") + " |"] + rows.map(line)
}

extension TouchReport {
    /// The report for people: Markdown that also reads well as it is.
    var markdown: String {
        var lines = [
            "pulsefs \(version ?? "(version unknown)") on Linux \(machine.kernel) \(machine.architecture), "
                + "\(machine.cores) cores" + (machine.processor.map { ", \($0)" } ?? ""),
            "\(settings.rounds) rounds, order of targets rotated; each \(settings.samples) writes, reads, and openings of an ordinary file, "
                + "then \(number(settings.tornSeconds)) s of one writer and one reader"
                + (settings.polling ? "; each open file polled, as Go does" : ""),
            "µs, medians over the rounds; ± is the spread of the round medians",
            "",
        ]
        lines += table(
            ["", "file system", "write p50", "p99", "±", "read p50", "p99", "±", "open p50", "p99", "±", "torn reads"],
            targets.map { figures in
                [figures.target.rawValue, figures.fileSystem] + cells(figures.write) + cells(figures.read)
                    + cells(figures.open)
                    + ["\(percent(figures.torn.share, digits: 2)) of \(figures.torn.reads)"]
            }
                + ratios.map { ratio in
                    [
                        "mount ÷ \(ratio.to.rawValue)", "", number(ratio.write), "", "", number(ratio.read), "", "",
                        number(ratio.open), "", "", "",
                    ]
                }
        )
        lines += ["", "Torn: " + targets.map(tornLine).joined(separator: "; ")]
        if let servers {
            lines += [
                "",
                "Memory after a walk over \(servers.walkedFiles) files, and CPU time in \(number(servers.idleSeconds)) s without requests:",
                "",
            ]
            lines += table(
                ["", "RSS KiB", "PSS KiB", "CPU ms"],
                [("keeper", servers.keeper), ("worker", servers.worker)].map { name, cost in
                    [name, "\(cost.rss)", "\(cost.pss)", number(cost.idleCPUMilliseconds)]
                }
            )
        }
        return lines.joined(separator: "\n")
    }

    private func cells(_ operation: Operation) -> [String] {
        [number(operation.p50), number(operation.p99), percent(operation.spread, digits: 0)]
    }

    private func tornLine(_ figures: Figures) -> String {
        let torn = figures.torn
        return "\(figures.target.rawValue) \(torn.empty) empty, \(torn.unparsable) unparsable, \(torn.mixed) mixed "
            + "beside \(torn.writes) writes"
    }
}

/// Three significant digits or, from 100 up, all those before the point.
private func number(_ value: Double) -> String {
    decimal(value, digits: value >= 100 ? 0 : value >= 10 ? 1 : 2)
}

private func percent(_ share: Double, digits: Int) -> String {
    "\(decimal(share * 100, digits: digits)) %"
}

/// A number that is not negative, with a fixed count of digits after the point, for which FoundationEssentials has no format.
private func decimal(_ value: Double, digits: Int) -> String {
    let scale = (0..<digits).reduce(1) { product, _ in product * 10 }
    let scaled = Int((value * Double(scale)).rounded())
    let fraction = String(scaled % scale)
    guard digits > 0 else { return "\(scaled)" }
    return "\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
}

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

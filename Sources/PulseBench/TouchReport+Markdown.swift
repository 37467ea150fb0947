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
        lines += markdownTable(
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
            lines += markdownTable(
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

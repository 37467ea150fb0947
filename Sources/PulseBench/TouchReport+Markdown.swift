extension TouchReport {
    /// The report for people: Markdown that also reads well as it is.
    var markdown: String {
        var lines = [
            "pulsefs \(version ?? "(version unknown)") on \(machine.line)",
            "\(settings.rounds) rounds, order of targets rotated; each \(settings.samples) writes, reads, and openings of an ordinary file, "
                + "then \(number(settings.tornSeconds)) s of one writer and one reader"
                + (settings.polling ? "; each open file polled, as Go does" : ""),
        ]
        if let noise {
            lines.append(noise.line(spreads: targets.flatMap { [$0.write.spread, $0.read.spread, $0.open.spread] }))
        }
        lines += [
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
        if let oneCore { lines += ["", "Caller and worker both on core \(oneCore.core):", ""] + oneCoreTable(oneCore) }
        if let clients { lines += [""] + crowdLines(clients) }
        if let burst {
            lines += [
                "",
                "CPU time of the worker from 1 ms after a burst of \(burst.touches) touches, in \(number(burst.windowSeconds * 1_000)) ms: "
                    + "median \(number(burst.median)) µs, at worst \(number(burst.worst)) µs, of \(burst.microseconds.count) bursts",
            ]
        }
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

    private func oneCoreTable(_ oneCore: OneCore) -> [String] {
        markdownTable(
            ["", "write p50", "p99", "±", "read p50", "p99", "±", "open p50", "p99", "±"],
            oneCore.targets.map { [$0.target.rawValue] + cells($0.write) + cells($0.read) + cells($0.open) }
                + oneCore.ratios.map { ratio in
                    [
                        "mount ÷ \(ratio.to.rawValue)", number(ratio.write), "", "", number(ratio.read), "", "",
                        number(ratio.open), "", "",
                    ]
                })
    }

    private func crowdLines(_ crowds: [Crowd]) -> [String] {
        [
            "\(settings.clients ?? 0) clients at once, each writing and reading a file of its own; lowest and highest of all clients:",
            "",
        ]
            + markdownTable(
                ["", "write p50", "p99", "worst p99 ÷ p50", "read p50", "p99", "worst p99 ÷ p50"],
                crowds.map { crowd in
                    func range(_ figure: KeyPath<Client, Double>) -> String {
                        let figures = crowd.clients.map { $0[keyPath: figure] }
                        return "\(number(figures.min() ?? 0))–\(number(figures.max() ?? 0))"
                    }
                    return [
                        crowd.target.rawValue, range(\.write.p50), range(\.write.p99), number(crowd.worstWriteTail),
                        range(\.read.p50), range(\.read.p99), number(crowd.worstReadTail),
                    ]
                })
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

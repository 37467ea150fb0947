extension TreeReport {
    /// The report for people: Markdown that also reads well as it is.
    var markdown: String {
        var lines = preamble + [""]
        lines += markdownTable(["step"] + targets.map { "\($0.name) ms" } + ["±"], steps.map(timeRow))
        let others = targets.dropFirst()
        if !others.isEmpty {
            lines += ["", "As a multiple of the plain directory's time:", ""]
            lines += markdownTable(
                ["step"] + others.map(\.name) + compared.map { "\($0.name) ÷ best peer" }
                    + variants.map { "\($0.name) ÷ \(towns[0].name)" }, steps.map(ratioRow))
        }
        let failures = failures
        if !failures.isEmpty { lines += ["", "Failed:", ""] + failures.map { "- \($0)" } }
        return lines.joined(separator: "\n")
    }

    private var towns: [Place] { targets.filter { $0.kind == .pulsefs } }
    /// What is held against the peers; nothing without peers.
    private var compared: [Place] { targets.contains { $0.kind.isPeer } ? Array(towns.prefix(1)) : [] }
    /// What is held against the first town.
    private var variants: [Place] { Array(towns.dropFirst()) }

    private var preamble: [String] {
        let source =
            settings.repository.map { "repository \($0)" } ?? "seeded repository (seed \(settings.seed ?? 0))"
        let megabytes = number(Double(tree.bytes) / 1e6)
        return [
            machine.line,
            "",
            noise.line(spreads: steps.flatMap(\.results).compactMap(\.spread)),
            "",
            "\(source): \(tree.files) files, \(megabytes) MB, \(tree.commits) commits, at \(tree.head.prefix(12)); targets on \(settings.fileSystem)",
            "\(settings.rounds) rounds, order of targets rotated, new directories and mounts in each; medians over the rounds; "
                + "± is the widest spread of the round medians in a row",
            "",
        ]
            + targets.compactMap { place in
                place.command.map { "- \(place.name) \(place.version ?? ""): `\($0)`" }
            } + absent.map { "- \($0.name) is not measured: \($0.reason)" }
    }

    private func timeRow(_ step: Step) -> [String] {
        let times = step.results.map { $0.median.map { number($0 * 1_000) } ?? "failed" }
        return [step.name] + times + [step.results.compactMap(\.spread).max().map { percent($0, digits: 0) } ?? ""]
    }

    private func ratioRow(_ step: Step) -> [String] {
        func cells(of places: [Place], _ ratio: KeyPath<Result, Double?>) -> [String] {
            places.map { place in
                let result = step.results.first { $0.target == place.name }
                return result?[keyPath: ratio].map(number) ?? (result?.failure == nil ? "" : "failed")
            }
        }
        return [step.name] + cells(of: Array(targets.dropFirst()), \.toPlain) + cells(of: compared, \.toBestPeer)
            + cells(of: variants, \.toTown)
    }
}

extension Machine {
    /// In one line, as a report begins.
    var line: String {
        "Linux \(kernel) \(architecture), \(cores) cores" + (processor.map { ", \($0)" } ?? "")
            + (user.map { ", as \($0)" } ?? "")
    }
}

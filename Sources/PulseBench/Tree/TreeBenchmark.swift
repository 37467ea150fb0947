import Glibc

/// Does every step on every target, in rounds; whatever else the machine does hits all of them alike.
///
/// A round has directories and mounts of its own. Within it a step is done on one target after another before the next step
/// begins, and the order of targets is another in each round.
struct TreeBenchmark {
    let supervisor: Supervisor
    let targets: [TreeTarget]
    let steps: [TreeStep]
    let rounds: Int
    let inputs: String
    let pattern: String
    let megabytes: Int
    /// Told what is being done.
    var progress: (String) -> Void = { _ in }

    /// What is known of a step: its targets' samples, and what its check prints.
    private struct Record {
        let step: TreeStep
        /// By target, then by round.
        var samples: [[[Double]]]
        /// By target; what has failed is not tried again.
        var failures: [String?]
        /// What the first target's check has printed, by which the others are judged.
        var expected: String?

        init(of step: TreeStep, targets: Int) {
            self.step = step
            samples = Array(repeating: [], count: targets)
            failures = Array(repeating: nil, count: targets)
        }

        mutating func note(_ result: StepRun.Result, target: Int) {
            switch result {
            case .failed(let failure):
                failures[target] = failure
            case .done(let outcome) where outcome.check == expected ?? outcome.check:
                expected = outcome.check
                samples[target].append(outcome.seconds)
            case .done(let outcome):
                failures[target] = "the check printed \(outcome.check), elsewhere \(expected ?? "")"
            }
        }
    }

    /// The steps' results; `scratch` is where the targets are made.
    func measure(in scratch: String) throws -> [TreeReport.Step] {
        var records = steps.map { Record(of: $0, targets: targets.count) }
        for round in 0..<rounds {
            let order = targets.indices.map { ($0 + round) % targets.count }
            try withTargets(in: scratch) { directories, keep in
                for step in steps.indices {
                    for target in order where records[step].failures[target] == nil {
                        progress("round \(round + 1) of \(rounds): \(steps[step].name) on \(targets[target].name)")
                        let result = try perform(steps[step], in: directories[target], keep: keep[target])
                        records[step].note(result, target: target)
                    }
                }
            }
        }
        return records.map(results)
    }

    private func perform(_ step: TreeStep, in directory: String, keep: String) throws -> StepRun.Result {
        try supervisor.play([
            "step", step.name, "--directory", directory, "--inputs", inputs, "--keep", keep, "--pattern", pattern,
            "--megabytes", "\(megabytes)",
        ])
    }

    /// A step's figures, each compared with the others.
    private func results(of record: Record) -> TreeReport.Step {
        let step = record.step
        let alone = targets.indices.map { target in
            TreeReport.Result(
                target: targets[target].name, rounds: record.samples[target], failure: record.failures[target])
        }
        func median(of kinds: (TreeTarget.Kind) -> Bool) -> Double? {
            zip(targets, alone).filter { kinds($0.0.kind) }.compactMap(\.1.median).min()
        }
        let town = zip(targets, alone).first { $0.0.kind == .pulsefs }?.1
        return TreeReport.Step(
            name: step.name, summary: step.summary, warm: step.isWarm, samples: step.samples,
            results: zip(targets, alone).map { target, result in
                result.compared(
                    withPlain: median { $0 == .plain }, bestPeer: median { $0.isPeer },
                    town: target.kind == .pulsefs ? town : nil)
            })
    }

    /// Lends a round its directories, mounted, and beside each one a directory for what steps write elsewhere.
    private func withTargets(in scratch: String, body: ([String], [String]) throws -> Void) throws {
        try withScratchDirectory(in: scratch) { place in
            let keep = try targets.map { try makeDirectory("\(place)/\($0.name).keep") }
            func mount(_ rest: ArraySlice<TreeTarget>, _ directories: [String]) throws {
                guard let next = rest.first else { return try body(directories, keep) }
                try next.withDirectory(in: place, supervisor: supervisor) { directory in
                    try mount(rest.dropFirst(), directories + [directory])
                }
            }
            try mount(targets[...], [])
        }
    }
}

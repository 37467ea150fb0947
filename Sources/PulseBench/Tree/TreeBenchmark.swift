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

    /// What is known of a step on a target.
    private struct Record {
        var samples: [[Double]] = []
        var failure: String?
    }

    /// The steps' results; `scratch` is where the targets are made.
    func measure(in scratch: String) throws -> [TreeReport.Step] {
        var records = steps.map { _ in targets.map { _ in Record() } }
        var expected = [String?](repeating: nil, count: steps.count)
        for round in 0..<rounds {
            try withTargets(in: scratch, round: round) { directories, keep in
                let order = targets.indices.map { ($0 + round) % targets.count }
                for (stepIndex, step) in steps.enumerated() {
                    for index in order where records[stepIndex][index].failure == nil {
                        progress("round \(round + 1) of \(rounds): \(step.name) on \(targets[index].name)")
                        let result = perform(step, in: directories[index], keep: keep[index])
                        switch try result.get() {
                        case .failed(let failure): records[stepIndex][index].failure = failure
                        case .done(let outcome):
                            if expected[stepIndex] == nil { expected[stepIndex] = outcome.check }
                            if outcome.check == expected[stepIndex] {
                                records[stepIndex][index].samples.append(outcome.seconds)
                            } else {
                                records[stepIndex][index].failure =
                                    "the check printed \(outcome.check), elsewhere \(expected[stepIndex] ?? "")"
                            }
                        }
                    }
                }
            }
        }
        return steps.indices.map { step in results(of: steps[step], records[step]) }
    }

    private func perform(_ step: TreeStep, in directory: String, keep: String) -> Result<StepRun.Result, any Error> {
        Result {
            try supervisor.play([
                "step", step.name, "--directory", directory, "--inputs", inputs, "--keep", keep, "--pattern", pattern,
                "--megabytes", "\(megabytes)",
            ])
        }
    }

    private func results(of step: TreeStep, _ records: [Record]) -> TreeReport.Step {
        let alone = zip(targets, records).map { target, record in
            TreeReport.Result(target: target.name, rounds: record.samples, failure: record.failure)
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
    private func withTargets(in scratch: String, round: Int, body: ([String], [String]) throws -> Void) throws {
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

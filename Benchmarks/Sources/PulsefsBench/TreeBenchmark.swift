import ArgumentParser
import Glibc

/// The options of a benchmark that does the steps of an agent's work.
struct TreeOptions: ParsableArguments {
    @OptionGroup var towns: TownOptions
    @Option(
        help: ArgumentHelp(
            "Do only this step (repeatable): \(TreeStep.all.map(\.name).joined(separator: ", ")).", valueName: "name"))
    var step: [String] = []
    @Option(help: ArgumentHelp("A repository to work with, instead of a seeded one.", valueName: "path"))
    var repository: String?
    @Option(help: "The seed of the repository.")
    var seed: UInt64 = 1
    @Option(help: "The size of the big file, in MiB.")
    var megabytes = 256

    func validate() throws {
        guard megabytes > 0 else { throw ValidationError("--megabytes must be above 0.") }
        for name in step where TreeStep.named(name) == nil { throw ValidationError("There is no step '\(name)'.") }
        for name in ["git", "sqlite3", "make", "cc", "tar"] where !isInstalled(name) {
            throw ValidationError("\(name) is needed and is not installed.")
        }
    }

    /// Where the targets are made.
    var directory: String { towns.directory ?? "/dev/shm" }

    var searchedWord: String { repository == nil ? SeededRepository.searchedWord : "return" }

    /// The selected ones of some steps.
    func selected(_ steps: [TreeStep]) -> [TreeStep] { steps.filter { step.isEmpty || step.contains($0.name) } }
}

/// Does every step on every target, in rounds, so that everything else the machine does affects all of them alike.
///
/// A round has directories and mounts of its own. Within it a step is done on all targets before the next step begins, and
/// each round begins with another target.
struct TreeBenchmark {
    let supervisor: Supervisor
    let options: TreeOptions
    let targets: [Target]
    let steps: [TreeStep]
    let rounds: Int
    let inputs: TreeInputs
    /// If given, the requests of each step are counted on targets that are mounts.
    var traceInstance: String?

    /// The outcome of one step; arrays have an element for each target.
    struct Record {
        let step: TreeStep
        /// The median of each round, in seconds.
        var rounds: [[Double]]
        var requests: [[String: Int]]
        /// A step that failed is not tried again.
        var failures: [String?]
        /// The check of the first target, which the others must match.
        private var expected: String?

        init(of step: TreeStep, targets: Int) {
            self.step = step
            rounds = Array(repeating: [], count: targets)
            requests = Array(repeating: [:], count: targets)
            failures = Array(repeating: nil, count: targets)
        }

        mutating func add(_ result: StepRun.Result, of target: Int) {
            switch result {
            case .failed(let failure):
                failures[target] = failure
            case .done(let outcome) where outcome.check == expected ?? outcome.check:
                expected = outcome.check
                if let median = Percentiles(outcome.seconds)?.median { rounds[target].append(median) }
                requests[target] = outcome.requests
            case .done(let outcome):
                failures[target] = "the check printed \(outcome.check), elsewhere \(expected ?? "")"
            }
        }

        /// The median over the rounds, in seconds; nil where the step failed.
        func median(_ target: Int) -> Double? {
            failures[target] == nil ? Percentiles(rounds[target])?.median : nil
        }

        /// A line for each target on which the step failed.
        func failureLines(_ targets: [Target]) -> [String] {
            zip(targets, failures).compactMap { target, failure in
                failure.map { "\(step.name) on \(target.name): \($0)" }
            }
        }
    }

    func measure(in scratch: String) throws -> [Record] {
        var records = steps.map { Record(of: $0, targets: targets.count) }
        for round in 0..<rounds {
            try withScratchDirectory(in: scratch) { place in
                let keep = try targets.map { try makeDirectory("\(place)/\($0.name).keep") }
                try withTargets(targets, in: place, supervisor: supervisor) { directories in
                    for step in steps.indices {
                        for target in targets.indices.map({ ($0 + round) % targets.count })
                        where records[step].failures[target] == nil {
                            showProgress(
                                "round \(round + 1) of \(rounds): \(steps[step].name) on \(targets[target].name)")
                            let run = StepRun(
                                name: steps[step].name, directory: directories[target], inputs: inputs.directory,
                                keep: keep[target], pattern: options.searchedWord, megabytes: options.megabytes,
                                counter: try counter(directories[target]))
                            records[step].add(try supervisor.run(.step(run)), of: target)
                        }
                    }
                }
            }
        }
        return records
    }

    private func counter(_ directory: String) throws -> RequestCounter? {
        guard let traceInstance, let mount = try Mount.on(directory) else { return nil }
        return RequestCounter(instance: traceInstance, connection: mount.deviceMinor)
    }

    private func showProgress(_ message: String) {
        if isatty(STDERR_FILENO) == 1 { warn(message) }
    }
}

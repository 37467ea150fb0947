/// The result of `pulsefs-bench tree`; with `--json` it is printed as it stands here, keys in snake case.
///
/// `schema` names this shape. A key may be added under the same name; whatever changes or goes gets a new one. Times are seconds.
struct TreeReport: Codable {
    var schema = schemaName
    let machine: Machine
    let noise: Noise
    let settings: Settings
    let tree: Tree
    let targets: [Place]
    /// Peers that could not be measured, and why.
    let absent: [Absent]
    let steps: [Step]

    struct Settings: Codable {
        let rounds: Int
        /// Where the targets were made, and the file system there.
        let directory: String
        let fileSystem: String
        /// The given repository, or nothing for a seeded one.
        let repository: String?
        let seed: UInt64?
        let pattern: String
        let megabytes: Int
    }

    /// What the cloned repository held at its last commit.
    struct Tree: Codable {
        let head: String
        let files: Int
        let commits: Int
        /// Of all files in the work tree.
        let bytes: Int
    }

    /// A target.
    struct Place: Codable {
        let name: String
        let kind: TreeTarget.Kind
        let version: String?
        let command: String?
        /// As the mount table calls it.
        let fileSystem: String
    }

    struct Absent: Codable {
        let name: String
        let reason: String
    }

    struct Step: Codable {
        let name: String
        let summary: String
        /// Whether it had been done once before it was timed.
        let warm: Bool
        /// Timed runs in a round.
        let samples: Int
        /// In the order of the targets.
        let results: [Result]
    }

    /// One step on one target.
    struct Result: Codable {
        let target: String
        /// The median over the rounds; absent where it failed.
        var median: Double?
        /// Each round's median, in the order of the rounds.
        var rounds: [Double] = []
        /// The noise figure: how far those lie apart, as a share of their median.
        var spread: Double?
        /// The median as a multiple of the plain directory's, and of the faster peer's.
        var toPlain: Double?
        var toBestPeer: Double?
        /// For a variant: the median over the rounds of its time as a multiple of the first town's in the same round.
        var toTown: Double?
        /// Why there is no figure.
        var failure: String?
    }

    /// What failed, a line each.
    var failures: [String] {
        steps.flatMap { step in
            step.results.compactMap { result in result.failure.map { "\(step.name) on \(result.target): \($0)" } }
        }
    }
}

extension TreeReport.Result {
    /// The figures of some rounds, of which each has its samples.
    init(target: String, rounds samples: [[Double]], failure: String?) {
        self.init(target: target, failure: failure)
        rounds = samples.compactMap { Percentiles($0)?.median }
        guard failure == nil, let percentiles = Percentiles(rounds) else { return }
        median = percentiles.median
        spread = percentiles.spread
    }

    /// The same, compared with the others of its step.
    func compared(withPlain plain: Double?, bestPeer: Double?, town: Self?) -> Self {
        var compared = self
        guard let median else { return self }
        if let town, town.target != target, town.rounds.count == rounds.count {
            compared.toTown = Percentiles(zip(rounds, town.rounds).map { $0 / $1 })?.median
        }
        compared.toPlain = plain.map { median / $0 }
        compared.toBestPeer = bestPeer.map { median / $0 }
        return compared
    }
}

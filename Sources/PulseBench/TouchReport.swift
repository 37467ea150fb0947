/// The result of `pulsefs-bench touch`; with `--json` it is printed as it stands here, keys in snake case.
///
/// `schema` names this shape. A key may be added under the same name; whatever changes or goes gets a new one. Times are
/// microseconds, memory is KiB. An absent key means "not measured".
struct TouchReport: Codable {
    var schema = schemaName
    let machine: Machine
    var noise: Noise?
    /// Of the `pulsefs` behind the mount.
    let version: String?
    let settings: Settings
    let targets: [Figures]
    let ratios: [Ratio]
    /// The same with caller and worker on one core; absent where the worker was not the benchmark's own.
    var oneCore: OneCore?
    /// Many clients at once, a target each.
    var clients: [Crowd]?
    var burst: Burst?
    let servers: Servers?

    struct Settings: Codable {
        let rounds: Int
        /// Writes, as many reads and as many openings, a round and target.
        let samples: Int
        /// How long writer and reader ran side by side, a round and target.
        let tornSeconds: Double
        /// Whether each opened file was polled, as Go's runtime does.
        let polling: Bool
        /// How many clients worked at once, and for how long, a round and target.
        var clients: Int?
        var clientSeconds: Double?
    }

    /// What one caller meets, all on one core.
    struct OneCore: Codable {
        let core: Int
        let targets: [Latencies]
        let ratios: [Ratio]
    }

    /// One target, without torn reads.
    struct Latencies: Codable, TouchLatencies {
        let target: Target.Name
        let write: Operation
        let read: Operation
        let open: Operation
    }

    /// One target.
    struct Figures: Codable, TouchLatencies {
        let target: Target.Name
        let directory: String
        let fileSystem: String
        let write: Operation
        let read: Operation
        /// open(2) and close(2) of an ordinary file.
        let open: Operation
        let torn: Torn
    }

    /// One operation on one target: percentiles within each round, then the median over the rounds.
    struct Operation: Codable {
        let p50: Double
        let p99: Double
        /// Each round's p50, in the order of the rounds.
        let roundP50: [Double]
        /// The noise figure: how far those lie apart, as a share of their median.
        let spread: Double

        init(rounds: [[Double]]) throws {
            let percentiles = rounds.compactMap { Percentiles($0) }
            roundP50 = percentiles.map { $0[0.5] }
            guard let halves = Percentiles(roundP50), let tails = Percentiles(percentiles.map { $0[0.99] }) else {
                throw BenchFailure("nothing was measured")
            }
            p50 = halves.median
            p99 = tails.median
            spread = halves.spread
        }
    }

    /// Torn reads over all rounds; `share` is of all reads.
    struct Torn: Codable {
        let writes: Int
        let reads: Int
        let empty: Int
        let unparsable: Int
        let mixed: Int
        let share: Double

        init(_ tally: TornReads) {
            writes = tally.writes
            reads = tally.reads
            empty = tally.empty
            unparsable = tally.unparsable
            mixed = tally.mixed
            share = tally.share
        }
    }

    /// The mount's p50 as a multiple of another target's.
    struct Ratio: Codable {
        let to: Target.Name
        let write: Double
        let read: Double
        let open: Double
    }

    /// The mount's ratios to whatever else was measured; none without a mount.
    static func ratios(among figures: [some TouchLatencies]) -> [Ratio] {
        guard let mount = figures.first(where: { $0.target == .mount }) else { return [] }
        return figures.filter { $0.target != .mount }.map { other in
            Ratio(
                to: other.target,
                write: mount.write.p50 / other.write.p50,
                read: mount.read.p50 / other.read.p50,
                open: mount.open.p50 / other.open.p50
            )
        }
    }
}

/// What was measured of a target, for comparison with another's.
protocol TouchLatencies {
    var target: Target.Name { get }
    var write: TouchReport.Operation { get }
    var read: TouchReport.Operation { get }
    var open: TouchReport.Operation { get }
}

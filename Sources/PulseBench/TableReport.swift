/// The result of `pulsefs-bench table`; with `--json` it is printed as it stands here, keys in snake case.
///
/// `schema` names this shape, by the same rules as `TouchReport`'s. Times are microseconds unless a name says otherwise,
/// memory is bytes a record.
struct TableReport: Codable {
    var schema = "pulsefs-bench/table/1"
    let machine: Machine
    /// What else went on meanwhile.
    let noise: Noise
    let settings: Settings
    let memory: [Memory]
    /// Of each touch that made the table's records, one after the other.
    let fill: Times
    let touches: [Touches]
    /// Of whole batches, in the processor's time.
    let batches: Times
    let expiry: Meanwhile
    /// How long each look took that said who has expired, in the processor's time.
    ///
    /// The lock is let go several times in it.
    let slices: Times
    let questions: [Question]
    /// Of touches by new runtimes when all others are to be freed.
    let sweep: Times

    struct Settings: Codable {
        let records: Int
        let rounds: Int
        /// A round and kind.
        let touches: Int
        /// Ids asked at once.
        let batch: Int
        /// Batches a round.
        let batches: Int
        /// Runtimes that expire at one instant.
        let expiring: Int
    }

    /// Besides documents, which are there before.
    struct Memory: Codable {
        let population: String
        let records: Int
        let allocated: Double
        let resident: Double
    }

    /// Percentiles within each round, then the median over the rounds.
    struct Times: Codable {
        let p50: Double
        let p99: Double
        let p999: Double
        let worst: Double
        /// How far the rounds' p50 lie apart, as a share of their median.
        let spread: Double

        init(rounds: [[Double]]) throws {
            let percentiles = rounds.compactMap { Percentiles($0) }
            func median(_ share: Double) throws -> Percentiles {
                guard let median = Percentiles(percentiles.map { $0[share] }) else {
                    throw BenchFailure("nothing was measured")
                }
                return median
            }
            p50 = try median(0.5).median
            p99 = try median(0.99).median
            p999 = try median(0.999).median
            worst = try median(1).median
            spread = try median(0.5).spread
        }
    }

    struct Touches: Codable {
        let kind: TablePopulation.Kind
        /// Of touches in a row, in the processor's time.
        let mean: Double
        let times: Times
    }

    /// Touches while something else goes on, and just before.
    struct Meanwhile: Codable {
        let tookMilliseconds: Double
        let quiet: Times
        let during: Times

        init(took: Double, quiet: [Double], during: [Double]) throws {
            tookMilliseconds = took
            self.quiet = try Times(rounds: [quiet])
            self.during = try Times(rounds: [during])
        }

        /// Each figure's median over the rounds.
        init(medianOf rounds: [Meanwhile]) throws {
            tookMilliseconds = try Self.median(rounds.map(\.tookMilliseconds))
            quiet = try Times(medianOf: rounds.map(\.quiet))
            during = try Times(medianOf: rounds.map(\.during))
        }

        fileprivate static func median(_ sample: [Double]) throws -> Double {
            guard let median = Percentiles(sample)?.median else { throw BenchFailure("nothing was measured") }
            return median
        }
    }

    struct Question: Codable {
        let question: String
        let times: Meanwhile
    }
}

extension TableReport.Times {
    fileprivate init(medianOf rounds: [Self]) throws {
        p50 = try TableReport.Meanwhile.median(rounds.map(\.p50))
        p99 = try TableReport.Meanwhile.median(rounds.map(\.p99))
        p999 = try TableReport.Meanwhile.median(rounds.map(\.p999))
        worst = try TableReport.Meanwhile.median(rounds.map(\.worst))
        spread = Percentiles(rounds.map(\.p50))?.spread ?? 0
    }
}

/// A sorted sample.
struct Percentiles {
    private let sorted: [Double]

    /// Nil for an empty sample.
    init?(_ sample: [Double]) {
        guard !sample.isEmpty else { return nil }
        sorted = sample.sorted()
    }

    /// The smallest value that `share` of the sample does not exceed (nearest rank); it is always a measured value.
    subscript(share: Double) -> Double {
        let rank = Int((share * Double(sorted.count)).rounded(.up))
        return sorted[min(max(rank, 1), sorted.count) - 1]
    }

    var median: Double { self[0.5] }

    /// (highest − lowest) ÷ median: the noise of a series of round medians.
    var spread: Double { median > 0 ? (self[1] - self[0]) / median : 0 }
}

/// One operation measured in several rounds; a percentile is taken within each round, then the median over the rounds.
struct RoundStatistics {
    private let rounds: [Percentiles]

    init(_ rounds: [[Double]]) throws {
        self.rounds = rounds.compactMap { Percentiles($0) }
        guard !self.rounds.isEmpty else { throw BenchFailure("nothing was measured") }
    }

    subscript(share: Double) -> Double { Percentiles(perRound(share))?.median ?? 0 }

    /// Each round's percentile, in the order of the rounds.
    func perRound(_ share: Double) -> [Double] { rounds.map { $0[share] } }

    var spread: Double { Percentiles(perRound(0.5))?.spread ?? 0 }
}

/// The median over the rounds of one target's figure divided by another's in the same round; nil without common rounds.
func medianRatio(of figures: [Double], to others: [Double]) -> Double? {
    figures.count == others.count ? Percentiles(zip(figures, others).map { $0 / $1 })?.median : nil
}

/// Calls `body` with the index of each of `count` targets in each round; each round begins with another target.
func rotate(rounds: Int, count: Int, _ body: (Int) throws -> Void) rethrows {
    for round in 0..<rounds {
        for offset in 0..<count { try body((offset + round) % count) }
    }
}

extension Duration {
    var microseconds: Double { self / .microseconds(1) }
}

/// SplitMix64: the same seed gives the same numbers everywhere.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

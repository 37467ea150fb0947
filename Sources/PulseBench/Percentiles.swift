/// A sorted sample, asked for what lies below a share of it.
struct Percentiles {
    private let sorted: [Double]

    /// An empty sample has no percentiles.
    init?(_ sample: [Double]) {
        guard !sample.isEmpty else { return nil }
        sorted = sample.sorted()
    }

    /// The smallest value that `share` of the sample does not exceed (nearest rank), so always one that was measured.
    subscript(share: Double) -> Double {
        let rank = Int((share * Double(sorted.count)).rounded(.up))
        return sorted[min(max(rank, 1), sorted.count) - 1]
    }

    var median: Double { self[0.5] }

    /// How far the extremes lie apart, as a share of the median: the noise figure of a row of round medians.
    var spread: Double {
        let range = sorted[sorted.count - 1] - sorted[0]
        return median > 0 ? range / median : 0
    }
}

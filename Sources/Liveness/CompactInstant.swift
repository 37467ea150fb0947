/// An instant of `ContinuousClock` in eight bytes: to the nanosecond, as the clock itself goes, and within some 290 years.
///
/// What lies beyond is taken for the end of that time.
struct CompactInstant: Hashable, Comparable, Sendable {
    private let nanoseconds: Int64

    /// Any will do, as it is taken away and added again.
    private static let origin = ContinuousClock.now

    /// Before all others.
    static let past = CompactInstant(nanoseconds: .min)

    init(_ instant: ContinuousClock.Instant) {
        nanoseconds = (instant - Self.origin).compactNanoseconds
    }

    private init(nanoseconds: Int64) {
        self.nanoseconds = nanoseconds
    }

    var instant: ContinuousClock.Instant { Self.origin + .nanoseconds(nanoseconds) }

    func earlier(by duration: Duration) -> CompactInstant {
        let (earlier, isBeyond) = nanoseconds.subtractingReportingOverflow(duration.compactNanoseconds)
        return isBeyond ? .past : CompactInstant(nanoseconds: earlier)
    }

    static func < (earlier: CompactInstant, later: CompactInstant) -> Bool { earlier.nanoseconds < later.nanoseconds }
}

extension Duration {
    /// Whole nanoseconds, as far as they can be told.
    var compactNanoseconds: Int64 { Int64(clamping: attoseconds / 1_000_000_000) }
}

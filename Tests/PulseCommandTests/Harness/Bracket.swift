/// Times before and after an event.
///
/// Comparing with both needs no tolerance, which a busy machine would exceed.
struct Bracket {
    let start: ContinuousClock.Instant
    let end: ContinuousClock.Instant

    /// Runs `body` and takes the times before and after it.
    static func around<Result>(_ body: () throws -> Result) rethrows -> (result: Result, bracket: Bracket) {
        let start = ContinuousClock.now
        let result = try body()
        return (result, Bracket(start: start, end: .now))
    }

    /// The possible ages of this event at a later one, in seconds.
    ///
    /// - Parameter error: The error of a reported age, in seconds.
    func age(at other: Bracket, within error: Double = 0.002) -> ClosedRange<Double> {
        (other.start - end) / .seconds(1) - error...(other.end - start) / .seconds(1) + error
    }

    /// From the start of this to the end of another.
    func through(_ other: Bracket) -> Bracket { Bracket(start: start, end: other.end) }

    /// In seconds.
    var length: Double { (end - start) / .seconds(1) }
}

extension ClosedRange<Double> {
    /// The remainder of `time` after an age in this range.
    func left(of time: Double) -> ClosedRange<Double> { time - upperBound...time - lowerBound }
}

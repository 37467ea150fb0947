/// Two moments between which something has happened, however long the machine took.
///
/// What is said of a time is compared with these instead of with one moment and a tolerance, which a busy machine exceeds.
struct Bracket {
    let start: ContinuousClock.Instant
    let end: ContinuousClock.Instant

    /// Does something, and notes when.
    static func around<Result>(_ body: () throws -> Result) rethrows -> (result: Result, bracket: Bracket) {
        let start = ContinuousClock.now
        let result = try body()
        return (result, Bracket(start: start, end: .now))
    }

    /// How old this may be, in seconds, at something else that happened later.
    ///
    /// - Parameter error: By how many seconds the age that is told may be wrong.
    func age(at other: Bracket, within error: Double = 0.002) -> ClosedRange<Double> {
        (other.start - end) / .seconds(1) - error...(other.end - start) / .seconds(1) + error
    }

    /// From the beginning of this to the end of another.
    func through(_ other: Bracket) -> Bracket { Bracket(start: start, end: other.end) }

    /// In seconds.
    var length: Double { (end - start) / .seconds(1) }
}

extension ClosedRange<Double> {
    /// What is left of a time when this much is over.
    func left(of time: Double) -> ClosedRange<Double> { time - upperBound...time - lowerBound }
}

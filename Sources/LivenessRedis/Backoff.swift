/// How long to wait before the next attempt to reach a server.
///
/// Doubled each time and jittered, so that many daemons do not come back at one instant. What only a person can mend is
/// tried again slowly, but not so slowly that they wait for it.
struct Backoff: Sendable {
    private static let shortest: Duration = .milliseconds(100)
    private static let longest: Duration = .seconds(2)
    private static let forAPerson: Duration = .seconds(4)

    /// A connection that has lasted as long is a good one, and the next may be tried at once.
    private static let longEnough: Duration = .seconds(5)

    private var next = shortest

    /// Notes the end of a connection with which all was well since an instant, if it ever was.
    mutating func note(upSince: ContinuousClock.Instant?, at now: ContinuousClock.Instant = .now) {
        if let upSince, now - upSince >= Self.longEnough { next = Self.shortest }
    }

    /// - Parameter random: Within 0 and 1; takes away up to a third.
    mutating func pause(isPermanent: Bool, random: Double = .random(in: 0...1)) -> Duration {
        let pause = isPermanent ? Self.forAPerson : next
        next = min(next * 2, Self.longest)
        return pause - pause * (random / 3)
    }
}

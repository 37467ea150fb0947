import Testing

@testable import Liveness

@Suite struct CompactInstantTests {
    private let now = ContinuousClock.now

    @Test(arguments: [0, 1, -1, 1_000_000_000, 3_155_760_000_000_000_000, -90_000_000_001] as [Int64])
    func instantsComeBackToTheNanosecond(_ nanoseconds: Int64) {
        let instant = now + .nanoseconds(nanoseconds)
        #expect(CompactInstant(instant).instant == instant)
    }

    @Test func orderIsKept() {
        let instants = [now - .seconds(1), now, now + .nanoseconds(1), now + .seconds(1)].map { CompactInstant($0) }
        #expect(instants == instants.sorted() && Set(instants).count == 4)
        #expect(instants.allSatisfy { .past < $0 })
    }

    @Test func whatLiesBeyondIsTheEnd() {
        let centuries = Duration.seconds(1_000 * 365 * 86_400 as Int64)
        #expect(CompactInstant(now + centuries) == CompactInstant(now + centuries + centuries))
        #expect(CompactInstant(now).earlier(by: centuries) < CompactInstant(now))
        #expect(CompactInstant(now - centuries).earlier(by: centuries) == .past)
    }
}

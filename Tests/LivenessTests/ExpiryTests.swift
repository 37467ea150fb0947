import TestSupport
import Testing

@testable import Liveness

/// The table's schedule of deadlines.
@Suite(.timeLimit(.minutes(5))) struct ExpiryTests {
    private let start = FakeClock.start

    private func touch(
        _ id: String, _ table: inout LivenessTable, after delay: Duration = .zero, ttl: Duration
    ) throws {
        table.touch(
            Touch(
                runtime: try RuntimeID(id), receivedAt: WallTime(seconds: 0) + delay, at: start + delay, ttl: ttl,
                document: nil, source: .command))
    }

    private func expired(_ table: inout LivenessTable, after delay: Duration, limit: Int = .max) -> [String] {
        table.removeExpirations(at: start + delay, limit: limit).map(\.id.description)
    }

    @Test func runtimesExpireInTheOrderOfTheirDeadlines() throws {
        var table = LivenessTable()
        for number in [5, 1, 4, 2, 3] { try touch("r\(number)", &table, ttl: .seconds(number)) }
        #expect(table.nextExpiration == start + .seconds(1))
        let first = expired(&table, after: .seconds(3), limit: 2)
        #expect(first == ["r1", "r2"])
        let second = expired(&table, after: .seconds(3))
        #expect(second == ["r3"])
        #expect(table.nextExpiration == start + .seconds(4))
    }

    @Test func laterDeadlineIsScheduledWhenTheEarlierOneHasCome() throws {
        var table = LivenessTable()
        try touch("r", &table, ttl: .seconds(1))
        try touch("r", &table, ttl: .seconds(9))
        #expect(table.expirations.count == 1)
        let early = expired(&table, after: .seconds(2))
        #expect(early.isEmpty)
        #expect(table.nextExpiration == start + .seconds(9))
        let due = expired(&table, after: .seconds(9))
        #expect(due == ["r"])
        #expect(table.nextExpiration == nil)
    }

    /// 5,000 runtimes with ttls from 1 s to 8 h: none before its deadline, and each as soon as it has come.
    @Test func eachOfManyRuntimesExpiresAtItsOwnDeadline() throws {
        var random = SplitMix64(state: 7)
        var table = LivenessTable()
        var deadlines: [String: Duration] = [:]
        for number in 0..<5_000 {
            let delay = Duration.milliseconds(Int.random(in: 0..<60_000, using: &random))
            let ttl = Duration.milliseconds(Int.random(in: 1_000...28_800_000, using: &random))
            try touch("r\(number)", &table, after: delay, ttl: ttl)
            deadlines["r\(number)"] = delay + ttl
        }
        for (id, deadline) in deadlines.sorted(by: { ($0.value, $0.key) < ($1.value, $1.key) }) {
            #expect(table.nextExpiration == start + deadline)
            #expect(!expired(&table, after: deadline - .nanoseconds(1)).contains(id))
            let now = expired(&table, after: deadline, limit: 1)
            #expect(now == [id])
        }
        #expect(table.nextExpiration == nil)
    }

    /// Before, it was reported as an expiry that came late by its age.
    @Test(arguments: [true, false]) func touchThatIsExpiredWhenItComesDoesNotExpire(isKnown: Bool) throws {
        var table = LivenessTable()
        if isKnown { try touch("r", &table, ttl: .seconds(1)) }
        var late = Touch(
            runtime: try RuntimeID("r"), receivedAt: WallTime(seconds: 0) + .seconds(10), at: start + .seconds(10),
            ttl: .seconds(90), document: nil, source: .attributes)
        late.moveBack(by: .seconds(600))
        table.touch(late)
        #expect(table.record(of: .runtime(try RuntimeID("r")))?.isAlive(at: start + .seconds(10)) == false)
        // Its last life has expired, if it had one, and that is not lost.
        let found = expired(&table, after: .seconds(10))
        #expect(found == (isKnown ? ["r"] : []))
        #expect(table.nextExpiration == nil)
    }

    @Test func lateTouchLivesForTheRestOfItsTTL() throws {
        var table = LivenessTable()
        var late = Touch(
            runtime: try RuntimeID("r"), receivedAt: WallTime(seconds: 0), at: start, ttl: .seconds(90), document: nil,
            source: .written)
        late.moveBack(by: .seconds(60))
        table.touch(late)
        #expect(table.nextExpiration == start + .seconds(30))
    }

    @Test func forgottenRuntimesDoNotFillTheSchedule() throws {
        var table = LivenessTable()
        for number in 0..<20_000 {
            try touch("r\(number % 100)", &table, ttl: .seconds(1_000_000_000 - number))
            table.forget(.runtime(try RuntimeID("r\(number % 100)")), stamp: HLCTimestamp(.goZero), at: start)
        }
        #expect(table.expirations.count <= 1024)
        try touch("r1", &table, ttl: .seconds(1))
        #expect(table.nextExpiration == start + .seconds(1))
    }

    @Test func newLifeWithAnEarlierDeadlineExpiresAtThat() throws {
        var table = LivenessTable()
        let id = try RuntimeID("r")
        try touch("r", &table, ttl: .seconds(100))
        table.forget(.runtime(id), stamp: HLCTimestamp(.goZero), at: start)
        try touch("r", &table, ttl: .seconds(5))
        let atFive = expired(&table, after: .seconds(5))
        #expect(atFive == ["r"])
        let atHundred = expired(&table, after: .seconds(100))
        #expect(atHundred.isEmpty)
    }

    /// A few at a time, the same expire in the same order as at once.
    @Test(arguments: [1, 7, 64])
    func partsAddUpToTheWhole(_ part: Int) throws {
        var random = SplitMix64(state: 1)
        var whole = LivenessTable()
        for number in 0..<3000 {
            // Many at one instant.
            try touch("r\(number)", &whole, ttl: .seconds(Int.random(in: 1...40, using: &random)))
        }
        var parts = whole
        for number in stride(from: 0, to: 3000, by: 9) {
            try touch("r\(number)", &whole, ttl: .seconds(100))
            try touch("r\(number)", &parts, ttl: .seconds(100))
        }
        let expected = expired(&whole, after: .seconds(30))
        var found: [String] = []
        while let next = parts.nextExpiration, next <= start + .seconds(30) {
            found += expired(&parts, after: .seconds(30), limit: part)
        }
        #expect(found == expected && found.count > 1000)
        #expect(parts.nextExpiration == whole.nextExpiration)
    }
}

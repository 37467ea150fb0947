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

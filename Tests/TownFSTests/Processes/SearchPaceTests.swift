import Testing

@testable import TownFS

@Suite struct SearchPaceTests {
    /// How many searches there are in a minute in which there is always a reason for one.
    private func searchesInAMinute(each length: Duration) -> Int {
        var pace = SearchPace()
        let start = pace.next
        var count = 0
        while pace.next < start + .seconds(60) {
            pace.ended(from: pace.next, to: pace.next + length)
            count += 1
        }
        return count
    }

    @Test func searchesThatFollowEachOtherBecomeRarer() {
        #expect(searchesInAMinute(each: .milliseconds(5)) <= 125)
    }

    @Test func searchesTakeATwentiethOfTheTimeAtMost() {
        #expect(searchesInAMinute(each: .seconds(1)) <= 3)
    }

    @Test func searchAfterAQuietTimeComesSoonAndTheNextToo() {
        var pace = SearchPace()
        for _ in 0..<20 { pace.ended(from: pace.next, to: pace.next + .milliseconds(1)) }
        let later = pace.next + .seconds(10)
        #expect(pace.next <= later)
        pace.requested(at: later)
        #expect(pace.next == later + .milliseconds(50))
        pace.ended(from: later, to: later + .milliseconds(1))
        #expect(pace.next <= later + .milliseconds(60))
    }
}

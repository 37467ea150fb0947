import Testing

@testable import Fuse

/// How long a thread busy-polls for the next request.
@Suite struct SpinPolicyTests {
    @Test func quickClientIsPolledFor() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(15_000) }
        let limit = policy.limit
        #expect(limit > 15_000 && limit <= SpinPolicy.longest)
    }

    @Test func slowClientIsPolledForBriefly() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(400_000) }
        let limit = policy.limit
        #expect(limit == SpinPolicy.shortest)
    }

    /// Waits are measured while the thread sleeps, too.
    @Test func clientThatIsQuickAgainIsPolledForAgain() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(10_000_000_000) }
        for _ in 0..<20 { policy.recordWait(10_000) }
        let limit = policy.limit
        #expect(limit > 10_000)
    }

    /// One long pause, as between two commands of a script, has little weight.
    @Test func onePauseIsForgottenSoon() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(10_000) }
        policy.recordWait(3_600_000_000_000)
        let limit = policy.limit
        #expect(limit > 0)
    }

    /// On a contended core, a sleeping thread is woken before other programs, and a polling one waits behind them.
    @Test func contendedCoreIsNotPolledOn() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(10_000) }
        // A short wait for the core: a few threads that yield, too.
        let isQuiet = policy.isContended(200_000)
        let isContended = policy.isContended(3_000_000)
        #expect(!isQuiet)
        #expect(isContended)
        let limits = (0..<1_000).map { _ in policy.limit }
        #expect(limits.prefix(100).allSatisfy { $0 == 0 })
        #expect(limits.last != 0)
    }

    /// Each attempt costs a time slice, so attempts become rare while the contention lasts.
    @Test func longContentionIsTestedForSeldom() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(10_000) }
        var looks = 0
        for _ in 0..<100_000 where policy.limit > 0 {
            looks += 1
            _ = policy.isContended(3_000_000)
        }
        #expect(looks < 20)
        // After the contention, the pause is short again.
        for _ in 0..<100_000 where policy.limit > 0 { policy.recordUncontended() }
        _ = policy.isContended(3_000_000)
        let limits = (0..<1_000).map { _ in policy.limit }
        #expect(limits.count { $0 == 0 } == Int(SpinPolicy.fewestPaused))
    }

    @Test func pollingNeverExceedsTheLongestTime() {
        let policy = SpinPolicy()
        for pause in stride(from: 0 as UInt64, to: 2_000_000, by: 1_000) {
            policy.recordWait(pause)
            let limit = policy.limit
            #expect(limit <= SpinPolicy.longest)
        }
    }
}

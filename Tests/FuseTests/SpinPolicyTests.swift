import Testing

@testable import Fuse

/// For how long a thread looks out for the next request.
@Suite struct SpinPolicyTests {
    @Test func quickClientIsLookedOutFor() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(15_000) }
        let limit = policy.limit
        #expect(limit > 15_000 && limit <= SpinPolicy.longest)
    }

    @Test func slowClientIsNotForLong() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(400_000) }
        let limit = policy.limit
        #expect(limit == SpinPolicy.shortest)
    }

    /// One that comes back is noticed, though nobody has looked out for it.
    @Test func clientThatIsQuickAgainIsLookedOutForAgain() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(10_000_000_000) }
        for _ in 0..<20 { policy.recordWait(10_000) }
        let limit = policy.limit
        #expect(limit > 10_000)
    }

    /// One long pause, as between two commands of a script, does not count for more than it is.
    @Test func onePauseIsForgottenSoon() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(10_000) }
        policy.recordWait(3_600_000_000_000)
        let limit = policy.limit
        #expect(limit > 0)
    }

    /// Where others want the core, a thread that sleeps is woken before them, and one that looks out waits behind them.
    @Test func coreIsLeftToOthersWhoWantIt() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(10_000) }
        // A few who yield like us.
        let isQuiet = policy.isContended(200_000)
        let isContended = policy.isContended(3_000_000)
        #expect(!isQuiet)
        #expect(isContended)
        let limits = (0..<1_000).map { _ in policy.limit }
        #expect(limits.prefix(100).allSatisfy { $0 == 0 })
        #expect(limits.last != 0)
    }

    /// To find out costs a time slice, and so is tried less and less often while it goes on.
    @Test func whereOthersWantTheCoreForLongThatIsFoundOutSeldom() {
        let policy = SpinPolicy()
        for _ in 0..<100 { policy.recordWait(10_000) }
        var looks = 0
        for _ in 0..<100_000 where policy.limit > 0 {
            looks += 1
            _ = policy.isContended(3_000_000)
        }
        #expect(looks < 20)
        // And when they are gone, it is forgotten.
        for _ in 0..<100_000 where policy.limit > 0 { policy.recordUncontended() }
        _ = policy.isContended(3_000_000)
        let limits = (0..<1_000).map { _ in policy.limit }
        #expect(limits.count { $0 == 0 } == Int(SpinPolicy.fewestPaused))
    }

    @Test func nobodyIsAwaitedForLongerThanTheMost() {
        let policy = SpinPolicy()
        for pause in stride(from: 0 as UInt64, to: 2_000_000, by: 1_000) {
            policy.recordWait(pause)
            let limit = policy.limit
            #expect(limit <= SpinPolicy.longest)
        }
    }
}

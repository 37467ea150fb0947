import Testing

@testable import Fuse

/// For how long a thread looks out for the next request.
@Suite struct SpinPolicyTests {
    @Test func quickClientIsLookedOutFor() {
        let patience = SpinPolicy()
        for _ in 0..<100 { patience.note(15_000) }
        let limit = patience.limit
        #expect(limit > 15_000 && limit <= SpinPolicy.most)
    }

    @Test func slowClientIsNotForLong() {
        let patience = SpinPolicy()
        for _ in 0..<100 { patience.note(400_000) }
        let limit = patience.limit
        #expect(limit == SpinPolicy.least)
    }

    /// One that comes back is noticed, though nobody has looked out for it.
    @Test func clientThatIsQuickAgainIsLookedOutForAgain() {
        let patience = SpinPolicy()
        for _ in 0..<100 { patience.note(10_000_000_000) }
        for _ in 0..<20 { patience.note(10_000) }
        let limit = patience.limit
        #expect(limit > 10_000)
    }

    /// One long pause, as between two commands of a script, does not count for more than it is.
    @Test func onePauseIsForgottenSoon() {
        let patience = SpinPolicy()
        for _ in 0..<100 { patience.note(10_000) }
        patience.note(3_600_000_000_000)
        let limit = patience.limit
        #expect(limit > 0)
    }

    /// Where others want the core, a thread that sleeps is woken before them, and one that looks out waits behind them.
    @Test func coreIsLeftToOthersWhoWantIt() {
        let patience = SpinPolicy()
        for _ in 0..<100 { patience.note(10_000) }
        // A few who yield like us.
        let isQuiet = patience.isCrowded(200_000)
        let isCrowded = patience.isCrowded(3_000_000)
        #expect(!isQuiet)
        #expect(isCrowded)
        let limits = (0..<1_000).map { _ in patience.limit }
        #expect(limits.prefix(100).allSatisfy { $0 == 0 })
        #expect(limits.last != 0)
    }

    /// To find out costs a time slice, and so is tried less and less often while it goes on.
    @Test func whereOthersWantTheCoreForLongThatIsFoundOutSeldom() {
        let patience = SpinPolicy()
        for _ in 0..<100 { patience.note(10_000) }
        var looks = 0
        for _ in 0..<100_000 where patience.limit > 0 {
            looks += 1
            _ = patience.isCrowded(3_000_000)
        }
        #expect(looks < 20)
        // And when they are gone, it is forgotten.
        for _ in 0..<100_000 where patience.limit > 0 { patience.noteUndisturbed() }
        _ = patience.isCrowded(3_000_000)
        let limits = (0..<1_000).map { _ in patience.limit }
        #expect(limits.count { $0 == 0 } == Int(SpinPolicy.fewestCrowded))
    }

    @Test func nobodyIsAwaitedForLongerThanTheMost() {
        let patience = SpinPolicy()
        for pause in stride(from: 0 as UInt64, to: 2_000_000, by: 1_000) {
            patience.note(pause)
            let limit = patience.limit
            #expect(limit <= SpinPolicy.most)
        }
    }
}

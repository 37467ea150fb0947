import TestSupport
import Testing

@testable import Liveness

@Suite struct ExpiryQueueTests {
    private let start = FakeClock.start

    private func instant(_ delay: Duration) -> CompactInstant { CompactInstant(start + delay) }

    @Test func runtimesComeUpInTheOrderOfTheirDeadlines() {
        var queue = ExpiryQueue()
        for number in [5, 1, 4, 2, 3] { queue.add(number, deadline: instant(.seconds(number))) }
        #expect(queue.earliest == instant(.seconds(1)))
        let first = queue.expired(at: instant(.seconds(3)), limit: 2) { instant(.seconds($0)) }
        #expect(first.map(\.slot) == [1, 2])
        let second = queue.expired(at: instant(.seconds(3)), limit: 9) { instant(.seconds($0)) }
        #expect(second.map(\.slot) == [3])
        #expect(queue.count == 2 && queue.earliest == instant(.seconds(4)))
    }

    @Test func laterDeadlineIsFoundWhenTheEarlierOneHasCome() {
        var queue = ExpiryQueue()
        queue.add(1, deadline: instant(.seconds(1)))
        queue.add(1, deadline: instant(.seconds(9)))
        #expect(queue.count == 1)
        let early = queue.expired(at: instant(.seconds(2)), limit: 9) { _ in instant(.seconds(9)) }
        #expect(early.isEmpty)
        #expect(queue.earliest == instant(.seconds(9)) && queue.count == 1)
        let due = queue.expired(at: instant(.seconds(9)), limit: 9) { _ in instant(.seconds(9)) }
        #expect(due.count == 1)
        #expect(queue.earliest == nil)
    }

    @Test func removedRuntimesLeaveNothingBehind() {
        var queue = ExpiryQueue()
        // Made and forgotten again and again, with lives of years.
        for number in 0..<20_000 {
            queue.add(number % 100, deadline: instant(.seconds(1_000_000_000 - number)))
            queue.remove(number % 100)
        }
        #expect(queue.count == 0 && queue.earliest == nil)
        queue.remove(7)
        queue.remove(1_000_000)
    }

    /// Looked at a few at a time, the same come up in the same order as at once.
    @Test(arguments: [1, 7, 64])
    func partsAddUpToTheWhole(_ part: Int) {
        var random = SplitMix64(state: 1)
        var whole = ExpiryQueue()
        for slot in 0..<3000 {
            // Many at one instant.
            whole.add(slot, deadline: instant(.seconds(Int.random(in: 1...40, using: &random))))
        }
        var parts = whole
        // Some were touched since.
        let deadline = { (slot: Int) in instant(.seconds(slot % 9 == 0 ? 100 : 1)) }
        let expected = whole.expired(at: instant(.seconds(30)), limit: .max, deadline: deadline).map(\.slot)
        var found: [Int] = []
        while let earliest = parts.earliest, earliest <= instant(.seconds(30)) {
            found += parts.expired(at: instant(.seconds(30)), limit: part, deadline: deadline).map(\.slot)
        }
        #expect(found == expected)
        #expect(parts.count == whole.count && parts.earliest == whole.earliest)
    }

    /// Against a dictionary that is searched as a whole.
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func agreesWithADictionary(_ seed: UInt64) {
        var random = SplitMix64(state: seed)
        var queue = ExpiryQueue()
        // As the table has them: a deadline that only grows while the runtime is there.
        var model: [Int: CompactInstant] = [:]
        // Those that were named and not touched since.
        var said: Set<Int> = []
        var now = start
        for _ in 0..<20_000 {
            let slot = Int.random(in: 0..<40, using: &random)
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let deadline = CompactInstant(now + .milliseconds(Int.random(in: 1...2000, using: &random)))
                let known = model[slot].flatMap { said.contains(slot) ? nil : $0 }
                model[slot] = max(deadline, known ?? deadline)
                said.remove(slot)
                queue.add(slot, deadline: model[slot] ?? deadline)
            case 5:
                model[slot] = nil
                said.remove(slot)
                queue.remove(slot)
            default:
                now += .milliseconds(Int.random(in: 0...100, using: &random))
                let instant = CompactInstant(now)
                let limit = Int.random(in: 1...60, using: &random)
                let due = Set(model.filter { $0.value <= instant && !said.contains($0.key) }.keys)
                let expired = queue.expired(at: instant, limit: limit) { model[$0] }
                #expect(Set(expired.map(\.slot)).count == expired.count)
                #expect(Set(expired.map(\.slot)).isSubset(of: due))
                #expect(expired.allSatisfy { model[$0.slot] == $0.deadline })
                said.formUnion(expired.map(\.slot))
                let isDone = queue.earliest.map { $0 > instant } ?? true
                if isDone { #expect(said.isSuperset(of: due)) }
            }
            #expect(queue.count == model.keys.filter { !said.contains($0) }.count)
            // Nobody is waited for too long.
            if let earliest = model.filter({ !said.contains($0.key) }).values.min() {
                #expect(queue.earliest.map { $0 <= earliest } ?? false)
            }
        }
    }
}

import SeededRandom
import Testing

@testable import Liveness

@Suite struct ExpiryQueueTests {
    private let start = FakeClock.start

    private func id(_ number: Int) throws -> RuntimeID { try RuntimeID("r\(number)") }

    @Test func runtimesComeUpInTheOrderOfTheirDeadlines() throws {
        var queue = ExpiryQueue()
        for number in [5, 1, 4, 2, 3] { queue.add(try id(number), deadline: start + .seconds(number)) }
        #expect(queue.earliest == start + .seconds(1))
        let first = queue.expired(at: start + .seconds(3), limit: 2) { [self] in deadline($0) }
        #expect(try first.map(\.id) == [id(1), id(2)])
        let second = queue.expired(at: start + .seconds(3), limit: 9) { [self] in deadline($0) }
        #expect(try second.map(\.id) == [id(3)])
        #expect(queue.count == 2 && queue.earliest == start + .seconds(4))
    }

    private func deadline(_ id: RuntimeID) -> ContinuousClock.Instant? {
        Int(id.description.dropFirst()).map { start + .seconds($0) }
    }

    @Test func laterDeadlineIsFoundWhenTheEarlierOneHasCome() throws {
        var queue = ExpiryQueue()
        queue.add(try id(1), deadline: start + .seconds(1))
        queue.add(try id(1), deadline: start + .seconds(9))
        #expect(queue.size == 1)
        #expect(queue.expired(at: start + .seconds(2), limit: 9) { _ in start + .seconds(9) }.isEmpty)
        #expect(queue.earliest == start + .seconds(9) && queue.size == 1)
        #expect(queue.expired(at: start + .seconds(9), limit: 9) { _ in start + .seconds(9) }.count == 1)
        #expect(queue.earliest == nil)
    }

    @Test func removedRuntimesLeaveNothingBehind() throws {
        var queue = ExpiryQueue()
        // Made and forgotten again and again, with lives of years.
        for number in 0..<20_000 {
            queue.add(try id(number), deadline: start + .seconds(1_000_000_000 - number))
            queue.remove(try id(number))
            #expect(queue.size <= 65)
        }
        for number in 0..<20_000 {
            queue.remove(try id(7))
            queue.add(try id(7), deadline: start + .seconds(1_000_000 - number))
            #expect(queue.size <= 67)
        }
        #expect(queue.count == 1)
    }

    /// Against a dictionary that is searched as a whole.
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func agreesWithADictionary(_ seed: UInt64) throws {
        var random = SplitMix64(state: seed)
        var queue = ExpiryQueue()
        // As the table has them: a deadline that only grows while the runtime is there.
        var model: [RuntimeID: ContinuousClock.Instant] = [:]
        // Those that were named and not touched since.
        var said: Set<RuntimeID> = []
        var now = start
        for _ in 0..<20_000 {
            let id = try id(Int.random(in: 0..<40, using: &random))
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let deadline = now + .milliseconds(Int.random(in: 1...2000, using: &random))
                let known = model[id].flatMap { said.contains(id) ? nil : $0 }
                model[id] = max(deadline, known ?? deadline)
                said.remove(id)
                queue.add(id, deadline: model[id] ?? deadline)
            case 5:
                model[id] = nil
                said.remove(id)
                queue.remove(id)
            default:
                now += .milliseconds(Int.random(in: 0...100, using: &random))
                let limit = Int.random(in: 1...60, using: &random)
                let due = Set(model.filter { $0.value <= now && !said.contains($0.key) }.keys)
                let expired = queue.expired(at: now, limit: limit) { model[$0] }
                #expect(Set(expired.map(\.id)).count == expired.count)
                #expect(Set(expired.map(\.id)).isSubset(of: due))
                #expect(expired.allSatisfy { model[$0.id] == $0.deadline })
                said.formUnion(expired.map(\.id))
                let isDone = queue.earliest.map { $0 > now } ?? true
                if isDone { #expect(said.isSuperset(of: due)) }
            }
            #expect(queue.count == model.keys.filter { !said.contains($0) }.count)
            #expect(queue.size <= 2 * queue.count + 65)
            // Nobody is waited for too long.
            if let earliest = model.filter({ !said.contains($0.key) }).values.min() {
                #expect(queue.earliest.map { $0 <= earliest } ?? false)
            }
        }
    }
}

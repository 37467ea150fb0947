import TestSupport
import Testing

@testable import Liveness

@Suite struct SlotMapTests {
    /// A key of which the hash is known, to have some that collide.
    private struct Key: Hashable, Sendable {
        let number: Int
        let hashValue: Int

        init(_ number: Int, colliding: Bool) {
            self.number = number
            // Of a hash the upper half is what tells slots apart.
            var random = SplitMix64(state: UInt64(colliding ? number % 7 : number))
            hashValue = Int(truncatingIfNeeded: random.next())
        }

        func hash(into hasher: inout Hasher) { hasher.combine(number) }
        static func == (one: Key, other: Key) -> Bool { one.number == other.number }
    }

    /// Against a dictionary: growing, shrinking and to and fro, with few collisions and with many.
    @Test(arguments: [(20_000, false), (200, true)])
    func agreesWithADictionary(_ keys: Int, colliding: Bool) {
        var random = SplitMix64(state: 1)
        var map = SlotMap<Key, Int>()
        var model: [Key: (slot: Int, value: Int)] = [:]
        for step in 0..<40_000 {
            let key = Key(Int.random(in: 0..<keys, using: &random), colliding: colliding)
            // For some time more is added, for some time more is removed.
            let isAdding = Int.random(in: 0..<10, using: &random) < (step / 10_000 % 2 == 0 ? 8 : 2)
            if let known = model[key] {
                #expect(map.slot(of: key) == known.slot)
                if isAdding {
                    map[slot: known.slot] = step
                    model[key]?.value = step
                } else {
                    map.remove(slot: known.slot)
                    model[key] = nil
                }
            } else {
                #expect(map.slot(of: key) == nil)
                if isAdding { model[key] = (map.insert(key, step), step) }
            }
            #expect(map.count == model.count)
        }
        #expect(model.allSatisfy { map[$0.key] == $0.value.value && map.key(at: $0.value.slot) == $0.key })
        #expect(map.slots.count { map.value(at: $0) != nil } == model.count)
        let asked = (0..<keys).map { Key($0, colliding: colliding) }
        let found = asked.withUnsafeBufferPointer { keys in
            map.slots(of: keys, hashes: asked.map(\.hashValue)) { UInt8($0.number % 2) }
        }
        #expect(found == asked.map { model[$0]?.slot })
        let copy = map
        for known in model.values { map.remove(slot: known.slot) }
        #expect(map.isEmpty && map.slots.isEmpty)
        #expect(copy.count == model.count && model.allSatisfy { copy[$0.key] == $0.value.value })
    }

    @Test func copyOfBlocksIsItsOwn() {
        var blocks = Blocks<[Int]>()
        for number in 0..<3000 { blocks.append([number]) }
        let copy = blocks
        blocks[0] = []
        for _ in 0..<2500 { blocks.removeLast() }
        blocks.append([-1])
        #expect((0..<3000).allSatisfy { copy[$0] == [$0] } && copy.count == 3000)
        #expect(blocks.count == 501 && blocks[0] == [] && blocks[499] == [499] && blocks[500] == [-1])
    }

    /// In as many elements as lie in large pages, with objects in them that have to be let go.
    @Test func blocksReachIntoLargePages() {
        final class Counted: Sendable {}
        let object = Counted()
        weak var last: Counted?
        do {
            let other = Counted()
            last = other
            var blocks = Blocks<(Int, Counted)>()
            for number in 0..<300_000 { blocks.append((number, number == 299_999 ? other : object)) }
            #expect(LargePages.bytes >= 2 * LargePages.size)
            blocks[200_000].0 = -1
            let copy = blocks
            blocks[250_000].0 = -2
            for _ in 0..<10 { blocks.removeLast() }
            let isRight = (0..<300_000).allSatisfy { copy[$0].0 == ($0 == 200_000 ? -1 : $0) }
            #expect(isRight && blocks[250_000].0 == -2 && blocks[299_989].0 == 299_989 && blocks.count == 299_990)
        }
        #expect(last == nil)
    }
}

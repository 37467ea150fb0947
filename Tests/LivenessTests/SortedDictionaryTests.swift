import TestSupport
import Testing

@testable import Liveness

@Suite(.timeLimit(.minutes(5))) struct SortedDictionaryTests {
    /// Growing and shrinking by turns, against a dictionary.
    @Test(arguments: [1, 2] as [UInt64])
    func agreesWithADictionary(_ seed: UInt64) {
        var random = SplitMix64(state: seed)
        var sorted = SortedDictionary<Int, Int>()
        var model: [Int: Int] = [:]
        for step in 0..<20_000 {
            let key = Int.random(in: 0..<1000, using: &random)
            if Int.random(in: 0..<10, using: &random) < (step / 5000 % 2 == 0 ? 8 : 2) {
                sorted.updateValue(step, forKey: key)
                model[key] = step
            } else {
                sorted.removeValue(forKey: key)
                model[key] = nil
            }
            #expect(sorted[key] == model[key] && sorted.count == model.count)
            if step % 100 == 0 {
                #expect(sorted.keys == model.keys.sorted())
                #expect(Dictionary(uniqueKeysWithValues: sorted.entries.map { ($0.key, $0.value) }) == model)
                #expect(model.keys.allSatisfy { sorted.index(of: $0).map { sorted.entries[$0].key } == $0 })
            }
        }
    }

    @Test func valuesChangeInPlace() {
        var sorted = SortedDictionary<String, [Int]>()
        sorted.updateValue([1], forKey: "a")
        let copy = sorted
        if let index = sorted.index(of: "a") { sorted[index].append(2) }
        #expect(sorted["a"] == [1, 2] && copy["a"] == [1] && sorted.index(of: "b") == nil)
    }

    @Test(arguments: [1, 3, 100])
    func slicesVisitEveryKeyThatStays(_ limit: Int) {
        var random = SplitMix64(state: 3)
        var sorted = SortedDictionary<Int, Void>()
        for key in 0..<200 { sorted.updateValue((), forKey: key * 2) }
        var visited: [Int] = []
        while case let slice = sorted.keys(after: visited.last, limit: limit), !slice.isEmpty {
            visited += slice
            for _ in 0..<5 {
                // Multiples of ten stay.
                let key = Int.random(in: 0..<400, using: &random)
                guard key % 10 != 0 else { continue }
                if Bool.random(using: &random) {
                    sorted.updateValue((), forKey: key)
                } else {
                    sorted.removeValue(forKey: key)
                }
            }
        }
        #expect(visited == Set(visited).sorted())
        #expect(Set(visited).isSuperset(of: stride(from: 0, to: 400, by: 10)))
    }

    @Test func sweepLooksAtALimitedNumberAndEndsAtZero() {
        var sorted = SortedDictionary<Int, Int>()
        for key in 0..<10 { sorted.updateValue(key, forKey: key) }
        var position = 0
        var looks: [Int] = []
        repeat {
            var inspected = 0
            position = sorted.removeValues(from: position, limit: 4) { value in
                inspected += 1
                return value % 3 == 0
            }
            looks.append(inspected)
        } while position != 0
        #expect(looks == [4, 4, 2])
        #expect(sorted.keys == [1, 2, 4, 5, 7, 8] && sorted.entries.map(\.value).sorted() == sorted.keys)
    }
}

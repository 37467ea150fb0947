import TestSupport
import Testing

@testable import Liveness

@Suite struct SeededHashTests {
    @Test func sameBytesHaveTheSameHashWhereverTheyLie() {
        for count in 0..<100 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7 + 32) & 0x7F }
            let shifted = Array(([0] + bytes).dropFirst())
            #expect(SeededHash.hash(bytes) == SeededHash.hash(shifted))
            #expect(SeededHash.hash(bytes) == SeededHash.hash(String(decoding: bytes, as: UTF8.self)))
        }
    }

    /// Every byte counts, and so does the length.
    @Test func bytesThatDifferLittleDifferInHash() {
        var hashes: Set<Int> = []
        for count in 0..<70 {
            let zeros = [UInt8](repeating: 0, count: count)
            hashes.insert(SeededHash.hash(zeros))
            for place in 0..<count {
                var bytes = zeros
                bytes[place] = 1
                hashes.insert(SeededHash.hash(bytes))
            }
        }
        #expect(hashes.count == 70 + 69 * 70 / 2)
    }

    /// As many ids as a table has, alike but for their digits: as even as if drawn at random, in the bits that are used.
    @Test func idsThatAreAlikeSpreadEvenly() throws {
        var pages = [Int](repeating: 0, count: 1024)
        var tags: Set<UInt64> = []
        for number in 0..<100_000 {
            let hash = UInt64(bitPattern: Int64(SeededHash.hash("rig-\(number / 100)/polecats/agent-\(number)")))
            pages[Int(hash >> 54)] += 1
            tags.insert(hash >> 32)
        }
        // 97.7 on average with a deviation of 9.9; of 2^32 tags a collision or two is to be expected.
        #expect(pages.allSatisfy { (30...180).contains($0) })
        #expect(tags.count > 99_980)
    }
}

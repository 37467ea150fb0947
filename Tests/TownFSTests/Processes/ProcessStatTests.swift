import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct ProcessStatTests {
    private func parse(_ text: String) -> ProcessStat? {
        Array(text.utf8).withUnsafeBytes { ProcessStat($0) }
    }

    private func text(
        _ name: String = "sh", state: String = "S", parent: Int = 7, startTime: UInt64 = 4711, startCode: Int = 93,
        startStack: UInt64 = 140_000_000_000_000
    ) -> String {
        "42 (\(name)) \(state) \(parent) 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 \(startTime) 2625536 192 "
            + "18446744073709551615 \(startCode) 94 \(startStack) 0 0 0 0 0 65538 0 0 0 17 0 0 0 0 0 0\n"
    }

    @Test func fieldsAreFoundByTheirNumbers() throws {
        let stat = try #require(parse(text()))
        #expect(stat.parent == 7)
        #expect(stat.program == "sh")
        #expect(stat.image.startTime == 4711)
        #expect(!stat.isZombie)
        #expect(!stat.image.isWithoutMemory)
    }

    @Test(arguments: ["tmux: server", "a) S 1 2 (b", "((", "))", "", "\u{1b}[2J"])
    func nameMayHoldAnything(_ name: String) throws {
        let stat = try #require(parse(text(name)))
        #expect(stat.program == name)
        #expect(stat.parent == 7)
    }

    @Test func programThatIsExecutedIsAnotherImage() throws {
        let before = try #require(parse(text()))
        #expect(try #require(parse(text(state: "R"))).image == before.image)
        #expect(try #require(parse(text(startStack: 140_000_000_000_016))).image != before.image)
        #expect(try #require(parse(text(startTime: 4712))).image != before.image)
        // prctl(2) changes the name; the program is still the same.
        #expect(try #require(parse(text("worker"))).image == before.image)
    }

    @Test func programNameDistinguishesImagesWhenAddressesAreHidden() throws {
        let before = try #require(parse(text("sh", startCode: 1, startStack: 0)))
        #expect(before.image.isWithoutMemory)
        #expect(try #require(parse(text("node", startCode: 1, startStack: 0))).image != before.image)
    }

    @Test func zombieIsReportedAsZombie() throws {
        #expect(try #require(parse(text(state: "Z", startStack: 0))).isZombie)
        #expect(try #require(parse(text(state: "X", startStack: 0))).isZombie)
    }

    @Test(arguments: ["", "42", "42 (sh", "42 (sh) S 1 2 3", ")(", "42 (sh) S"])
    func truncatedEntryIsIgnored(_ text: String) {
        #expect(parse(text) == nil)
    }
}

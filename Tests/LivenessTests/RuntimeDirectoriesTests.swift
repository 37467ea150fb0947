import TestSupport
import Testing

@testable import Liveness

/// Directories of ids, against a search of every runtime.
@Suite(.timeLimit(.minutes(5))) struct RuntimeDirectoriesTests {
    private let start = FakeClock.start
    private let ids: [RuntimeID]

    init() throws {
        let names = ["a", "b", "c"]
        let pairs = names.flatMap { one in names.map { "\(one)/\($0)" } }
        ids = try (names + pairs + pairs.flatMap { pair in names.map { "\(pair)/\($0)" } }).map { try RuntimeID($0) }
    }

    private var directories: [String] { [""] + ids.map { "\($0)/" } }

    private func touch(_ id: RuntimeID, at now: ContinuousClock.Instant, ttl: Duration) -> Touch {
        Touch(
            runtime: id, receivedAt: WallTime(seconds: 0) + (now - start), at: now, ttl: ttl, document: nil,
            source: .command)
    }

    private func hasLivingRuntimes(
        in directory: String, _ table: LivenessTable, at now: ContinuousClock.Instant
    ) -> Bool {
        var isFound = false
        var next: String? = directory
        while let start = next {
            next = table.visitRuntimes(in: directory, from: start, limit: 3) { _, record in
                isFound = record.isAlive(at: now)
                return !isFound
            }
        }
        return isFound
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func agreesWithASearchOfAll(_ seed: UInt64) {
        var random = SplitMix64(state: seed)
        var table = LivenessTable(retention: .seconds(40))
        var now = start
        for _ in 0..<300 {
            now += .milliseconds(Int.random(in: 0...2000, using: &random))
            guard let id = ids.randomElement(using: &random) else { continue }
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5: table.touch(touch(id, at: now, ttl: .seconds(Int.random(in: 1...20, using: &random))))
            case 5..<7: table.forget(.runtime(id), stamp: HLCTimestamp(.goZero), at: now)
            case 7..<9:
                let exit = Record.Exit(
                    of: Touch.Process(pid: 1, program: "claude"), noticedAt: WallTime(seconds: 0), at: now)
                _ = table.exit(id, exit, stamp: HLCTimestamp(WallTime(seconds: 0)))
            default: table.sweep(at: now)
            }
            let known = ids.filter { table.record(of: $0) != nil }
            for directory in directories {
                let backing = known.filter { $0.description.hasPrefix(directory) }
                let living = backing.filter { table.isAlive($0, at: now) }
                #expect(table.hasRuntimes(in: directory) == !backing.isEmpty)
                #expect(hasLivingRuntimes(in: directory, table, at: now) == !living.isEmpty)
                var listing = RuntimeListing(of: directory)
                while !listing.isComplete { listing.advance(through: table, limit: 2, at: now) }
                let rests = Set(backing.map { String($0.description.dropFirst(directory.count)) })
                #expect(
                    listing.runtimes.map(\.id.description).sorted()
                        == rests.filter { !$0.contains("/") }.map { directory + $0 }.sorted())
                #expect(listing.runtimes.allSatisfy { table.isAlive($0.id, at: now) == $0.isAlive })
                let names = Set(rests.filter { $0.contains("/") }.map { $0.prefix { $0 != "/" } })
                #expect(listing.directories.map(\.path).sorted() == names.map { "\(directory)\($0)/" }.sorted())
                #expect(listing.directories.allSatisfy { hasLivingRuntimes(in: $0.path, table, at: now) == $0.isAlive })
            }
        }
    }

    /// Every directory that a path leads through lists the next name, and each id is in one directory.
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func idsOfAnyTextAreListedWhereTheirPathsLead(_ seed: UInt64) throws {
        var random = SplitMix64(state: seed)
        var table = LivenessTable()
        var ids: [RuntimeID] = try [
            "a/", "a/b", "a//", "a//b", "/", "//", "/a", "a/\u{301}", "a/\u{301}/b", "a\u{301}/b", "á/b",
        ]
        .map { try RuntimeID($0) }
        ids += (0..<300).compactMap { _ in try? RuntimeID(RuntimeIDTests.oddText(&random)) }
        for id in ids { table.touch(touch(id, at: start, ttl: .seconds(Bool.random(using: &random) ? 90 : 1))) }
        let now = start + .seconds(10)
        var listed: [RuntimeID] = []
        var directories: Set<RuntimeDirectory> = [.top]
        var rest = [RuntimeDirectory.top]
        while let directory = rest.popLast() {
            var listing = RuntimeListing(of: directory.prefix)
            while !listing.isComplete { listing.advance(through: table, limit: 3, at: now) }
            #expect(table.hasRuntimes(in: directory.prefix))
            for (path, isAlive) in listing.directories {
                let child = RuntimeDirectory(validated: path)
                let isNew = directories.insert(child).inserted
                #expect(isNew && child.mayContainIDs && directory.child(towards: path + "x") == child)
                #expect(hasLivingRuntimes(in: path, table, at: now) == isAlive)
                rest.append(child)
            }
            for (id, isAlive) in listing.runtimes {
                #expect(table.isAlive(id, at: now) == isAlive)
                #expect(try directory.id(named: id.names[id.names.count - 1]) == id)
            }
            listed += listing.runtimes.map(\.id)
        }
        #expect(listed.sorted() == Set(ids).sorted())
        #expect(!table.hasRuntimes(in: "a\u{301}x/") && !table.hasRuntimes(in: "e\u{301}x/"))
    }

    @Test func directoryOfOneFormOfALetterDoesNotContainTheOther() throws {
        var table = LivenessTable()
        for id in ["e\u{301}/x", "b/", "c"] { table.touch(touch(try RuntimeID(id), at: start, ttl: .seconds(90))) }
        #expect(table.hasRuntimes(in: "e\u{301}/"))
        #expect(!table.hasRuntimes(in: "\u{E9}/"))
        #expect(!table.hasRuntimes(in: "b/"))
        #expect(!table.hasRuntimes(in: "aaaa/"))
        #expect(!hasLivingRuntimes(in: "b/", table, at: start))
        #expect(table.record(of: try RuntimeID("\u{E9}/x")) == nil)
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func listingHasEverythingThatExistsThroughout(_ seed: UInt64) throws {
        var random = SplitMix64(state: seed)
        var table = LivenessTable()
        let ids = try (0..<300).map { try RuntimeID($0 % 3 == 0 ? "rig\($0)/x" : "r\($0)") }
        let stay = Set(ids.filter { $0.description.hasSuffix("7") || $0.description.hasSuffix("7/x") })
        for id in ids { table.touch(touch(id, at: start, ttl: .seconds(90))) }
        var listing = RuntimeListing(of: "")
        while !listing.isComplete {
            listing.advance(through: table, limit: 5, at: start)
            for _ in 0..<20 {
                guard let id = ids.randomElement(using: &random), !stay.contains(id) else { continue }
                if Bool.random(using: &random) {
                    table.forget(.runtime(id), stamp: HLCTimestamp(.goZero), at: start)
                } else {
                    table.touch(touch(id, at: start, ttl: .seconds(90)))
                }
            }
        }
        let listed = Set(listing.runtimes.map(\.id.description) + listing.directories.map { "\($0.path)x" })
        #expect(listed.isSuperset(of: stay.map(\.description)))
        #expect(listed.isSubset(of: ids.map(\.description)))
    }
}

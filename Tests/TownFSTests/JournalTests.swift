import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct JournalTests {
    /// The shared memory, a writing journal, and the keeper's read-only mapping.
    private struct Shared {
        let writer: Journal
        let reader: Journal

        init() throws {
            let memory = try Journal.makeMemory(regionSize: 64 << 20)
            let second = OwnedDescriptor(
                takingOwnershipOf: try retryingInterrupts { fcntl(memory.rawValue, F_DUPFD_CLOEXEC, 0) })
            writer = try Journal(takingOwnershipOf: memory)
            reader = try Journal(takingOwnershipOf: second)
        }
    }

    private func content(_ text: String, modified: WallTime = WallTime(seconds: 1, nanoseconds: 2))
        -> SignalFile.Content
    {
        SignalFile.Content(
            document: Document(Array(text.utf8)), modified: modified, changed: modified,
            ownership: .init(mode: 0o4640, user: 12, group: 34), deadline: .now)
    }

    private func path(_ name: some StringProtocol) -> [UInt8] { Array(name.utf8) }

    /// The replayed entry of each path, with documents as text.
    private func replayed(_ journal: Journal) -> [[UInt8]: String] {
        journal.replay().mapValues { event in
            switch event {
            case .content(let content): String(decoding: content.document.bytes, as: UTF8.self)
            case .written(let content): "written: " + String(decoding: content.document.bytes, as: UTF8.self)
            case .unlinked: "(removed)"
            case .clean: "(clean)"
            }
        }
    }

    @Test func emptyMemoryReplaysNothing() throws {
        #expect(try replayed(Shared().reader) == [:])
    }

    @Test func contentSurvivesWithAllThatARealFileNeeds() throws {
        let shared = try Shared()
        let modified = WallTime(seconds: -5, nanoseconds: 999_999_999)
        #expect(shared.writer.append(.content(content("{}", modified: modified)), at: path("a/b.json")))
        guard case .content(let read)? = shared.reader.replay()[path("a/b.json")] else {
            Issue.record("no content")
            return
        }
        #expect(read.document.bytes == Array("{}".utf8))
        #expect(read.modified == modified)
        #expect(read.ownership == .init(mode: 0o4640, user: 12, group: 34))
    }

    @Test func lastEventOfAPathCounts() throws {
        let shared = try Shared()
        let events: [(String, Journal.Event)] = [
            ("a", .content(content("1"))), ("b", .content(content("2"))), ("a", .content(content("3"))),
            ("b", .unlinked), ("c", .content(content("4"))), ("c", .clean), ("d", .unlinked),
            ("d", .content(content("5"))),
        ]
        for (name, event) in events { #expect(shared.writer.append(event, at: path(name))) }
        #expect(
            replayed(shared.reader)
                == [path("a"): "3", path("b"): "(removed)", path("c"): "(clean)", path("d"): "5"])
    }

    /// If the worker is killed between two entries, the keeper replays every earlier one.
    @Test func everyPrefixReplays() throws {
        let shared = try Shared()
        var expected: [[UInt8]: String] = [:]
        for number in 0..<300 {
            let path = path("p\(number % 7)")
            switch number % 5 {
            case 3:
                #expect(shared.writer.append(.unlinked, at: path))
                expected[path] = "(removed)"
            case 4:
                #expect(shared.writer.append(.clean, at: path))
                expected[path] = "(clean)"
            default:
                let text = String(repeating: "x", count: number * 11) + "\(number)"
                #expect(shared.writer.append(.content(content(text)), at: path))
                expected[path] = text
            }
            // Synced documents may be removed from the journal.
            let kept = replayed(shared.reader).filter { $0.value != "(clean)" }
            #expect(kept == expected.filter { $0.value != "(clean)" })
        }
    }

    /// If the worker is killed before it publishes an entry's length, the entry is ignored.
    @Test func unpublishedEntryDoesNotCount() throws {
        let memory = try Journal.makeMemory()
        let descriptor = try retryingInterrupts { fcntl(memory.rawValue, F_DUPFD_CLOEXEC, 0) }
        let copy = OwnedDescriptor(takingOwnershipOf: descriptor)
        let journal = try Journal(takingOwnershipOf: memory)
        #expect(journal.append(.content(content("1")), at: path("a")))
        var before: UInt64 = 0
        #expect(pread(copy.rawValue, &before, 8, 0) == 8)
        #expect(journal.append(.content(content("2")), at: path("a")))
        #expect(journal.append(.unlinked, at: path("b")))
        var after: UInt64 = 0
        #expect(pread(copy.rawValue, &after, 8, 0) == 8)
        // Truncated anywhere, even inside an entry, which a worker never publishes.
        for word in before...after {
            var word = word
            #expect(pwrite(copy.rawValue, &word, 8, 0) == 8)
            let events = replayed(journal)
            #expect(events[path("a")] == "1" || events[path("a")] == "2")
            if word == before { #expect(events == [path("a"): "1"]) }
            if word == after { #expect(events == [path("a"): "2", path("b"): "(removed)"]) }
        }
    }

    /// Invalid bytes end the replay and cause no other harm.
    @Test(arguments: [.max, 1 << 63, 1 << 62, 64 << 20, (64 << 20) + 1, 3] as [UInt64])
    func nonsenseReplaysNothing(_ word: UInt64) throws {
        let memory = try Journal.makeMemory()
        var word = word
        #expect(pwrite(memory.rawValue, &word, 8, 0) == 8)
        #expect(try replayed(Journal(takingOwnershipOf: memory)) == [:])
    }

    @Test func entryOfNonsenseEndsTheReading() throws {
        let memory = try Journal.makeMemory()
        var word: UInt64 = 4096
        #expect(pwrite(memory.rawValue, &word, 8, 0) == 8)
        let noise = [UInt8](repeating: 0xff, count: 4096)
        #expect(pwrite(memory.rawValue, noise, noise.count, 4096) == noise.count)
        #expect(try replayed(Journal(takingOwnershipOf: memory)) == [:])
    }

    @Test func manyTouchesOfOneFileUseLittleMemory() throws {
        let memory = try Journal.makeMemory()
        let descriptor = try retryingInterrupts { fcntl(memory.rawValue, F_DUPFD_CLOEXEC, 0) }
        let copy = OwnedDescriptor(takingOwnershipOf: descriptor)
        let journal = try Journal(takingOwnershipOf: memory)
        let text = String(repeating: "x", count: 1000)
        for number in 0..<5000 { #expect(journal.append(.content(content(text + "\(number)")), at: path("a"))) }
        #expect(replayed(journal) == [path("a"): text + "4999"])
        let status = try FileStatus(of: copy.rawValue)
        #expect(status.st_blocks * 512 < 2 << 20)
    }

    @Test func compactionKeepsDirtyDocuments() throws {
        let shared = try Shared()
        let large = String(repeating: "y", count: Document.maximumSize)
        var expected: [[UInt8]: String] = [:]
        for number in 0..<1000 {
            let path = path("files/\(number)")
            #expect(shared.writer.append(.content(content("\(number)")), at: path))
            expected[path] = "\(number)"
        }
        // Large synced documents force several compactions, which keep the small ones.
        for number in 0..<200 {
            let path = path("large/\(number % 3)")
            #expect(shared.writer.append(.content(content(large)), at: path))
            #expect(shared.writer.append(.clean, at: path))
        }
        #expect(replayed(shared.reader).filter { $0.value != "(clean)" } == expected)
    }

    @Test func fullJournalThrows() throws {
        let shared = try Shared()
        let large = content(String(repeating: "z", count: Document.maximumSize))
        var accepted = 0
        while accepted < 2000, shared.writer.append(.content(large), at: path("\(accepted)")) { accepted += 1 }
        // 64 MiB of dirty documents.
        #expect((1000..<1024).contains(accepted))
        // Accepted entries are still there.
        #expect(Set(shared.reader.replay().keys).isSuperset(of: (0..<accepted).map { path("\($0)") }))
    }

    @Test func settlingMakesRoomInAFullJournal() throws {
        let shared = try Shared()
        let large = content(String(repeating: "z", count: Document.maximumSize))
        var accepted = 0
        while accepted < 2000, shared.writer.append(.content(large), at: path("\(accepted)")) { accepted += 1 }
        for number in 0...accepted { _ = shared.writer.append(.clean, at: path("\(number)")) }
        #expect(shared.writer.append(.content(content("{}")), at: path("after")))
        #expect(replayed(shared.reader)[path("after")] == "{}")
    }

    @Test func contentsInBackingFilesMakeRoom() throws {
        let shared = try Shared()
        let large = content(String(repeating: "z", count: Document.maximumSize))
        #expect(shared.writer.append(.content(content("dirty")), at: path("dirty")))
        var accepted = 0
        while accepted < 2000 {
            let path = path("\(accepted)")
            guard shared.writer.append(.content(large), at: path) else { break }
            #expect(shared.writer.append(.written(large), at: path))
            accepted += 1
        }
        #expect(accepted == 2000)
        #expect(replayed(shared.reader)[path("dirty")] == "dirty")
    }

    /// Directories may be nested deeper than PATH_MAX.
    @Test(arguments: [0, 1, 255, 4096, 65_535, 65_536, 100_000])
    func pathMayHaveAnyLength(_ length: Int) throws {
        let shared = try Shared()
        let path = [UInt8](repeating: 0xfe, count: length)
        #expect(shared.writer.append(.content(content("{}")), at: path))
        #expect(replayed(shared.reader) == [path: "{}"])
    }
}

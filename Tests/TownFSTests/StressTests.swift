import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage
import Testing

@testable import TownFS

/// Many threads at one signal file, for the thread sanitizer as much as for the invariants.
@Suite struct StressTests {
    private let path = "daemon/activity.json"

    /// Long enough for the threads to meet, short enough for every run of the tests.
    private static let rounds = 300

    /// What a reader may find: nothing, or one whole document that somebody wrote.
    private static func isWhole(_ text: String) -> Bool {
        let parts = text.split(separator: "\"", omittingEmptySubsequences: false)
        // {"n":"…","timestamp":"…"}, or only the timestamp after a touch of nothing.
        guard text.hasPrefix("{\""), text.hasSuffix("\"}"), parts.count == 9 || parts.count == 5 else { return false }
        return parts.count == 5 || Set(parts[3]).count <= 1
    }

    /// A document whose length and bytes tell a torn read.
    private static func text(_ number: Int, at time: WallTime) -> String {
        let letter = Character(Unicode.Scalar(UInt8(ascii: "a") + UInt8(number % 26)))
        return #"{"n":"\#(String(repeating: letter, count: number * 37 % 3000))","timestamp":"\#(time.rfc3339)"}"#
    }

    /// What may happen to whoever comes while others remove and rename: the name is not there, or not that any more.
    private static let expected: [Errno] = [
        .noSuchFileOrDirectory, .staleNFSFileHandle, .fileExists, .directoryNotEmpty, .notDirectory, .isDirectory,
    ]

    /// Runs every task on a thread of its own until each has done its rounds, and collects what went wrong.
    private func run(_ tasks: [(String, @Sendable (Int) throws -> Void)]) throws -> [String] {
        let complaints = Mutex<[String]>([])
        let ended = try tasks.map { _ in try EventFD() }
        for (index, (name, task)) in tasks.enumerated() {
            let end = ended[index]
            _ = try Thread(named: "stress") {
                Request.asProcess(index) {
                    for round in 0..<Self.rounds {
                        do {
                            try task(round)
                        } catch let error as Errno where Self.expected.contains(error) {
                            // One of the others was here first.
                        } catch {
                            complaints.withLock { $0.append("\(name), round \(round): \(error)") }
                        }
                    }
                }
                end.raise()
            }
        }
        for end in ended { end.wait() }
        return complaints.withLock { $0 }
    }

    private struct Complaint: Error, CustomStringConvertible {
        let description: String
    }

    @Test func readersOnlyEverMeetWholeDocuments() throws {
        try withTown(cacheCapacity: 4) { town in
            let path = path
            @Sendable func read(_ round: Int) throws {
                let text = try town.read(path)
                guard Self.isWhole(text) else { throw Complaint(description: "read \(text)") }
            }
            let complaints = try run([
                ("writer", { try town.write(Self.text($0, at: town.now), to: path) }),
                ("other writer", { try town.write(Self.text($0 + 7, at: town.now), to: path) }),
                (
                    "renamer",
                    {
                        try town.write(Self.text($0 + 13, at: town.now), to: "daemon/x.tmp")
                        try town.rename("daemon/x.tmp", to: path)
                    }
                ),
                ("reader", read), ("other reader", read),
                ("remover", { if $0 % 5 == 0 { try town.unlink(path) } }),
                ("toucher", { _ in try town.setattr(path) { $0.modified = .now } }),
                ("write-down", { _ in town.writeback() }),
                ("lister", { _ in _ = try town.names("daemon") }),
            ])
            #expect(complaints == [])
            try checkAtRest(town)
        }
    }

    @Test func directoryMayComeAndGoBeneathItsUsers() throws {
        // A signal file wherever its directory is; to what is plain there, a writer truncates what others read.
        try withTown(patterns: ["*/activity.json"], cacheCapacity: 2) { town in
            let path = path
            @Sendable func read(_ round: Int) throws {
                let text = try town.read(path)
                guard Self.isWhole(text) else { throw Complaint(description: "read \(text)") }
            }
            let complaints = try run([
                ("writer", { try town.write(Self.text($0, at: town.now), to: path) }),
                ("reader", read), ("other reader", read),
                (
                    "mover",
                    { _ in
                        try town.rename("daemon", to: "away")
                        try town.rename("away", to: "daemon")
                    }
                ),
                ("remover", { if $0 % 5 == 0 { try town.unlink(path) } }),
                ("write-down", { _ in town.writeback() }),
                ("lister", { _ in _ = try town.names("daemon") }),
                ("neighbour", { try town.write("\($0)", to: "daemon/plain") }),
            ])
            #expect(complaints == [])
            // A mover's second rename may have failed for the first of another, never the other way round.
            if try !town.exists("daemon") { try town.rename("away", to: "daemon") }
            try checkAtRest(town)
        }
    }

    /// With nobody at work any more, all views of the file agree, and nothing is left behind.
    private func checkAtRest(_ town: TestTown) throws {
        #expect(town.openHandles.count == 0)
        #expect(town.openDirectoryCount == 0)
        let text = Self.text(1000, at: town.now)
        try town.write(text, to: path)
        #expect(try town.read(path) == text)
        #expect(try town.stat(path).st_size == off_t(text.utf8.count))
        #expect(try town.names("daemon").filter { $0 == "activity.json" }.count == 1)
        town.writeback()
        #expect(try town.readBeneath(path) == text)
        #expect(try !town.namesBeneath("daemon").contains { $0.hasPrefix(".pulsefs-") })
        #expect(town.town.writeback.pendingCount == 0)
        try town.unlink(path)
        town.writeback()
        #expect(try !town.exists(path))
        #expect(try town.readBeneath(path) == nil)
        #expect(town.town.close() == 0)
    }

    @Test func nodesSurviveRenamesAndForgetting() throws {
        let files = Dictionary(uniqueKeysWithValues: (0..<20).map { ("a/b/f\($0)", "\($0)") })
        try withTown(files, cacheCapacity: 1) { town in
            // Held, so that only its path changes beneath it.
            let held = try town.lookup("a/b").inode
            let file = try town.lookup(Array("f7".utf8), in: held).inode
            let complaints = try run([
                (
                    "mover",
                    { _ in
                        try town.rename("a", to: "x")
                        try town.rename("x", to: "a")
                    }
                ),
                (
                    "inner mover",
                    { _ in
                        try town.rename("a/b", to: "c")
                        try town.rename("c", to: "a/b")
                    }
                ),
                (
                    "reader by inode",
                    { _ in
                        // Found wherever its directories are: an open directory must work whatever its path.
                        let status = try Self.undisturbed { try town.getattr(file, for: .me).status }
                        guard status.st_size == 1 else { throw Complaint(description: "size \(status.st_size)") }
                    }
                ),
                (
                    "forgetter",
                    { round in
                        let entry = try Self.undisturbed {
                            try town.lookup(Array("f\(round % 20)".utf8), in: held)
                        }
                        town.forget(entry.inode, count: 1)
                    }
                ),
                // Pushes other descriptors out of the cache.
                ("passer-by", { _ in _ = try town.nodes.descriptor(of: town.lookup("deacon").inode) }),
            ])
            #expect(complaints == [])
            #expect(try town.getattr(file, for: .me).status.st_size == 1)
        }
    }

    /// Makes the errors of `body` complaints, whichever they are.
    private static func undisturbed<Result>(_ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch {
            throw Complaint(description: "\(error)")
        }
    }
}

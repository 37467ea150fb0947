import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage
import Testing

@testable import TownFS

/// Many threads use one signal file: for the thread sanitizer as much as for the invariants.
@Suite(.timeLimit(.minutes(5))) struct StressTests {
    private let path = "daemon/activity.json"

    /// Enough rounds for the threads to collide, few enough for every run of the tests.
    private static let rounds = 300

    /// Whether a reader found what it may: nothing, or one whole document.
    private static func isWhole(_ text: String) -> Bool {
        let parts = text.split(separator: "\"", omittingEmptySubsequences: false)
        // {"n":"…","timestamp":"…"}, or only the timestamp after a touch of a missing file.
        guard text.hasPrefix("{\""), text.hasSuffix("\"}"), parts.count == 9 || parts.count == 5 else { return false }
        return parts.count == 5 || Set(parts[3]).count <= 1
    }

    /// A document whose length and bytes reveal a torn read.
    private static func text(_ number: Int, at time: WallTime) -> String {
        let letter = Character(Unicode.Scalar(UInt8(ascii: "a") + UInt8(number % 26)))
        return #"{"n":"\#(String(repeating: letter, count: number * 37 % 3000))","timestamp":"\#(time.rfc3339)"}"#
    }

    /// Errors allowed while other threads remove and rename: the name is missing or stale.
    private static let expected: [Errno] = [
        .noSuchFileOrDirectory, .staleNFSFileHandle, .fileExists, .directoryNotEmpty, .notDirectory, .isDirectory,
    ]

    /// Runs each task on its own thread for a number of rounds and collects the errors.
    private func run(_ tasks: [(String, @Sendable (Int) throws -> Void)]) throws -> [String] {
        let errors = Mutex<[String]>([])
        let ended = try tasks.map { _ in try EventFD() }
        for (index, (name, task)) in tasks.enumerated() {
            let end = ended[index]
            _ = try Thread(named: "stress") {
                Request.asProcess(index) {
                    for round in 0..<Self.rounds {
                        do {
                            try task(round)
                        } catch let error as Errno where Self.expected.contains(error) {
                            // Another thread was first.
                        } catch {
                            errors.withLock { $0.append("\(name), round \(round): \(error)") }
                        }
                    }
                }
                end.signal()
            }
        }
        for end in ended { end.wait() }
        return errors.withLock { $0 }
    }

    private struct Complaint: Error, CustomStringConvertible {
        let description: String
    }

    @Test func readersSeeOnlyWholeDocuments() throws {
        try withTown(cacheCapacity: 4) { town in
            let path = path
            @Sendable func read(_ round: Int) throws {
                let text = try town.read(path)
                guard Self.isWhole(text) else { throw Complaint(description: "read \(text)") }
            }
            let errors = try run([
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
                ("write-back", { _ in town.writeback() }),
                ("lister", { _ in _ = try town.names("daemon") }),
            ])
            #expect(errors == [])
            try checkAtRest(town)
        }
    }

    @Test func directoryMayBeRemovedAndRecreatedUnderUse() throws {
        // The file is a signal file in each place. On a plain file, readers would see a truncated one.
        try withTown(patterns: ["*/activity.json"], cacheCapacity: 2) { town in
            let path = path
            @Sendable func read(_ round: Int) throws {
                let text = try town.read(path)
                guard Self.isWhole(text) else { throw Complaint(description: "read \(text)") }
            }
            let errors = try run([
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
                ("write-back", { _ in town.writeback() }),
                ("lister", { _ in _ = try town.names("daemon") }),
                ("neighbour", { try town.write("\($0)", to: "daemon/plain") }),
            ])
            #expect(errors == [])
            // A thread's second rename may fail because of another's first, never the other way round.
            if try !town.exists("daemon") { try town.rename("away", to: "daemon") }
            try checkAtRest(town)
        }
    }

    /// When all threads have ended, all views of the file agree and nothing is left behind.
    private func checkAtRest(_ town: TestTown) throws {
        #expect(town.openHandles.count == 0)
        #expect(town.openDirectoryCount == 0)
        let text = Self.text(1000, at: town.now)
        try town.write(text, to: path)
        #expect(try town.read(path) == text)
        #expect(try town.stat(path).st_size == off_t(text.utf8.count))
        #expect(try town.names("daemon").filter { $0 == "activity.json" }.count == 1)
        town.writeback()
        #expect(try town.readBacking(path) == text)
        #expect(try !town.backingNames("daemon").contains { $0.hasPrefix(".pulsefs-") })
        #expect(town.town.writeback.dirtyCount == 0)
        try town.unlink(path)
        town.writeback()
        #expect(try !town.exists(path))
        #expect(try town.readBacking(path) == nil)
        #expect(town.town.close() == 0)
    }

    @Test func nodesSurviveRenamesAndForgetting() throws {
        let files = Dictionary(uniqueKeysWithValues: (0..<20).map { ("a/b/f\($0)", "\($0)") })
        try withTown(files, cacheCapacity: 1) { town in
            // Held open, so that only its path changes.
            let held = try town.lookup("a/b").inode
            let file = try town.lookup(Array("f7".utf8), in: held).inode
            let errors = try run([
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
                        // An open directory must work whatever its path is now.
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
                // Evicts other descriptors from the cache.
                ("other", { _ in _ = try town.nodes.descriptor(of: town.lookup("deacon").inode) }),
            ])
            #expect(errors == [])
            #expect(try town.getattr(file, for: .me).status.st_size == 1)
        }
    }

    /// Turns any error of `body` into a message.
    private static func undisturbed<Result>(_ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch {
            throw Complaint(description: "\(error)")
        }
    }
}

import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

/// Signal files of each kind: one code path, and the same guarantees.
@Suite(.timeLimit(.minutes(5))) struct SignalFileKindTests {
    private static let kinds = SignalKind.allCases
    private static let patterns = kinds.map { "run/{id}.\($0);kind=\($0)" }

    /// A document that every kind keeps byte for byte.
    private static let text = #"{"timestamp":"2026-01-01T00:00:00Z","n":1}"# + "\n"
    private static let other = #"{"timestamp":"2026-01-01T00:00:00Z","n":2}"#

    private func withSignals(
        _ files: [String: String] = [:], expiry: Town.Expiry = .keep, writebackDelay: Duration? = nil,
        _ body: (TestTown) throws -> Void
    ) throws {
        try withTown(files, patterns: Self.patterns, expiry: expiry, writebackDelay: writebackDelay) { town in
            if try !town.exists("run") { try town.mkdir("run") }
            try body(town)
        }
    }

    private func record(_ id: String, in town: TestTown) throws -> Record? {
        town.town.liveness.record(of: try RuntimeID(id))
    }

    // MARK: Commits

    @Test(arguments: kinds) func contentIsCommittedAsAWholeAtClose(_ kind: SignalKind) throws {
        try withSignals { town in
            let path = "run/anna.\(kind)"
            try town.write(Self.other, to: path)
            let handle = try town.open(path, O_WRONLY | O_TRUNC)
            #expect(try town.read(path, by: .other) == Self.other)
            try town.write(String(Self.text.prefix(10)), to: handle)
            #expect(try town.read(path, by: .other) == Self.other)
            try town.write(String(Self.text.dropFirst(10)), to: handle, at: 10)
            #expect(try town.read(path, by: .other) == Self.other)
            try town.close(handle)
            #expect(try town.read(path, by: .other) == Self.text)
            #expect(try town.stat(path).st_size == Self.text.utf8.count)
            #expect(WallTime(try town.stat(path).st_mtim) == town.now)
            #expect(town.town.counters.touches == 2)
            #expect(try record("anna", in: town)?.touch.evidence == .path)
        }
    }

    /// A shell closes a duplicate before it writes, and bash asks for the status of standard output in between.
    ///
    /// Before, that was a touch of its own, with an empty document.
    @Test(arguments: kinds) func closeAndFstatBeforeTheWriteAreNoTouch(_ kind: SignalKind) throws {
        try withSignals { town in
            let path = "run/anna.\(kind)"
            try town.write(Self.other, to: path)
            // This process has a file of that name open, as the shell has.
            let file = "\(town.tree)/anna.\(kind)"
            let descriptor = try OwnedDescriptor(opening: file, in: AT_FDCWD, O_WRONLY | O_CREAT, mode: 0o644)
            let handle = try town.open(path, O_WRONLY | O_TRUNC)
            try town.flush(handle, for: .me)
            #expect(try town.stat(path).st_size == 0)
            #expect(try town.read(path, by: .other) == Self.other)
            #expect(town.town.counters.touches == 1)
            try town.write(Self.text, to: handle)
            try town.close(handle)
            #expect(try town.read(path) == Self.text)
            #expect(town.town.counters.touches == 2)
            withExtendedLifetime(descriptor.rawValue) {}
        }
    }

    @Test(arguments: kinds) func emptiedFileIsATouchAtRelease(_ kind: SignalKind) throws {
        try withSignals { town in
            let path = "run/anna.\(kind)"
            try town.write(Self.text, to: path)
            town.advance(by: .seconds(1))
            let handle = try town.open(path, O_WRONLY | O_TRUNC)
            try town.flush(handle, for: .me)
            try town.flush(handle, for: .other)
            #expect(try town.read(path, by: .other) == Self.text)
            #expect(town.town.counters.touches == 1)
            town.release(handle)
            #expect(town.town.counters.touches == 2)
            let isKept = kind == .raw || kind == .mtime
            let read = try town.read(path, by: .other)
            #expect(isKept ? read == "" : read.contains(#""n":1"#))
            #expect(WallTime(try town.stat(path).st_mtim) == town.now)
        }
    }

    /// Processes of other pid namespaces all have the number 0.
    ///
    /// Before, the look of one committed what another had only emptied.
    @Test(arguments: kinds) func readerInAContainerDoesNotSeeAnEmptiedFile(_ kind: SignalKind) throws {
        try withSignals { town in
            let path = "run/anna.\(kind)"
            let contained = Request(user: getuid(), group: getgid(), thread: 0)
            try town.write(Self.other, to: path, by: contained)
            let handle = try town.open(path, O_WRONLY | O_TRUNC, by: contained)
            try town.flush(handle, for: contained)
            _ = try town.stat(path, by: contained)
            #expect(try town.read(path, by: contained) == Self.other)
            try town.write(Self.text, to: handle, by: contained)
            try town.close(handle, by: contained)
            #expect(try town.read(path, by: contained) == Self.text)
            #expect(town.town.counters.touches == 2)
        }
    }

    /// As `cp -p` does.
    @Test(arguments: kinds) func timeThatAWriterSetsBeforeItClosesIsNoTouch(_ kind: SignalKind) throws {
        try withSignals { town in
            for path in ["run/known.\(kind)", "run/new.\(kind)"] {
                if path.contains("known") { try town.write(Self.other, to: path) }
                let touches = town.town.counters.touches
                let time = town.now + .seconds(-30)
                let handle = try town.open(path, O_WRONLY | O_CREAT | O_TRUNC)
                try town.write(Self.text, to: handle)
                try town.setattr(path, handle: handle) { $0.modified = .at(time.timespec) }
                #expect(town.town.counters.touches == touches)
                try town.close(handle)
                #expect(town.town.counters.touches == touches + 1)
                #expect(try town.read(path) == Self.text)
                #expect(WallTime(try town.stat(path).st_mtim) == (kind == .mtime ? time : town.now))
                // A write after that has a time of its own.
                let second = try town.open(path, O_WRONLY | O_TRUNC)
                try town.write(Self.text, to: second)
                try town.setattr(path, handle: second) { $0.modified = .at(time.timespec) }
                try town.write(" ", to: second, at: off_t(Self.text.utf8.count))
                try town.close(second)
                #expect(WallTime(try town.stat(path).st_mtim) == town.now)
            }
        }
    }

    @Test(arguments: kinds) func renamedFileIsTheContent(_ kind: SignalKind) throws {
        try withSignals { town in
            let path = "run/anna.\(kind)"
            for text in [Self.text, Self.other] {
                try town.write(text, to: "run/tmp")
                let time = town.now + .seconds(-30)
                try town.setBackingTime("run/tmp", to: time)
                try town.rename("run/tmp", to: path)
                #expect(try town.read(path) == text)
                #expect(WallTime(try town.stat(path).st_mtim) == (kind == .mtime ? time : town.now))
                #expect(try town.names("run") == ["anna.\(kind)"])
            }
            #expect(town.town.counters.touches == 2)
            #expect(try record("anna", in: town)?.touch.source == .renamed)
        }
    }

    // MARK: What is kept

    @Test(arguments: kinds) func contentOutlivesWorkerAndMount(_ kind: SignalKind) throws {
        try withSignals(writebackDelay: .seconds(3600)) { town in
            let path = "run/anna.\(kind)"
            let time = town.now + .seconds(-30)
            try town.write(Self.text, to: path)
            try town.setattr(path) { $0.modified = .at(time.timespec) }
            let text = try town.read(path)
            let modified = WallTime(try town.stat(path).st_mtim)
            #expect(modified == (kind == .mtime ? time : town.now))
            let record = try #require(try record("anna", in: town))

            let successor = try town.successor()
            defer { _ = successor.town.close() }
            #expect(try successor.read(path) == text)
            #expect(WallTime(try successor.stat(path).st_mtim) == modified)
            #expect(try self.record("anna", in: successor) == record)
            #expect(successor.town.counters.touches == 2)
            successor.writeback()
            #expect(try successor.readBacking(path) == text)
            #expect(WallTime(try successor.statBacking(path).st_mtim) == modified)

            let next = try successor.next(journal: Journal(takingOwnershipOf: Journal.makeMemory()))
            defer { _ = next.town.close() }
            #expect(try next.read(path) == text)
            #expect(WallTime(try next.stat(path).st_mtim) == modified)
        }
    }

    @Test(arguments: kinds) func contentOfAKilledWorkerIsRecovered(_ kind: SignalKind) throws {
        try withSignals(writebackDelay: .seconds(3600)) { town in
            try town.write(Self.text, to: "run/anna.\(kind)")
            try town.recover()
            #expect(try town.readBacking("run/anna.\(kind)") == Self.text)
        }
    }

    /// Whatever the kind, the backing file is what tools read until the first touch.
    @Test(arguments: kinds) func backingFileIsServedAsItIs(_ kind: SignalKind) throws {
        try withSignals(["run/anna.\(kind)": "no document"]) { town in
            let read = try town.read("run/anna.\(kind)")
            #expect(read == "no document")
            #expect(town.town.counters.touches == 0)
        }
    }

    @Test(arguments: kinds) func expiredFileIsAbsentIfAskedFor(_ kind: SignalKind) throws {
        try withSignals(expiry: .absent) { town in
            let path = "run/anna.\(kind)"
            for _ in 0..<2 {
                try town.write(Self.text, to: path)
                town.advance(by: .seconds(89))
                #expect(try town.exists(path))
                town.advance(by: .seconds(1))
                #expect(try !town.exists(path))
                #expect(try town.names("run") == [])
            }
        }
    }

    @Test(arguments: kinds) func unlinkForgetsTheRuntimeThatThePathNames(_ kind: SignalKind) throws {
        try withSignals { town in
            try town.write(Self.text, to: "run/anna.\(kind)")
            #expect(try record("anna", in: town) != nil)
            try town.unlink("run/anna.\(kind)")
            #expect(try record("anna", in: town) == nil)
            #expect(try !town.exists("run/anna.\(kind)"))
        }
    }

    // MARK: Deadlines

    /// 5,000 signals of all kinds with ttls from 1 s to 8 h: each lives for exactly its own.
    @Test func eachSignalHasTheTTLOfItsRule() throws {
        let ttls = (0..<25).map { 1_000 + $0 * $0 * $0 * $0 * 28_799_000 / (24 * 24 * 24 * 24) }
        let rules = Self.kinds.flatMap { kind in ttls.map { "run/{id}.\(kind)\($0);kind=\(kind);ttl=\($0)ms" } }
        try withTown(patterns: rules) { town in
            try town.mkdir("run")
            var deadlines: [RuntimeID: ContinuousClock.Instant] = [:]
            for kind in Self.kinds {
                for ttl in ttls {
                    for number in 0..<50 {
                        town.advance(by: .microseconds(7))
                        try town.write(Self.text, to: "run/\(kind)\(ttl)-\(number).\(kind)\(ttl)")
                        let id = try RuntimeID("\(kind)\(ttl)-\(number)")
                        deadlines[id] = town.town.now.instant + .milliseconds(ttl)
                    }
                }
            }
            #expect(deadlines.count == 5_000)
            for (id, deadline) in deadlines {
                let record = try #require(town.town.liveness.record(of: id))
                #expect(record.deadline == deadline)
                #expect(record.isAlive(at: deadline - .nanoseconds(1)) && !record.isAlive(at: deadline))
            }
        }
    }

    @Test func timesOfTheFileDateTheTouch() throws {
        let patterns = ["run/{id}.json;kind=json;timestamp=ts;ttl=90s", "run/{id}.mtime;kind=mtime;ttl=90s"]
        try withTown(patterns: patterns) { town in
            try town.mkdir("run")
            let (now, past) = (town.town.now.instant, town.now.seconds - 60)
            for (id, value) in [
                ("s", "\(past)"), ("ms", "\(past)000"), ("rfc", "\"\(WallTime(seconds: past).rfc3339)\""),
            ] {
                try town.write(#"{"ts":\#(value)}"#, to: "run/\(id).json")
                let record = try #require(try record(id, in: town))
                #expect(abs((record.deadline - now) / .seconds(1) - 30) < 1.1)
                #expect(record.touch.receivedAt == town.now)
            }
            try town.write(#"{"ts":\#(town.now.seconds + 3600)}"#, to: "run/future.json")
            #expect(try record("future", in: town)?.deadline == now + .seconds(90))
            #expect(town.town.counters.fromFuture == 1)
            try town.write("", to: "run/old.mtime")
            for (offset, left) in [(-600, 90), (600, 90)] {
                try town.setattr("run/old.mtime") { $0.modified = .at((town.now + .seconds(offset)).timespec) }
                #expect(WallTime(try town.stat("run/old.mtime").st_mtim) == town.now + .seconds(offset))
                // An earlier touch proves life for its ttl.
                #expect(try record("old", in: town)?.deadline == now + .seconds(left))
            }
            try town.write("", to: "run/new.mtime")
            try town.unlink("run/new.mtime")
            let handle = try town.open("run/new.mtime", O_WRONLY | O_CREAT)
            try town.setattr("run/new.mtime", handle: handle) {
                $0.modified = .at((town.now + .seconds(-600)).timespec)
            }
            try town.close(handle)
            #expect(try record("new", in: town)?.deadline == now - .seconds(510))
        }
    }

    @Test func longestPathIsASignalAndALongerOneIsNot() throws {
        try withTown(patterns: ["**/{id}.pid;kind=raw"]) { town in
            let names = Array(repeating: String(repeating: "d", count: 200), count: 20)
            let path = Array(names.joined(separator: "/").utf8)
            let directory = try #require(town.signals.descendant(path))
            let longest = Int(PATH_MAX) - 1 - path.count - 1
            for (length, isSignal) in [(longest, true), (longest + 1, false)] {
                let name = Array((String(repeating: "x", count: length - 4) + ".pid").utf8)
                #expect(directory.isSignal(name) == isSignal)
            }
        }
    }

    // MARK: Fuzzing

    /// Random writes, renames, times and removals of all kinds: what was accepted is read back, and counted.
    @Test(arguments: UInt64(1)...3) func randomWritersLoseNothing(seed: UInt64) throws {
        try withSignals(writebackDelay: .seconds(3600)) { town in
            var random = SplitMix64(state: seed)
            let pieces = ["{", "}", "{}", Self.text, Self.other, "17", "\n", " ", "[]", "x", "\u{0}"]
            var (contents, touches) = ([String: String](), 0 as UInt64)
            for _ in 0..<1_500 {
                town.advance(by: .milliseconds(10))
                let kind = Self.kinds.randomElement(using: &random) ?? .raw
                let path = "run/r\(Int.random(in: 0..<4, using: &random)).\(kind)"
                let count = Int.random(in: 0..<4, using: &random)
                let text = (0..<count).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
                do throws(Errno) {
                    switch Int.random(in: 0..<8, using: &random) {
                    case 0:
                        try town.write(text, to: "run/tmp")
                        try town.rename("run/tmp", to: path)
                    case 1 where contents[path] != nil: try town.setattr(path) { $0.modified = .now }
                    case 2 where contents[path] != nil:
                        try town.unlink(path)
                        contents[path] = nil
                        continue
                    default: try town.write(text, to: path)
                    }
                    touches += 1
                    let read = try town.read(path)
                    if kind == .raw || kind == .mtime, read != text, read != contents[path] {
                        Issue.record("\(path): \(read) for \(text)")
                    }
                    contents[path] = read
                } catch {
                    #expect(error == .invalidArgument && kind != .raw && kind != .mtime, "\(path): \(text)")
                    #expect(try contents[path] == nil ? !town.exists(path) : town.read(path) == contents[path])
                }
            }
            #expect(town.town.counters.touches == touches)
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            for (path, text) in contents { #expect(try successor.read(path) == text) }
            successor.writeback()
            for (path, text) in contents { #expect(try successor.readBacking(path) == text) }
        }
    }
}

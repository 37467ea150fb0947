import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

/// What a mount knows of the one before it, beyond the signal files.
@Suite(.timeLimit(.minutes(5))) struct StateFileTests {
    private let nux = ".runtime/heartbeats/gt-nux.json"

    private func id(_ text: String) throws -> RuntimeID { try RuntimeID(text) }

    /// Calls `body` with the path of a state file.
    private func withFile(_ body: (String) throws -> Void) throws {
        try withTemporaryTree { try body("\($0)/town.state") }
    }

    /// A town that ends, and the next mount of its tree.
    private func remount(
        _ path: String, changing change: ([UInt8]) -> [UInt8] = { $0 }, before: (TestTown) throws -> Void,
        after: (TestTown, StateFile.Restored?) throws -> Void
    ) throws {
        try withTown { town in
            try before(town)
            #expect(town.town.close() == 0)
            try StateFile(path: path).save(town.journal)
            let saved = try OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDONLY)
            let bytes = try BackingDocument.bytes(of: saved.rawValue, atMost: 1 << 20)
            let changed = change(bytes)
            let file = try OwnedDescriptor(opening: path, in: AT_FDCWD, O_WRONLY | O_TRUNC)
            #expect(write(file.rawValue, changed, changed.count) == changed.count)
            let journal = try Journal(takingOwnershipOf: Journal.makeMemory())
            let restored = try StateFile(path: path).restore(into: journal)
            let next = try town.next(journal: journal)
            defer { _ = next.town.close() }
            _ = try next.exists(nux)
            try after(next, restored)
        }
    }

    @Test func ttlsExitsAndForgetsOutliveTheMount() throws {
        try withFile { path in
            let process = Touch.Process(pid: 4711, program: "claude")
            try remount(path) { town in
                try town.town.liveness.touch(id("short"), ttl: .seconds(5))
                try town.town.liveness.touch(id("long"), ttl: .seconds(900))
                try town.town.liveness.touch(id("ended"), ttl: .seconds(900))
                town.town.liveness.exit(
                    try id("ended"), Record.Exit(of: process, noticedAt: town.now, at: town.town.now.instant))
                try town.write(document("1", at: town.now), to: nux)
                let runtime = try #require(town.town.liveness.record(ofSignal: Array(nux.utf8))?.touch.runtime)
                town.town.liveness.forget(runtime)
                try town.write(document("mine", at: town.now), to: ".runtime/heartbeats/max.json")
            } after: { town, restored in
                let liveness = town.town.liveness
                #expect(restored?.runtimes == 4)
                let document = try #require(liveness.record(of: id("max"))?.ownDocument)
                #expect(String(decoding: document.bytes, as: UTF8.self).contains("mine"))
                #expect(restored?.forgotten == 1)
                #expect(liveness.runtimes(in: "") == [try id("ended"), try id("long"), try id("max"), try id("short")])
                let now = town.town.now.instant
                for (name, ttl) in [("short", 5), ("long", 900)] {
                    let record = try #require(liveness.record(of: id(name)))
                    #expect(record.touch.ttl == .seconds(ttl))
                    #expect(abs((record.deadline - now) / .seconds(1) - Double(ttl)) < 60)
                }
                #expect(liveness.record(of: try id("ended"))?.exit?.process == process)
                #expect(liveness.lastEvent == 0)
            }
        }
    }

    @Test func idsOfAnyTextOutliveTheMount() throws {
        let ids = try ["/home/x y", "\u{E9}", "e\u{301}", "a//b/", "..", "100%@", "gastown/polecats/nux"].map(id)
        try withFile { path in
            try remount(path) { town in
                for id in ids { try town.town.liveness.touch(id, ttl: .seconds(900)) }
                try town.town.liveness.touch(id("gone for good"), ttl: .seconds(900))
                town.town.liveness.forget(try id("gone for good"))
            } after: { town, restored in
                #expect(restored?.runtimes == ids.count && restored?.forgotten == 1)
                #expect(town.town.liveness.runtimes(in: "") == ids.sorted())
                let isFound = try town.exists(".pulse/alive/%2Fhome/x y")
                #expect(isFound)
            }
        }
    }

    /// A file that was written after the forget counts.
    @Test func forgottenRuntimeComesBackWithANewFile() throws {
        try withFile { path in
            try remount(path) { town in
                try town.write(document("1", at: town.now), to: nux)
                let runtime = try #require(town.town.liveness.record(ofSignal: Array(nux.utf8))?.touch.runtime)
                town.town.liveness.forget(runtime)
                #expect(town.town.close() == 0)
                town.advance(by: .seconds(30))
                try town.writeBacking(document("2", at: town.now), to: nux)
            } after: { town, _ in
                #expect(town.town.liveness.runtimes(in: "").count == 1)
            }
        }
    }

    /// After a boot, the wall clock tells how much time has passed.
    @Test func deadlinesOutliveABoot() throws {
        try withFile { path in
            try remount(path) { bytes in
                // The boot id, and a boot an hour before.
                var bytes = Array(bytes.dropLast(8))
                bytes[16] = bytes[16] == 48 ? 49 : 48
                let start = 16 + 36 + 12
                var offset = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: start, as: Int128.self) }
                offset += 3600 * 1_000_000_000_000_000_000
                withUnsafeBytes(of: offset) { bytes.replaceSubrange(start..<start + 16, with: $0) }
                return bytes + withUnsafeBytes(of: bytes.fnv1a.littleEndian) { Array($0) }
            } before: { town in
                try town.town.liveness.touch(id("mayor"), ttl: .seconds(7200))
            } after: { town, restored in
                #expect(restored?.runtimes == 1)
                let record = try #require(town.town.liveness.record(of: id("mayor")))
                #expect(abs((record.deadline - town.town.now.instant) / .seconds(1) - 3600) < 60)
            }
        }
    }

    /// A damaged file is reported and restores nothing.
    @Test(arguments: ["empty", "short", "flipped", "longer", "other version"]) func damagedFileIsRefused(
        _ damage: String
    ) throws {
        try withFile { path in
            #expect(throws: StateFile.Failure.self) {
                try remount(path) { bytes in
                    var bytes = bytes
                    switch damage {
                    case "empty": return []
                    case "short": return Array(bytes.dropLast())
                    case "flipped": bytes[bytes.count / 2] ^= 1
                    case "longer": bytes.append(0)
                    default: bytes[14] += 1
                    }
                    return bytes
                } before: { town in
                    try town.town.liveness.touch(id("mayor"), ttl: .seconds(7200))
                } after: { _, _ in
                    Issue.record("restored")
                }
            }
        }
    }

    @Test func withoutAFileNothingIsRestored() throws {
        let journal = try Journal(takingOwnershipOf: Journal.makeMemory())
        #expect(try StateFile(path: "/nonexistent/x").restore(into: journal) == nil)
    }

    /// Without an orderly end, the file is some seconds old.
    @Test func changeIsSavedAfterTheDelay() throws {
        try withFile { path in
            try withTown(writebackDelay: .milliseconds(1), stateFile: StateFile(path: path)) { town in
                try town.town.liveness.touch(id("mayor"), ttl: .seconds(900))
                let isSaved = eventually {
                    guard let journal = try? Journal(takingOwnershipOf: Journal.makeMemory()) else { return false }
                    return (try? StateFile(path: path).restore(into: journal))??.runtimes == 1
                }
                #expect(isSaved)
            }
        }
    }
}

import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct SignalFileWritingTests {
    private let keepalive = ".runtime/keepalive.json"

    // MARK: Writing

    @Test(arguments: [
        ".runtime/keepalive.json", "daemon/activity.json", ".runtime/heartbeats/gt-nux.json", "deacon/heartbeat.json",
    ])
    func wholeDocumentIsReadBackByteForByte(_ path: String) throws {
        try withTown { town in
            let text = "{ \"unknown\": [1, 2.50], \"timestamp\": \"\(town.now.rfc3339)\"}\n"
            try town.write(text, to: path)
            #expect(try town.read(path) == text)
            let status = try town.stat(path)
            #expect(status.st_size == text.utf8.count)
            #expect(WallTime(status.st_mtim) == town.now)
            // A touch writes nothing to the disk.
            #expect(try town.readBacking(path) == nil)
        }
    }

    @Test func documentWithoutATimestampGetsTheTimeOfReceipt() throws {
        try withTown { town in
            try town.write("{}", to: keepalive)
            #expect(try town.read(keepalive) == #"{"timestamp":"\#(town.now.rfc3339)"}"#)
        }
    }

    @Test func timestampFromTheFutureIsReplacedAndCounted() throws {
        try withTown { town in
            try town.write(document("gt", at: town.now + .seconds(60)), to: keepalive)
            #expect(try town.read(keepalive) == document("gt", at: town.now))
            #expect(town.town.counters.fromFuture == 1)
        }
    }

    @Test func lineOfTextBecomesTheLastCommand() throws {
        try withTown { town in
            try town.write("gt status\n", to: keepalive)
            #expect(try town.read(keepalive) == document("gt status", at: town.now))
        }
    }

    @Test(arguments: ["{\"a\":", "[]", "12", "null", "\u{0}", "two\nlines", "{} {}"])
    func invalidDocumentIsRejectedAtCloseAndTheLastOneStays(_ text: String) throws {
        try withTown { town in
            let before = document("before", at: town.now)
            try town.write(before, to: keepalive)
            town.advance(by: .seconds(1))
            #expect(throws: Errno.invalidArgument) { try town.write(text, to: keepalive) }
            #expect(try town.read(keepalive) == before)
            #expect(town.town.counters.refused == 1)
            #expect(town.town.counters.touches == 1)
        }
    }

    @Test func invalidUTF8IsRefused() throws {
        try withTown { town in
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT | O_TRUNC)
            let bytes: [UInt8] = [0x7b, 0xff, 0x7d]
            _ = try bytes.span.withUnsafeBytes { (bytes) throws(Errno) in
                try town.write(handle, bytes, at: 0, appending: false, for: .me)
            }
            #expect(throws: Errno.invalidArgument) { try town.close(handle) }
            #expect(try !town.exists(keepalive))
        }
    }

    @Test func rejectedDocumentIsInvisibleToItsWriterBeforeRelease() throws {
        try withTown { town in
            let before = document("before", at: town.now)
            try town.write(before, to: keepalive)
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC)
            defer { town.release(handle) }
            try town.write("17", to: handle)
            #expect(try town.stat(keepalive).st_size == 2)
            #expect(throws: Errno.invalidArgument) { try town.flush(handle, for: .me) }
            #expect(try town.stat(keepalive).st_size == off_t(before.utf8.count))
            try town.write(before + " ", to: handle)
            #expect(try town.stat(keepalive).st_size == off_t(before.utf8.count + 1))
        }
    }

    @Test func rejectedFirstDocumentIsInvisibleBeforeRelease() throws {
        try withTown { town in
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT)
            defer { town.release(handle) }
            try town.write("{", to: handle)
            #expect(try town.exists(keepalive))
            #expect(throws: Errno.invalidArgument) { try town.flush(handle, for: .me) }
            #expect(try !town.exists(keepalive))
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.open(keepalive) }
        }
    }

    @Test func rejectedFirstDocumentLeavesNoFile() throws {
        try withTown { (town) throws in
            #expect(throws: Errno.invalidArgument) { try town.write("{", to: keepalive) }
            #expect(try !town.exists(keepalive))
            #expect(town.town.liveness.record(ofSignal: Array(keepalive.utf8)) == nil)
        }
    }

    @Test func moreThanADocumentMayHoldIsTooLarge() throws {
        try withTown { town in
            let most = "{\"timestamp\":\"\(town.now.rfc3339)\"}"
            let padding = String(repeating: " ", count: Document.maximumSize - most.utf8.count)
            try town.write(most + padding, to: keepalive)
            #expect(try town.stat(keepalive).st_size == off_t(Document.maximumSize))
            #expect(throws: Errno.fileTooLarge) { try town.write(most + padding + " ", to: keepalive) }
            let handle = try town.open(keepalive, O_WRONLY)
            #expect(throws: Errno.fileTooLarge) { try town.write("x", to: handle, at: .max) }
            #expect(throws: Errno.fileTooLarge) {
                try town.setattr(keepalive, handle: handle) { $0.size = off_t(Document.maximumSize) + 1 }
            }
            town.release(handle)
            #expect(try town.read(keepalive) == most + padding)
        }
    }

    @Test func partialWritesMakeOneDocument() throws {
        try withTown { town in
            let text = document("gt mail send x", at: town.now)
            let bytes = Array(text)
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT | O_TRUNC)
            // Backwards, byte by byte, with pwrite(2).
            for index in bytes.indices.reversed() { try town.write(String(bytes[index]), to: handle, at: off_t(index)) }
            try town.close(handle)
            #expect(try town.read(keepalive) == text)
        }
    }

    @Test func appendedPiecesAreOneDocument() throws {
        try withTown { town in
            let text = document("gt", at: town.now)
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND)
            for character in text { try town.write(String(character), to: handle, at: 0, appending: true) }
            try town.close(handle)
            #expect(try town.read(keepalive) == text)
        }
    }

    @Test func overwritingInPlaceKeepsTheRest() throws {
        try withTown { town in
            try town.write("{\"cycle\":1,\"timestamp\":\"\(town.now.rfc3339)\"}", to: keepalive)
            let handle = try town.open(keepalive, O_RDWR)
            try town.write("2", to: handle, at: 9)
            try town.close(handle)
            #expect(try town.read(keepalive) == "{\"cycle\":2,\"timestamp\":\"\(town.now.rfc3339)\"}")
        }
    }

    @Test func truncatingByHandleThenWritingIsOneDocument() throws {
        try withTown { town in
            try town.write(document("a long one that is to go", at: town.now), to: keepalive)
            let handle = try town.open(keepalive, O_WRONLY)
            try town.setattr(keepalive, handle: handle) { $0.size = 0 }
            try town.write(document("short", at: town.now), to: handle)
            try town.close(handle)
            #expect(try town.read(keepalive) == document("short", at: town.now))
        }
    }

    // MARK: Closing

    /// With dup(2), each close validates the draft.
    ///
    /// A partial document is never committed.
    @Test func partialDocumentIsRejectedAndTheWholeOneCommittedAtTheNextClose() throws {
        try withTown { town in
            let before = document("before", at: town.now)
            try town.write(before, to: keepalive)
            let after = document("after", at: town.now)
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC)
            try town.write(String(after.prefix(20)), to: handle)
            #expect(throws: Errno.invalidArgument) { try town.flush(handle, for: .me) }
            // Neither validated nor counted again until more is written.
            #expect(throws: Errno.invalidArgument) { try town.flush(handle, for: .me) }
            #expect(town.town.counters.refused == 1)
            #expect(try town.read(keepalive, by: .other) == before)
            try town.write(String(after.dropFirst(20)), to: handle, at: 20)
            #expect(try town.read(keepalive, by: .other) == before)
            try town.flush(handle, for: .me)
            #expect(try town.read(keepalive, by: .other) == after)
            try town.close(handle)
            #expect(try town.read(keepalive) == after)
            #expect(town.town.counters.touches == 2)
        }
    }

    @Test func releaseCommitsWhatNoCloseDid() throws {
        try withTown { town in
            let text = document("gt", at: town.now)
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT | O_TRUNC)
            try town.write(text, to: handle)
            town.release(handle)
            #expect(try town.read(keepalive) == text)
        }
    }

    @Test func fsyncCommitsAndWritesDown() throws {
        try withTown { town in
            let text = document("gt", at: town.now)
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT | O_TRUNC)
            try town.write(text, to: handle)
            try town.fsync(handle, dataOnly: false, for: .me)
            #expect(try town.read(keepalive, by: .other) == text)
            #expect(try town.readBacking(keepalive) == text)
            town.release(handle)
        }
    }

    @Test func fsyncOfAPartialDocumentFails() throws {
        try withTown { town in
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT | O_TRUNC)
            try town.write("{", to: handle)
            #expect(throws: Errno.invalidArgument) { try town.fsync(handle, dataOnly: true, for: .me) }
            town.release(handle)
            #expect(try town.readBacking(keepalive) == nil)
        }
    }

    @Test func readOnlyHandleTouchesNothing() throws {
        try withTown([keepalive: document("old", at: WallTime(seconds: 1_000_000_000))]) { town in
            let handle = try town.open(keepalive)
            _ = try town.read(handle)
            try town.close(handle)
            #expect(town.town.counters.touches == 0)
            #expect(town.town.writeback.dirtyCount == 0)
        }
    }
}

import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import Testing

@testable import TownFS

@Suite struct SignalFileTests {
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

    @Test func refusedDocumentIsNotSeenByItsWriterEitherThoughTheKernelHasNotReleasedItYet() throws {
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

    @Test func refusedFirstDocumentIsNowhereThoughTheKernelHasNotReleasedItYet() throws {
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

    @Test func refusedFirstDocumentLeavesNoFile() throws {
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
    @Test func halfDocumentIsRefusedAtOneCloseAndTheWholeOneCommittedAtTheNext() throws {
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
            #expect(town.town.writeback.pendingCount == 0)
        }
    }

    // MARK: Touching without a document

    @Test(arguments: ["touch(1)", "an empty write", "utimensat"])
    func touchKeepsTheDocumentButForItsTimestamp(_ how: String) throws {
        try withTown { town in
            try town.write(document("gt mail", at: town.now), to: keepalive)
            town.advance(by: .seconds(10))
            switch how {
            case "an empty write": try town.write("", to: keepalive)
            case "utimensat": try town.setattr(keepalive) { $0.modified = .at(timespec(tv_sec: 1, tv_nsec: 0)) }
            default:
                let handle = try town.open(keepalive, O_WRONLY | O_CREAT)
                try town.setattr(keepalive, handle: handle) { ($0.accessed, $0.modified) = (.now, .now) }
                try town.close(handle)
            }
            #expect(try town.read(keepalive) == document("gt mail", at: town.now))
            #expect(WallTime(try town.stat(keepalive).st_mtim) == town.now)
        }
    }

    @Test func touchOfAMissingFileMakesADocument() throws {
        try withTown { town in
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT)
            try town.setattr(keepalive, handle: handle) { ($0.accessed, $0.modified) = (.now, .now) }
            try town.close(handle)
            #expect(try town.read(keepalive) == #"{"timestamp":"\#(town.now.rfc3339)"}"#)
        }
    }

    @Test func accessTimeAloneIsNoTouch() throws {
        try withTown { town in
            try town.write("{}", to: keepalive)
            try town.setattr(keepalive) { $0.accessed = .now }
            #expect(town.town.counters.touches == 1)
        }
    }

    @Test func timeOnlySignalFileStaysEmpty() throws {
        try withTown { town in
            let path = "deacon/.deacon-heartbeat"
            try town.write("", to: path)
            #expect(try town.stat(path).st_size == 0)
            town.advance(by: .seconds(5))
            try town.setattr(path) { $0.modified = .now }
            #expect(try town.stat(path).st_size == 0)
            #expect(WallTime(try town.stat(path).st_mtim) == town.now)
        }
    }

    /// `echo x > FILE`: the shell closes a duplicate before the command writes.
    @Test func closeOfATruncatedFileTouchesItWithoutShowingAnEmptyDocument() throws {
        try withTown { town in
            let before = document("before", at: town.now)
            try town.write(before, to: keepalive)
            town.advance(by: .seconds(1))
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC)
            try town.flush(handle, for: .me)
            #expect(try town.read(keepalive, by: .other) == before)
            #expect(WallTime(try town.stat(keepalive, by: .other).st_mtim) == town.now)
            try town.write("x\n", to: handle)
            try town.close(handle)
            #expect(try town.read(keepalive) == document("x", at: town.now))
        }
    }

    /// The kernel sends RELEASE some time after the last close.
    ///
    /// The process that closed must not notice.
    @Test func truncatingWriterSeesItsTouchAfterClose() throws {
        try withTown { town in
            try town.write(document("gt", at: town.now), to: keepalive)
            town.advance(by: .seconds(1))
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC)
            try town.flush(handle, for: .me)
            #expect(try town.read(keepalive) == document("gt", at: town.now))
            town.release(handle)
            #expect(try town.read(keepalive) == document("gt", at: town.now))
        }
    }

    // MARK: Reading

    @Test func openFileIsASnapshotHoweverManyReads() throws {
        try withTown { town in
            let first = document("first and quite a bit longer", at: town.now)
            try town.write(first, to: keepalive)
            let handle = try town.open(keepalive)
            var read = ""
            for offset in 0..<first.utf8.count {
                try town.write(document("\(offset)", at: town.now), to: keepalive, by: .other)
                read += try town.read(handle, at: off_t(offset), room: 1)
            }
            #expect(read == first)
            #expect(try town.read(handle, at: off_t(first.utf8.count)) == "")
            town.release(handle)
        }
    }

    @Test func snapshotOfARealFileOutlivesItsReplacement() throws {
        let old = document("old", at: WallTime(seconds: 1_000_000_000))
        try withTown([keepalive: old]) { town in
            let handle = try town.open(keepalive)
            try town.write(document("new", at: town.now), to: keepalive, by: .other)
            town.writeback()
            #expect(try town.read(handle) == old)
            town.release(handle)
        }
    }

    @Test func readersSeeTheCommittedDocumentDuringAWrite() throws {
        try withTown { town in
            let before = document("before", at: town.now)
            try town.write(before, to: keepalive, by: .other)
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC, by: .other)
            #expect(try town.read(keepalive) == before)
            #expect(try town.stat(keepalive).st_size == before.utf8.count)
            try town.write("{\"half", to: handle, by: .other)
            #expect(try town.read(keepalive) == before)
            #expect(try town.stat(keepalive).st_size == before.utf8.count)
            town.release(handle)
        }
    }

    /// Go and Node call fstat(2) between open and read and trust its size.
    @Test func fstatAgreesWithTheReadThatFollows() throws {
        try withTown { town in
            let first = document("first and longer", at: town.now)
            try town.write(first, to: keepalive)
            let handle = try town.open(keepalive)
            try town.write(document("2nd", at: town.now), to: keepalive, by: .other)
            #expect(try town.stat(keepalive).st_size == first.utf8.count)
            #expect(try town.stat(keepalive, by: .other).st_size == document("2nd", at: town.now).utf8.count)
            #expect(try town.read(handle) == first)
            #expect(try town.stat(keepalive).st_size == document("2nd", at: town.now).utf8.count)
            town.release(handle)
        }
    }

    @Test func fstatOfAReaderDoesNotShowAnotherThreadsDraft() throws {
        try withTown { town in
            let text = document("whole", at: town.now)
            try town.write(text, to: keepalive)
            let (hasOpened, mayClose) = (try EventFD(), try EventFD())
            let writer = try Thread(named: "writer") {
                let handle = try? town.open(keepalive, O_WRONLY | O_TRUNC)
                hasOpened.raise()
                mayClose.wait()
                if let handle { town.release(handle) }
            }
            hasOpened.wait()
            let handle = try town.open(keepalive)
            #expect(try town.stat(keepalive).st_size == text.utf8.count)
            #expect(try town.read(handle) == text)
            town.release(handle)
            mayClose.raise()
            writer.join()
        }
    }

    @Test func writerSeesTheSizeOfItsDraft() throws {
        try withTown { town in
            let handle = try town.open(keepalive, O_RDWR | O_CREAT | O_TRUNC)
            try town.write("{\"a\"", to: handle)
            #expect(try town.stat(keepalive).st_size == 4)
            #expect(try town.read(handle) == "{\"a\"")
            try town.setattr(keepalive, handle: handle) { $0.size = 6 }
            #expect(try town.read(handle) == "{\"a\"\0\0")
            #expect(try !town.exists(keepalive, by: .other))
            town.release(handle)
        }
    }

    @Test func seekFindsNoHoles() throws {
        try withTown { town in
            try town.write("{}", to: keepalive)
            let size = try town.stat(keepalive).st_size
            let handle = try town.open(keepalive)
            #expect(try town.lseek(handle, offset: 1, whence: 3) == 1)
            #expect(try town.lseek(handle, offset: 1, whence: clinux_seek_hole) == size)
            for offset in [-1, size, size + 1] {
                #expect(throws: Errno.noSuchAddressOrDevice) {
                    try town.lseek(handle, offset: offset, whence: 3)
                }
            }
            town.release(handle)
        }
    }

    // MARK: Creating

    @Test func fileBeforeItsFirstCommitIsSeenByItsCreatorOnly() throws {
        try withTown { town in
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT | O_TRUNC)
            #expect(try town.exists(keepalive))
            #expect(try !town.exists(keepalive, by: .other))
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.read(keepalive, by: .other) }
            try town.write("{}", to: handle)
            try town.close(handle)
            #expect(try town.exists(keepalive, by: .other))
        }
    }

    @Test func exclusiveMakingFailsWhereAFileIs() throws {
        try withTown([keepalive: "{}"]) { town in
            #expect(throws: Errno.fileExists) { try town.open(keepalive, O_WRONLY | O_CREAT | O_EXCL) }
            try town.write("{}", to: "daemon/activity.json")
            #expect(throws: Errno.fileExists) { try town.open("daemon/activity.json", O_WRONLY | O_CREAT | O_EXCL) }
            #expect(town.openHandles.count == 0)
        }
    }

    @Test func oneOfTwoExclusiveCreatesSucceeds() throws {
        try withTown { town in
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT | O_EXCL)
            #expect(throws: Errno.fileExists) { try town.open(keepalive, O_WRONLY | O_CREAT | O_EXCL, by: .other) }
            town.release(handle)
        }
    }

    @Test func makersModeAndOwnerAreTheFiles() throws {
        try withTown { town in
            try town.write("{}", to: "deacon/heartbeat.json", mode: 0o600)
            #expect(try town.stat("deacon/heartbeat.json").st_mode == S_IFREG | 0o600)
            town.writeback()
            #expect(try town.statBacking("deacon/heartbeat.json").st_mode == S_IFREG | 0o600)
        }
    }

    @Test func mknodMakesAnEmptyTouch() throws {
        try withTown { town in
            let parent = try town.lookup(".runtime").inode
            let entry = try Array("keepalive.json".utf8).asFileName { (name) throws(Errno) in
                try town.mknod(name, in: parent, mode: S_IFREG | 0o640, device: 0, for: .me)
            }
            #expect(entry.status.st_mode == S_IFREG | 0o640)
            #expect(try town.read(keepalive) == #"{"timestamp":"\#(town.now.rfc3339)"}"#)
        }
    }

    @Test func nothingElseCanBeMadeWhereASignalFileIs() throws {
        try withTown { town in
            try town.write("{}", to: keepalive)
            #expect(throws: Errno.fileExists) { try town.mkdir(keepalive) }
            let parent = try town.lookup(".runtime").inode
            #expect(throws: Errno.fileExists) {
                try Array("keepalive.json".utf8).asFileName { (name) throws(Errno) in
                    try town.symlink(to: "x", named: name, in: parent, for: .me)
                }
            }
            #expect(throws: Errno.notDirectory) { try town.rmdir(keepalive) }
        }
    }

    @Test func directoryOfASignalFilesNameIsAPlainDirectory() throws {
        try withTown { town in
            try town.mkdir(keepalive)
            try town.write("plain", to: "\(keepalive)/file")
            #expect(try town.readBacking("\(keepalive)/file") == "plain")
        }
    }

    // MARK: Attributes

    @Test func inodeNumberIsOfThePath() throws {
        try withTown([keepalive: "{}"]) { town in
            let number = try town.stat(keepalive).st_ino
            try town.write("{}", to: keepalive)
            #expect(try town.stat(keepalive).st_ino == number)
            try town.unlink(keepalive)
            try town.write("{}", to: keepalive)
            #expect(try town.stat(keepalive).st_ino == number)
        }
    }

    @Test func modeChangesWithoutATouch() throws {
        try withTown([keepalive: "{}"]) { town in
            for isTouched in [false, true] {
                if isTouched { try town.write("{}", to: keepalive) }
                let touches = town.town.counters.touches
                let modified = WallTime(try town.stat(keepalive).st_mtim)
                try town.setattr(keepalive) { $0.mode = S_IFREG | (isTouched ? 0o604 : 0o640) }
                #expect(try town.stat(keepalive).st_mode == S_IFREG | (isTouched ? 0o604 : 0o640))
                #expect(WallTime(try town.stat(keepalive).st_mtim) == modified)
                #expect(town.town.counters.touches == touches)
            }
            town.writeback()
            #expect(try town.statBacking(keepalive).st_mode == S_IFREG | 0o604)
        }
    }

    @Test func signalFileHasNoExtendedAttributes() throws {
        try withTown([keepalive: "{}"]) { town in
            let inode = try town.lookup(keepalive).inode
            let none = UnsafeMutableRawBufferPointer(start: nil, count: 0)
            #expect(throws: Errno.noData) { try town.getxattr(inode, "user.x", into: none) }
            #expect(try town.listxattr(inode, into: none, for: .me) == 0)
            #expect(throws: Errno.notSupported) {
                try town.setxattr(inode, "user.x", value: UnsafeRawBufferPointer(none), flags: 0)
            }
            #expect(throws: Errno.noData) { try town.removexattr(inode, "user.x") }
        }
    }

    @Test func cuttingByNameIsJudgedAtOnce() throws {
        try withTown { town in
            try town.write(document("gt", at: town.now), to: keepalive)
            town.advance(by: .seconds(1))
            try town.setattr(keepalive) { $0.size = 0 }
            #expect(try town.read(keepalive) == document("gt", at: town.now))
            #expect(throws: Errno.invalidArgument) { try town.setattr(keepalive) { $0.size = 3 } }
            #expect(try town.read(keepalive) == document("gt", at: town.now))
        }
    }

    // MARK: Removing

    @Test func unlinkForgets() throws {
        try withTown([".runtime/heartbeats/gt-nux.json": "{}"]) { town in
            let path = ".runtime/heartbeats/gt-nux.json"
            for _ in 0..<3 {
                try town.write("{}", to: path)
                #expect(town.town.liveness.counts().runtimes.alive == 1)
                town.writeback()
                try town.unlink(path)
                #expect(try !town.exists(path))
                #expect(try town.readBacking(path) == nil)
                #expect(town.town.liveness.counts().runtimes.alive == 0)
                #expect(town.town.liveness.record(ofSignal: Array(path.utf8)) == nil)
                #expect(throws: Errno.noSuchFileOrDirectory) { try town.unlink(path) }
            }
        }
    }

    @Test func writerOfAnUnlinkedFileCommitsNothing() throws {
        try withTown { town in
            try town.write("{}", to: keepalive)
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC)
            try town.unlink(keepalive)
            try town.write("{\"zombie\":1}", to: handle)
            try town.close(handle)
            #expect(try !town.exists(keepalive))
            town.writeback()
            #expect(try town.readBacking(keepalive) == nil)
            #expect(town.town.liveness.record(ofSignal: Array(keepalive.utf8)) == nil)
        }
    }

    @Test func unlinkedFileIsReadToItsEndAndHasAStatus() throws {
        try withTown { town in
            let text = document("gt", at: town.now)
            try town.write(text, to: keepalive)
            let inode = try town.lookup(keepalive).inode
            let handle = try town.open(keepalive)
            try town.unlink(keepalive)
            #expect(try town.getattr(inode, for: .me).status.st_size == text.utf8.count)
            #expect(try town.read(handle) == text)
            // After reading to the end, the open file is unchanged.
            #expect(try town.getattr(inode, for: .me).status.st_size == text.utf8.count)
            town.release(handle)
        }
    }

    @Test func fileMadeAnewIsAnotherInode() throws {
        try withTown { town in
            try town.write("{}", to: keepalive)
            let first = try town.lookup(keepalive).inode
            try town.unlink(keepalive)
            try town.write("{}", to: keepalive)
            #expect(try town.lookup(keepalive).inode != first)
        }
    }

    // MARK: Liveness

    @Test func commitTouchesTheFilesRecordAndTheHeartbeatsRuntime() throws {
        try withTown { town in
            try town.write("{\"state\":\"working\"}", to: ".runtime/heartbeats/gt-nux.json")
            try town.write("{}", to: keepalive)
            let id = try RuntimeID("gt-nux")
            #expect(town.town.liveness.areAlive([id]) == [true])
            #expect(town.town.liveness.counts().runtimes.alive == 1)
            #expect(town.town.liveness.counts().signals.alive == 2)
            let record = try #require(town.town.liveness.record(of: id))
            #expect(record.touch.source == .written)
            #expect(record.touch.document?.string("state") == "working")
        }
    }

    @Test func runtimeExpiresAfterItsTTLAndTheFileStays() throws {
        try withTown { town in
            let path = ".runtime/heartbeats/gt-nux.json"
            try town.write("{}", to: path)
            let text = try town.read(path)
            let id = try RuntimeID("gt-nux")
            town.advance(by: .seconds(89))
            #expect(town.town.liveness.areAlive([id]) == [true])
            town.advance(by: .seconds(2))
            #expect(town.town.liveness.areAlive([id]) == [false])
            #expect(try town.read(path) == text)
        }
    }

    // MARK: --on-expiry=absent

    @Test(arguments: [true, false])
    func expiredFileIsAbsentWhereThatIsWanted(_ isWrittenDown: Bool) throws {
        try withTown(expiry: .absent) { town in
            try town.write(document("gt", at: town.now), to: keepalive)
            if isWrittenDown { town.writeback() }
            town.advance(by: .seconds(89))
            #expect(try town.exists(keepalive))
            town.advance(by: .seconds(1))
            #expect(try !town.exists(keepalive))
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.unlink(keepalive) }
            #expect(try !town.names(".runtime").contains("keepalive.json"))
            try town.write(document("back", at: town.now), to: keepalive)
            #expect(try town.read(keepalive) == document("back", at: town.now))
        }
    }

    @Test func oldBackingFileIsAbsentWithExpiryAbsent() throws {
        try withTown([keepalive: "{}"], expiry: .absent) { (town) throws in
            #expect(try town.exists(keepalive))
            #expect(try town.names(".runtime").contains("keepalive.json"))
            town.advance(by: .seconds(91))
            #expect(try !town.exists(keepalive))
            #expect(try !town.names(".runtime").contains("keepalive.json"))
        }
    }

    @Test func entryIsNotCachedWithExpiryAbsent() throws {
        try withTown([keepalive: "{}"], expiry: .absent) { town in
            let entry = try town.lookup(keepalive)
            #expect(entry.nameTimeout == 0)
            #expect(entry.statusTimeout == 0)
        }
    }

    // MARK: Kernel caches

    @Test func attributesAreCachedOnlyWithoutWriters() throws {
        try withTown { town in
            try town.write("{}", to: keepalive)
            let inode = try town.lookup(keepalive).inode
            #expect(try town.getattr(inode, for: .other).timeout > 0)
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC)
            #expect(try town.getattr(inode, for: .other).timeout == 0)
            try town.close(handle)
            #expect(try town.getattr(inode, for: .other).timeout > 0)
        }
    }
}

extension TestTown {
    /// The names in a listing, without `.` and `..`.
    func names(_ path: String) throws -> [String] {
        let inode = try lookup(path).inode
        let handle = try opendir(inode, for: .me).handle
        defer { releasedir(handle) }
        return try list(inode, handle).map(\.text).filter { $0 != "." && $0 != ".." }.sorted()
    }
}

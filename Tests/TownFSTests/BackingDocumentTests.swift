import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct BackingDocumentTests {
    private let now = WallTime(seconds: 1_700_000_000, nanoseconds: 123_456_789)

    private func content(_ text: String, modified: WallTime, mode: mode_t = 0o640) -> SignalFile.Content {
        SignalFile.Content(
            document: Document(Array(text.utf8)), modified: modified, changed: modified,
            ownership: .init(mode: mode, user: getuid(), group: getgid()), deadline: .now)
    }

    private func withDirectory(_ body: (TestDirectory) throws -> Void) throws {
        try withTemporaryTree { try body(TestDirectory(path: $0)) }
    }

    /// A directory in which files are replaced.
    private struct TestDirectory: Sendable {
        let path: String
        let descriptor: Descriptor

        init(path: String) throws {
            self.path = path
            descriptor = Descriptor(try OwnedDescriptor(opening: path, in: AT_FDCWD, O_PATH | O_DIRECTORY))
        }

        func replace(
            _ name: String, with content: SignalFile.Content, now: WallTime, flags: UInt32 = 0,
            evenIfNewer: Bool = false
        ) throws(Errno) {
            try BackingDocument.replace(
                NodeName(name.utf8), in: descriptor.rawValue, with: content, now: now, flags: flags,
                evenIfNewer: evenIfNewer)
        }

        func text(_ name: String) throws -> String? {
            guard let file = try BackingDocument.open(NodeName(name.utf8), in: descriptor.rawValue) else { return nil }
            return String(decoding: try file.bytes(), as: UTF8.self)
        }

        func status(_ name: String) throws(Errno) -> FileStatus { try FileStatus(of: name, in: descriptor.rawValue) }

        func names() throws -> [String] {
            let opened = try descriptor.reopened(O_RDONLY | O_DIRECTORY)
            var names: [String] = []
            try DirectoryStream(opened).forEach(from: 0) { entry in
                if !entry.isDots { names.append(String(decoding: entry.name.bytes, as: UTF8.self)) }
                return true
            }
            return names.sorted()
        }

        func write(_ text: String, to name: String, modified: WallTime) throws {
            let file = try OwnedDescriptor(
                opening: name, in: descriptor.rawValue, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
            let bytes = Array(text.utf8)
            _ = try retryingInterrupts { Glibc.write(file.rawValue, bytes, bytes.count) }
            _ = try retryingInterrupts { futimens(file.rawValue, [modified.timespec, modified.timespec]) }
        }
    }

    @Test(arguments: [0o600, 0o644, 0o4755, 0o000] as [mode_t])
    func replacementHasDocumentModeAndTime(_ mode: mode_t) throws {
        try withDirectory { directory in
            try directory.replace("a.json", with: content("{}", modified: now, mode: mode), now: now)
            let status = try directory.status("a.json")
            // A document has no set-user-id or set-group-id bits.
            #expect(status.st_mode == S_IFREG | mode & 0o1777)
            #expect(WallTime(status.st_mtim) == now)
            #expect(status.st_size == 2)
            #expect(try directory.names() == ["a.json"])
        }
    }

    @Test(arguments: [
        (Duration.seconds(-1), "ours"), (.zero, "ours"), (.nanoseconds(1), "theirs"), (.seconds(10), "theirs"),
        // A time in the future, from a wrong clock. Keeping it would block newer documents.
        (.seconds(61), "ours"),
    ])
    func newerFileIsTheTruthUnlessItIsOfTheFuture(_ ahead: Duration, _ winner: String) throws {
        try withDirectory { directory in
            try directory.write("theirs", to: "a.json", modified: now + ahead)
            try directory.replace("a.json", with: content("ours", modified: now), now: now + .seconds(60))
            #expect(try directory.text("a.json") == winner)
            #expect(try directory.names() == ["a.json"])
        }
    }

    @Test func renameReplacesEvenANewerFile() throws {
        try withDirectory { directory in
            try directory.write("theirs", to: "a", modified: now + .seconds(5))
            try directory.replace("a", with: content("ours", modified: now), now: now + .seconds(60), evenIfNewer: true)
            #expect(try directory.text("a") == "ours")
        }
    }

    @Test func exclusiveRenameLeavesTheTarget() throws {
        try withDirectory { directory in
            try directory.write("theirs", to: "a", modified: now)
            #expect(throws: Errno.fileExists) {
                try directory.replace(
                    "a", with: content("ours", modified: now), now: now, flags: UInt32(RENAME_NOREPLACE))
            }
            #expect(try directory.text("a") == "theirs")
            #expect(try directory.names() == ["a"])
        }
    }

    /// Each writer has its own temporary file: documents do not mix, and each rename finds its file.
    @Test func anyNumberOfWritersReplaceAFileAtOnce() throws {
        try withDirectory { directory in
            let texts = (0..<4).map { String(repeating: "\($0)", count: 60_000) }
            let failures = Mutex<[Errno]>([])
            let torn = Mutex(0)
            let contents = texts.map { content($0, modified: now) }
            let time = now
            let threads = try contents.map { content in
                let ended = try EventFD()
                _ = try Thread(named: "writer") {
                    for _ in 0..<200 {
                        do throws(Errno) {
                            try directory.replace("a.json", with: content, now: time)
                        } catch {
                            failures.withLock { $0.append(error) }
                        }
                        let text = (try? directory.text("a.json")) ?? nil
                        if text.map(texts.contains) != true { torn.withLock { $0 += 1 } }
                    }
                    ended.signal()
                }
                return ended
            }
            for ended in threads { ended.wait() }
            #expect(failures.withLock { $0 } == [])
            #expect(torn.withLock { $0 } == 0)
            let names = try directory.names()
            #expect(names == ["a.json"])
        }
    }

    @Test(arguments: [".pulsefs-a.json", ".pulsefs-0123456789abcdef"])
    func temporaryFileOfAnotherWriterIsLeftAlone(_ name: String) throws {
        try withDirectory { directory in
            try directory.write("half", to: name, modified: now)
            try directory.replace("a.json", with: content("{}", modified: now), now: now)
            #expect(try directory.text("a.json") == "{}")
            #expect(try directory.text(name) == "half")
        }
    }

    @Test func removingTemporariesLeavesOtherFilesAndWhatLinksLeadTo() throws {
        try withDirectory { directory in
            let scope = try SignalPatterns(["*.json"]).root
            for name in ["victim", ".pulsefs-0123456789abcdef", ".pulsefs-a.json", ".pulsefs-notes", "a.json"] {
                try directory.write(name, to: name, modified: now)
            }
            #expect(symlink("victim", "\(directory.path)/.pulsefs-fedcba9876543210") == 0)
            try BackingDocument.removeTemporaries(in: directory.descriptor, scope: scope)
            #expect(try directory.names() == [".pulsefs-notes", "a.json", "victim"])
            #expect(try directory.text("victim") == "victim")
        }
    }

    @Test func failureLeavesNoTemporaryFile() throws {
        try withDirectory { directory in
            try makeDirectories("\(directory.path)/a.json")
            #expect(throws: Errno.isDirectory) {
                try directory.replace("a.json", with: content("{}", modified: now), now: now)
            }
            #expect(try directory.names() == ["a.json"])
        }
    }

    @Test func longestNameHasATemporaryNameToo() throws {
        try withDirectory { directory in
            let name = String(repeating: "n", count: 255)
            try directory.replace(name, with: content("{}", modified: now), now: now)
            #expect(try directory.names() == [name])
        }
    }

    @Test func readerOfTheFormerFileKeepsReadingIt() throws {
        try withDirectory { directory in
            try directory.write("former", to: "a", modified: now)
            guard let file = try BackingDocument.open(NodeName("a".utf8), in: directory.descriptor.rawValue) else {
                Issue.record("there is no such file")
                return
            }
            try directory.replace("a", with: content("new", modified: now + .seconds(1)), now: now + .seconds(1))
            #expect(String(decoding: try file.bytes(), as: UTF8.self) == "former")
        }
    }

    @Test func onlyRegularFilesAreOpened() throws {
        try withDirectory { directory in
            try makeDirectories("\(directory.path)/directory")
            #expect(mkfifo("\(directory.path)/fifo", 0o644) == 0)
            #expect(symlink("directory", "\(directory.path)/link") == 0)
            for name in ["directory", "fifo", "link", "nothing"] { #expect(try directory.text(name) == nil) }
        }
    }

    @Test func fileThatIsTooLargeForADocumentIsNotRead() throws {
        try withDirectory { directory in
            try directory.write(String(repeating: "x", count: Document.maximumSize + 1), to: "a", modified: now)
            #expect(throws: Errno.fileTooLarge) { try directory.text("a") }
        }
    }
}

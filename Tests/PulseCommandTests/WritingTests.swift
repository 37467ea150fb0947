import CLinux
import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Writing signal files with the system calls of real tools, and reading them back.
    @Suite(.inEachScope) struct WritingTests {
        // MARK: The tools

        @Test func documentWrittenByGoIsReadBackByteForByte() throws {
            try withMountedTown { town in
                for command in ["gt prime", "gt mail send mayor/ -s x", "gt"] {
                    let text = KeepaliveDocument.text(command)
                    try Client.write(text, to: town.keepalive)
                    #expect(try Client.read(town.keepalive) == text)
                }
            }
        }

        @Test(arguments: [
            #"{"timestamp":"2020-02-02T02:02:02Z","state":"working","nested":{"a":[1,2,null]},"ü":"\u003c"}"#,
            "{\n  \"timestamp\": \"2026-01-01T00:00:00.5+02:00\",\n  \"cycle\": 7\n}\n",
            #" {"LAST_COMMAND":"x","Timestamp":"2001-01-01T00:00:00Z"} "#,
        ])
        func documentWithATimestampIsKeptVerbatim(text: String) throws {
            try withMountedTown { town in
                for path in [town.keepalive, town.activity, "\(town.path)/deacon/heartbeat.json"] {
                    try Client.write(text, to: path)
                    #expect(try Client.read(path) == text)
                }
            }
        }

        @Test func echoedLineBecomesTheLastCommand() throws {
            try withMountedTown { town in
                let before = Client.now
                try town.shell("echo 'gt status' > .runtime/keepalive.json")
                let document = try KeepaliveDocument(Client.read(town.keepalive))
                #expect(document.lastCommand == "gt status")
                #expect(before...Client.now ~= document.seconds)
                // A shell's redirection closes a duplicate descriptor before the first write.
                try town.shell("for i in 1 2 3; do echo \"gt $i\" > .runtime/keepalive.json; done")
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt 3")
            }
        }

        @Test(.needs("python3"), arguments: ["open(p, 'w').write(t)", "open(p, 'r+').write(t)"])
        func documentWrittenByPythonIsReadByPython(write: String) throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt python")
                try Client.write(KeepaliveDocument.text("gt prior!"), to: town.keepalive)
                let script = "import sys; p, t = sys.argv[1:]; \(write); print(open(p).read(), end='')"
                let printed = try Command("python3", "-c", script, town.keepalive, text).output()
                #expect(printed == text)
                #expect(try Client.read(town.keepalive) == text)
            }
        }

        @Test(.needs("node")) func documentWrittenByNodeIsReadByNode() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt node")
                let script = """
                    const fs = require('fs'), [p, t] = process.argv.slice(1);
                    fs.writeFileSync(p, t); process.stdout.write(fs.readFileSync(p, 'utf8'));
                    """
                let printed = try Command("node", "-e", script, town.keepalive, text).output()
                #expect(printed == text)
                #expect(try Client.read(town.keepalive) == text)
            }
        }

        // MARK: Rename

        @Test func fileRenamedOverASignalIsItsDocument() throws {
            try withMountedTown { town in
                for command in ["bd ready", "bd close gt-1"] {
                    let text = KeepaliveDocument.text(command)
                    try Client.replace(town.activity, with: text)
                    #expect(try Client.read(town.activity) == text)
                    #expect(try Client.names(in: "\(town.path)/daemon") == ["activity.json"])
                }
                #expect(try town.status().documents.touches == 2)
            }
        }

        @Test func secondRenameOfASharedTemporaryNameFails() throws {
            try withMountedTown { town in
                let temporary = town.activity + ".tmp"
                try Client.write(KeepaliveDocument.text("bd one"), to: temporary)
                try Client.write(KeepaliveDocument.text("bd two"), to: temporary)
                try Client.rename(temporary, to: town.activity)
                #expect(throws: Errno.noSuchFileOrDirectory) { try Client.rename(temporary, to: town.activity) }
                #expect(try KeepaliveDocument(Client.read(town.activity)).lastCommand == "bd two")
            }
        }

        @Test func halfWrittenFileRenamedOverASignalChangesNothing() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("bd whole")
                try Client.replace(town.activity, with: text)
                try Client.write(#"{"last_command":"bd ha"#, to: town.activity + ".tmp")
                #expect(throws: Errno.invalidArgument) {
                    try Client.rename(town.activity + ".tmp", to: town.activity)
                }
                #expect(try Client.read(town.activity) == text)
            }
        }

        @Test func writerOfARenamedTemporaryFileWritesTheSignalFile() throws {
            try withMountedTown { town in
                let temporary = town.activity + ".tmp"
                let text = KeepaliveDocument.text("bd slow")
                let file = try Client.openForWriting(temporary)
                // Another bd uses the same temporary name and renames the partial file.
                let first = KeepaliveDocument.text("bd fast")
                try Client.write(first, to: file)
                try Client.rename(temporary, to: town.activity)
                #expect(try Client.read(town.activity) == first)

                let number = try FileStatus(town.activity).st_ino
                #expect(try FileStatus(file).st_ino == number)
                try Client.truncate(file, to: 0)
                try Client.pwrite(text, to: file, at: 0)
                #expect(try Client.read(town.activity) == first, "a draft is private")
                try Client.close(file)
                #expect(try Client.read(town.activity) == text)
                #expect(try FileStatus(town.activity).st_ino == number)
            }
        }

        @Test func renamedInodesAllBecomeTheSignalFile() throws {
            try withMountedTown { town in
                for round in 1...20 {
                    try Client.replace(town.activity, with: KeepaliveDocument.text("bd \(round)"))
                    try Client.write(#"{"a":\#(round)}"#, to: town.activity)
                    // A plain file would have only the written bytes; a signal file has a timestamp.
                    #expect(try KeepaliveDocument(Client.read(town.activity)).seconds > 0)
                }
                #expect(try town.status().documents.touches == 40)
            }
        }

        // MARK: Partial reads and writes

        @Test func piecesMakeOneDocumentWhenTheFileIsClosed() throws {
            try withMountedTown { town in
                let former = KeepaliveDocument.text("gt former")
                try Client.write(former, to: town.keepalive)
                let text = KeepaliveDocument.text("gt in pieces")
                let middle = text.utf8.count / 2
                let file = try Client.openForWriting(town.keepalive)
                try Client.pwrite(String(text.dropFirst(middle)), to: file, at: middle)
                #expect(try Client.read(town.keepalive) == former)
                try Client.pwrite(String(text.prefix(middle)), to: file, at: 0)
                #expect(try Client.read(town.keepalive) == former)
                try Client.close(file)
                #expect(try Client.read(town.keepalive) == text)
            }
        }

        @Test func appendedPiecesMakeOneDocument() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt appends")
                let file = try Client.open(town.keepalive, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND)
                for character in text { try Client.write(String(character), to: file) }
                try Client.close(file)
                #expect(try Client.read(town.keepalive) == text)
                // A document with trailing white space is still valid.
                let again = try Client.open(town.keepalive, O_WRONLY | O_APPEND)
                try Client.write("\n", to: again)
                try Client.close(again)
                #expect(try Client.read(town.keepalive) == text + "\n")
            }
        }

        @Test func lengthSetByFtruncateCutsTheDocument() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt cut")
                let file = try Client.openForWriting(town.keepalive)
                try Client.write(text + "and what was there before", to: file)
                try Client.truncate(file, to: text.utf8.count)
                try Client.close(file)
                #expect(try Client.read(town.keepalive) == text)
                // The other order: open without O_TRUNC, truncate, write.
                let other = KeepaliveDocument.text("gt")
                let second = try Client.open(town.keepalive, O_RDWR)
                try Client.truncate(second, to: 0)
                try Client.write(other, to: second)
                try Client.close(second)
                #expect(try Client.read(town.keepalive) == other)
            }
        }

        @Test func fsyncCommitsAndTheRealFileHasIt() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt sync")
                let file = try Client.openForWriting(town.keepalive)
                try Client.write(text, to: file)
                try Client.synchronize(file)
                #expect(try Client.read(town.keepalive) == text)
                #expect(try Client.read("\(town.backing)/.runtime/keepalive.json") == text)
                try Client.close(file)
                #expect(try town.status().documents.touches == 1)
            }
        }

        @Test func partialDocumentIsRejectedByFsyncAndCompletedByTheRest() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt halves")
                let file = try Client.openForWriting(town.keepalive)
                try Client.write(String(text.prefix(20)), to: file)
                #expect(throws: Errno.invalidArgument) { try Client.synchronize(file) }
                #expect(try Command("cat", town.keepalive).run().status == 1, "others find no file yet")
                try Client.write(String(text.dropFirst(20)), to: file)
                try Client.close(file)
                #expect(try Client.read(town.keepalive) == text)
            }
        }

        @Test func duplicatedDescriptorsAreValidatedAtEachClose() throws {
            try withMountedTown { town in
                let former = KeepaliveDocument.text("gt former")
                try Client.write(former, to: town.keepalive)
                let text = KeepaliveDocument.text("gt duplicates")
                let file = try Client.openForWriting(town.keepalive)
                let second = FileDescriptor(rawValue: fcntl(file.rawValue, F_DUPFD_CLOEXEC, 0))
                let third = FileDescriptor(rawValue: fcntl(file.rawValue, F_DUPFD_CLOEXEC, 0))
                try Client.write(String(text.prefix(10)), to: file)
                // A partial document is rejected at close and never read.
                #expect(throws: Errno.invalidArgument) { try Client.close(file) }
                #expect(try Client.read(town.keepalive) == former)
                try Client.write(String(text.dropFirst(10)), to: second)
                try Client.close(second)
                #expect(try Client.read(town.keepalive) == text)
                try Client.close(third)
                #expect(try Client.read(town.keepalive) == text)
            }
        }

        @Test func documentInheritedByAChildIsCommittedByTheLastToClose() throws {
            try withMountedTown { town in
                try town.shell("( printf '{\"last_command\":'; sh -c 'echo \\\"gt x\\\"}' ) > .runtime/keepalive.json")
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt x")
            }
        }

        // MARK: Touching

        @Test func touchKeepsTheLastCommandAndSetsTheTime() throws {
            try withMountedTown { town in
                let touches: [(String) throws -> Void] = [
                    { try Client.touch($0) },
                    { try Client.setModified($0, seconds: 1_000_000) },
                    { try Client.close(Client.openForWriting($0)) },
                    { _ = try Command("touch", $0).output() },
                    { _ = try Command("sh", "-c", ": > \($0)").output() },
                ]
                for touch in touches {
                    try Client.write(KeepaliveDocument.text("gt before", age: 5000), to: town.keepalive)
                    let before = Client.now
                    try touch(town.keepalive)
                    let document = try KeepaliveDocument(Client.read(town.keepalive))
                    #expect(document.lastCommand == "gt before")
                    #expect(before...Client.now ~= document.seconds)
                    #expect(Int(try FileStatus(town.keepalive).modified) >= before)
                }
            }
        }

        @Test func touchOfAMissingSignalFileCreatesIt() throws {
            try withMountedTown { town in
                try town.shell("touch .runtime/keepalive.json deacon/.deacon-heartbeat")
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).seconds > 0)
            }
        }

        @Test func timeOnlyHeartbeatStaysEmpty() throws {
            try withMountedTown { town in
                let path = "\(town.path)/deacon/.deacon-heartbeat"
                let before = Client.now
                try Client.write("", to: path)
                #expect(try FileStatus(path).st_size == 0)
                #expect(try Client.read(path) == "")
                #expect(Int(try FileStatus(path).modified) >= before)
            }
        }

        // MARK: Validation

        @Test(arguments: ["{}", #"{"time":"2026-01-01T00:00:00Z"}"#, #"{"timestamp":null,"state":"idle"}"#])
        func documentWithoutATimestampGetsTheTimeOfReceipt(text: String) throws {
            try withMountedTown { town in
                let before = Client.now
                try Client.write(text, to: town.keepalive)
                #expect(try before...Client.now ~= KeepaliveDocument(Client.read(town.keepalive)).seconds)
            }
        }

        @Test func timestampFromTheFutureIsReplacedAndCounted() throws {
            try withMountedTown { town in
                let before = Client.now
                try Client.write(KeepaliveDocument.text("gt ahead", age: -3600), to: town.keepalive)
                let document = try KeepaliveDocument(Client.read(town.keepalive))
                #expect(document.lastCommand == "gt ahead")
                #expect(before...Client.now ~= document.seconds)
                #expect(try town.status().documents.fromFuture == 1)
            }
        }

        @Test(arguments: [
            #"{"last_command":"gt"#, "[1,2]", "null", "17", #""text""#, "{}{}", "{\"a\":\"\u{0}\"}", "one\ntwo\n",
        ])
        func invalidDocumentIsRejectedByCloseAndTheLastOneStays(text: String) throws {
            try withMountedTown { town in
                let former = KeepaliveDocument.text("gt former")
                try Client.write(former, to: town.keepalive)
                #expect(throws: Errno.invalidArgument) { try Client.write(text, to: town.keepalive) }
                #expect(try Client.read(town.keepalive) == former)
                #expect(try FileStatus(town.keepalive).st_size == former.utf8.count)
                #expect(try town.status().documents.refused == 1)
            }
        }

        @Test func invalidDocumentCreatesNoSignalFile() throws {
            try withMountedTown { town in
                #expect(throws: Errno.invalidArgument) { try Client.write("{", to: town.keepalive) }
                #expect(throws: Errno.noSuchFileOrDirectory) { try Client.read(town.keepalive) }
                let names = try Client.names(in: "\(town.path)/.runtime")
                #expect(names == ["heartbeats"])
            }
        }

        @Test func bytesThatAreNotUTF8AreRefused() throws {
            try withMountedTown { town in
                let outcome = try Command("sh", "-c", "printf '\\377\\376' > \(town.keepalive)").run()
                #expect(outcome.status != 0 || !Client.exists(town.keepalive))
                #expect(!Client.exists(town.keepalive))
            }
        }

        @Test func documentOf64KiBFitsAndOneByteMoreDoesNot() throws {
            try withMountedTown { town in
                let empty = KeepaliveDocument.text("gt", filler: 1).utf8.count - 1
                let largest = KeepaliveDocument.text("gt", filler: (64 << 10) - empty)
                #expect(largest.utf8.count == 64 << 10)
                try Client.write(largest, to: town.keepalive)
                #expect(try Client.read(town.keepalive) == largest)
                let tooLarge = KeepaliveDocument.text("gt", filler: (64 << 10) - empty + 1)
                #expect(throws: Errno.fileTooLarge) { try Client.write(tooLarge, to: town.keepalive) }
                #expect(throws: Errno.fileTooLarge) { try Client.replace(town.activity, with: tooLarge) }
                let file = try Client.open(town.keepalive, O_WRONLY)
                #expect(throws: Errno.fileTooLarge) { try Client.truncate(file, to: (64 << 10) + 1) }
                try Client.close(file)
                #expect(try Client.read(town.keepalive) == largest)
                #expect(!Client.exists(town.activity))
                #expect(try town.status().documents.refused == 2)
            }
        }
    }
}

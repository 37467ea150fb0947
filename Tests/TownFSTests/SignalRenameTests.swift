import CLinux
import Fuse
import Glibc
import Liveness
import SystemPackage
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct SignalRenameTests {
    private let activity = "daemon/activity.json"
    private let temporary = "daemon/activity.json.tmp"

    // MARK: Onto a signal file

    @Test(arguments: [true, false])
    func fileRenamedOverASignalFileIsOneTouch(_ isThere: Bool) throws {
        try withTown { town in
            if isThere { try town.write("{}", to: activity) }
            let touches = town.town.counters.touches
            let text = document("bd update", at: town.now)
            try town.write(text, to: temporary, mode: 0o600)
            let inode = try town.lookup(temporary).inode
            try town.rename(temporary, to: activity)
            #expect(try town.read(activity) == text)
            #expect(town.town.counters.touches == touches + 1)
            #expect(try town.names("daemon") == ["activity.json"])
            #expect(try town.backingNames("daemon") == [])
            #expect(try town.stat(activity).st_mode == S_IFREG | 0o600)
            // For the kernel, the name now means the source's inode.
            #expect(try town.lookup(activity).inode == inode)
            #expect(try town.getattr(inode, for: .me).status.st_ino == town.stat(activity).st_ino)
            let record = try #require(town.town.liveness.record(ofSignal: Array(activity.utf8)))
            #expect(record.touch.source == .renamed)
        }
    }

    @Test func renamedFileBehavesAsTheSignalFileFromThenOn() throws {
        try withTown { town in
            for number in 0..<3 {
                try town.write(document("\(number)", at: town.now), to: temporary)
                try town.rename(temporary, to: activity)
                town.advance(by: .seconds(1))
                try town.write(document("written \(number)", at: town.now), to: activity)
                #expect(try town.read(activity) == document("written \(number)", at: town.now))
            }
            try town.unlink(activity)
            #expect(try !town.exists(activity))
        }
    }

    @Test func brokenDocumentIsRefusedAndBothFilesStay() throws {
        try withTown { town in
            let text = document("gt", at: town.now)
            try town.write(text, to: activity)
            try town.write("{\"half", to: temporary)
            #expect(throws: Errno.invalidArgument) { try town.rename(temporary, to: activity) }
            #expect(try town.read(activity) == text)
            #expect(try town.read(temporary) == "{\"half")
        }
    }

    @Test func largeFileIsRefused() throws {
        try withTown { town in
            try town.write(String(repeating: " ", count: Document.maximumSize + 1), to: temporary)
            #expect(throws: Errno.fileTooLarge) { try town.rename(temporary, to: activity) }
        }
    }

    @Test func directoryCannotTakeTheNameOfASignalFile() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.mkdir("daemon/d")
            #expect(throws: Errno.notDirectory) { try town.rename("daemon/d", to: activity) }
        }
    }

    @Test func flagsAreHeeded() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.write("{}", to: temporary)
            #expect(throws: Errno.fileExists) {
                try town.rename(temporary, to: activity, flags: UInt32(RENAME_NOREPLACE))
            }
            #expect(throws: Errno.invalidArgument) {
                try town.rename(temporary, to: activity, flags: UInt32(RENAME_EXCHANGE))
            }
            try town.unlink(activity)
            try town.rename(temporary, to: activity, flags: UInt32(RENAME_NOREPLACE))
            #expect(try town.exists(activity))
        }
    }

    /// Two `bd` processes share one temporary name: one renames the file while the other is still writing it.
    @Test func writerContinuesInTheSignalFileItsFileWasRenamedTo() throws {
        try withTown { town in
            let before = document("before", at: town.now)
            try town.write(before, to: activity)
            town.advance(by: .seconds(1))
            let slow = try town.open(temporary, O_WRONLY | O_CREAT | O_TRUNC)
            // Still empty: a touch, which keeps the document.
            try town.rename(temporary, to: activity)
            #expect(try town.read(activity, by: .other) == document("before", at: town.now))
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.rename(temporary, to: activity) }
            let text = document("slow", at: town.now)
            try town.write(text, to: slow)
            try town.close(slow)
            #expect(try town.read(activity) == text)
            #expect(try town.backingNames("daemon") == [])
        }
    }

    @Test func signalFileIsRenamedOverASignalFile() throws {
        try withTown { town in
            let text = document("gt", at: town.now)
            try town.write(text, to: activity)
            try town.rename(activity, to: "deacon/heartbeat.json")
            #expect(try town.read("deacon/heartbeat.json") == text)
            #expect(try !town.exists(activity))
            #expect(town.town.liveness.record(ofSignal: Array(activity.utf8)) == nil)
        }
    }

    @Test func renameOntoItselfDoesNothing() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            let touches = town.town.counters.touches
            try town.rename(activity, to: activity)
            #expect(try town.exists(activity))
            #expect(town.town.counters.touches == touches)
        }
    }

    // MARK: Away from a signal file

    @Test(arguments: [true, false])
    func signalFileRenamedAwayBecomesAPlainFile(_ isTouched: Bool) throws {
        try withTown([activity: "{\"timestamp\":\"2026-01-01T00:00:00Z\"}"]) { town in
            if isTouched { try town.write(document("gt", at: town.now), to: activity, mode: 0o600) }
            let text = try town.read(activity)
            let status = try town.stat(activity)
            let inode = try town.lookup(activity).inode
            try town.rename(activity, to: "daemon/old.json")
            #expect(try town.readBacking("daemon/old.json") == text)
            #expect(try town.read("daemon/old.json") == text)
            #expect(try town.stat("daemon/old.json").st_mode == status.st_mode)
            #expect(WallTime(try town.stat("daemon/old.json").st_mtim) == WallTime(status.st_mtim))
            #expect(try town.lookup("daemon/old.json").inode == inode)
            #expect(try !town.exists(activity))
            #expect(try town.backingNames("daemon") == ["old.json"])
            #expect(town.town.liveness.record(ofSignal: Array(activity.utf8)) == nil)
        }
    }

    @Test func renameAwayRespectsTheTarget() throws {
        try withTown(["daemon/old.json": "older", "daemon/d/f": ""]) { town in
            try town.write(document("gt", at: town.now), to: activity)
            #expect(throws: Errno.isDirectory) { try town.rename(activity, to: "daemon/d") }
            #expect(throws: Errno.fileExists) {
                try town.rename(activity, to: "daemon/old.json", flags: UInt32(RENAME_NOREPLACE))
            }
            #expect(throws: Errno.noSuchFileOrDirectory) {
                try town.rename("deacon/heartbeat.json", to: "daemon/old.json")
            }
            let replaced = try town.lookup("daemon/old.json").inode
            try town.rename(activity, to: "daemon/old.json")
            #expect(try town.read("daemon/old.json") == document("gt", at: town.now))
            // An open descriptor still reads the replaced file.
            #expect(try town.getattr(replaced, for: .me).status.st_nlink == 0)
        }
    }

    @Test func hardLinksAreNotPermitted() throws {
        try withTown(["daemon/f": "1"]) { town in
            try town.write("{}", to: activity)
            #expect(throws: Errno.notPermitted) { try town.link(activity, to: "daemon/x") }
            #expect(throws: Errno.fileExists) { try town.link("daemon/f", to: activity) }
            #expect(throws: Errno.notPermitted) { try town.link("daemon/f", to: "deacon/heartbeat.json") }
        }
    }

    // MARK: Directories

    @Test func renamedDirectoryKeepsItsDocuments() throws {
        try withTown { town in
            let text = document("gt", at: town.now)
            try town.write(text, to: activity)
            try town.rename("daemon", to: "retired")
            #expect(try town.readBacking("retired/activity.json") == text)
            #expect(try town.read("retired/activity.json") == text)
            #expect(town.town.liveness.record(ofSignal: Array(activity.utf8)) == nil)
            // A file created at the old path is a new one.
            try town.mkdir("daemon")
            #expect(try !town.exists(activity))
        }
    }

    @Test func directoryMovedToWhereSignalFilesLieHasThem() throws {
        try withTown(["new/activity.json": "{}", "new/sub/f": ""]) { town in
            _ = try town.lookup("new/sub/f")
            try town.rename("daemon", to: "old")
            try town.rename("new", to: "daemon")
            let number = try town.stat(activity).st_ino
            #expect(number == SignalFile.inodeNumber(of: Array(activity.utf8)))
            try town.write(document("gt", at: town.now), to: activity)
            #expect(town.town.counters.touches == 1)
        }
    }

    @Test func exchangedDirectoriesKeepTheirDocuments() throws {
        try withTown(["other/activity.json": "{\"other\":1}"]) { town in
            let text = document("gt", at: town.now)
            try town.write(text, to: activity)
            try town.rename("daemon", to: "other", flags: UInt32(RENAME_EXCHANGE))
            #expect(try town.read("other/activity.json") == text)
            #expect(try town.read(activity) == "{\"other\":1}")
        }
    }

    /// A draft in a directory that lost its path is discarded.
    ///
    /// It must not be written back to a missing path, or to a file created there later.
    @Test(arguments: ["renamed", "removed"])
    func draftInARemovedDirectoryIsNotCommitted(_ how: String) throws {
        try withTown { town in
            if how == "renamed" { try town.write("{}", to: activity) }
            let handle = try town.open(activity, O_WRONLY | O_CREAT | O_TRUNC)
            if how == "renamed" {
                try town.rename("daemon", to: "retired")
            } else {
                #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("daemon") }
                try town.unlink(activity)
                try town.rmdir("daemon")
            }
            try town.write(document("zombie", at: town.now), to: handle)
            try town.close(handle)
            #expect(town.town.liveness.record(ofSignal: Array(activity.utf8)) == nil)
            try town.mkdir("daemon")
            #expect(try !town.exists(activity))
            try town.write(document("living", at: town.now), to: activity)
            town.writeback()
            #expect(try town.readBacking(activity) == document("living", at: town.now))
            #expect(town.town.close() == 0)
        }
    }

    @Test func directoryWithDocumentsIsNotEmpty() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("daemon") }
            try town.mkdir("empty")
            #expect(throws: Errno.directoryNotEmpty) { try town.rename("empty", to: "daemon") }
            try town.unlink(activity)
            try town.rmdir("daemon")
            #expect(try !town.exists("daemon"))
        }
    }

    @Test func removedDirectoryLeavesNoRecordForTheNextOfItsName() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.unlink(activity)
            try town.rmdir("daemon")
            try town.mkdir("daemon")
            #expect(try town.names("daemon") == [])
            try town.write("{}", to: activity)
            #expect(try town.names("daemon") == ["activity.json"])
        }
    }

    /// An inode that was a plain file, became a signal file, and is now another plain file.
    @Test func inodeThatWasASignalFileIsFoundInItsNewPlace() throws {
        try withTown(["x": #"{"a":1}"#]) { town in
            let inode = try town.lookup("x").inode
            try town.rename("x", to: "daemon/activity.json")
            try town.rename("daemon/activity.json", to: "y")
            #expect(try town.lookup("y").inode == inode)
            #expect(try town.getattr(inode, for: .me).status.st_nlink == 1)
        }
    }

    /// The process that had it open asks for its attributes, whatever pid the request carries.
    @Test func renamedAndUnlinkedFileStaysUsableByOpenDescriptors() throws {
        try withTown { town in
            try town.write("{}", to: "daemon/activity.json")
            let text = try town.read("daemon/activity.json")
            let inode = try town.lookup("daemon/activity.json").inode
            let handle = try town.open("daemon/activity.json")
            try town.rename("daemon/activity.json", to: "deacon/heartbeat.json")
            try town.unlink("deacon/heartbeat.json")
            let other = Request(user: 0, group: 0, thread: 1)
            let status = try town.getattr(inode, for: other).status
            #expect(status.st_nlink == 0)
            #expect(status.st_size == off_t(text.utf8.count))
            #expect(try town.read(handle) == text)
            town.release(handle)
            #expect(throws: Errno.staleNFSFileHandle) { try town.getattr(inode, for: other) }
        }
    }
}

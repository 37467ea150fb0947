import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct WritebackTests {
    private let activity = "daemon/activity.json"

    @Test func documentIsInItsRealFileOnceAskedFor() throws {
        try withTown { town in
            let text = document("gt", at: town.now)
            try town.write(text, to: activity)
            #expect(town.town.writeback.dirtyCount == 1)
            town.writeback()
            #expect(try town.readBacking(activity) == text)
            #expect(WallTime(try town.statBacking(activity).st_mtim) == town.now)
            #expect(town.town.writeback.dirtyCount == 0)
            #expect(try town.backingNames("daemon") == ["activity.json"])
        }
    }

    @Test func closeWritesEverythingDown() throws {
        try withTown { town in
            let paths = ["daemon/activity.json", "deacon/heartbeat.json", ".runtime/heartbeats/gt-nux.json"]
            for path in paths { try town.write(document(path, at: town.now), to: path) }
            #expect(town.town.close() == 0)
            for path in paths {
                let read = try town.readBacking(path)
                #expect(read == document(path, at: town.now))
            }
        }
    }

    @Test func newMountContinuesFromTheBackingFiles() throws {
        try withTown { town in
            try town.write(document("gt", at: town.now), to: activity, mode: 0o640)
            let status = try town.stat(activity)
            #expect(town.town.close() == 0)
            let next = try TestTown(
                tree: town.tree, patterns: SignalPatterns.defaults, expiry: .keep, cacheCapacity: 8, journal: nil)
            defer { _ = next.town.close() }
            #expect(try next.read(activity) == document("gt", at: town.now))
            let after = try next.stat(activity)
            #expect(after.st_ino == status.st_ino)
            #expect(after.st_mode == status.st_mode)
            #expect(WallTime(after.st_mtim) == WallTime(status.st_mtim))
        }
    }

    @Test func removedFileIsNotWrittenBack() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.unlink(activity)
            #expect(town.town.close() == 0)
            #expect(try town.backingNames("daemon") == [])
        }
    }

    @Test func documentThatCannotBeWrittenIsKeptAndTriedAgain() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            let text = try town.read(activity)
            // Remove the directory from the backing tree.
            #expect(rename("\(town.tree)/daemon", "\(town.tree)/gone") == 0)
            let file = try #require(town.signals.all(under: Array("daemon".utf8)).first?.knownFiles.first)
            #expect(town.town.writeback.writeNow([file]) == .noSuchFileOrDirectory)
            #expect(town.town.writeback.dirtyCount == 1)
            #expect(rename("\(town.tree)/gone", "\(town.tree)/daemon") == 0)
            #expect(town.town.close() == 0)
            #expect(try town.readBacking(activity) == text)
        }
    }

    @Test func closeCountsFailedWritebacks() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.write("{}", to: "deacon/heartbeat.json")
            #expect(rename("\(town.tree)/daemon", "\(town.tree)/gone") == 0)
            #expect(town.town.close() == 1)
            #expect(try town.readBacking("deacon/heartbeat.json") != nil)
        }
    }

    @Test func documentIsInItsRealFileAfterTheDelay() throws {
        try withTown(writebackDelay: .milliseconds(20)) { town in
            for text in [document("first", at: town.now), document("second", at: town.now)] {
                try town.write(text, to: activity)
                #expect(eventually { (try? town.readBacking(activity)) == text })
            }
            #expect(eventually { town.town.writeback.dirtyCount == 0 })
        }
    }

    /// A power cut may undo a background write-back, but not one by fsync(2).
    @Test func fsyncFlushesAnEarlierWriteback() throws {
        try withTown { town in
            try town.write(document("gt", at: town.now), to: activity)
            town.writeback()
            let written = try town.statBacking(activity)
            let handle = try town.open(activity, O_RDONLY)
            defer { town.release(handle) }
            try town.fsync(handle, dataOnly: false, for: .me)
            let synced = try town.statBacking(activity)
            #expect(synced.st_ino != written.st_ino)
            // Once is enough.
            try town.fsync(handle, dataOnly: false, for: .me)
            #expect(try town.statBacking(activity).st_ino == synced.st_ino)
        }
    }

    @Test func fsyncReportsFailure() throws {
        try withTown { town in
            let handle = try town.open(activity, O_WRONLY | O_CREAT)
            try town.write("{}", to: handle)
            #expect(rename("\(town.tree)/daemon", "\(town.tree)/gone") == 0)
            #expect(throws: Errno.noSuchFileOrDirectory) {
                try town.fsync(handle, dataOnly: false, for: .me)
            }
            town.release(handle)
            #expect(rename("\(town.tree)/gone", "\(town.tree)/daemon") == 0)
        }
    }

    @Test func fsyncOfADirectoryWritesBackTheFilesInIt() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.write("{}", to: ".runtime/heartbeats/a.json")
            let runtime = try town.lookup(".runtime").inode
            let handle = try town.opendir(runtime, for: .me).handle
            try town.fsyncdir(runtime, handle, dataOnly: false)
            town.releasedir(handle)
            #expect(try town.readBacking(".runtime/heartbeats/a.json") != nil)
            #expect(try town.readBacking(activity) == nil)
        }
    }

    @Test func linkOutOfTheTownIsNotFollowed() throws {
        try withTown { town in
            try withTemporaryTree { elsewhere in
                try town.write("{}", to: activity)
                #expect(rename("\(town.tree)/daemon", "\(town.tree)/gone") == 0)
                #expect(symlink(elsewhere, "\(town.tree)/daemon") == 0)
                #expect(town.town.close() == 1)
                #expect(access("\(elsewhere)/activity.json", F_OK) == -1)
            }
        }
    }

    @Test func orderAfterTheCloseDoesNotHang() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            #expect(town.town.close() == 0)
            town.writeback()
        }
    }

    @Test func fullJournalTriggersImmediateWriteback() throws {
        let journal = try Journal(takingOwnershipOf: Journal.makeMemory(regionSize: 64 << 20))
        let large = SignalFile.Content(
            document: Document(Array(repeating: 0x20, count: Document.maximumSize)), modified: .now, changed: .now,
            ownership: .init(mode: 0o644, user: 0, group: 0), deadline: .now)
        var number = 0
        while number < 2000, journal.append(.content(large), at: Array("filler/\(number)".utf8)) { number += 1 }
        try withTown(journal: journal) { town in
            let text = document("gt", at: town.now) + String(repeating: " ", count: 60_000)
            try town.write(text, to: activity)
            #expect(try town.readBacking(activity) == text)
        }
    }
}

@Suite(.timeLimit(.minutes(5))) struct RecoveryTests {
    private let activity = "daemon/activity.json"

    @Test func temporaryFilesOfADeadWorkerAreRemoved() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.writeBacking("half", to: "daemon/.pulsefs-0123456789abcdef")
            try town.recover()
            #expect(try town.backingNames("daemon") == ["activity.json"])
        }
    }

    @Test func documentsOfADeadWorkerReachTheirFiles() throws {
        try withTown(["deacon/heartbeat.json": "{}"]) { town in
            let text = document("gt", at: town.now)
            try town.write(text, to: activity, mode: 0o640)
            try town.write(text, to: "deacon/heartbeat.json")
            try town.write(text, to: "deacon/heartbeat.json")
            try town.unlink("deacon/heartbeat.json")
            try town.recover()
            #expect(try town.readBacking(activity) == text)
            #expect(try town.statBacking(activity).st_mode == S_IFREG | 0o640)
            #expect(WallTime(try town.statBacking(activity).st_mtim) == town.now)
            #expect(try town.backingNames("deacon") == [])
        }
    }

    @Test func recoveringTwiceIsRecoveringOnce() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.recover()
            let text = try town.readBacking(activity)
            try town.recover()
            #expect(try town.readBacking(activity) == text)
        }
    }

    @Test func cleanDocumentIsNotWrittenAgain() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            town.writeback()
            #expect(unlink("\(town.tree)/\(activity)") == 0)
            try town.recover()
            #expect(try town.readBacking(activity) == nil)
        }
    }

    /// The backing file carries the time before the step, which is later.
    @Test(arguments: ["written back", "found at the mount"], ["written back", "recovered"])
    func documentAfterABackwardClockStepReplacesTheOneBefore(_ before: String, _ after: String) throws {
        try withTown { town in
            let former = document("former", at: town.now)
            if before == "written back" {
                try town.write(former, to: activity)
                town.writeback()
            } else {
                try town.writeBacking(former, to: activity)
                try town.setBackingTime(activity, to: town.now)
            }
            town.stepWall(by: .seconds(-15))
            town.advance(by: .seconds(1))
            let text = document("later", at: town.now)
            try town.write(text, to: activity)
            if after == "written back" {
                town.writeback()
            } else {
                try town.recover()
            }
            #expect(try town.readBacking(activity) == text)
        }
    }

    @Test func newerBackingFileIsKept() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.writeBacking("theirs", to: activity)
            try town.setBackingTime(activity, to: town.now + .nanoseconds(1))
            try town.recover()
            #expect(try town.readBacking(activity) == "theirs")
        }
    }

    @Test func missingDirectoryIsNoHindranceToTheOthers() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.write("{}", to: "deacon/heartbeat.json")
            #expect(rename("\(town.tree)/daemon", "\(town.tree)/gone") == 0)
            try town.recover()
            #expect(try town.readBacking("deacon/heartbeat.json") != nil)
            #expect(rename("\(town.tree)/gone", "\(town.tree)/daemon") == 0)
        }
    }

    @Test func directoryThatWasRenamedIsNotRecoveredToItsOldPath() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.rename("daemon", to: "retired")
            try town.mkdir("daemon")
            try town.recover()
            #expect(try town.backingNames("daemon") == [])
            #expect(try town.backingNames("retired") == ["activity.json"])
        }
    }

    @Test func signalFileInTheRootIsRecovered() throws {
        try withTown(patterns: ["keepalive.json"]) { town in
            try town.write("{}", to: "keepalive.json")
            try town.recover()
            #expect(try town.readBacking("keepalive.json") != nil)
        }
    }
}

@Suite(.timeLimit(.minutes(5))) struct ProcessIdentityTests {
    @Test func threadsShareTheirProcess() throws {
        let other = Mutex<pid_t>(0)
        let (isKnown, mayEnd) = (try EventFD(), try EventFD())
        let thread = try Thread(named: "test") {
            other.withLock { $0 = gettid() }
            isKnown.signal()
            mayEnd.wait()
        }
        isKnown.wait()
        let id = other.withLock { $0 }
        #expect(id != gettid())
        #expect(ProcessIdentity.isSame(id, gettid()))
        #expect(ProcessFiles(number: id).process() == getpid())
        mayEnd.signal()
        thread.join()
    }

    @Test func otherProcessesAreNotTheSame() {
        #expect(!ProcessIdentity.isSame(gettid(), 1))
        #expect(!ProcessIdentity.isSame(gettid(), 0))
        #expect(ProcessIdentity.isSame(1, 1))
    }

    @Test func endedProcessHasNoIdentityKey() {
        // Larger than any pid of the kernel's.
        #expect(ProcessFiles(number: 1 << 30).process() == nil)
        #expect(!ProcessIdentity.isSame(1 << 30, gettid()))
    }
}

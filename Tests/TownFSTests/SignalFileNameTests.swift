import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct SignalFileNameTests {
    private let keepalive = ".runtime/keepalive.json"

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

    // MARK: --on-expiry=absent

    @Test(arguments: [true, false])
    func expiredFileIsAbsentWithExpiryAbsent(_ isClean: Bool) throws {
        try withTown(expiry: .absent) { town in
            try town.write(document("gt", at: town.now), to: keepalive)
            if isClean { town.writeback() }
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
}

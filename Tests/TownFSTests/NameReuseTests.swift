import Fuse
import Glibc
import Liveness
import SystemPackage
import Testing

@testable import TownFS

/// What may take the name of a signal file, and when it becomes visible.
@Suite(.timeLimit(.minutes(5))) struct NameReuseTests {
    private let activity = "daemon/activity.json"

    @Test(arguments: [true, false]) func fileWithTwoNamesCannotBecomeASignalFile(_ isThere: Bool) throws {
        try withTown(["daemon/f": "{}"]) { town in
            if isThere { try town.write(document("gt", at: town.now), to: activity) }
            try town.link("daemon/f", to: "daemon/g")
            #expect(throws: Errno.notPermitted) { try town.rename("daemon/f", to: activity) }
            #expect(try town.read("daemon/f") == "{}")
            #expect(try town.read("daemon/g") == "{}")
            #expect(try town.exists(activity) == isThere)
            // With a link count of one it can.
            try town.unlink("daemon/g")
            try town.rename("daemon/f", to: activity)
            #expect(town.town.liveness.record(ofSignal: Array(activity.utf8)) != nil)
        }
    }

    @Test(arguments: [S_IFLNK, S_IFIFO, S_IFDIR])
    func otherFileTypesMayTakeAnUnusedSignalName(_ kind: mode_t) throws {
        try withTown { town in
            let other = "\(town.tree)/daemon/other"
            switch kind {
            case S_IFLNK: #expect(symlink("elsewhere", other) == 0)
            case S_IFIFO: #expect(mkfifo(other, 0o644) == 0)
            default: #expect(mkdir(other, 0o755) == 0)
            }
            try town.rename("daemon/other", to: activity)
            #expect(try town.statBacking(activity).st_mode & S_IFMT == kind)
            #expect(try town.stat(activity).st_mode & S_IFMT == kind)
            #expect(try town.names("daemon") == ["activity.json"])
            #expect(town.town.counters.touches == 0)
        }
    }

    @Test func fileInTheMakingIsNotSeenForItsTimesBeingSet() throws {
        try withTown { town in
            let text = document("gt", at: town.now)
            let handle = try town.open(activity, O_WRONLY | O_CREAT | O_EXCL)
            try town.write(String(text.prefix(10)), to: handle)
            try town.setattr(activity, handle: handle) { $0.modified = .now }
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.read(activity, by: .other) }
            try town.write(String(text.dropFirst(10)), to: handle, at: 10)
            try town.setattr(activity, handle: handle) { $0.modified = .now }
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.read(activity, by: .other) }
            #expect(town.town.counters.touches == 0)
            try town.close(handle)
            #expect(try town.read(activity, by: .other) == text)
        }
    }

    @Test func unchangedDocumentIsNotWrittenBackAgain() throws {
        try withTown { town in
            func synchronize() throws {
                let handle = try town.opendir(.root, for: .me).handle
                defer { town.releasedir(handle) }
                try town.fsyncdir(.root, handle, dataOnly: false)
            }
            try town.write(document("gt", at: town.now), to: activity)
            try synchronize()
            let first = try town.statBacking(activity)
            try synchronize()
            _ = try town.read(activity)
            try synchronize()
            let second = try town.statBacking(activity)
            #expect(second.st_ino == first.st_ino)
            #expect(WallTime(second.st_ctim) == WallTime(first.st_ctim))
        }
    }
}

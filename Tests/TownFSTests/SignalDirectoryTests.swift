import Fuse
import Glibc
import Linux
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

/// Directories under `**`, where each directory may hold signal files.
@Suite(.timeLimit(.minutes(5))) struct SignalDirectoryTests {
    private let anywhere = ["**/x.json"]

    @Test func forgottenDirectoryWithoutSignalFilesCostsNothing() throws {
        try withTown(patterns: anywhere) { town in
            for number in 0..<100 { try makeDirectories("\(town.tree)/a/d\(number)/e") }
            let before = town.signals.all(under: []).count
            var lookups: [InodeNumber: UInt64] = [:]
            for number in 0..<100 {
                for path in ["a", "a/d\(number)", "a/d\(number)/e"] {
                    lookups[try town.lookup(path).inode, default: 0] += 1
                }
            }
            #expect(town.signals.all(under: []).count == before + 201)
            for inode in lookups.keys { town.forget(inode, count: .max) }
            #expect(town.signals.all(under: []).count == before)
            #expect(town.nodes.count == 1)
        }
    }

    @Test func removedDirectoriesCostNothing() throws {
        try withTown(patterns: anywhere) { town in
            let before = town.signals.all(under: []).count
            for number in 0..<100 {
                try town.mkdir("d\(number)")
                let inode = try town.lookup("d\(number)").inode
                try town.rmdir("d\(number)")
                town.forget(inode, count: .max)
            }
            #expect(town.signals.all(under: []).count == before)
        }
    }

    @Test func signalFileOutlivesTheInodesOfItsDirectories() throws {
        try withTown(["a/b/c": ""], patterns: anywhere) { town in
            let text = document("gt", at: town.now)
            try town.write(text, to: "a/b/x.json")
            let inodes = try ["a/b/x.json", "a/b", "a"].map { try town.lookup($0).inode }
            for inode in inodes { town.forget(inode, count: .max) }
            #expect(town.nodes.count == 1)
            // It is in no backing file yet.
            #expect(try town.readBacking("a/b/x.json") == nil)
            #expect(try town.read("a/b/x.json") == text)
            #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("a/b") }
            let inode = try town.lookup("a/b/x.json").inode
            try town.unlink("a/b/x.json")
            town.forget(inode, count: .max)
            for path in ["a/b", "a"] { town.forget(try town.lookup(path).inode, count: .max) }
            // The write-back thread still holds the unlinked file.
            #expect(town.town.close() == 0)
            let isFreed = eventually { town.signals.all(under: Array("a".utf8)).isEmpty }
            #expect(isFreed)
        }
    }

    @Test func renamedDirectoryChangesOnlyWhatIsUnderIt() throws {
        try withTown(["a/b/c/x.json": "{}", "a/b/f": "", "other/x.json": "{}"], patterns: ["new/**/x.json"]) { town in
            let file = try town.lookup("a/b/c/x.json").inode
            let other = try town.lookup("other/x.json").inode
            try town.rename("a", to: "new")
            #expect(try town.lookup("new/b/c/x.json").inode == file)
            #expect(
                try town.getattr(file, for: .me).status.st_ino
                    == SignalFile.inodeNumber(of: Array("new/b/c/x.json".utf8)))
            #expect(
                try town.getattr(other, for: .me).status.st_ino == town.statBacking("other/x.json").st_ino)
            try town.rename("new", to: "a")
            #expect(
                try town.getattr(file, for: .me).status.st_ino
                    == town.statBacking("a/b/c/x.json").st_ino)
            #expect(town.signals.all(under: []).count == 1)
        }
    }

    /// What is made in a directory through a request that began before the directory moved must not come back at its
    /// former path.
    @Test func directoryThatHasMovedTakesNoFiles() throws {
        try withTown(["a/b/c": ""], patterns: anywhere) { town in
            _ = try town.lookup("a/b")
            let former = try #require(town.signals.all(under: Array("a".utf8)).first)
            try town.rename("a", to: "new")
            let late = try #require(former.child(NodeName("late".utf8)))
            #expect(former.file(NodeName("x.json".utf8)).isRemoved)
            #expect(late.file(NodeName("x.json".utf8)).isRemoved)
            #expect(throws: Errno.staleNFSFileHandle) { try late.withFile(NodeName("x.json".utf8)) { $0 } }
            #expect(town.signals.all(under: Array("a".utf8)).isEmpty)
        }
    }

    @Test(arguments: ["rmdir", "rename"])
    func costDependsOnTheDirectoryAlone(_ operation: String) throws {
        func cost(amid others: Int) throws -> Duration {
            var cost = Duration.zero
            try withTown(patterns: anywhere) { town in
                for number in 0..<others {
                    try makeDirectories("\(town.tree)/others/o\(number)")
                    _ = try town.lookup("others/o\(number)")
                }
                for number in 0..<100 { try town.mkdir("d\(number)") }
                let start = try threadTime()
                for number in 0..<100 {
                    if operation == "rmdir" {
                        try town.rmdir("d\(number)")
                    } else {
                        try town.rename("d\(number)", to: "renamed\(number)")
                    }
                }
                cost = try threadTime() - start
            }
            return cost
        }
        let alone = try cost(amid: 0)
        let amidOthers = try cost(amid: 4000)
        #expect(amidOthers < alone * 3)
    }

    /// CPU time of this thread, which other load does not change.
    private func threadTime() throws(Errno) -> Duration {
        var time = timespec()
        _ = try retryingInterrupts { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) }
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}

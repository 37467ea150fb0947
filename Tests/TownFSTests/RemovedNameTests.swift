import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage
import Testing

@testable import TownFS

/// Names that must leave nothing behind once they are removed.
@Suite(.timeLimit(.minutes(5))) struct RemovedNameTests {
    private let activity = "daemon/activity.json"

    @Test(arguments: [true, false]) func unlinkIsSyncedInTheJournal(_ isClean: Bool) throws {
        try withTown { town in
            try town.write("{}", to: activity)
            if isClean { town.writeback() }
            try town.unlink(activity)
            let event = try #require(town.journal.replay()[Array(activity.utf8)])
            guard case .clean = event else {
                Issue.record("the last event is \(event)")
                return
            }
        }
    }

    @Test func recoveryKeepsAFileThatTookTheNameOfAnUnlinkedOne() throws {
        try withTown { town in
            try town.write("{}", to: activity)
            try town.unlink(activity)
            #expect(symlink("elsewhere", "\(town.tree)/\(activity)") == 0)
            try town.recover()
            #expect(try town.statBacking(activity).st_mode & S_IFMT == S_IFLNK)

            #expect(unlink("\(town.tree)/\(activity)") == 0)
            try town.writeBacking("theirs", to: activity)
            try town.recover()
            #expect(try town.readBacking(activity) == "theirs")
        }
    }

    @Test func recoveryKeepsALinkThatTookTheNameDuringAnUnlink() throws {
        try withTown { town in
            // Killed between the journal entry and the removal.
            #expect(town.journal.append(.unlinked, at: Array(activity.utf8)))
            #expect(symlink("elsewhere", "\(town.tree)/\(activity)") == 0)
            try town.recover()
            #expect(try town.backingNames("daemon") == ["activity.json"])
        }
    }

    @Test func recoveryWritesEveryDocumentHoweverMany() throws {
        try withTown { town in
            let names = (100..<400).map { "agent-\($0).json" }
            for name in names { try town.write(document(name, at: town.now), to: ".runtime/heartbeats/\(name)") }
            try town.recover()
            #expect(try town.backingNames(".runtime/heartbeats") == names)
            for name in names {
                #expect(try town.readBacking(".runtime/heartbeats/\(name)") == document(name, at: town.now))
            }
        }
    }

    @Test func directoryWithAnUncommittedFileIsNotEmpty() throws {
        try withTown { town in
            let handle = try town.open(activity, O_WRONLY | O_CREAT | O_EXCL)
            #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("daemon") }
            try town.write("{}", to: handle)
            try town.close(handle)
            #expect(try town.exists(activity))
            #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("daemon") }
        }
    }

    @Test func directoryWithLeftoversOfACrashIsEmpty() throws {
        try withTown(["daemon/.pulsefs-activity.json": "{"]) { town in
            #expect(try town.names("daemon") == [])
            try town.rmdir("daemon")
            #expect(try !town.exists("daemon"))
        }
    }

    @Test func directoryWithAForeignFileIsNotEmpty() throws {
        try withTown(["daemon/.pulsefs-notes": "theirs"]) { town in
            #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("daemon") }
            let text = try town.readBacking("daemon/.pulsefs-notes")
            #expect(text == "theirs")
        }
    }

    @Test func failedLookupsLeaveNothingBehind() throws {
        try withTown { town in
            for number in 0..<1000 {
                let exists = try town.exists(".runtime/heartbeats/absent-\(number).json")
                #expect(!exists)
            }
            #expect(town.signals.all(under: []).flatMap(\.knownFiles).isEmpty)
        }
    }
}

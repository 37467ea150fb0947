import Fuse
import Glibc
import SystemPackage
import Testing

@testable import TownFS

/// Open descriptors of a signal file that is renamed, or whose directory is renamed.
@Suite(.timeLimit(.minutes(5))) struct MovingWriterTests {
    private let activity = "daemon/activity.json"
    private let retired = "retired/activity.json"

    @Test func writerContinuesInTheFileASignalFileIsRenamedTo() throws {
        try withTown { town in
            try town.write(document("before", at: town.now), to: activity)
            let handle = try town.open(activity, O_WRONLY | O_TRUNC)
            try town.write(#"{"half":"#, to: handle)
            try town.rename(activity, to: "daemon/old.json")
            try town.write("1}", to: handle, at: 8)
            try town.close(handle)
            #expect(try town.read("daemon/old.json") == #"{"half":1}"#)
            #expect(try town.readBacking("daemon/old.json") == #"{"half":1}"#)
            #expect(try !town.exists(activity))
        }
    }

    @Test func writerContinuesInAPlainFileOfAMovedDirectory() throws {
        try withTown { town in
            try town.write(document("before", at: town.now), to: activity)
            let handle = try town.open(activity, O_WRONLY | O_TRUNC)
            try town.write(#"{"half":"#, to: handle)
            try town.rename("daemon", to: "retired")
            try town.write("1}", to: handle, at: 8)
            try town.close(handle)
            #expect(try town.read(retired) == #"{"half":1}"#)
            #expect(try town.readBacking(retired) == #"{"half":1}"#)
            try town.mkdir("daemon")
            #expect(try !town.exists(activity))
        }
    }

    @Test func writerContinuesInASignalFileOfAMovedDirectory() throws {
        try withTown(patterns: ["*/activity.json"]) { town in
            try town.write(document("before", at: town.now), to: activity)
            let handle = try town.open(activity, O_WRONLY | O_TRUNC)
            try town.rename("daemon", to: "retired")
            let text = document("after", at: town.now)
            try town.write(text, to: handle)
            #expect(try town.read(retired, by: .other) == document("before", at: town.now))
            try town.close(handle)
            #expect(try town.read(retired) == text)
            #expect(town.town.liveness.record(ofSignal: Array(retired.utf8)) != nil)
            #expect(town.town.close() == 0)
            #expect(try town.readBacking(retired) == text)
        }
    }

    @Test func descriptorOfAnUnlinkedFileIsNotThatOfTheNextOfItsName() throws {
        try withTown { town in
            try town.write(document("former", at: town.now), to: activity)
            let inode = try town.lookup(activity).inode
            let handle = try town.open(activity, O_WRONLY)
            try town.unlink(activity)
            let text = document("next", at: town.now)
            try town.write(text, to: activity)
            try town.rename("daemon", to: "retired")

            var changes = StatusChanges()
            changes.size = 0
            // The outcome is unspecified for a file without a name.
            _ = try? town.setattr(inode, changes, handle: handle, for: .me)
            _ = try? town.setattr(inode, changes, handle: nil, for: .me)
            try town.write("zombie", to: handle)
            town.release(handle)
            #expect(try town.read(retired) == text)
            #expect(try town.readBacking(retired) == text)
        }
    }
}

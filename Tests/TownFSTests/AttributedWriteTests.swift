import Fuse
import Glibc
import Liveness
import SystemPackage
import Testing

@testable import TownFS

/// Which callers see the draft of a file that is being written.
@Suite(.timeLimit(.minutes(5))) struct AttributedWriteTests {
    private let activity = "daemon/activity.json"

    /// All callers from outside the mount's pid namespace have pid 0.
    ///
    /// They are different processes all the same.
    @Test func draftOfACallerWithoutAPidIsPrivate() throws {
        try withTown { town in
            let (writer, reader) = (Request(user: 0, group: 0, thread: 0), Request(user: 1, group: 1, thread: 0))
            try town.write("{}", to: activity)
            let size = try town.stat(activity).st_size
            let drafting = try town.open(activity, O_WRONLY | O_TRUNC, by: writer)
            try town.write("{", to: drafting, by: writer)
            #expect(try town.stat(activity, by: reader).st_size == size)
            town.release(drafting)
            let expected = try town.open("deacon/heartbeat.json", O_WRONLY | O_CREAT, by: writer)
            #expect(try !town.exists("deacon/heartbeat.json", by: reader))
            town.release(expected)
        }
    }

    /// The kernel sends GETATTR for a file it has just created before open(2) returns.
    @Test func callerWithoutANumberMakesAFile() throws {
        try withTown { town in
            let writer = Request(user: 0, group: 0, thread: 0)
            let made = try town.open("deacon/heartbeat.json", O_WRONLY | O_CREAT | O_TRUNC, by: writer)
            let inode = try town.inode(of: made)
            let before = try town.getattr(inode, for: writer)
            #expect(before.status.st_size == 0)
            #expect(before.timeout == 0)
            #expect(throws: Errno.staleNFSFileHandle) {
                try town.getattr(inode, for: Request(user: 1, group: 1, thread: 1))
            }
            try town.write("{}", to: made, by: writer)
            try town.close(made, by: writer)
            let after = try town.getattr(inode, for: writer)
            #expect(after.status.st_size > 2)
            #expect(town.town.liveness.record(of: try RuntimeID("deacon"))?.touch.evidence == .path)
        }
    }
}

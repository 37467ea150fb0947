import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage
import Testing

@testable import TownFS

/// The set-group-id bit of files that are created in a set-group-id directory.
@Suite(.enabled(if: getuid() == 0, "only root may give a directory to another group"))
struct SetGroupIDTests {
    private static let group: gid_t = 4242
    private static let mode: mode_t = 0o2775

    /// The modes of files that a caller creates in each way.
    private func modes(by caller: Request, mode: mode_t = Self.mode, directoryMode: mode_t = 0o2777) throws -> [mode_t]
    {
        var modes: [mode_t] = []
        try withTown { town in
            try town.mkdir("d")
            let path = "\(town.tree)/d"
            #expect(chown(path, 0, Self.group) == 0)
            #expect(chmod(path, directoryMode) == 0)
            let parent = try town.lookup("d").inode
            for isUnnamed in [false, true] {
                try Array("file".utf8).asFileName { (name) throws(Errno) in
                    let flags = O_RDWR | (isUnnamed ? clinux_tmpfile : O_EXCL)
                    let (entry, opened) = try town.fileSystem.create(
                        name, in: parent, mode: S_IFREG | mode, flags: flags, for: caller)
                    modes.append(try town.fileSystem.getattr(entry.inode, for: .me).status.st_mode)
                    town.fileSystem.release(opened.handle)
                }
            }
            try Array("node".utf8).asFileName { (name) throws(Errno) in
                let entry = try town.fileSystem.mknod(name, in: parent, mode: S_IFIFO | mode, device: 0, for: caller)
                modes.append(entry.status.st_mode)
            }
        }
        return modes.map { $0 & 0o7000 }
    }

    private func caller(_ user: uid_t, _ group: gid_t, thread: pid_t = gettid()) -> Request {
        Request(user: user, group: group, thread: thread)
    }

    @Test func creatorOutsideTheGroupDoesNotSetIt() throws {
        #expect(try modes(by: caller(1000, 1000)) == [0, 0, 0])
    }

    @Test func creatorWhoHasEndedDoesNotSetIt() throws {
        #expect(try modes(by: caller(1000, 1000, thread: 1 << 30)) == [0, 0, 0])
    }

    @Test func memberByItsFirstGroupSetsIt() throws {
        #expect(try modes(by: caller(1000, Self.group)) == [S_ISGID, S_ISGID, S_ISGID])
    }

    @Test func memberByAnotherGroupSetsIt() throws {
        let child = try ChildProgram("exec setpriv --groups \(Self.group) sh -c 'echo; read x'")
        #expect(try modes(by: caller(1000, 1000, thread: child.pid)) == [S_ISGID, S_ISGID, S_ISGID])
    }

    @Test func rootSetsItUnlessItLacksTheCapability() throws {
        #expect(try modes(by: caller(0, 0)) == [S_ISGID, S_ISGID, S_ISGID])
        let child = try ChildProgram("exec setpriv --inh-caps -fsetid --bounding-set -fsetid sh -c 'echo; read x'")
        #expect(try modes(by: caller(0, 0, thread: child.pid)) == [0, 0, 0])
    }

    @Test func bitWithoutTheGroupsExecutionAndOtherDirectoriesAreLeftAlone() throws {
        #expect(try modes(by: caller(1000, 1000), mode: 0o2664) == [S_ISGID, S_ISGID, S_ISGID])
        #expect(try modes(by: caller(1000, 1000), directoryMode: 0o777) == [S_ISGID, S_ISGID, S_ISGID])
    }
}

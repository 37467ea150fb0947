import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct SignalFileTouchTests {
    private let keepalive = ".runtime/keepalive.json"

    // MARK: Touching without a document

    @Test(arguments: ["touch(1)", "an empty write", "utimensat"])
    func touchKeepsTheDocumentButForItsTimestamp(_ how: String) throws {
        try withTown { town in
            try town.write(document("gt mail", at: town.now), to: keepalive)
            town.advance(by: .seconds(10))
            switch how {
            case "an empty write": try town.write("", to: keepalive)
            case "utimensat": try town.setattr(keepalive) { $0.modified = .at(timespec(tv_sec: 1, tv_nsec: 0)) }
            default:
                let handle = try town.open(keepalive, O_WRONLY | O_CREAT)
                try town.setattr(keepalive, handle: handle) { ($0.accessed, $0.modified) = (.now, .now) }
                try town.close(handle)
            }
            #expect(try town.read(keepalive) == document("gt mail", at: town.now))
            #expect(WallTime(try town.stat(keepalive).st_mtim) == town.now)
        }
    }

    @Test func touchOfAMissingFileMakesADocument() throws {
        try withTown { town in
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT)
            try town.setattr(keepalive, handle: handle) { ($0.accessed, $0.modified) = (.now, .now) }
            try town.close(handle)
            #expect(try town.read(keepalive) == #"{"timestamp":"\#(town.now.rfc3339)"}"#)
        }
    }

    @Test func accessTimeAloneIsNoTouch() throws {
        try withTown { town in
            try town.write("{}", to: keepalive)
            try town.setattr(keepalive) { $0.accessed = .now }
            #expect(town.town.counters.touches == 1)
        }
    }

    @Test func timeOnlySignalFileStaysEmpty() throws {
        try withTown { town in
            let path = "deacon/.deacon-heartbeat"
            try town.write("", to: path)
            #expect(try town.stat(path).st_size == 0)
            town.advance(by: .seconds(5))
            try town.setattr(path) { $0.modified = .now }
            #expect(try town.stat(path).st_size == 0)
            #expect(WallTime(try town.stat(path).st_mtim) == town.now)
        }
    }

    /// `echo x > FILE`: the shell closes a duplicate before the command writes.
    @Test func closeBeforeTheWriteIsNoTouch() throws {
        try withTown { town in
            let before = document("before", at: town.now)
            try town.write(before, to: keepalive)
            town.advance(by: .seconds(1))
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC)
            try town.flush(handle, for: .me)
            #expect(try town.read(keepalive, by: .other) == before)
            try town.write("x\n", to: handle)
            try town.close(handle)
            #expect(try town.read(keepalive) == document("x", at: town.now))
            #expect(town.town.counters.touches == 2)
        }
    }

    /// The kernel sends RELEASE some time after the last close.
    ///
    /// The process that closed must not notice.
    @Test func truncatingWriterSeesItsTouchAfterClose() throws {
        try withTown { town in
            try town.write(document("gt", at: town.now), to: keepalive)
            town.advance(by: .seconds(1))
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC)
            try town.flush(handle, for: .me)
            #expect(try town.read(keepalive) == document("gt", at: town.now))
            town.release(handle)
            #expect(try town.read(keepalive) == document("gt", at: town.now))
            #expect(town.town.counters.touches == 2)
        }
    }

    /// The shell's `: > FILE` writes nothing.
    @Test func truncationAloneIsATouchAtRelease() throws {
        try withTown { town in
            try town.write(document("gt", at: town.now), to: keepalive)
            town.advance(by: .seconds(1))
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC)
            try town.flush(handle, for: .me)
            try town.flush(handle, for: .me)
            #expect(town.town.counters.touches == 1)
            town.release(handle)
            #expect(town.town.counters.touches == 2)
            #expect(try town.read(keepalive, by: .other) == document("gt", at: town.now))
        }
    }

    // MARK: Attributes

    @Test func inodeNumberIsOfThePath() throws {
        try withTown([keepalive: "{}"]) { town in
            let number = try town.stat(keepalive).st_ino
            try town.write("{}", to: keepalive)
            #expect(try town.stat(keepalive).st_ino == number)
            try town.unlink(keepalive)
            try town.write("{}", to: keepalive)
            #expect(try town.stat(keepalive).st_ino == number)
        }
    }

    @Test func modeChangesWithoutATouch() throws {
        try withTown([keepalive: "{}"]) { town in
            for isTouched in [false, true] {
                if isTouched { try town.write("{}", to: keepalive) }
                let touches = town.town.counters.touches
                let modified = WallTime(try town.stat(keepalive).st_mtim)
                try town.setattr(keepalive) { $0.mode = S_IFREG | (isTouched ? 0o604 : 0o640) }
                #expect(try town.stat(keepalive).st_mode == S_IFREG | (isTouched ? 0o604 : 0o640))
                #expect(WallTime(try town.stat(keepalive).st_mtim) == modified)
                #expect(town.town.counters.touches == touches)
            }
            town.writeback()
            #expect(try town.statBacking(keepalive).st_mode == S_IFREG | 0o604)
        }
    }

    @Test func signalFileHasNoExtendedAttributes() throws {
        try withTown([keepalive: "{}"]) { town in
            let inode = try town.lookup(keepalive).inode
            let none = UnsafeMutableRawBufferPointer(start: nil, count: 0)
            #expect(throws: Errno.noData) { try town.getxattr(inode, "user.x", into: none) }
            #expect(try town.listxattr(inode, into: none, for: .me) == 0)
            #expect(throws: Errno.notSupported) {
                try town.setxattr(inode, "user.x", value: UnsafeRawBufferPointer(none), flags: 0)
            }
            #expect(throws: Errno.noData) { try town.removexattr(inode, "user.x") }
        }
    }

    @Test func cuttingByNameIsJudgedAtOnce() throws {
        try withTown { town in
            try town.write(document("gt", at: town.now), to: keepalive)
            town.advance(by: .seconds(1))
            try town.setattr(keepalive) { $0.size = 0 }
            #expect(try town.read(keepalive) == document("gt", at: town.now))
            #expect(throws: Errno.invalidArgument) { try town.setattr(keepalive) { $0.size = 3 } }
            #expect(try town.read(keepalive) == document("gt", at: town.now))
        }
    }

    // MARK: Liveness

    @Test func commitTouchesTheFilesRecordAndTheHeartbeatsRuntime() throws {
        try withTown { town in
            try town.write("{\"state\":\"working\"}", to: ".runtime/heartbeats/gt-nux.json")
            try town.write("{}", to: keepalive)
            let id = try RuntimeID("gt-nux")
            #expect(town.town.liveness.areAlive([id]) == [true])
            #expect(town.town.liveness.counts().runtimes.alive == 1)
            #expect(town.town.liveness.counts().signals.alive == 2)
            let record = try #require(town.town.liveness.record(of: id))
            #expect(record.touch.source == .written)
            #expect(record.touch.document?.string("state") == "working")
        }
    }

    @Test func runtimeExpiresAfterItsTTLAndTheFileStays() throws {
        try withTown { town in
            let path = ".runtime/heartbeats/gt-nux.json"
            try town.write("{}", to: path)
            let text = try town.read(path)
            let id = try RuntimeID("gt-nux")
            town.advance(by: .seconds(89))
            #expect(town.town.liveness.areAlive([id]) == [true])
            town.advance(by: .seconds(2))
            #expect(town.town.liveness.areAlive([id]) == [false])
            #expect(try town.read(path) == text)
        }
    }
}

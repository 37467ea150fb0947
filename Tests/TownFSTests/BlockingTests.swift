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

/// Requests that are answered from memory, and waits that are bounded.
@Suite struct BlockingTests {
    private let activity = "daemon/activity.json"

    @Test func committedSignalFileIsAnsweredFromMemory() throws {
        try withTown([activity: "{}", "file": "x"]) { town in
            let daemon = try town.lookup("daemon").inode
            let before = try town.lookup(activity).inode
            #expect(town.mayBlock(before) && town.mayBlock(daemon, "activity.json"))
            try town.write("gt", to: activity)
            let inode = try town.lookup(activity).inode
            #expect(!town.mayBlock(inode) && !town.mayBlock(daemon, "activity.json"))
            #expect(town.mayBlock(daemon) && town.mayBlock(daemon, "other") && town.mayBlock(.root, "file"))
            #expect(town.mayBlock(try town.lookup("file").inode))
            #expect(!town.mayBlock(.root, ".pulse"))
            for path in [".pulse", ".pulse/status.json", ".pulse/alive", ".pulse/events"] {
                #expect(!town.mayBlock(try town.lookup(path).inode), "\(path)")
            }
            #expect(!town.mayBlock(try town.lookup(".pulse").inode, "metrics"))
            try town.unlink(activity)
            #expect(town.mayBlock(daemon, "activity.json"))
        }
    }

    /// The backing tree is replaced by a directory that has nothing of it.
    @Test func touchesAndReadsNeedNoBackingFile() throws {
        try withTown(cacheCapacity: 1) { town in
            try town.write("{\"last_command\":\"first\"}", to: activity)
            _ = try town.lookup("daemon")
            #expect(rename("\(town.tree)/daemon", "\(town.tree)/elsewhere") == 0)
            // Another directory takes the place of the only cached descriptor.
            _ = try town.nodes.descriptor(of: town.lookup("deacon").inode)
            let inode = try #require(
                town.signals.known(NodeName(Array("activity.json".utf8)), in: Array("daemon".utf8)))
            let number = try #require(town.nodes.inode(of: inode))
            #expect(!town.mayBlock(number))
            #expect(try town.getattr(number, for: .me).status.st_size > 0)
            let writing = try town.open(number, flags: O_WRONLY | O_TRUNC, for: .me).handle
            try town.write("{\"last_command\":\"second\"}", to: writing)
            try town.close(writing)
            let reading = try town.open(number, flags: O_RDONLY, for: .me).handle
            #expect(try town.read(reading).contains("second"))
            town.release(reading)
        }
    }

    /// A document that was opened before the first touch is read from memory, too.
    @Test func earlierReaderDoesNotMakeTheFileBlock() throws {
        try withTown([activity: "{\"a\":1}"]) { town in
            let reading = try town.open(activity)
            try town.write("gt", to: activity)
            #expect(!town.mayBlock(try town.lookup(activity).inode))
            #expect(try town.read(reading) == "{\"a\":1}")
            town.release(reading)
            let large = String(repeating: "x", count: Document.maximumSize + 1)
            try town.writeBacking(large, to: ".runtime/keepalive.json")
            let handle = try town.open(".runtime/keepalive.json")
            try town.write("gt", to: ".runtime/keepalive.json")
            let inode = try town.lookup(".runtime/keepalive.json").inode
            #expect(town.mayBlock(inode))
            #expect(try town.read(handle) == large)
            town.release(handle)
            #expect(!town.mayBlock(inode))
        }
    }

    @Test func renameInProgressDelaysOnlySearchesOfMovedFiles() throws {
        let gate = RenameGate()
        let moving = FileIdentity(device: 1, number: 1)
        let other = FileIdentity(device: 1, number: 2)
        let (started, finish) = (try EventFD(), try EventFD())
        let hasEnded = Mutex(false)
        let thread = try Thread(named: "rename") {
            gate.whileRenaming(moving) {
                started.signal()
                finish.wait()
                hasEnded.withLock { $0 = true }
            }
        }
        started.wait()
        try gate.waitForRenames(of: [other])
        gate.whileRenaming(other) {}
        #expect(gate.isRenaming([other, moving]) && !gate.isRenaming([other]))
        #expect(gate.ended == 1)
        finish.signal()
        try gate.waitForRenames(of: [moving])
        #expect(hasEnded.withLock { $0 })
        thread.join()
        #expect(gate.ended == 2)
    }

    @Test func hangingJobIsLeftBehindAndThreadsAreUsedAgain() throws {
        let threads = HelperThreads()
        let release = try EventFD()
        let ended = try EventFD()
        #expect(
            !threads.run(within: .milliseconds(10)) {
                release.wait()
                ended.signal()
            })
        let first = Mutex<pid_t>(0)
        #expect(threads.run(within: .seconds(60)) { first.withLock { $0 = gettid() } })
        let second = Mutex<pid_t>(0)
        #expect(threads.run(within: .seconds(60)) { second.withLock { $0 = gettid() } })
        #expect(first.withLock { $0 } == second.withLock { $0 })
        release.signal()
        ended.wait()
    }
}

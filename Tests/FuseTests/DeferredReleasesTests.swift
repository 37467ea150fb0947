import CLinux
import Fuse
import Glibc
import Linux
import Testing

/// What nobody waits for gives way to what somebody does.
@Suite struct DeferredReleasesTests {
    @Test func closingGivesWayToWhoeverAsks() throws {
        #expect(try calls(release: [5], then: .getattr, node: 1) == ["getattr", "release"])
    }

    @Test func closingOfADirectoryAndForgettingGiveWay() throws {
        let calls = try calls(then: .getattr, node: 1) { kernel in
            try kernel.send(FUSE_RELEASEDIR, node: 5, bytes(of: fuse_release_in()), unique: 50)
            try kernel.send(FUSE_FORGET, node: 5, bytes(of: fuse_forget_in(nlookup: 1)), unique: 51)
        }
        #expect(calls == ["getattr", "releasedir", "forget"])
    }

    @Test func closingComesBeforeTheNextOpeningOfTheFile() throws {
        #expect(try calls(release: [5, 6], then: .open, node: 5) == ["release", "open", "release"])
        #expect(try calls(release: [5], then: .open, node: 6) == ["open", "release"])
    }

    @Test func closingThatOthersDependOnComesAtOnce() throws {
        let calls = try calls(release: [5], releasingLater: false, then: .getattr, node: 1)
        #expect(calls == ["release", "getattr"])
    }

    /// However many close without a pause, what they had open is not left open for long.
    @Test func notManyClosingsAreLeft() throws {
        let calls = try calls(release: Array(repeating: 5, count: 100), then: .getattr, node: 1)
        #expect(calls.count == 101)
        #expect(try #require(calls.firstIndex(of: "getattr")) >= 100 - 8)
    }

    /// Where closing takes long, as over a network, another thread goes on.
    @Test func slowClosingHoldsNobodyUp() throws {
        let (mayGoOn, hasBegun) = (try EventFD(), try EventFD())
        let fileSystem = RecordingFileSystem { call in
            guard call.hasPrefix("release") else { return }
            hasBegun.signal()
            _ = mayGoOn.wait()
        }
        try withSession(serving: fileSystem, threads: 3) { kernel in
            defer { mayGoOn.signal() }
            try kernel.send(FUSE_RELEASE, node: 5, bytes(of: fuse_release_in()), unique: 10)
            _ = hasBegun.wait()
            #expect(try kernel.ask(FUSE_GETATTR, bytes(of: fuse_getattr_in()), unique: 11).errno == 0)
        }
    }

    /// Before its name goes, a file is closed.
    @Test(arguments: [FUSE_UNLINK, FUSE_RMDIR]) func closingComesBeforeRemoving(_ removal: fuse_opcode) throws {
        let calls = try calls(releasingLater: true, then: .removal(removal), node: 1) { kernel in
            try kernel.send(FUSE_RELEASE, node: 5, bytes(of: fuse_release_in()), unique: 50)
        }
        #expect(calls.first == "release" && calls.count == 2)
    }

    private enum Question {
        case getattr, open
        case removal(fuse_opcode)
    }

    private func calls(
        release inodes: [UInt64], releasingLater isLate: Bool = true, then question: Question, node: UInt64
    ) throws -> [String] {
        try calls(releasingLater: isLate, then: question, node: node) { kernel in
            for (number, inode) in inodes.enumerated() {
                try kernel.send(
                    FUSE_RELEASE, node: inode, wire(fuse_release_in()) { $0.fh = inode }, unique: UInt64(100 + number))
            }
        }
    }

    /// Which operations a file system is asked for, in that order, when all of it waits while it answers something else.
    private func calls(
        releasingLater isLate: Bool = true, then question: Question, node: UInt64,
        _ requests: (KernelSide) throws -> Void
    ) throws -> [String] {
        let (mayGoOn, hasBegun) = (try EventFD(), try EventFD())
        let fileSystem = RecordingFileSystem(releasingLater: isLate) { call in
            guard call.hasPrefix("lookup") else { return }
            hasBegun.signal()
            _ = mayGoOn.wait()
        }
        try withSession(serving: fileSystem) { kernel in
            try kernel.send(FUSE_LOOKUP, cString("busy"), unique: 10)
            _ = hasBegun.wait()
            do {
                defer { mayGoOn.signal() }
                try requests(kernel)
                switch question {
                case .getattr: try kernel.send(FUSE_GETATTR, node: node, bytes(of: fuse_getattr_in()), unique: 11)
                case .removal(let opcode): try kernel.send(opcode, node: node, cString("name"), unique: 11)
                case .open: try kernel.send(FUSE_OPEN, node: node, bytes(of: fuse_open_in()), unique: 11)
                }
            }
            // Who hangs up before has what is still unread thrown away.
            while try kernel.receive().unique != 11 {}
        }
        return fileSystem.calls.dropFirst().map { String($0.prefix { $0 != " " }) }
    }
}

import CLinux
import Fuse
import Glibc
import Linux
import Testing

/// RELEASE, RELEASEDIR and FORGET wait for requests with a waiting caller.
@Suite struct DeferredReleasesTests {
    @Test func releaseWaitsForOtherRequests() throws {
        #expect(try calls(release: [5], then: .getattr, node: 1) == ["getattr", "release"])
    }

    @Test func releasedirAndForgetWaitForOtherRequests() throws {
        let calls = try calls(then: .getattr, node: 1) { kernel in
            try kernel.send(FUSE_RELEASEDIR, node: 5, bytes(of: fuse_release_in()), unique: 50)
            try kernel.send(FUSE_FORGET, node: 5, bytes(of: fuse_forget_in(nlookup: 1)), unique: 51)
        }
        #expect(calls == ["getattr", "releasedir", "forget"])
    }

    @Test func releasePrecedesTheNextOpenOfTheFile() throws {
        #expect(try calls(release: [5, 6], then: .open, node: 5) == ["release", "open", "release"])
        #expect(try calls(release: [5], then: .open, node: 6) == ["open", "release"])
    }

    @Test func releaseThatMayNotBeDeferredRunsAtOnce() throws {
        let calls = try calls(release: [5], releasingLater: false, then: .getattr, node: 1)
        #expect(calls == ["release", "getattr"])
    }

    /// Under a load of closes, few files stay open.
    @Test func fewReleasesAreDeferred() throws {
        let calls = try calls(release: Array(repeating: 5, count: 100), then: .getattr, node: 1)
        #expect(calls.count == 101)
        #expect(try #require(calls.firstIndex(of: "getattr")) >= 100 - 8)
    }

    /// If a release takes long, as over a network, another thread serves requests.
    @Test func slowReleaseDelaysNoRequest() throws {
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

    /// A file is closed before its name is removed.
    @Test(arguments: [FUSE_UNLINK, FUSE_RMDIR]) func releasePrecedesRemoval(_ removal: fuse_opcode) throws {
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

    /// The operations that a file system receives, in order, if all requests arrive while it serves another one.
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
            // Closing the connection earlier would discard unread requests.
            while try kernel.receive().unique != 11 {}
        }
        return fileSystem.calls.dropFirst().map { String($0.prefix { $0 != " " }) }
    }
}

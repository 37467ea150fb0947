import CLinux
import Glibc
import Linux
import Synchronization
import SystemPackage
import Testing

@testable import Fuse

@Suite struct SessionTests {
    // MARK: INIT

    @Test func initAcceptsWantedFlags() throws {
        try withSession(serving: RecordingFileSystem(), isGreeted: false) { kernel in
            let accepted = try kernel.greet()
            #expect(accepted.major == 7)
            #expect(accepted.max_write >= 131_072)
            for flag in [FUSE_ATOMIC_O_TRUNC, FUSE_DO_READDIRPLUS, FUSE_PARALLEL_DIROPS, FUSE_HANDLE_KILLPRIV_V2] {
                #expect(accepted.flags & UInt32(flag) != 0, "0x\(String(flag, radix: 16))")
            }
        }
    }

    /// Refused: remote locking; the write-back cache, which would delay touches; set-id bits cleared by the server, because
    /// root's writes do not clear them.
    @Test func initRefusesFlagsThatTheKernelServesBetter() throws {
        try withSession(serving: RecordingFileSystem(), isGreeted: false) { kernel in
            let accepted = try kernel.greet()
            for flag in [FUSE_POSIX_LOCKS, FUSE_FLOCK_LOCKS, FUSE_WRITEBACK_CACHE, FUSE_HANDLE_KILLPRIV] {
                #expect(accepted.flags & UInt32(flag) == 0, "0x\(String(flag, radix: 16))")
            }
        }
    }

    @Test func initAcceptsOnlyOfferedFlags() throws {
        try withSession(serving: RecordingFileSystem(), isGreeted: false) { kernel in
            let accepted = try kernel.greet(offering: 0)
            #expect(accepted.flags & UInt32(FUSE_HANDLE_KILLPRIV_V2) == 0)
        }
    }

    // MARK: Requests

    @Test(arguments: Exchange.all)
    func requestIsDecodedAndItsResultReplied(_ exchange: Exchange) throws {
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem) { kernel in
            let reply = try kernel.ask(exchange.opcode, node: exchange.node, exchange.body, unique: 42)
            #expect(reply == KernelSide.Reply(unique: 42, errno: 0, body: exchange.answer))
            try kernel.expectSilence()
        }
        #expect(fileSystem.calls == [exchange.call])
    }

    @Test(arguments: Exchange.all.filter(\.canFail))
    func failureIsRepliedOnce(_ exchange: Exchange) throws {
        let fileSystem = RecordingFileSystem(failingWith: .staleNFSFileHandle)
        try withSession(serving: fileSystem) { kernel in
            let reply = try kernel.ask(exchange.opcode, node: exchange.node, exchange.body, unique: 42)
            #expect(reply == KernelSide.Reply(unique: 42, errno: ESTALE, body: []))
            try kernel.expectSilence()
        }
        #expect(fileSystem.calls == [exchange.call])
    }

    @Test func forgetHasNoReply() throws {
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem) { kernel in
            try kernel.send(FUSE_FORGET, node: 7, wire(fuse_forget_in()) { $0.nlookup = 3 }, unique: 0)
            try kernel.expectSilence()
        }
        #expect(fileSystem.calls == ["forget 7 × 3"])
    }

    @Test func batchOfForgetsHasNoReply() throws {
        let fileSystem = RecordingFileSystem()
        let batch =
            wire(fuse_batch_forget_in()) { $0.count = 2 }
            + wire(fuse_forget_one()) { ($0.nodeid, $0.nlookup) = (7, 1) }
            + wire(fuse_forget_one()) { ($0.nodeid, $0.nlookup) = (8, .max) }
        try withSession(serving: fileSystem) { kernel in
            try kernel.send(FUSE_BATCH_FORGET, node: 0, batch, unique: 0)
            try kernel.expectSilence()
        }
        #expect(fileSystem.calls == ["forget 7 × 1", "forget 8 × \(UInt64.max)"])
    }

    /// Operations that are not in the table, and opcodes that libfuse 3.14 does not know.
    @Test(arguments: [
        FUSE_GETLK.rawValue, FUSE_SETLK.rawValue, FUSE_SETLKW.rawValue, FUSE_ACCESS.rawValue, FUSE_BMAP.rawValue,
        FUSE_SYNCFS.rawValue, 53, 4094,
    ])
    func unknownOperationIsNotImplemented(_ opcode: UInt32) throws {
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem) { kernel in
            try kernel.send(rawOpcode: opcode, Array(repeating: 0, count: 64), unique: 42)
            let reply = try kernel.receive()
            #expect(reply == KernelSide.Reply(unique: 42, errno: ENOSYS, body: []))
            try kernel.expectSilence()
        }
        #expect(fileSystem.calls == [])
    }

    /// `FUSE_STATX`, which libfuse 3.14 does not know.
    @Test func statxReportsTheBirthTime() throws {
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem) { kernel in
            try kernel.send(rawOpcode: 52, node: 7, Array(repeating: 0, count: 24), unique: 42)
            let reply = try kernel.receive()
            #expect(reply.unique == 42 && reply.errno == 0)
            try #require(reply.body.count == 288)
            let status = RecordingFileSystem.status
            reply.body.withUnsafeBytes { body in
                // fuse_statx_out: attr_valid; then, at 32, fuse_statx: mask, …, mode, ino, size, …, btime.
                #expect(body.loadUnaligned(as: UInt64.self) == 2)
                #expect(body.loadUnaligned(fromByteOffset: 32, as: UInt32.self) == 0xFFF)
                #expect(mode_t(body.loadUnaligned(fromByteOffset: 60, as: UInt16.self)) == status.st_mode)
                #expect(body.loadUnaligned(fromByteOffset: 64, as: UInt64.self) == status.st_ino)
                #expect(body.loadUnaligned(fromByteOffset: 72, as: UInt64.self) == UInt64(status.st_size))
                #expect(body.loadUnaligned(fromByteOffset: 112, as: Int64.self) == 1_700_000_000)
                #expect(body.loadUnaligned(fromByteOffset: 120, as: UInt32.self) == 5)
            }
            try kernel.expectSilence()
        }
        #expect(fileSystem.calls == ["getattr 7 by 1000:100/4711"])
    }

    @Test func statxOfAMissingFileFails() throws {
        try withSession(serving: RecordingFileSystem(failingWith: .staleNFSFileHandle)) { kernel in
            try kernel.send(rawOpcode: 52, node: 7, Array(repeating: 0, count: 24), unique: 42)
            #expect(try kernel.receive() == KernelSide.Reply(unique: 42, errno: ESTALE, body: []))
            try kernel.expectSilence()
        }
    }

    /// Without FUSE_SETXATTR_EXT, the structure has two fields.
    @Test func olderKernelsSetxattrIsDecoded() throws {
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem, isGreeted: false) { kernel in
            try kernel.greet(offering: 0x3fff_ffff & ~UInt32(FUSE_SETXATTR_EXT))
            let head = wire(fuse_setxattr_in()) { $0.size = 5 }.prefix(8)
            let reply = try kernel.ask(FUSE_SETXATTR, node: 7, head + cString("user.x") + Array("value".utf8))
            #expect(reply.errno == 0)
        }
        #expect(fileSystem.calls == ["setxattr 7 user.x = value flags 0"])
    }

    @Test func namesAreBytes() throws {
        let name: [UInt8] = [0xff, 0xfe, 0x2a] + Array(repeating: 0x80, count: 252)
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem) { kernel in
            let reply = try kernel.ask(FUSE_LOOKUP, name + [0])
            #expect(reply.errno == 0)
        }
        #expect(fileSystem.calls == ["lookup \(name) in 1 \(Exchange.caller)"])
    }

    /// The kernel marks a request that it sends again in `unique`; the reply must carry the mark.
    @Test func uniqueIsRepliedUnchanged() throws {
        try withSession(serving: RecordingFileSystem()) { kernel in
            let unique: UInt64 = 1 << 63 | 12
            let reply = try kernel.ask(FUSE_GETATTR, bytes(of: fuse_getattr_in()), unique: unique)
            #expect(reply.errno == 0)
        }
    }

    @Test func readsOfAnySizeAreAnswered() throws {
        try withSession(serving: RecordingFileSystem()) { kernel in
            for size: UInt32 in [10, 131_072, 16, 1 << 20, 10] {
                let reply = try kernel.ask(FUSE_READ, wire(fuse_read_in()) { ($0.fh, $0.size) = (6, size) })
                #expect(reply.body == Array("some bytes".utf8))
            }
        }
    }

    // MARK: Threads

    @Test(arguments: [2, 4])
    func threadsAnswerAtTheSameTime(_ threads: Int) throws {
        // No request is answered before all threads serve one.
        let gathering = try Gathering(of: threads)
        let fileSystem = RecordingFileSystem { call in
            if call.starts(with: "lookup") { gathering.wait() }
        }
        // One more thread than may block.
        try withSession(serving: fileSystem, threads: threads + 1) { kernel in
            for unique in 0..<UInt64(threads) { try kernel.send(FUSE_LOOKUP, cString("ab"), unique: 100 + unique) }
            let answered = try (0..<threads).map { _ in try kernel.receive().unique }
            #expect(Set(answered) == Set((0..<UInt64(threads)).map { 100 + $0 }))
        }
        #expect(gathering.isComplete)
    }

    /// Requests that need memory only are served, however many others wait for a disk.
    @Test func requestsThatCannotBlockAreServedBesideAnyNumberOfBlockedOnes() throws {
        let mayGoOn = try EventFD()
        let entered = Atomic(0)
        let fileSystem = RecordingFileSystem { call in
            guard call.starts(with: "lookup slow") else { return }
            entered.add(1, ordering: .relaxed)
            mayGoOn.wait()
            mayGoOn.signal()
        }
        try withSession(serving: fileSystem, threads: 4) { kernel in
            defer { mayGoOn.signal() }
            for unique in 0..<200 as Range<UInt64> {
                try kernel.send(FUSE_LOOKUP, node: 7, cString("slow"), unique: 1000 + unique * 2)
            }
            let memoryOnly = RecordingFileSystem.memoryOnly.rawValue
            for unique in 0..<100 as Range<UInt64> {
                let attributes = try kernel.ask(
                    FUSE_GETATTR, node: memoryOnly, bytes(of: fuse_getattr_in()), unique: 10 + unique)
                let name = cString(RecordingFileSystem.memoryOnlyName)
                let entry = try kernel.ask(FUSE_LOOKUP, node: 7, name, unique: 500 + unique)
                #expect(attributes.errno == 0 && entry.errno == 0)
            }
            // One of the queued requests is interrupted.
            let interrupted: UInt64 = 1000 + 199 * 2
            try kernel.send(
                FUSE_INTERRUPT, node: 0, wire(fuse_interrupt_in()) { $0.unique = interrupted }, unique: interrupted | 1)
            #expect(try kernel.receive() == KernelSide.Reply(unique: interrupted, errno: EINTR, body: []))
            #expect(entered.load(ordering: .relaxed) == 3)
            mayGoOn.signal()
            let answered = try (0..<199).map { _ in try kernel.receive().unique }
            #expect(Set(answered) == Set((0..<199).map { 1000 + $0 * 2 }))
        }
    }

    /// A hung mount inside the tree takes at most half of the threads.
    @Test func requestsForTheRootDeviceAreServedBesideAnyNumberOfBlockedOnesForOthers() throws {
        let mayGoOn = try EventFD()
        let other = RecordingFileSystem.otherDevice.rawValue
        let fileSystem = RecordingFileSystem { call in
            guard call.starts(with: "lookup slow in \(other)") else { return }
            mayGoOn.wait()
            mayGoOn.signal()
        }
        try withSession(serving: fileSystem, threads: 8) { kernel in
            defer { mayGoOn.signal() }
            for unique in 0..<50 as Range<UInt64> {
                try kernel.send(FUSE_LOOKUP, node: other, cString("slow"), unique: 1000 + unique * 2)
            }
            for unique in 0..<100 as Range<UInt64> {
                let entry = try kernel.ask(FUSE_LOOKUP, node: 7, cString("fast"), unique: 10 + unique)
                #expect(entry.errno == 0)
            }
            mayGoOn.signal()
            let answered = try (0..<50).map { _ in try kernel.receive().unique }
            #expect(Set(answered) == Set((0..<50).map { 1000 + $0 * 2 }))
        }
    }

    // MARK: Rejected replies

    /// ENOENT: the caller was killed.
    ///
    /// After any other error, the request still waits, and gets EIO.
    @Test(
        arguments: [
            ("lookup", ["forget 1099511627776 × 1"]), ("mknod", ["forget 1099511627776 × 1"]),
            ("mkdir", ["forget 1099511627776 × 1"]), ("symlink", ["forget 1099511627776 × 1"]),
            ("link", ["forget 1099511627776 × 1"]), ("open", ["release 2199023255552"]),
            ("opendir", ["releasedir 2199023255552"]),
            ("create", ["release 2199023255552", "forget 1099511627776 × 1"]), ("getattr", []),
            ("readdirplus from 0 into 4096 bytes", RecordingFileSystem.names.map { _ in "forget 1099511627776 × 1" }),
            ("readdirplus from 0 into 319 bytes", ["forget 1099511627776 × 1"]), ("readdir from 0 into 4096 bytes", []),
        ], [Errno.noSuchFileOrDirectory, .invalidArgument, .badAddress])
    func rejectedReplyIsUndone(_ expected: (name: String, undone: [String]), _ failure: Errno) throws {
        let exchange = try #require(Exchange.all.first { $0.name == expected.name })
        let fileSystem = RecordingFileSystem()
        let rejected = Mutex<[UInt64: Int]>([:])
        try withSession(
            serving: fileSystem,
            over: { connection in
                RejectingTransport(DevFuseTransport(over: connection)) { unique, error in
                    guard unique == 42, error == nil else { return nil }
                    rejected.withLock { $0[unique, default: 0] += 1 }
                    return failure
                }
            }
        ) { kernel in
            try kernel.send(exchange.opcode, node: exchange.node, exchange.body, unique: 42)
            if failure != .noSuchFileOrDirectory {
                #expect(try kernel.receive() == KernelSide.Reply(unique: 42, errno: EIO, body: []))
            }
            try kernel.expectSilence()
        }
        #expect(rejected.withLock { $0 } == [42: 1])
        #expect(fileSystem.calls == [exchange.call] + expected.undone)
    }

    // MARK: Taking over a connection

    /// A successor repeats the negotiation from the saved INIT.
    ///
    /// It sends no reply to it, and serves at once.
    @Test func sessionResumesFromASavedInit() throws {
        let saved = Mutex<[UInt8]?>(nil)
        try withSession(serving: RecordingFileSystem(), whenDone: { request in saved.withLock { $0 = request } }) { _ in
        }
        let initRequest = try #require(saved.withLock { $0 })
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem, isGreeted: false, resumingFrom: initRequest) { kernel in
            // FUSE_SETXATTR_EXT was negotiated: the longer structure is decoded.
            let exchange = try #require(Exchange.all.first { $0.name == "setxattr" })
            let unique: UInt64 = Message.resentBit | 42
            let reply = try kernel.ask(exchange.opcode, node: exchange.node, exchange.body, unique: unique)
            #expect(reply == KernelSide.Reply(unique: unique, errno: 0, body: []))
        }
        #expect(fileSystem.calls.first?.hasPrefix("setxattr") == true)
    }

    // MARK: Offsets

    /// Offsets are signed for system calls, and unsigned in requests.
    @Test(arguments: [
        (FUSE_READ, wire(fuse_read_in()) { ($0.offset, $0.size) = (1 << 63, 10) }),
        (FUSE_WRITE, wire(fuse_write_in()) { ($0.offset, $0.size) = (.max, 1) } + [1]),
        (FUSE_FALLOCATE, wire(fuse_fallocate_in()) { ($0.offset, $0.length) = (0, 1 << 63) }),
        (FUSE_COPY_FILE_RANGE, wire(fuse_copy_file_range_in()) { ($0.off_in, $0.len) = (1 << 63, 1) }),
        (FUSE_SETATTR, wire(fuse_setattr_in()) { ($0.valid, $0.size) = (UInt32(FATTR_SIZE), .max) }),
    ])
    func offsetBeyondWhatAFileHoldsIsRefused(_ opcode: fuse_opcode, _ body: [UInt8]) throws {
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem) { kernel in
            let reply = try kernel.ask(opcode, node: 7, body)
            #expect(reply.errno == EINVAL)
        }
        #expect(fileSystem.calls == [])
    }

    // MARK: The end

    @Test func sessionEndsWhenTheOtherEndCloses() throws {
        // `withSession` waits for every thread of the session.
        try withSession(serving: RecordingFileSystem(), threads: 4) { _ in }
    }

    @Test func sessionClosesItsDescriptor() throws {
        var ends: [CInt] = [0, 0]
        #expect(socketpair(AF_UNIX, CInt(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
        close(ends[0])
        do {
            let session = try Session(takingOwnershipOf: ends[1], serving: RecordingFileSystem())
            try session.run(threads: 1)
        }
        // Another test may have the number now. Then it is not an end of this pair, which is closed.
        var peer = ucred()
        var size = socklen_t(MemoryLayout.size(ofValue: peer))
        let isOpen = getsockopt(ends[1], SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0
        #expect(!isOpen || !hasHungUp(ends[1]))
    }

    private func hasHungUp(_ descriptor: CInt) -> Bool {
        var question = pollfd(fd: descriptor, events: 0, revents: 0)
        return poll(&question, 1, 0) == 1 && question.revents & Int16(POLLHUP) != 0
    }
}

/// A barrier: threads pass after all have arrived.
private final class Gathering: Sendable {
    private let expected: Int
    private let arrived = Mutex(0)
    private let complete: EventFD

    init(of expected: Int) throws {
        self.expected = expected
        complete = try EventFD()
    }

    var isComplete: Bool { arrived.withLock { $0 } == expected }

    func wait() {
        let isLast = arrived.withLock { arrived in
            arrived += 1
            return arrived == expected
        }
        // Each wakes the next.
        if isLast || complete.wait(until: .now + .seconds(10)) { complete.signal() }
    }
}

import CLinux
import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import Fuse

/// A process that serves a connection is killed, and another one goes on: both share the memory of `ConnectionState`.
@Suite(.timeLimit(.minutes(5))) struct TakeoverTests {
    /// Zeroed memory, as the keeper provides it.
    private final class Memory: Sendable {
        // because one session at a time uses it.
        nonisolated(unsafe) let base: UnsafeMutableRawPointer
        init() { base = calloc(1, ConnectionState.size)! }
        deinit { free(base) }

        /// The state of the next process.
        func nextGeneration() -> ConnectionState { ConnectionState(in: base, owner: self) }
    }

    private static let resentBit: UInt64 = 1 << 63

    private func serveFirst(_ memory: Memory) throws {
        try withSession(serving: RecordingFileSystem(), state: memory.nextGeneration()) { _ in }
    }

    /// A successor repeats the negotiation from the saved request, and asks for unanswered requests.
    ///
    /// It does not reply to INIT again.
    @Test func successorResumesFromTheSavedInit() throws {
        let memory = Memory()
        try serveFirst(memory)
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem, isGreeted: false, state: memory.nextGeneration()) { kernel in
            // struct fuse_out_header: a notification has its code in place of the errno. FUSE_NOTIFY_RESEND is 7.
            #expect(try kernel.receive() == KernelSide.Reply(unique: 0, errno: -7, body: []))
            // FUSE_SETXATTR_EXT was negotiated: the longer structure is decoded.
            let exchange = try #require(Exchange.all.first { $0.name == "setxattr" })
            let unique = Self.resentBit | 42
            let reply = try kernel.ask(exchange.opcode, node: exchange.node, exchange.body, unique: unique)
            #expect(reply == KernelSide.Reply(unique: unique, errno: 0, body: []))
        }
        #expect(fileSystem.calls.first?.hasPrefix("setxattr") == true)
        #expect(ConnectionState.generations(in: memory.base) == 2)
    }

    /// INIT was read and saved, and not answered.
    @Test func successorAnswersAnInitThatComesAgain() throws {
        let memory = Memory()
        try serveFirst(memory)
        try withSession(serving: RecordingFileSystem(), isGreeted: false, state: memory.nextGeneration()) { kernel in
            _ = try kernel.receive()
            try kernel.greet()
        }
    }

    /// A finished operation is not run again: its stored reply is sent.
    @Test func finishedOperationIsAnsweredFromItsRecord() throws {
        let memory = Memory()
        try serveFirst(memory)
        let dead = try #require(memory.nextGeneration().claimRecord())
        dead.begin(42, attempts: 0)
        [UInt8](1...16).withUnsafeBytes { dead.complete(nil, $0) }
        let other = RecordingFileSystem()
        try withSession(serving: other, isGreeted: false, state: memory.nextGeneration()) { kernel in
            _ = try kernel.receive()
            let reply = try kernel.ask(
                FUSE_MKDIR, node: 1, wire(fuse_mkdir_in()) { _ in } + name("d"), unique: Self.resentBit | 42)
            #expect(reply == KernelSide.Reply(unique: Self.resentBit | 42, errno: 0, body: [UInt8](1...16)))
            // Another request of the same kind is a new one.
            #expect(
                try kernel.ask(FUSE_MKDIR, node: 1, wire(fuse_mkdir_in()) { _ in } + name("d"), unique: 44).errno == 0)
        }
        #expect(other.calls.count { $0.hasPrefix("mkdir") } == 1)
    }

    /// The same for an errno.
    @Test func failedOperationIsAnsweredFromItsRecord() throws {
        let memory = Memory()
        try serveFirst(memory)
        let dead = try #require(memory.nextGeneration().claimRecord())
        dead.begin(42, attempts: 0)
        dead.complete(.directoryNotEmpty, UnsafeRawBufferPointer(start: nil, count: 0))
        try withSession(serving: RecordingFileSystem(), isGreeted: false, state: memory.nextGeneration()) { kernel in
            _ = try kernel.receive()
            #expect(try kernel.ask(FUSE_RMDIR, node: 1, name("d"), unique: Self.resentBit | 42).errno == ENOTEMPTY)
        }
    }

    /// An operation that was begun may have happened: "it exists already" then means success.
    ///
    /// Without a record, or in a request that is not sent again, EEXIST stays EEXIST.
    @Test func begunOperationMayFindItsOwnResult() throws {
        let memory = Memory()
        try serveFirst(memory)
        let dead = try #require(memory.nextGeneration().claimRecord())
        dead.begin(42, attempts: 0)
        let other = RecordingFileSystem(failingOnce: .fileExists)
        try withSession(serving: other, isGreeted: false, state: memory.nextGeneration()) { kernel in
            _ = try kernel.receive()
            let body = wire(fuse_mkdir_in()) { _ in } + name("d")
            #expect(try kernel.ask(FUSE_MKDIR, node: 1, body, unique: Self.resentBit | 42).errno == 0)
        }
        #expect(other.calls.map { $0.prefix { $0 != " " } } == ["mkdir", "lookup"])
        for unique in [Self.resentBit | 44, 42] {
            let other = RecordingFileSystem(failingOnce: .fileExists)
            try withSession(serving: other, isGreeted: false, state: memory.nextGeneration()) { kernel in
                _ = try kernel.receive()
                let body = wire(fuse_mkdir_in()) { _ in } + name("d")
                #expect(try kernel.ask(FUSE_MKDIR, node: 1, body, unique: unique).errno == EEXIST)
            }
        }
    }

    /// A request that two processes died of fails, and does not reach the file system a third time.
    @Test func requestThatKilledTwoProcessesFails() throws {
        let memory = Memory()
        try serveFirst(memory)
        let first = try #require(memory.nextGeneration().claimRecord())
        first.begin(42, attempts: 0)
        let second = try #require(memory.nextGeneration().claimRecord())
        second.begin(42, attempts: 1)
        let other = RecordingFileSystem()
        try withSession(serving: other, isGreeted: false, state: memory.nextGeneration()) { kernel in
            _ = try kernel.receive()
            #expect(
                try kernel.ask(FUSE_GETATTR, node: 1, wire(fuse_getattr_in()) { _ in }, unique: Self.resentBit | 42)
                    .errno == EIO)
            #expect(try kernel.ask(FUSE_GETATTR, node: 1, wire(fuse_getattr_in()) { _ in }, unique: 44).errno == 0)
        }
        #expect(other.calls.count == 1)
    }

    /// Banks are used again after 64 generations; what an earlier user of a bank recorded does not come back.
    @Test func recordsOfManyGenerationsAreKeptApart() throws {
        let memory = Memory()
        for generation in 0..<200 {
            let state = memory.nextGeneration()
            if generation > 0 { #expect(state.inherited(UInt64(generation)) != nil) }
            if generation > 63 { #expect(state.inherited(UInt64(generation - 64)) == nil) }
            let record = try #require(state.claimRecord())
            record.begin(UInt64(generation + 1), attempts: 0)
        }
    }

    private func name(_ text: String) -> [UInt8] { Array(text.utf8) + [0] }
}

import CLinux
import Fuse
import Glibc
import Linux
import Synchronization
import SystemPackage
import TestSupport
import Testing

/// Reads without data yet, and polls that are notified later.
@Suite struct PendingReadTests {
    // MARK: Reads

    /// Serves a file system on which every read waits.
    private func withWaitingReads(
        threads: Int = 1, _ body: (KernelSide, RecordingFileSystem) throws -> Void
    ) throws {
        let fileSystem = RecordingFileSystem(isEmpty: true)
        try withSession(serving: fileSystem, threads: threads) { kernel in try body(kernel, fileSystem) }
    }

    private func read(flags: CInt = 0, size: UInt32 = 64) -> [UInt8] {
        wire(fuse_read_in()) { ($0.fh, $0.size, $0.flags) = (6, size, UInt32(flags)) }
    }

    private func interrupt(_ unique: UInt64, in kernel: KernelSide) throws {
        try kernel.send(FUSE_INTERRUPT, node: 0, wire(fuse_interrupt_in()) { $0.unique = unique }, unique: unique | 1)
    }

    private func answer(_ read: PendingRead, _ text: String) -> Bool {
        read.answer { room in
            room.copyBytes(from: text.utf8)
            return text.utf8.count
        }
    }

    @Test func pendingReadHoldsNoThread() throws {
        try withWaitingReads { kernel, fileSystem in
            for unique in [100, 102, 104] as [UInt64] { try kernel.send(FUSE_READ, node: 7, read(), unique: unique) }
            // The only thread continues to serve.
            try kernel.expectSilence()
            let waiting = fileSystem.waiting.withLock { $0 }
            #expect(waiting.map(\.capacity) == [64, 64, 64])
            #expect(answer(waiting[1], "second"))
            #expect(try kernel.receive() == KernelSide.Reply(unique: 102, errno: 0, body: Array("second".utf8)))
            #expect(waiting[0].fail(.ioError))
            #expect(try kernel.receive() == KernelSide.Reply(unique: 100, errno: EIO, body: []))
            #expect(waiting.map(\.isAnswered) == [true, true, false])
        }
    }

    @Test func readIsAnsweredOnce() throws {
        try withWaitingReads { kernel, fileSystem in
            try kernel.send(FUSE_READ, node: 7, read(), unique: 100)
            try kernel.expectSilence()
            let waiting = try #require(fileSystem.waiting.withLock { $0.first })
            #expect(answer(waiting, "x"))
            let isSecond = waiting.answer { _ in preconditionFailure("asked for the data of an interrupted read") }
            #expect(!isSecond)
            #expect(!waiting.fail(.ioError))
            #expect(try kernel.receive().body == Array("x".utf8))
            // An interrupt after the reply gets none.
            try interrupt(100, in: kernel)
            try kernel.expectSilence()
        }
    }

    @Test func nonblockingReadGetsEAGAIN() throws {
        try withWaitingReads { kernel, fileSystem in
            let reply = try kernel.ask(FUSE_READ, node: 7, read(flags: O_NONBLOCK))
            #expect(reply.errno == EAGAIN)
            #expect(fileSystem.calls == ["read 6 at 0 room 64"])
        }
    }

    @Test func interruptedReadEndsAtOnce() throws {
        try withWaitingReads { kernel, fileSystem in
            try kernel.send(FUSE_READ, node: 7, read(), unique: 100)
            try kernel.send(FUSE_READ, node: 7, read(), unique: 102)
            try interrupt(100, in: kernel)
            #expect(try kernel.receive() == KernelSide.Reply(unique: 100, errno: EINTR, body: []))
            try kernel.expectSilence()
            let waiting = fileSystem.waiting.withLock { $0 }
            #expect(waiting.map(\.isAnswered) == [true, false])
            #expect(!answer(waiting[0], "late"))
            try kernel.expectSilence()
        }
    }

    /// With several threads, an interrupt may overtake its request.
    @Test func earlyInterruptEndsTheRead() throws {
        try withWaitingReads { kernel, _ in
            try interrupt(100, in: kernel)
            try kernel.send(FUSE_READ, node: 7, read(), unique: 100)
            #expect(try kernel.receive() == KernelSide.Reply(unique: 100, errno: EINTR, body: []))
            try kernel.expectSilence()
        }
    }

    @Test func firstAnswerWins() throws {
        try withWaitingReads(threads: 2) { kernel, fileSystem in
            for round in 0..<2000 as Range<UInt64> {
                let unique = 1000 + round * 2
                try kernel.send(FUSE_READ, node: 7, read(), unique: unique)
                let seen = eventually { fileSystem.waiting.withLock { !$0.isEmpty } }
                try #require(seen)
                let waiting = fileSystem.waiting.withLock { $0.removeFirst() }
                let other = try Thread(named: "answer") { _ = answer(waiting, "x") }
                try interrupt(unique, in: kernel)
                other.join()
                var reply = try kernel.receive()
                // An interrupt without a read is kept; if there are too many, it is answered with EAGAIN.
                while reply.unique != unique {
                    #expect(reply.errno == EAGAIN)
                    reply = try kernel.receive()
                }
                #expect(reply.errno == 0 || reply.errno == EINTR)
                #expect(waiting.isAnswered)
            }
        }
    }

    @Test func pendingReadsEndWithTheSession() throws {
        let fileSystem = RecordingFileSystem(isEmpty: true)
        try withSession(serving: fileSystem) { kernel in
            for unique in [100, 102] as [UInt64] { try kernel.send(FUSE_READ, node: 7, read(), unique: unique) }
            try kernel.expectSilence()
        }
        let waiting = fileSystem.waiting.withLock { $0 }
        #expect(waiting.count == 2)
        #expect(waiting.allSatisfy { $0.isAnswered })
        #expect(!answer(waiting[0], "too late"))
    }

    // MARK: Streams

    @Test func streamIsOpenedAsNonseekable() throws {
        try withSession(serving: RecordingFileSystem()) { kernel in
            let open = wire(fuse_open_in()) { $0.flags = UInt32(O_RDONLY) }
            for inode in [RecordingFileSystem.stream, InodeNumber(rawValue: 7), RecordingFileSystem.stream] {
                let reply = try kernel.ask(FUSE_OPEN, node: inode.rawValue, open)
                try #require(reply.body.count == MemoryLayout<fuse_open_out>.size)
                let flags = reply.body.withUnsafeBytes { $0.loadUnaligned(as: fuse_open_out.self).open_flags }
                #expect(flags & UInt32(FOPEN_DIRECT_IO) != 0)
                #expect((flags & UInt32(FOPEN_STREAM) != 0) == (inode == RecordingFileSystem.stream))
            }
        }
    }

    // MARK: Polls

    private func poll(_ kernel: KernelSide, handle: UInt64, notifies: Bool) throws -> UInt32 {
        let body = wire(fuse_poll_in()) {
            ($0.fh, $0.kh, $0.events) = (6, handle, UInt32(POLLIN))
            $0.flags = notifies ? UInt32(FUSE_POLL_SCHEDULE_NOTIFY) : 0
        }
        let reply = try kernel.ask(FUSE_POLL, node: 7, body)
        #expect(reply.errno == 0)
        return reply.body.withUnsafeBytes { $0.loadUnaligned(as: fuse_poll_out.self).revents }
    }

    /// A notification is a message with unique 0 and its code in place of the errno.
    @Test func pollIsNotifiedLater() throws {
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem) { kernel in
            #expect(try poll(kernel, handle: 0x1122_3344_5566_7788, notifies: true) == 0x45)
            #expect(try poll(kernel, handle: 5, notifies: false) == 0x45)
            let pollHandles = fileSystem.pollHandles.withLock { $0 }
            #expect(pollHandles.count == 1)
            for _ in 0..<2 {
                pollHandles.first?.notify()
                let notice = try kernel.receive()
                #expect(notice.unique == 0)
                #expect(-notice.errno == FUSE_NOTIFY_POLL.rawValue)
                #expect(notice.body == wire(fuse_notify_poll_wakeup_out()) { $0.kh = 0x1122_3344_5566_7788 })
            }
            fileSystem.pollHandles.withLock { $0 = [] }
            try kernel.expectSilence()
        }
    }

    @Test func pollHandleOutlivesItsSession() throws {
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem) { kernel in _ = try poll(kernel, handle: 5, notifies: true) }
        let pollHandles = fileSystem.pollHandles.withLock { $0 }
        #expect(pollHandles.count == 1)
        for pollHandle in pollHandles { pollHandle.notify() }
    }
}

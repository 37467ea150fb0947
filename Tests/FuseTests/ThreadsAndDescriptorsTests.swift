import CLinux
import Fuse
import Glibc
import Linux
import Synchronization
import SystemPackage
import Testing

@Suite struct OwnedDescriptorTests {
    /// Whether the read end of a pipe is open: if not, poll(2) of the write end reports POLLERR.
    private func isOpen(behind writeEnd: CInt) -> Bool {
        var question = pollfd(fd: writeEnd, events: 0, revents: 0)
        return poll(&question, 1, 0) == 0
    }

    private func makePipe() throws -> (readEnd: CInt, writeEnd: CInt) {
        var ends: [CInt] = [0, 0]
        _ = try retryingInterrupts { pipe(&ends) }
        return (ends[0], ends[1])
    }

    @Test func descriptorClosesWithItsOwner() throws {
        let ends = try makePipe()
        defer { close(ends.writeEnd) }
        do {
            let readEnd = OwnedDescriptor(takingOwnershipOf: ends.readEnd)
            #expect(isOpen(behind: ends.writeEnd))
            _ = consume readEnd
        }
        #expect(!isOpen(behind: ends.writeEnd))
    }

    @Test func releasedDescriptorStaysOpen() throws {
        let ends = try makePipe()
        defer { close(ends.writeEnd) }
        let released = OwnedDescriptor(takingOwnershipOf: ends.readEnd).release()
        #expect(released == ends.readEnd)
        #expect(isOpen(behind: ends.writeEnd))
        close(released)
    }

    @Test func openedDescriptorIsNotInherited() throws {
        let opened = try OwnedDescriptor(opening: "/", in: AT_FDCWD, O_RDONLY | O_DIRECTORY)
        #expect(fcntl(opened.rawValue, F_GETFD) & FD_CLOEXEC != 0)
    }

    @Test func failedOpenThrowsItsErrno() {
        #expect(throws: Errno.noSuchFileOrDirectory) {
            _ = try OwnedDescriptor(opening: "/no/such/file", in: AT_FDCWD, O_RDONLY)
        }
    }
}

@Suite struct RetryingInterruptsTests {
    @Test func interruptedCallIsRepeated() throws {
        var calls = 0
        let result = try retryingInterrupts { () -> CInt in
            calls += 1
            errno = EINTR
            return calls < 3 ? -1 : 7
        }
        #expect(result == 7)
        #expect(calls == 3)
    }

    @Test func otherFailureIsThrown() {
        #expect(throws: Errno.ioError) {
            try retryingInterrupts { () -> Int in
                errno = EIO
                return -1
            }
        }
    }
}

@Suite struct ThreadTests {
    @Test func joinWaitsForTheEnd() throws {
        let ended = Mutex(false)
        let mayEnd = try EventFD()
        let thread = try Thread(named: "test") {
            mayEnd.wait()
            ended.withLock { $0 = true }
        }
        mayEnd.signal()
        thread.join()
        #expect(ended.withLock { $0 })
    }

    @Test func threadIsNamed() throws {
        let name = Mutex("")
        try Thread(named: "fifteen-letters") {
            guard let file = try? OwnedDescriptor(opening: "/proc/thread-self/comm", in: AT_FDCWD, O_RDONLY) else {
                return
            }
            var room = [UInt8](repeating: 0, count: 32)
            let count = read(file.rawValue, &room, room.count)
            name.withLock { $0 = String(decoding: room.prefix(max(0, count)), as: UTF8.self) }
        }.join()
        #expect(name.withLock { $0 } == "fifteen-letters\n")
    }

    @Test func bodyIsReleasedWhenTheThreadEnds() throws {
        final class Held: Sendable {}
        weak var held: Held?
        do {
            let object = Held()
            held = object
            try Thread(named: "test") { withExtendedLifetime(object) {} }.join()
        }
        #expect(held == nil)
    }
}

@Suite struct WakeupTests {
    @Test func raisedBeforeTheWaitIsNotLost() throws {
        let event = try EventFD()
        event.signal()
        #expect(event.wait())
    }

    @Test func raisedSeveralTimesWakesOnce() throws {
        let event = try EventFD()
        for _ in 0..<3 { event.signal() }
        #expect(event.wait())
        #expect(!event.wait(until: .now))
    }

    @Test(arguments: [Duration.zero, .milliseconds(-10), .microseconds(1), .milliseconds(2)])
    func limitEndsTheWaitAndNotBefore(_ limit: Duration) throws {
        let event = try EventFD()
        let end = ContinuousClock.now + limit
        #expect(!event.wait(until: end))
        #expect(ContinuousClock.now >= end)
    }

    @Test func anotherThreadWakes() throws {
        let event = try EventFD()
        let thread = try Thread(named: "test") { event.signal() }
        #expect(event.wait(until: .now + .seconds(1_000_000_000)))
        thread.join()
    }

    @Test func descriptorIsReadableOnceRaised() throws {
        let event = try EventFD()
        var question = pollfd(fd: event.descriptor, events: Int16(POLLIN), revents: 0)
        #expect(poll(&question, 1, 0) == 0)
        event.signal()
        #expect(poll(&question, 1, 0) == 1)
    }
}

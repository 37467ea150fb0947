import CLinux
import Glibc
import Linux
import Synchronization
import TestSupport
import Testing

@testable import Fuse

@Suite(.timeLimit(.minutes(5))) struct WorkerPoolTests {
    @Test func oneThreadServesAClientThatAsksOneThingAfterAnother() throws {
        try withPool(limit: 4) { pool in
            for _ in 0..<1000 { pool.serve(from: 1, wasWaiting: false) }
            #expect(pool.threads == 1)
        }
    }

    @Test func anotherThreadStartsWhenRequestsAreFoundWaiting() throws {
        try withPool(limit: 4) { pool in
            for client in 1...8 {
                #expect(pool.threads == 1)
                pool.serve(from: pid_t(client), wasWaiting: true)
            }
            #expect(eventually { pool.readers == 1 })
            #expect(pool.threads == 2)
        }
    }

    @Test func noMoreThreadsStartThanHalfOfTheCoresHaveRoomFor() throws {
        try withPool(limit: 4, cores: 4) { pool in
            for client in 1...1000 { pool.serve(from: pid_t(client), wasWaiting: true) }
            #expect(eventually { pool.readers == 1 })
            for client in 1...1000 { pool.serve(from: pid_t(client), wasWaiting: true) }
            #expect(pool.threads == 2)
        }
    }

    @Test func moreThreadsStartIfRequestsTakeLong() throws {
        try withPool(limit: 4, cores: 1) { pool in
            for client in 1...100 {
                // A few requests are slow, because a thread sometimes waits for a core.
                pool.serve(from: pid_t(client), wasWaiting: true, serviceTime: client % 20 == 0 ? 3_000_000 : 10_000)
            }
            #expect(pool.threads == 1)
            // Nearly all are slow: they wait for a disk.
            #expect(
                eventually {
                    for client in 1...100 { pool.serve(from: pid_t(client), wasWaiting: true, serviceTime: 150_000) }
                    return pool.readers == 3
                })
            #expect(pool.threads == 4)
        }
    }

    /// A client on the same core has sent its next request before the thread reads, and its releases wait, too.
    @Test func oneClientAloneIsServedByOneThread() throws {
        try withPool(limit: 4) { pool in
            for _ in 0..<1000 {
                pool.serve(from: 7, wasWaiting: true)
                pool.serve(from: nil, wasWaiting: true)
            }
            #expect(pool.threads == 1)
        }
    }

    @Test func clientsOfAnotherPidNamespaceCountAsSeveral() throws {
        try withPool(limit: 4) { pool in
            for _ in 0..<8 { pool.serve(from: 0, wasWaiting: true) }
            #expect(eventually { pool.readers == 1 })
        }
    }

    @Test func anotherThreadStartsWhenTheOnlyOneIsHeldUp() throws {
        try withPool(limit: 2, heldUpAfter: .milliseconds(1)) { pool in
            // A request that takes long: no thread waits for the next one.
            _ = pool.pool.received(from: 1, wasWaiting: false)
            #expect(eventually { pool.readers == 1 })
        }
    }

    @Test func lastThreadServesFromMemoryAndQueuesTheRest() throws {
        try withPool(limit: 4, heldUpAfter: .milliseconds(1), othersBlock: true) { pool in
            // Each new thread receives a request that blocks, up to the limit.
            _ = pool.pool.received(from: 1, wasWaiting: false)
            #expect(eventually { pool.blocked == 3 })
            pool.finishOwn()
            #expect(pool.pool.received(from: 1, wasWaiting: true) == .memoryOnly)
            let request = Message.bytes(unique: 70)
            pool.pool.enqueue(request, isForRootDevice: true)
            pool.finishOwn()
            #expect(pool.queued == [])
            // While the others are blocked, it serves requests that cannot block.
            for _ in 0..<100 {
                #expect(pool.pool.received(from: 1, wasWaiting: true) == .memoryOnly)
                pool.finishOwn()
            }
            pool.unblockOne()
            #expect(eventually { pool.queued == [request] })
        }
    }

    @Test func queuedRequestCanBeCancelledOnce() throws {
        let pool = try WorkerPool(limit: 2)
        for unique in [70, 72, 74] as [UInt64] {
            pool.enqueue(Message.bytes(unique: unique), isForRootDevice: unique != 72)
        }
        #expect(pool.cancel(72))
        #expect(!pool.cancel(72))
        #expect(!pool.cancel(71))
    }

    @Test func threadsEndWhenTheyHaveBeenIdle() throws {
        try withPool(limit: 12, heldUpAfter: .milliseconds(1), idleTime: .milliseconds(5), othersBlock: true) { pool in
            _ = pool.pool.received(from: 1, wasWaiting: false)
            #expect(eventually { pool.threads == 12 })
            pool.finishOwn()
            pool.unblockAll()
            // A reading thread and a parked one.
            #expect(eventually { pool.threads == 2 && pool.pool.counts.parked == 1 })
        }
    }

    /// No further request tells the pool that the clients have gone.
    @Test func threadsEndWhenNoRequestComes() throws {
        try withPool(limit: 4, idleTime: .milliseconds(100)) { pool in
            #expect(
                eventually {
                    for client in 1...100 { pool.serve(from: pid_t(client), wasWaiting: true) }
                    return pool.threads == 4
                })
            // The test's thread waits for a request, and perhaps another one that began to wait while this one served.
            #expect(eventually { pool.threads <= 3 && pool.pool.counts.parked == 1 })
        }
    }

    @Test func allThreadsEndWithTheConnection() throws {
        try withPool(limit: 12, heldUpAfter: .milliseconds(1)) { pool in
            _ = pool.pool.received(from: 1, wasWaiting: false)
            #expect(eventually { pool.readers >= 1 })
        }
    }

    // MARK: A pool under test

    /// A pool whose first thread runs a test, and whose other threads wait.
    private final class Observed: Sendable {
        let pool: WorkerPool
        private let othersBlock: Bool
        private let own = Mutex<WorkerPool.Worker?>(nil)
        private let readerCount = Atomic(0)
        private let blockedCount = Atomic(0)
        private let served = Mutex<[[UInt8]]>([])
        private let gate: EventFD
        private let isOpen = Atomic(false)

        init(_ pool: WorkerPool, othersBlock: Bool) throws {
            self.pool = pool
            self.othersBlock = othersBlock
            gate = try EventFD()
        }

        var threads: Int { pool.counts.threads }
        /// Other threads that wait for a request.
        var readers: Int { readerCount.load(ordering: .relaxed) }
        /// Other threads that serve a request.
        var blocked: Int { blockedCount.load(ordering: .relaxed) }
        var queued: [[UInt8]] { served.withLock { $0 } }

        func begin(_ worker: WorkerPool.Worker) {
            own.withLock { $0 = worker }
            finishOwn()
        }

        /// Ends the first thread's turn, and waits for the next, which must be to receive.
        func finishOwn() {
            guard let worker = own.withLock({ $0 }) else { return }
            guard case .receive = pool.next(worker) else {
                Issue.record("the first thread should read")
                return
            }
        }

        /// Receives a request and serves it, as the first thread.
        func serve(from client: pid_t?, wasWaiting: Bool, serviceTime: UInt64 = 0) {
            _ = pool.received(from: client, wasWaiting: wasWaiting, previousServiceTime: serviceTime)
            finishOwn()
        }

        func unblockOne() { gate.signal() }

        func unblockAll() {
            isOpen.store(true, ordering: .releasing)
            gate.signal()
        }

        func runOther(_ worker: WorkerPool.Worker) {
            while true {
                switch pool.next(worker) {
                case .exit: return
                case .queued(let request): served.withLock { $0.append(request) }
                case .receive:
                    if othersBlock, !isOpen.load(ordering: .acquiring) {
                        _ = pool.received(from: 2, wasWaiting: false)
                        blockedCount.add(1, ordering: .relaxed)
                    } else {
                        readerCount.add(1, ordering: .relaxed)
                    }
                    if !gate.wait(until: othersBlock ? nil : pool.idleLimit) {
                        readerCount.subtract(1, ordering: .relaxed)
                        pool.waitedInVain()
                        continue
                    }
                    // Each wakes the next, when all are unblocked.
                    if isOpen.load(ordering: .acquiring) { gate.signal() }
                    if othersBlock { blockedCount.subtract(1, ordering: .relaxed) }
                    if !othersBlock { _ = pool.received(from: 2, wasWaiting: false) }
                }
            }
        }
    }

    /// - Parameter heldUpAfter: Long by default: on a busy machine, any thread may be delayed between two requests.
    private func withPool(
        limit: Int, cores: Int = 8, heldUpAfter: Duration = .seconds(600), idleTime: Duration = .seconds(600),
        othersBlock: Bool = false, _ body: @escaping @Sendable (Observed) throws -> Void
    ) throws {
        let pool = try WorkerPool(limit: limit, cores: cores, heldUpAfter: heldUpAfter, idleTime: idleTime)
        let observed = try Observed(pool, othersBlock: othersBlock)
        let hasBegun = Atomic(false)
        let outcome = Mutex<Result<Void, any Error>?>(nil)
        try pool.run { worker in
            guard hasBegun.compareExchange(expected: false, desired: true, ordering: .relaxed).exchanged else {
                return observed.runOther(worker)
            }
            observed.begin(worker)
            let result = Result { try body(observed) }
            outcome.withLock { $0 = result }
            pool.end()
            observed.unblockAll()
        }
        #expect(pool.counts.threads == 0)
        try #require(outcome.withLock { $0 }).get()
    }
}

extension Message {
    /// A request without a body.
    fileprivate static func bytes(unique: UInt64) -> [UInt8] {
        wire(fuse_in_header()) { ($0.len, $0.opcode, $0.unique) = (40, FUSE_STATFS.rawValue, unique) }
    }
}

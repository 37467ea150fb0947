import CLinux
import Glibc
import Linux
import Synchronization
import SystemPackage

/// Requests and replies over `/dev/fuse`: one read(2) a request, one write a reply.
///
/// A waiting thread busy-polls for a moment before it blocks (`SpinPolicy`), because waking a thread on an idle core
/// takes longer than serving most requests. In that time it runs deferred releases first.
final class DevFuseTransport: Transport {
    /// The largest request: a write of FUSE_MAX_MAX_PAGES pages, its header, and its structure.
    static let requestCapacity = (1 << 20) + 4096

    private let connection: Connection
    private let pool = Mutex<WorkerPool?>(nil)
    private let spinPolicy = SpinPolicy()
    /// Whether a thread is busy-polling.
    ///
    /// One at a time is enough.
    private let isSpinning = Atomic(false)

    init(over connection: Connection) {
        self.connection = connection
    }

    var supportsSplice: Bool { connection.isDevice }

    func reply(to unique: UInt64, error: Errno?, _ body: UnsafeRawBufferPointer) -> Errno? {
        connection.send(unique: unique, code: -(error?.rawValue ?? 0), body)
    }

    func reply(_ size: Int, fromPipe pipe: CInt) -> Errno? {
        connection.send(size, fromPipe: pipe)
    }

    func cancel(_ unique: UInt64) -> Bool {
        pool.withLock { $0 }?.cancel(unique) ?? false
    }

    func serve(_ dispatcher: Dispatcher, threads: Int) throws(Errno) {
        let pool = try WorkerPool(limit: threads)
        self.pool.withLock { $0 = pool }
        defer { dispatcher.deferred.runAll() }
        try pool.run { worker in
            do throws(Errno) {
                try Credentials.prepareThread()
                self.serve(dispatcher, in: pool, worker)
            } catch {
                pool.end(because: error)
            }
        }
    }

    /// Serves requests on the calling thread for as long as the pool needs it.
    private func serve(_ dispatcher: Dispatcher, in pool: WorkerPool, _ worker: WorkerPool.Worker) {
        let request = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.requestCapacity, alignment: 16)
        defer { request.deallocate() }
        let record = dispatcher.state.claimRecord()
        defer { if let record { dispatcher.state.release(record) } }
        var buffers = WorkerBuffers(record: record)
        var serviceTime: UInt64 = 0
        while true {
            let bytes: UnsafeRawBufferPointer
            switch pool.next(worker, willPark: { dispatcher.deferred.runAll() }) {
            case .exit: return
            case .queued(let queued):
                buffers.mayBlock = true
                queued.withUnsafeBytes { dispatcher.dispatch($0, &buffers) }
                continue
            case .receive:
                let received: (size: Int, wasWaiting: Bool)?
                do throws(Errno) {
                    received = try receive(into: request, dispatcher.deferred, pool)
                } catch {
                    return pool.end(because: error == Errno(rawValue: ENODEV) ? nil : error)
                }
                guard let (size, wasWaiting) = received else {
                    pool.waitedInVain()
                    continue
                }
                bytes = UnsafeRawBufferPointer(rebasing: request[..<size])
                let admission = pool.received(
                    from: Self.client(of: bytes), wasWaiting: wasWaiting, previousServiceTime: serviceTime)
                if mustQueue(bytes, admission, dispatcher) {
                    pool.enqueue(Array(bytes), isForRootDevice: dispatcher.isForRootDevice(bytes))
                    continue
                }
                buffers.mayBlock = admission != .memoryOnly
            }
            let start = Self.nanoseconds()
            dispatcher.dispatch(bytes, &buffers)
            serviceTime = Self.nanoseconds() - start
        }
    }

    private func mustQueue(
        _ request: UnsafeRawBufferPointer, _ admission: WorkerPool.Admission, _ dispatcher: Dispatcher
    ) -> Bool {
        switch admission {
        case .anyRequest: false
        case .rootDeviceOnly: !dispatcher.isForRootDevice(request) && dispatcher.mayBlock(request)
        case .memoryOnly: dispatcher.mayBlock(request)
        }
    }

    /// The thread that waits for the reply, 0 if it is in another pid namespace, or nil if none waits.
    private static func client(of request: UnsafeRawBufferPointer) -> pid_t? {
        guard let header = Message.header(of: request) else { return nil }
        return switch fuse_opcode(header.opcode) {
        case FUSE_RELEASE, FUSE_RELEASEDIR, FUSE_FORGET, FUSE_BATCH_FORGET: nil
        default: pid_t(bitPattern: header.pid)
        }
    }

    /// Reads the next request, and runs deferred releases meanwhile.
    ///
    /// - Returns: The request's size, and whether it was there already: nil if none came and another thread waits, too.
    private func receive(
        into room: UnsafeMutableRawBufferPointer, _ deferred: DeferredReleases, _ pool: WorkerPool
    ) throws(Errno) -> (size: Int, wasWaiting: Bool)? {
        if let size = try connection.receive(into: room) { return (size, true) }
        while let release = deferred.next() {
            // The last thread that is free must not wait for a disk.
            guard pool.whileIdle({ deferred.run(release) }) else {
                deferred.putBack(release)
                break
            }
            if let size = try connection.receive(into: room) { return (size, false) }
        }
        let start = Self.nanoseconds()
        defer { spinPolicy.recordWait(Self.nanoseconds() - start) }
        if let size = try spin(from: start, into: room) { return (size, false) }
        let limit = pool.idleLimit
        while connection.waitForRequest(until: limit) {
            if let size = try connection.receive(into: room) { return (size, false) }
        }
        return nil
    }

    /// Busy-polls for as long as that seems worthwhile.
    private func spin(from start: UInt64, into room: UnsafeMutableRawBufferPointer) throws(Errno) -> Int? {
        let limit = spinPolicy.limit
        guard limit > 0, isSpinning.compareExchange(expected: false, desired: true, ordering: .relaxed).exchanged
        else { return nil }
        defer { isSpinning.store(false, ordering: .relaxed) }
        let timeBeforeYield = spinPolicy.timeBeforeYield
        var now = start
        repeat {
            if now - start >= timeBeforeYield { sched_yield() }
            if let size = try connection.receive(into: room) {
                spinPolicy.recordUncontended()
                return size
            }
            let before = now
            now = Self.nanoseconds()
            if spinPolicy.isContended(now - before) { return nil }
        } while now - start < limit
        return nil
    }

    /// CLOCK_MONOTONIC, read without a system call.
    private static func nanoseconds() -> UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }
}

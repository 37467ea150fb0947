import CFuse
import CLinux
import Glibc
import Linux
import Synchronization
import SystemPackage

/// One FUSE connection being served: requests are read from a descriptor, run on a file system, and answered.
///
/// The descriptor is `/dev/fuse` of a mount, or one end of a `SOCK_SEQPACKET` socket pair in tests: a request is one
/// read, an answer one write. It is never cloned, so that whoever else holds it open keeps the connection alive when
/// this process dies.
///
/// The corresponding libfuse type is `struct fuse_session`.
public final class Session: Sendable {
    /// What libfuse carries as its user data.
    final class Served: Sendable {
        let fileSystem: any FileSystem
        let initialization: Init
        /// Whether threads act as the caller where that makes a difference.
        let isRoot = geteuid() == 0
        let connection: Connection
        /// Reads that are answered when there is something to be read.
        let waiting = PendingReads()
        // because it is set once, before there is anybody to look, and libfuse guards what it points to by a lock.
        private nonisolated(unsafe) var session: OpaquePointer?

        init(_ fileSystem: any FileSystem, on descriptor: CInt) {
            self.fileSystem = fileSystem
            connection = Connection(descriptor)
            initialization = Init(fileSystem.features, on: connection)
        }

        /// Whoever may yet answer or notify holds this object, and with it what that takes.
        deinit {
            connection.end()
            if let session { fuse_session_destroy(session) }
        }

        fileprivate func own(_ session: OpaquePointer) { self.session = session }

        /// The object behind libfuse's user data.
        static func of(_ userData: UnsafeMutableRawPointer?) -> Served {
            // because `Session` gave the pointer to libfuse, and holds the object for as long as that can call.
            Unmanaged<Served>.fromOpaque(userData!).takeUnretainedValue()
        }
    }

    // because libfuse guards a session with a lock of its own; it is freed with `served`, when nobody serves any more.
    private nonisolated(unsafe) let session: OpaquePointer
    private let served: Served
    /// Whether a thread is lingering.
    private let isLingering = Atomic(false)

    private let patience = SpinPolicy()

    /// Takes a connection whose first request, INIT, has not been read yet.
    ///
    /// The descriptor is closed in every case.
    ///
    /// - Throws: `invalidArgument` when libfuse refuses, `noMemory`, `badFileDescriptor`.
    public init(takingOwnershipOf descriptor: CInt, serving fileSystem: any FileSystem) throws(Errno) {
        served = Served(fileSystem, on: descriptor)
        do throws(Errno) {
            // So that a look for a request and its reading are one system call.
            let flags = try retryingInterrupts { fcntl(descriptor, F_GETFL) }
            _ = try retryingInterrupts { fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) }
        } catch {
            _ = close(descriptor)
            throw error
        }
        var table = OperationTable.make()
        let name = strdup("pulsefs")
        defer { free(name) }
        var arguments = [name]
        // because the session is destroyed by `served`, as the last thing that it does.
        let userData = Unmanaged.passUnretained(served).toOpaque()
        let session = arguments.withUnsafeMutableBufferPointer { arguments in
            var parsed = fuse_args(argc: 1, argv: arguments.baseAddress, allocated: 0)
            // libfuse puts a copy of its own in the place of what it has parsed.
            defer { fuse_opt_free_args(&parsed) }
            return fuse_session_new(&parsed, &table, MemoryLayout.size(ofValue: table), userData)
        }
        guard let session else {
            _ = close(descriptor)
            throw .invalidArgument
        }
        var transport = fuse_custom_io(
            writev: { descriptor, parts, count, served in
                // because libfuse sends at least a header.
                Served.of(served).initialization.completeReply(parts!, count: count)
                return Connection.write(parts!, count: count, to: descriptor)
            },
            read: { descriptor, bytes, count, served in
                let received = clinux_read(descriptor, bytes, count)
                if received == 0 {
                    // The other end of a socket has closed. libfuse knows the end by what `/dev/fuse` says.
                    errno = ENODEV
                    return -1
                }
                if received > 0 {
                    let request = UnsafeMutableRawBufferPointer(start: bytes, count: received)
                    Served.of(served).initialization.noteRequest(UnsafeRawBufferPointer(request))
                    return Dialect.translate(
                        request,
                        hasLongSetxattr: Served.of(served).initialization.hasLongSetxattr.load(ordering: .relaxed))
                }
                return received
            },
            splice_receive: nil,
            splice_send: nil)
        let outcome = fuse_session_custom_io(session, &transport, descriptor)
        guard outcome == 0 else {
            fuse_session_destroy(session)
            _ = close(descriptor)
            throw Errno(rawValue: abs(outcome))
        }
        self.session = session
        served.own(session)
        fileSystem.connected(to: served.connection)
    }

    /// Lets a process that is root make files in the name of those who ask.
    ///
    /// To be called before it has threads.
    ///
    /// - Throws: EPERM without CAP_SETPCAP.
    public static func prepareToServeOthers() throws(Errno) {
        try Credentials.prepareProcess()
    }

    /// Serves on `threads` threads until the connection ends: by an unmount, an abort, or the other end's closing.
    ///
    /// Blocks; the calling thread is one of them. Each request runs from start to end on the thread that read it.
    public func run(threads: Int) throws(Errno) {
        let pool = try WorkerPool(threads: threads)
        let watch = try Thread(named: "fuse watch") { pool.watch() }
        let outcome = Result { () throws(Errno) in try serve(on: threads, of: pool) }
        watch.join()
        served.waiting.end()
        try outcome.get()
        if let failure = pool.failure { throw failure }
    }

    /// Starts the threads one by one; without all of them nothing is served.
    private func serve(on threads: Int, of pool: WorkerPool) throws(Errno) {
        let parking: EventFD
        do throws(Errno) {
            parking = try EventFD()
            if threads > 1 {
                let other = try Thread(named: "fuse") { self.serve(in: pool, parking: parking) }
                let outcome = Result { () throws(Errno) in try serve(on: threads - 1, of: pool) }
                other.join()
                return try outcome.get()
            }
        } catch {
            pool.end()
            throw error
        }
        pool.begin()
        serve(in: pool, parking: parking)
    }

    /// Answers requests whenever the crew says so, until the connection ends.
    private func serve(in pool: WorkerPool, parking: EventFD) {
        var buffer = fuse_buf()
        defer {
            free(buffer.mem)
            pool.end()
        }
        do throws(Errno) {
            try Credentials.prepareThread()
        } catch {
            return pool.end(for: error)
        }
        var deferred = DeferredReleases(of: served)
        var pipes = ReplyPipes()
        var lastAnswer: UInt64 = 0
        defer { deferred.doAll() }
        while pool.awaitTurn(parking: parking, willPark: { deferred.doAll() }) {
            let (received, wasThere) = receive(into: &buffer, after: &deferred, of: pool)
            pool.took(from: Self.client(of: buffer, received), wasThere: wasThere, lastAnswer: lastAnswer)
            guard received > 0 else {
                // Less than 0 is what kept it from being read; 0 is the end.
                return received < 0 ? pool.end(for: Errno(rawValue: -received)) : ()
            }
            let start = Self.nanoseconds()
            answer(&buffer, leaving: &deferred, by: &pipes)
            lastAnswer = Self.nanoseconds() - start
            guard fuse_session_exited(session) == 0 else { return }
        }
    }

    /// The thread that waits for the answer to a request, if one does.
    private static func client(of buffer: fuse_buf, _ received: CInt) -> pid_t? {
        guard Int(received) >= MemoryLayout<fuse_in_header>.size, let bytes = buffer.mem else { return nil }
        let header = bytes.loadUnaligned(as: fuse_in_header.self)
        return switch fuse_opcode(header.opcode) {
        case FUSE_RELEASE, FUSE_RELEASEDIR, FUSE_FORGET, FUSE_BATCH_FORGET: nil
        default: pid_t(bitPattern: header.pid)
        }
    }

    private func answer(_ request: inout fuse_buf, leaving deferred: inout DeferredReleases, by pipes: inout ReplyPipes)
    {
        let bytes = UnsafeRawBufferPointer(start: request.mem, count: request.size)
        if !RequestShape.isWhole(bytes) {
            refuse(bytes)
        } else if served.initialization.hasEnded,
            DirectRequest(bytes, to: served).answer(leaving: &deferred, by: &pipes)
        {
            return
        } else {
            fuse_session_process_buf(session, &request)
            served.waiting.answerInterrupted()
        }
    }

    /// Answers EIO to what is not as long as it says, if it wants an answer and says where to.
    private func refuse(_ request: UnsafeRawBufferPointer) {
        guard request.count >= MemoryLayout<fuse_in_header>.size else { return }
        let header = request.loadUnaligned(as: fuse_in_header.self)
        switch fuse_opcode(header.opcode) {
        case FUSE_FORGET, FUSE_BATCH_FORGET, FUSE_INTERRUPT, FUSE_NOTIFY_REPLY: break
        default: served.connection.acknowledge(header.unique, .ioError)
        }
    }

    /// Reads the next request, for however long that takes.
    ///
    /// One thread at a time waits awake for a moment before it sleeps.
    ///
    /// - Parameter aftermath: What the thread has left: done as far as there is time before the request comes, or as must be.
    /// - Returns: The request's size, less than 1 at the end of the connection; and whether it was there at once.
    private func receive(
        into buffer: inout fuse_buf, after deferred: inout DeferredReleases, of pool: WorkerPool
    ) -> (size: CInt, wasThere: Bool) {
        if deferred.isFull { pool.meanwhile { deferred.doOne() } }
        if let size = receiveWithoutWaiting(into: &buffer) { return (size, true) }
        while !deferred.isEmpty {
            pool.meanwhile { deferred.doOne() }
            if let size = receiveWithoutWaiting(into: &buffer) { return (size, false) }
        }
        let start = Self.nanoseconds()
        defer { patience.note(Self.nanoseconds() - start) }
        let limit = patience.limit
        if limit > 0, isLingering.compareExchange(expected: false, desired: true, ordering: .relaxed).exchanged {
            defer { isLingering.store(false, ordering: .relaxed) }
            let ownTime = patience.ownTime
            var now = start
            repeat {
                if now - start >= ownTime { sched_yield() }
                if let size = receiveWithoutWaiting(into: &buffer) {
                    patience.noteUndisturbed()
                    return (size, false)
                }
                let before = now
                now = Self.nanoseconds()
                if patience.isCrowded(now - before) { break }
            } while now - start < limit
        }
        while true {
            var question = pollfd(fd: fuse_session_fd(session), events: Int16(POLLIN), revents: 0)
            poll(&question, 1, -1)
            if let size = receiveWithoutWaiting(into: &buffer) { return (size, false) }
        }
    }

    /// A clock that costs no system call.
    private static func nanoseconds() -> UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }

    /// Nil when there is no request now.
    private func receiveWithoutWaiting(into buffer: inout fuse_buf) -> CInt? {
        let received = fuse_session_receive_buf(session, &buffer)
        return received == -EAGAIN || received == -EINTR ? nil : received
    }
}

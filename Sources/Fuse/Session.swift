import CLinux
import Glibc
import Linux
import Synchronization
import SystemPackage

/// One FUSE connection being served: from INIT until the unmount.
///
/// The descriptor is `/dev/fuse` of a mount, or in tests one end of a `SOCK_SEQPACKET` socket pair: one read is a
/// request, one write a reply. It is never cloned, so another process that has it open keeps the connection alive when
/// this one dies.
public final class Session: Sendable {
    private let connection: Connection
    private let transport: any Transport
    private let fileSystem: any FileSystem
    private let state: ConnectionState

    /// Takes a connection.
    ///
    /// The descriptor is closed in every case.
    ///
    /// - Parameter state: Where a successor finds what it needs. If it holds an INIT request, this is the successor of the
    ///   process that answered it.
    public convenience init(
        takingOwnershipOf descriptor: CInt, serving fileSystem: any FileSystem,
        state: ConnectionState = ConnectionState()
    ) throws(Errno) {
        try self.init(takingOwnershipOf: descriptor, serving: fileSystem, state: state) { DevFuseTransport(over: $0) }
    }

    /// - Parameter transport: Makes the transport that requests after INIT use.
    init(
        takingOwnershipOf descriptor: CInt, serving fileSystem: any FileSystem, state: ConnectionState,
        over transport: (Connection) -> any Transport
    ) throws(Errno) {
        connection = try Connection(takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: descriptor))
        self.transport = transport(connection)
        self.fileSystem = fileSystem
        self.state = state
        fileSystem.connected(to: connection)
    }

    /// Prepares a process that is root to make files in the callers' names.
    ///
    /// To be called before it has further threads: credentials belong to threads.
    ///
    /// - Throws: EPERM without CAP_SETPCAP.
    public static func prepareToServeOthers() throws(Errno) {
        try Credentials.prepareProcess()
    }

    /// Serves until the connection ends: by an unmount, an abort, or the other end's closing.
    ///
    /// Blocks; the calling thread is one of those that serve. Each request runs from start to end on one thread.
    ///
    /// A successor repeats the negotiation without a reply, and has the kernel send the requests again that its
    /// predecessor had read and not answered.
    ///
    /// - Parameter threads: Maximum number of threads. They start on demand and end when idle. At the maximum, requests
    ///   that may block wait for a thread, and one thread goes on serving the others.
    /// - Throws: EINVAL for a successor if the kernel cannot send requests again (before Linux 6.9).
    public func run(threads: Int) throws(Errno) {
        let agreement: Init.Agreement
        let initRequest = state.initRequest
        if let initRequest {
            agreement = try Init.negotiate(initRequest, fileSystem.features)
        } else {
            guard let negotiated = try negotiate() else { return }
            agreement = negotiated
        }
        connection.allowPassthrough(agreement.supportsPassthrough)
        if initRequest != nil { try connection.resend() }
        let dispatcher = Dispatcher(
            serving: fileSystem, over: transport, connection, agreed: agreement, state: state)
        defer {
            connection.allowPassthrough(false)
            dispatcher.pendingReads.end()
        }
        try transport.serve(dispatcher, threads: threads)
    }

    /// Waits for INIT and replies to it.
    ///
    /// - Returns: nil if the connection ended before.
    private func negotiate() throws(Errno) -> Init.Agreement? {
        let room = UnsafeMutableRawBufferPointer.allocate(
            byteCount: DevFuseTransport.requestCapacity, alignment: 16)
        defer { room.deallocate() }
        while true {
            let request: [UInt8]
            do throws(Errno) {
                guard let count = try connection.receive(into: room) else {
                    connection.waitForRequest()
                    continue
                }
                request = Array(room.prefix(count))
            } catch {
                guard error == Errno(rawValue: ENODEV) else { throw error }
                return nil
            }
            guard let header = request.withUnsafeBytes({ Message.header(of: $0) }) else { continue }
            let empty = UnsafeRawBufferPointer(start: nil, count: 0)
            // Minor versions before 7.36 send 16 bytes after the header.
            guard header.opcode == FUSE_INIT.rawValue, Int(header.len) == request.count,
                request.count >= MemoryLayout<fuse_in_header>.size + 16
            else {
                _ = connection.send(unique: header.unique, code: -EIO, empty)
                continue
            }
            let agreement = try Init.negotiate(request, fileSystem.features)
            if let failure = agreement.failure {
                _ = connection.send(unique: header.unique, code: -failure.rawValue, empty)
                continue
            }
            let major = request.withUnsafeBytes {
                $0.loadUnaligned(fromByteOffset: MemoryLayout<fuse_in_header>.size, as: UInt32.self)
            }
            state.save(initRequest: request)
            // Before the reply: the kernel may send requests that need it at once.
            connection.allowPassthrough(agreement.supportsPassthrough)
            if let failure = agreement.reply.withUnsafeBytes({ connection.send(unique: header.unique, code: 0, $0) }) {
                throw failure
            }
            // To a later major version the reply says 7, and the kernel sends another INIT.
            if major <= UInt32(FUSE_KERNEL_VERSION) { return agreement }
        }
    }
}

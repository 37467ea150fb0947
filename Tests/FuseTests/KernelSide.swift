import CLinux
import Glibc
import Linux
import SystemPackage
import Testing

@testable import Fuse

/// The kernel's end of a FUSE connection: writes requests and reads replies, in the structures of linux/fuse.h.
final class KernelSide: Sendable {
    /// A decoded reply.
    struct Reply: Hashable {
        let unique: UInt64
        /// 0, or the caller's `errno`.
        let errno: CInt
        /// The bytes after `struct fuse_out_header`.
        let body: [UInt8]
    }

    /// The time after which a missing reply fails the test.
    private static let timeout = 20

    private let socket: OwnedDescriptor

    fileprivate init(takingOwnershipOf socket: CInt) {
        self.socket = OwnedDescriptor(takingOwnershipOf: socket)
        var limit = timeval(tv_sec: Self.timeout, tv_usec: 0)
        setsockopt(
            self.socket.rawValue, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout.size(ofValue: limit)))
    }

    /// Writes a request.
    ///
    /// It is from user 1000, group 100 and thread 4711.
    func send(_ opcode: fuse_opcode, node: UInt64 = 1, _ body: [UInt8] = [], unique: UInt64) throws {
        try send(rawOpcode: opcode.rawValue, node: node, body, unique: unique)
    }

    func send(rawOpcode: UInt32, node: UInt64 = 1, _ body: [UInt8] = [], unique: UInt64) throws {
        var header = fuse_in_header()
        header.len = UInt32(MemoryLayout<fuse_in_header>.size + body.count)
        header.opcode = rawOpcode
        header.unique = unique
        header.nodeid = node
        header.uid = 1000
        header.gid = 100
        header.pid = 4711
        try send(raw: bytes(of: header) + body)
    }

    /// Writes bytes as they are.
    func send(raw request: [UInt8]) throws {
        let sent = try retryingInterrupts { Glibc.send(socket.rawValue, request, request.count, clinux_msg_nosignal) }
        #expect(sent == request.count)
    }

    /// Reads the next reply, whichever request it answers.
    func receive() throws -> Reply {
        var room = [UInt8](repeating: 0, count: 1 << 20)
        let count = try retryingInterrupts { recv(socket.rawValue, &room, room.count, 0) }
        let message = room.prefix(count)
        try #require(count >= MemoryLayout<fuse_out_header>.size)
        let header = message.withUnsafeBytes { $0.loadUnaligned(as: fuse_out_header.self) }
        #expect(Int(header.len) == count)
        return Reply(unique: header.unique, errno: -header.error, body: Array(message.dropFirst(16)))
    }

    /// Sends a request and reads the reply to it.
    func ask(_ opcode: fuse_opcode, node: UInt64 = 1, _ body: [UInt8] = [], unique: UInt64 = 2) throws -> Reply {
        try send(opcode, node: node, body, unique: unique)
        let reply = try receive()
        #expect(reply.unique == unique)
        return reply
    }

    /// Sends INIT as a kernel that offers `flags`, and returns what was accepted.
    @discardableResult
    func greet(
        offering flags: UInt32 = 0x3fff_ffff, _ moreFlags: UInt32 = 0, minor: UInt32 = 38
    ) throws -> fuse_init_out {
        var greeting = fuse_init_in()
        greeting.flags2 = moreFlags
        greeting.major = 7
        greeting.minor = minor
        greeting.max_readahead = 131_072
        greeting.flags = flags
        let reply = try ask(FUSE_INIT, node: 0, bytes(of: greeting), unique: 1)
        #expect(reply.errno == 0)
        try #require(reply.body.count == MemoryLayout<fuse_init_out>.size)
        return reply.body.withUnsafeBytes { $0.loadUnaligned(as: fuse_init_out.self) }
    }

    /// Checks that no message is unread: the next one answers a request made now.
    func expectSilence() throws {
        // An opcode that every session refuses.
        try send(rawOpcode: 4095, unique: 999_999)
        let reply = try receive()
        #expect(reply == Reply(unique: 999_999, errno: ENOSYS, body: []))
    }
}

/// Serves a file system over a socket pair while `body` acts as the kernel; then closes its end, and waits for the session.
///
/// - Parameters:
///   - transport: Makes the session's transport.
///   - initRequest: The saved INIT of an earlier session, to resume it.
///   - whenDone: Receives the session's INIT.
func withSession(
    serving fileSystem: any FileSystem, threads: Int = 1, isGreeted: Bool = true,
    over transport: (Connection) -> any Transport = { DevFuseTransport(over: $0) },
    resumingFrom initRequest: [UInt8]? = nil, whenDone: ([UInt8]?) -> Void = { _ in },
    _ body: (KernelSide) throws -> Void
) throws {
    var ends: [CInt] = [0, 0]
    _ = try retryingInterrupts {
        socketpair(AF_UNIX, CInt(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends)
    }
    let (near, far) = (ends[0], ends[1])
    let session = try Session(takingOwnershipOf: far, serving: fileSystem, over: transport)
    let serving = try Thread(named: "session") {
        // Fails only if no thread can be started. Then no reply comes, and the test fails.
        try? session.run(threads: threads, resumingFrom: initRequest)
    }
    let outcome = Result {
        let kernel = KernelSide(takingOwnershipOf: near)
        if isGreeted { try kernel.greet() }
        try body(kernel)
    }
    serving.join()
    whenDone(session.initRequest)
    try outcome.get()
}

/// A transport whose kernel rejects some replies.
final class RejectingTransport: Transport {
    private let transport: any Transport
    private let reject: @Sendable (_ unique: UInt64, _ error: Errno?) -> Errno?

    init(_ transport: any Transport, _ reject: @escaping @Sendable (UInt64, Errno?) -> Errno?) {
        self.transport = transport
        self.reject = reject
    }

    var supportsSplice: Bool { false }

    func reply(to unique: UInt64, error: Errno?, _ body: UnsafeRawBufferPointer) -> Errno? {
        reject(unique, error) ?? transport.reply(to: unique, error: error, body)
    }

    func reply(_ size: Int, fromPipe pipe: CInt) -> Errno? { transport.reply(size, fromPipe: pipe) }

    func cancel(_ unique: UInt64) -> Bool { transport.cancel(unique) }

    func serve(_ dispatcher: Dispatcher, threads: Int) throws(Errno) {
        try transport.serve(dispatcher, threads: threads)
    }
}

// MARK: - Encoding requests

/// A C structure in wire format.
///
/// The structures of linux/fuse.h have no unnamed padding.
func bytes<Structure: BitwiseCopyable>(of structure: Structure) -> [UInt8] {
    withUnsafeBytes(of: structure) { Array($0) }
}

/// A structure with some fields set and the others zero.
func wire<Structure: BitwiseCopyable>(_ zero: Structure, _ set: (inout Structure) -> Void) -> [UInt8] {
    var structure = zero
    set(&structure)
    return bytes(of: structure)
}

/// A string with its NUL.
func cString(_ text: String) -> [UInt8] {
    Array(text.utf8) + [0]
}

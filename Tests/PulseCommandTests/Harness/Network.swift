import CLinux
import Dispatch
import Glibc
import Synchronization
import SystemPackage
import TestSupport

/// A listening Unix socket with a thread for each connection.
final class ListeningSocket: Sendable {
    let path: String
    private let socket: FileDescriptor
    private let group = DispatchGroup()
    private let over = Atomic(false)
    private let accepted = Atomic(0)

    var isOver: Bool { over.load(ordering: .relaxed) }
    /// The number of connections so far.
    var connections: Int { accepted.load(ordering: .relaxed) }

    /// Listens while `body` runs.
    ///
    /// `serve` gets each connection and returns at its end or when `isOver`.
    static func with<Result>(
        _ path: String, serve: @escaping @Sendable (CInt, ListeningSocket) -> Void,
        _ body: (ListeningSocket) throws -> Result
    ) throws -> Result {
        let listening = try ListeningSocket(path, serve)
        defer { listening.end() }
        return try body(listening)
    }

    private init(_ path: String, _ serve: @escaping @Sendable (CInt, ListeningSocket) -> Void) throws {
        self.path = path
        socket = try Self.makeSocket()
        let descriptor = socket.rawValue
        guard Self.withAddress(path, { bind(descriptor, $0, $1) }) == 0, listen(descriptor, 64) == 0 else {
            throw Errno(rawValue: errno)
        }
        DispatchQueue(label: "accept").async(group: group) { [self] in
            while !isOver {
                guard Self.wait(for: descriptor, milliseconds: 10) else { continue }
                let connection = accept4(
                    descriptor, __SOCKADDR_ARG(), nil, CInt(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue))
                guard connection >= 0 else { continue }
                accepted.add(1, ordering: .relaxed)
                DispatchQueue(label: "connection").async(group: group) {
                    serve(connection, self)
                    Glibc.close(connection)
                }
            }
        }
    }

    private func end() {
        over.store(true, ordering: .relaxed)
        group.wait()
        try? socket.close()
        unlink(path)
    }

    static func wait(for descriptor: CInt, _ events: Int32 = POLLIN, milliseconds: CInt) -> Bool {
        var question = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        return poll(&question, 1, milliseconds) == 1
    }

    static func connect(to path: String) throws -> FileDescriptor {
        let socket = try makeSocket()
        guard withAddress(path, { Glibc.connect(socket.rawValue, $0, $1) }) == 0 else {
            defer { try? socket.close() }
            throw Errno(rawValue: errno)
        }
        return socket
    }

    private static func makeSocket() throws -> FileDescriptor {
        let descriptor = Glibc.socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        return FileDescriptor(rawValue: descriptor)
    }

    private static func withAddress<Result>(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> Result
    ) rethrows -> Result {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix(107)) }
        return try withUnsafeBytes(of: address) { bytes in
            // because the bytes are those of a complete sockaddr_un.
            try body(bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
        }
    }
}

/// A network between a mirror and its server, with faults that a test injects.
final class Network: Sendable {
    enum Condition: Sendable {
        case good
        /// Each direction is delayed by this much.
        case slow(Duration)
        /// Data is dropped silently.
        case lost
    }

    let path: String
    private let state = Mutex(Condition.good)

    var condition: Condition {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }

    fileprivate init(_ path: String) { self.path = path }

    private static let dontWait = CInt(MSG_DONTWAIT)

    /// Bytes in flight.
    private struct Parcel {
        let due: ContinuousClock.Instant
        let bytes: [UInt8]
        let to: CInt
    }

    /// Forwards bytes between two ends until one closes.
    fileprivate func carry(_ near: CInt, _ far: CInt, while isOpen: () -> Bool) {
        var parcels: [Parcel] = []
        var block = [UInt8](repeating: 0, count: 64 << 10)
        while isOpen() {
            let condition = condition
            if case .lost = condition {
                usleep(5_000)
                continue
            }
            var questions = [near, far].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            poll(&questions, 2, 2)
            for (question, to) in zip(questions, [far, near]) where question.revents != 0 {
                let count = recv(question.fd, &block, block.count, Self.dontWait)
                guard count > 0 else { return }
                var due = ContinuousClock.now
                if case .slow(let latency) = condition { due += latency }
                parcels.append(Parcel(due: due, bytes: Array(block.prefix(count)), to: to))
            }
            while let first = parcels.first, first.due <= .now {
                parcels.removeFirst()
                guard Self.sendAll(first.bytes, to: first.to, while: isOpen) else { return }
            }
        }
    }

    static func sendAll(_ bytes: [UInt8], to descriptor: CInt, while isOpen: () -> Bool) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                send(descriptor, $0.baseAddress, $0.count, clinux_msg_nosignal | Self.dontWait)
            }
            if count > 0 {
                sent += count
            } else if errno == EAGAIN, isOpen() {
                _ = ListeningSocket.wait(for: descriptor, POLLOUT, milliseconds: 10)
            } else {
                return false
            }
        }
        return true
    }
}

/// Calls `body` with a network that leads to `server`.
func withNetwork(to server: String, _ body: (Network) throws -> Void) throws {
    try TemporaryDirectory.with { scratch in
        let network = Network("\(scratch.path)/network.sock")
        try ListeningSocket.with(network.path) { near, listening in
            guard let far = try? ListeningSocket.connect(to: server) else { return }
            defer { try? far.close() }
            network.carry(near, far.rawValue) { !listening.isOver }
        } _: { _ in
            try body(network)
        }
    }
}

/// A sum shared by threads.
final class Counter: Sendable {
    private let sum = Atomic(0)

    var value: Int { sum.load(ordering: .relaxed) }

    func add(_ number: Int) { sum.add(number, ordering: .relaxed) }
}

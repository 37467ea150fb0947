import Glibc
import Linux
import SystemPackage

/// An address for a stream socket.
struct SocketAddress: Hashable, Sendable {
    /// A `sockaddr_in`, `sockaddr_in6` or `sockaddr_un`.
    private let bytes: [UInt8]
    private let family: CInt

    /// The address of a Unix socket; the path has at most 107 bytes.
    init(path: [UInt8]) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.prefix(107)) }
        bytes = withUnsafeBytes(of: address) { Array($0) }
        family = AF_UNIX
    }

    private init(_ found: addrinfo) {
        bytes = Array(UnsafeRawBufferPointer(start: found.ai_addr, count: Int(found.ai_addrlen)))
        family = found.ai_family
    }

    enum Resolution: Sendable {
        case found([SocketAddress])
        case failed(String)
    }

    /// The addresses of a host, in the order to try them; nil at the limit.
    ///
    /// Names are resolved on another thread, because getaddrinfo(3) has no timeout. At the limit that thread is left to
    /// end by itself, by default after about ten seconds for each name server.
    static func resolve(_ host: RedisURL.Host, within limit: Duration) -> Resolution? {
        if case .found(let addresses) = lookUp(host, flags: AI_NUMERICHOST) { return .found(addresses) }
        do throws(Errno) {
            return try Linux.within(limit) { lookUp(host, flags: 0) }
        } catch {
            return .failed(error.description)
        }
    }

    private static func lookUp(_ host: RedisURL.Host, flags: CInt) -> Resolution {
        var hints = addrinfo()
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        hints.ai_flags = flags | AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        let failure = getaddrinfo(host.name, "\(host.port)", &hints, &list)
        guard failure == 0 else { return .failed(String(cString: gai_strerror(failure))) }
        defer { freeaddrinfo(list) }
        return .found(sequence(first: list, next: { $0?.pointee.ai_next }).compactMap { $0 }.map { Self($0.pointee) })
    }

    /// Connects a new non-blocking, close-on-exec socket.
    ///
    /// The corresponding C functions are `socket` and `connect`.
    ///
    /// - Throws: ETIMEDOUT at the limit.
    func connect(until limit: ContinuousClock.Instant) throws(Errno) -> OwnedDescriptor {
        let type = CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let socket = OwnedDescriptor(takingOwnershipOf: try retryingInterrupts { Glibc.socket(family, type, 0) })
        if family != AF_UNIX { Self.setTCPOptions(of: socket) }
        while true {
            let failure = bytes.withUnsafeBytes { bytes in
                // because the bytes are those of a complete sockaddr.
                let address = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
                return Glibc.connect(socket.rawValue, address, socklen_t(bytes.count)) == 0 ? nil : Errno.current
            }
            switch failure {
            case nil: return socket
            // An interrupted connect continues in the background.
            case .nowInProgress?, .interrupted?:
                try finish(socket, until: limit)
                return socket
            // The backlog of a Unix socket is full. poll(2) does not tell when it has room again.
            case .resourceTemporarilyUnavailable? where family == AF_UNIX:
                guard ContinuousClock.now < limit else { throw .timedOut }
                var nothing: [pollfd] = []
                poll(&nothing, until: min(limit, .now + .milliseconds(10)))
            case let failure?: throw failure
            }
        }
    }

    private static func setTCPOptions(of socket: borrowing OwnedDescriptor) {
        let options: [(CInt, CInt, CInt)] = [
            // The end of a pipeline must not wait for the acknowledgement of its start.
            (CInt(IPPROTO_TCP), TCP_NODELAY, 1),
            // Detects a vanished host within half a minute.
            (SOL_SOCKET, SO_KEEPALIVE, 1), (CInt(IPPROTO_TCP), TCP_KEEPIDLE, 15),
            (CInt(IPPROTO_TCP), TCP_KEEPINTVL, 5), (CInt(IPPROTO_TCP), TCP_KEEPCNT, 3),
        ]
        for (level, name, value) in options {
            var value = value
            setsockopt(socket.rawValue, level, name, &value, socklen_t(MemoryLayout<CInt>.size))
        }
    }

    private func finish(_ socket: borrowing OwnedDescriptor, until limit: ContinuousClock.Instant) throws(Errno) {
        var question = [pollfd(fd: socket.rawValue, events: Int16(POLLOUT), revents: 0)]
        guard poll(&question, until: limit) else { throw .timedOut }
        var (failure, size) = (CInt(0), socklen_t(MemoryLayout<CInt>.size))
        let descriptor = socket.rawValue
        _ = try retryingInterrupts { getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &failure, &size) }
        if failure != 0 { throw Errno(rawValue: failure) }
    }
}

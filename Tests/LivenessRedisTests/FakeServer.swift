import CLinux
import Glibc
import Linux
import Synchronization

/// A server on a loopback port that says whatever a test wants, to one client after the other.
final class FakeServer: Sendable {
    let port: UInt16
    var url: String { "redis://127.0.0.1:\(port)" }

    private let listener: CInt
    private let state = State()
    private let thread = Mutex<Linux.Thread?>(nil)

    /// What the thread shares with `deinit`.
    private final class State: Sendable {
        let client = Mutex<CInt?>(nil)
        let isOver = Atomic(false)
    }

    /// The side of a connection that `play` has; its calls block.
    struct Peer: Sendable {
        fileprivate let socket: CInt

        /// - Returns: Whether the client is still there.
        @discardableResult
        func send(_ text: String) -> Bool { send(Array(text.utf8)) }

        @discardableResult
        func send(_ bytes: [UInt8]) -> Bool {
            var sent = 0
            while sent < bytes.count {
                let count = bytes[sent...].withUnsafeBytes {
                    Glibc.send(socket, $0.baseAddress, $0.count, clinux_msg_nosignal)
                }
                if count <= 0 { return false }
                sent += count
            }
            return true
        }

        /// Says the same for as long as anybody listens.
        func send(endlessly bytes: [UInt8]) {
            while send(bytes) {}
        }

        /// What the client sends next; empty at its end.
        func receive() -> [UInt8] {
            var block = [UInt8](repeating: 0, count: 64 << 10)
            let count = recv(socket, &block, block.count, 0)
            return Array(block.prefix(max(0, count)))
        }

        /// Receives until the client has gone.
        func waitForEnd() {
            while !receive().isEmpty {}
        }
    }

    /// Calls `play` for each client, and hangs up when it returns.
    init(_ play: @escaping @Sendable (Peer) -> Void) throws {
        (listener, port) = try Self.listen(backlog: 8)
        try thread.withLock { [state, listener] thread in
            thread = try Linux.Thread(named: "fake-server") {
                while !state.isOver.load(ordering: .sequentiallyConsistent) {
                    let socket = accept(listener, nil, nil)
                    guard socket >= 0 else { continue }
                    state.client.withLock { $0 = socket }
                    if !state.isOver.load(ordering: .sequentiallyConsistent) { play(Peer(socket: socket)) }
                    state.client.withLock { $0 = nil }
                    close(socket)
                }
            }
        }
    }

    deinit {
        state.isOver.store(true, ordering: .sequentiallyConsistent)
        // Both wake the thread from what it waits for.
        shutdown(listener, CInt(SHUT_RDWR))
        state.client.withLock { if let socket = $0 { shutdown(socket, CInt(SHUT_RDWR)) } }
        thread.withLock { $0.take() }?.join()
        close(listener)
    }

    /// A listening socket on a loopback port that was free.
    static func listen(backlog: CInt) throws -> (CInt, UInt16) {
        let listener = socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let failure = withUnsafeMutableBytes(of: &address) { bytes in
            // because the bytes are those of a sockaddr_in.
            let generic = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            return bind(listener, generic, size) != 0 || Glibc.listen(listener, backlog) != 0
                || getsockname(listener, generic, &size) != 0
        }
        guard !failure else { throw Failed(number: errno) }
        return (listener, UInt16(bigEndian: address.sin_port))
    }

    struct Failed: Error {
        let number: CInt
    }
}

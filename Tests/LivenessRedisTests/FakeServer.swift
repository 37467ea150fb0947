import CLinux
import Glibc
import Linux
import Synchronization

/// A scripted server on a loopback port.
final class FakeServer: Sendable {
    let port: UInt16
    var url: String { "redis://127.0.0.1:\(port)" }

    private let listener: CInt
    private let state = State()
    private let thread = Mutex<Linux.Thread?>(nil)

    /// Shared with the threads.
    private final class State: Sendable {
        let clients = Mutex<Set<CInt>>([])
        let accepted = Atomic(0)
        let isOver = Atomic(false)

        func serve(_ socket: CInt, _ play: (Peer) -> Void) {
            play(Peer(socket: socket))
            clients.withLock { _ = $0.remove(socket) }
            close(socket)
        }
    }

    /// Number of clients accepted so far.
    var clientCount: Int { state.accepted.load(ordering: .sequentiallyConsistent) }

    /// The server's side of a connection; calls block.
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

        /// Repeats the bytes until the client has gone.
        func send(endlessly bytes: [UInt8]) {
            while send(bytes) {}
        }

        /// The next bytes from the client; empty at the end.
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

    /// Calls `play` for each client and closes the connection when it returns.
    ///
    /// - Parameter isConcurrent: Whether each client has a thread of its own, rather than its turn.
    init(isConcurrent: Bool = false, _ play: @escaping @Sendable (Peer) -> Void) throws {
        (listener, port) = try Self.listen(backlog: 8)
        try thread.withLock { [state, listener] thread in
            thread = try Linux.Thread(named: "fake-server") {
                while !state.isOver.load(ordering: .sequentiallyConsistent) {
                    let socket = accept(listener, nil, nil)
                    guard socket >= 0 else { continue }
                    state.accepted.add(1, ordering: .sequentiallyConsistent)
                    state.clients.withLock { _ = $0.insert(socket) }
                    if state.isOver.load(ordering: .sequentiallyConsistent) {
                        state.serve(socket) { _ in }
                    } else if isConcurrent {
                        // Not joined: it ends when its client is shut down.
                        do {
                            _ = try Linux.Thread(named: "fake-client") { state.serve(socket, play) }
                        } catch {
                            state.serve(socket) { _ in }
                        }
                    } else {
                        state.serve(socket, play)
                    }
                }
            }
        }
    }

    deinit {
        state.isOver.store(true, ordering: .sequentiallyConsistent)
        // Both wake the threads.
        shutdown(listener, CInt(SHUT_RDWR))
        state.clients.withLock { for socket in $0 { shutdown(socket, CInt(SHUT_RDWR)) } }
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

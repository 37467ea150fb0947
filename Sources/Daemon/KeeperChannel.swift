import CLinux
import Glibc
import Linux
import SystemPackage

/// One end of the socket on which a worker asks its keeper to mount directories: one message at a time.
final class KeeperChannel: Sendable {
    /// From the worker.
    enum Request {
        /// Mount on the directory that comes with the message. Answered.
        case mount([UInt8])
        /// Unmount a directory that has left its path. Answered.
        case unmount([UInt8])
        /// The mount over a directory has ended.
        case ended([UInt8])
        /// All directories that existed at the start are mounted.
        case ready
        /// They cannot be mounted.
        case failed(String)
        /// `.pulse` has been unmounted: unmount the rest.
        case pulseUnmounted
    }

    /// From the keeper.
    enum Answer {
        /// With the connection.
        case mounted(SharedDescriptor)
        case unmounted
        case refused(String)
    }

    /// Of a message: a path or the text of a failure.
    private static let maximumSize = 64 << 10

    private let socket: OwnedDescriptor

    init(takingOwnershipOf socket: consuming OwnedDescriptor) {
        self.socket = socket
    }

    /// Both ends.
    static func pair() throws(Errno) -> (keepers: KeeperChannel, workers: KeeperChannel) {
        let pair = try DescriptorPair.messages()
        return (
            KeeperChannel(takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: pair.0)),
            KeeperChannel(takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: pair.1))
        )
    }

    /// For poll(2).
    var descriptor: CInt { socket.rawValue }

    // MARK: In the worker

    func send(_ request: Request) throws(Errno) {
        try send(request.bytes, with: -1)
    }

    /// Has the keeper mount on a directory, and waits for the connection.
    ///
    /// - Parameter directory: Open.
    func mount(_ path: [UInt8], _ directory: CInt) throws -> SharedDescriptor {
        try send(Request.mount(path).bytes, with: directory)
        guard let (bytes, connection) = try receive(), let kind = bytes.first else {
            throw Failure("the keeper has ended")
        }
        guard kind == UInt8(ascii: "+"), let connection else {
            throw Failure(String(decoding: bytes.dropFirst(), as: UTF8.self))
        }
        return connection
    }

    /// Has the keeper unmount a directory, and waits: until then the directory's new path leads into the mount, too.
    func unmount(_ path: [UInt8]) throws(Errno) {
        try send(.unmount(path))
        _ = try receive()
    }

    // MARK: In the keeper

    /// The next request, and the directory that came with it; nil at the end.
    func request() throws(Errno) -> (Request, directory: SharedDescriptor?)? {
        guard let (bytes, directory) = try receive(), let request = Request(bytes) else { return nil }
        return (request, directory)
    }

    func answer(_ answer: Answer) throws(Errno) {
        switch answer {
        case .mounted(let connection): try send([UInt8(ascii: "+")], with: connection.rawValue)
        case .unmounted: try send([UInt8(ascii: "+")], with: -1)
        case .refused(let reason): try send([UInt8(ascii: "-")] + reason.utf8, with: -1)
        }
    }

    // MARK: Messages

    private func send(_ bytes: [UInt8], with descriptor: CInt) throws(Errno) {
        _ = try retryingInterrupts {
            clinux_send_message(socket.rawValue, bytes, min(bytes.count, Self.maximumSize), descriptor)
        }
    }

    private func receive() throws(Errno) -> (bytes: [UInt8], descriptor: SharedDescriptor?)? {
        var bytes = [UInt8](repeating: 0, count: Self.maximumSize)
        var descriptor: CInt = -1
        let count = try retryingInterrupts {
            clinux_receive_message(socket.rawValue, &bytes, bytes.count, &descriptor)
        }
        let received =
            descriptor == -1 ? nil : SharedDescriptor(OwnedDescriptor(takingOwnershipOf: descriptor))
        return count == 0 ? nil : (Array(bytes.prefix(count)), received)
    }
}

extension KeeperChannel.Request {
    fileprivate var bytes: [UInt8] {
        switch self {
        case .mount(let path): [UInt8(ascii: "C")] + path
        case .unmount(let path): [UInt8(ascii: "U")] + path
        case .ended(let path): [UInt8(ascii: "G")] + path
        case .ready: [UInt8(ascii: "R")]
        case .failed(let reason): [UInt8(ascii: "F")] + reason.utf8
        case .pulseUnmounted: [UInt8(ascii: "P")]
        }
    }

    fileprivate init?(_ bytes: [UInt8]) {
        let rest = Array(bytes.dropFirst())
        switch bytes.first.map({ Character(Unicode.Scalar($0)) }) {
        case "C": self = .mount(rest)
        case "U": self = .unmount(rest)
        case "G": self = .ended(rest)
        case "R": self = .ready
        case "F": self = .failed(String(decoding: rest, as: UTF8.self))
        case "P": self = .pulseUnmounted
        default: return nil
        }
    }
}

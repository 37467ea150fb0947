import CLinux
import Glibc
import Linux
import SystemPackage

/// One end of the socket over which a worker has its keeper mount over directories, one message at a time.
final class KeeperChannel: Sendable {
    /// What a worker says.
    enum Request {
        /// Mount over the directory that comes with it. Answered.
        case cover([UInt8])
        /// Take away what is mounted over a directory: it is at its path no longer. Answered.
        case uncover([UInt8])
        /// What was mounted over a directory has ended.
        case gone([UInt8])
        /// All that was there is covered.
        case ready
        /// It cannot be.
        case failed(String)
        /// `.pulse` has been unmounted, so that the rest has to go.
        case pulseHasGone
    }

    /// What a keeper answers.
    enum Answer {
        /// With the connection.
        case covered(OwnedConnection)
        case uncovered
        case refused(String)
    }

    /// A connection that several may hold.
    final class OwnedConnection: Sendable {
        let descriptor: OwnedDescriptor
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    /// A path, or the reason of a failure.
    private static let longest = 64 << 10

    private let socket: OwnedDescriptor

    init(takingOwnershipOf socket: consuming OwnedDescriptor) {
        self.socket = socket
    }

    /// Both ends.
    static func pair() throws(Errno) -> (keepers: KeeperChannel, workers: KeeperChannel) {
        let pair = try DescriptorPair.messages()
        let (first, second) = (pair.first.release(), pair.second.release())
        return (
            KeeperChannel(takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: first)),
            KeeperChannel(takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: second))
        )
    }

    /// For poll(2).
    var descriptor: CInt { socket.rawValue }

    // MARK: In the worker

    func send(_ request: Request) throws(Errno) {
        try send(request.bytes, handing: -1)
    }

    /// Has a directory mounted over, and waits for it.
    ///
    /// - Parameter directory: Open.
    func cover(_ path: [UInt8], _ directory: CInt) throws -> OwnedConnection {
        try send(Request.cover(path).bytes, handing: directory)
        guard let (bytes, connection) = try receive(), let kind = bytes.first else {
            throw Failure("the keeper has ended")
        }
        guard kind == UInt8(ascii: "+"), let connection else {
            throw Failure(String(decoding: bytes.dropFirst(), as: UTF8.self))
        }
        return connection
    }

    /// Has what is mounted over a directory taken away, and waits for it: until then, the directory's new path leads into
    /// that mount as well.
    func uncover(_ path: [UInt8]) throws(Errno) {
        try send(.uncover(path))
        _ = try receive()
    }

    // MARK: In the keeper

    /// The next request, and the directory that it is about; nil at the end.
    func request() throws(Errno) -> (Request, directory: OwnedConnection?)? {
        guard let (bytes, directory) = try receive(), let request = Request(bytes) else { return nil }
        return (request, directory)
    }

    func answer(_ answer: Answer) throws(Errno) {
        switch answer {
        case .covered(let connection): try send([UInt8(ascii: "+")], handing: connection.descriptor.rawValue)
        case .uncovered: try send([UInt8(ascii: "+")], handing: -1)
        case .refused(let reason): try send([UInt8(ascii: "-")] + reason.utf8, handing: -1)
        }
    }

    // MARK: Messages

    private func send(_ bytes: [UInt8], handing descriptor: CInt) throws(Errno) {
        _ = try retryingInterrupts {
            clinux_send_message(socket.rawValue, bytes, min(bytes.count, Self.longest), descriptor)
        }
    }

    private func receive() throws(Errno) -> (bytes: [UInt8], descriptor: OwnedConnection?)? {
        var bytes = [UInt8](repeating: 0, count: Self.longest)
        var descriptor: CInt = -1
        let count = try retryingInterrupts {
            clinux_receive_message(socket.rawValue, &bytes, bytes.count, &descriptor)
        }
        let handed =
            descriptor == -1 ? nil : OwnedConnection(OwnedDescriptor(takingOwnershipOf: descriptor))
        return count == 0 ? nil : (Array(bytes.prefix(count)), handed)
    }
}

extension KeeperChannel.Request {
    fileprivate var bytes: [UInt8] {
        switch self {
        case .cover(let path): [UInt8(ascii: "C")] + path
        case .uncover(let path): [UInt8(ascii: "U")] + path
        case .gone(let path): [UInt8(ascii: "G")] + path
        case .ready: [UInt8(ascii: "R")]
        case .failed(let reason): [UInt8(ascii: "F")] + reason.utf8
        case .pulseHasGone: [UInt8(ascii: "P")]
        }
    }

    fileprivate init?(_ bytes: [UInt8]) {
        let rest = Array(bytes.dropFirst())
        switch bytes.first.map({ Character(Unicode.Scalar($0)) }) {
        case "C": self = .cover(rest)
        case "U": self = .uncover(rest)
        case "G": self = .gone(rest)
        case "R": self = .ready
        case "F": self = .failed(String(decoding: rest, as: UTF8.self))
        case "P": self = .pulseHasGone
        default: return nil
        }
    }
}

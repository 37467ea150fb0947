import CLinux
import Glibc
import Linux
import SystemPackage

/// One end of the socket on which a worker asks its keeper to mount directories: one message at a time.
final class KeeperChannel: Sendable {
    /// From the worker.
    enum Request: UInt8 {
        /// Mount on the directory that comes with the message; the text is its path. Answered.
        case mount
        /// Unmount a directory that has left its path. Answered.
        case unmount
        /// The mount over a directory has ended.
        case ended
        /// All directories that existed at the start are mounted.
        case ready
        /// They cannot be mounted; the text is the reason.
        case failed
        /// `.pulse` has been unmounted: unmount the rest.
        case pulseUnmounted
    }

    /// From the keeper.
    private enum Answer: UInt8 {
        /// With the connection, after a request to mount.
        case done
        /// The text is the reason.
        case refused
    }

    private struct Message {
        let kind: UInt8
        let text: [UInt8]
        let descriptor: SharedDescriptor?
    }

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

    func send(_ request: Request, _ text: [UInt8] = []) throws(Errno) {
        try send(request.rawValue, text)
    }

    /// Has the keeper mount on a directory, and waits for the connection.
    ///
    /// - Parameter directory: Open.
    func mount(_ path: [UInt8], _ directory: CInt) throws -> SharedDescriptor {
        try send(Request.mount.rawValue, path, with: directory)
        guard let answer = try receive() else { throw Failure("the keeper has ended") }
        guard answer.kind == Answer.done.rawValue, let connection = answer.descriptor else {
            throw Failure(String(decoding: answer.text, as: UTF8.self))
        }
        return connection
    }

    /// Has the keeper unmount a directory, and waits: until then the directory's new path leads into the mount, too.
    func unmount(_ path: [UInt8]) throws(Errno) {
        try send(.unmount, path)
        _ = try receive()
    }

    // MARK: In the keeper

    /// The next request, its text, and the directory that came with it; nil at the end.
    func request() throws(Errno) -> (Request, text: [UInt8], directory: SharedDescriptor?)? {
        guard let message = try receive(), let request = Request(rawValue: message.kind) else { return nil }
        return (request, message.text, message.descriptor)
    }

    /// - Parameter connection: -1 after a request to unmount.
    func confirm(with connection: CInt = -1) throws(Errno) {
        try send(Answer.done.rawValue, [], with: connection)
    }

    func refuse(_ reason: String) throws(Errno) {
        try send(Answer.refused.rawValue, Array(reason.utf8))
    }

    // MARK: Messages

    private func send(_ kind: UInt8, _ text: [UInt8], with descriptor: CInt = -1) throws(Errno) {
        let bytes = [kind] + text
        _ = try retryingInterrupts {
            clinux_send_message(socket.rawValue, bytes, min(bytes.count, Self.maximumSize), descriptor)
        }
    }

    /// Nil at the end.
    private func receive() throws(Errno) -> Message? {
        var bytes = [UInt8](repeating: 0, count: Self.maximumSize)
        var descriptor: CInt = -1
        let count = try retryingInterrupts {
            clinux_receive_message(socket.rawValue, &bytes, bytes.count, &descriptor)
        }
        let received = descriptor == -1 ? nil : SharedDescriptor(OwnedDescriptor(takingOwnershipOf: descriptor))
        return count == 0 ? nil : Message(kind: bytes[0], text: Array(bytes[1..<count]), descriptor: received)
    }
}

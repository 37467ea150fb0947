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
        /// After a request to mount, with the connection and the state.
        case done
        /// The text is the reason.
        case refused
    }

    private struct Message {
        let kind: UInt8
        let text: [UInt8]
        let descriptors: [SharedDescriptor]
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

    /// For poll(2), and for another process.
    var descriptor: CInt { socket.rawValue }

    // MARK: In the worker

    func send(_ request: Request, _ text: [UInt8] = []) throws(Errno) {
        try send(request.rawValue, text)
    }

    /// Why the keeper did not mount a directory.
    enum Refusal: Error {
        case refused(String)
        /// The keeper has died.
        case keeperEnded
    }

    /// Has the keeper mount on a directory, and waits for that.
    ///
    /// - Parameter directory: Open.
    func mount(_ path: [UInt8], _ directory: SharedDescriptor) throws(Refusal) -> DirectoryMount {
        do throws(Errno) {
            try send(Request.mount.rawValue, path, with: [directory.rawValue])
        } catch {
            throw .keeperEnded
        }
        guard let answer = try? receive() else { throw .keeperEnded }
        guard answer.kind == Answer.done.rawValue,
            let mount = try? DirectoryMount([directory] + answer.descriptors)
        else { throw .refused(String(decoding: answer.text, as: UTF8.self)) }
        return mount
    }

    /// Has the keeper unmount a directory, and waits: until then the directory's new path leads into the mount, too.
    ///
    /// - Throws: `keeperEnded`.
    func unmount(_ path: [UInt8]) throws(Refusal) {
        guard (try? send(.unmount, path)) != nil, let answer = try? receive(), answer.kind == Answer.done.rawValue
        else {
            throw .keeperEnded
        }
    }

    // MARK: In the keeper

    /// The next request, its text, and the directory that came with it; nil at the end.
    func request() throws(Errno) -> (Request, text: [UInt8], directory: SharedDescriptor?)? {
        guard let message = try receive(), let request = Request(rawValue: message.kind) else { return nil }
        return (request, message.text, message.descriptors.first)
    }

    /// - Parameter mount: After a request to mount.
    func confirm(_ mount: DirectoryMount? = nil) throws(Errno) {
        let descriptors = mount.map { Array($0.descriptors.dropFirst()) } ?? []
        try send(Answer.done.rawValue, [], with: descriptors)
    }

    func refuse(_ reason: String) throws(Errno) {
        try send(Answer.refused.rawValue, Array(reason.utf8))
    }

    // MARK: Messages

    private func send(_ kind: UInt8, _ text: [UInt8], with descriptors: [CInt] = []) throws(Errno) {
        try sendMessage(Array(([kind] + text).prefix(Self.maximumSize)), with: descriptors, to: socket.rawValue)
    }

    /// Nil at the end.
    private func receive() throws(Errno) -> Message? {
        let (bytes, descriptors) = try receiveMessage(ofAtMost: Self.maximumSize, from: socket.rawValue)
        guard let kind = bytes.first else { return nil }
        return Message(kind: kind, text: Array(bytes.dropFirst()), descriptors: descriptors)
    }
}

import CLinux
import Glibc
import Linux
import Synchronization
import SystemPackage

/// Descriptors that the keeper holds for a successor: of files that no name leads to any more.
///
/// The kernel keeps an unlinked file while a process has it open. With the worker's descriptor it would be gone.
///
/// The worker sends each descriptor with a key, and later the key alone. Messages that the keeper has not read survive
/// the worker.
package final class DescriptorStore: Sendable {
    /// What an earlier worker kept, by key.
    private let inherited: Mutex<[UInt64: SharedDescriptor]>
    private let socket: Mutex<SharedDescriptor>

    /// - Parameter socket: The worker's end of a socket pair that keeps message boundaries.
    package init(
        takingOwnershipOf socket: consuming OwnedDescriptor, inheriting inherited: [UInt64: SharedDescriptor]
    ) {
        self.socket = Mutex(SharedDescriptor(socket))
        self.inherited = Mutex(inherited)
    }

    /// Keeps a descriptor until `drop`.
    func keep(_ descriptor: Descriptor, as key: UInt64) {
        Self.send(key, descriptor.rawValue, to: socket.withLock { $0 }.rawValue)
    }

    func drop(_ key: UInt64) {
        Self.send(key, -1, to: socket.withLock { $0 }.rawValue)
    }

    /// Sends to another keeper from now on.
    ///
    /// What the former one kept has to be kept again.
    package func replaceSocket(with other: SharedDescriptor) { socket.withLock { $0 = other } }

    /// Takes a descriptor that an earlier worker kept.
    ///
    /// It stays kept.
    func remove(_ key: UInt64) -> Descriptor? {
        guard let kept = inherited.withLock({ $0.removeValue(forKey: key) }),
            let copy = try? OwnedDescriptor(duplicating: kept.rawValue)
        else { return nil }
        return Descriptor(copy)
    }

    // MARK: Messages

    /// Sends a key, and a descriptor unless that is -1.
    ///
    /// Fails only if the other process is dead, which its owner learns in another way.
    package static func send(_ key: UInt64, _ descriptor: CInt, to socket: CInt) {
        _ = withUnsafeBytes(of: key.littleEndian) { bytes in
            try? retryingInterrupts { clinux_send_message(socket, bytes.baseAddress, bytes.count, descriptor) }
        }
    }

    /// Receives a message without waiting; nil if there is none.
    ///
    /// - Returns: A key, and the descriptor to keep; without one the key is to be dropped.
    package static func receive(from socket: CInt) -> (key: UInt64, descriptor: SharedDescriptor?)? {
        var question = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        guard poll(&question, 1, 0) == 1, question.revents & Int16(POLLIN) != 0 else { return nil }
        return receiveNext(from: socket)
    }

    /// Waits for a message; nil at the end.
    package static func receiveNext(from socket: CInt) -> (key: UInt64, descriptor: SharedDescriptor?)? {
        var key: UInt64 = 0
        var descriptor: CInt = -1
        let count = try? retryingInterrupts {
            clinux_receive_message(socket, &key, MemoryLayout.size(ofValue: key), &descriptor)
        }
        let received = descriptor == -1 ? nil : SharedDescriptor(OwnedDescriptor(takingOwnershipOf: descriptor))
        return count == MemoryLayout.size(ofValue: key) ? (UInt64(littleEndian: key), received) : nil
    }
}

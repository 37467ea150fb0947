import Fuse
import Glibc
import Linux
import Synchronization
import SystemPackage

/// Descriptors that the keeper holds for a successor, which could not open the files again: no name leads to them any
/// more, or their mode forbids it.
///
/// The kernel keeps an unlinked file while a process has it open. With the worker's descriptor it would be gone.
///
/// The worker sends each descriptor with a key, and later the key alone. Messages that the keeper has not read survive
/// the worker.
package final class DescriptorStore: Sendable {
    /// A file of a mount; mounts number their inodes and handles alike.
    package struct Key: Hashable, Sendable {
        /// See `SharedState.mount`.
        package let mount: UInt64
        /// Of an inode; of a handle with the highest bit set.
        package let number: UInt64

        package init(mount: UInt64, number: UInt64) {
            self.mount = mount
            self.number = number
        }

        fileprivate var bytes: [UInt8] {
            [mount, number].flatMap { number in withUnsafeBytes(of: number.littleEndian) { Array($0) } }
        }

        /// Nil for other bytes.
        fileprivate init?(_ bytes: [UInt8]) {
            guard bytes.count == 16 else { return nil }
            let numbers = bytes.withUnsafeBytes { bytes in
                [0, 8].map { UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt64.self)) }
            }
            self.init(mount: numbers[0], number: numbers[1])
        }
    }

    /// What an earlier worker kept, by key.
    private let inherited: Mutex<[Key: SharedDescriptor]>
    private let socket: Mutex<SharedDescriptor>

    /// - Parameter socket: The worker's end of a socket pair that keeps message boundaries.
    package init(
        takingOwnershipOf socket: consuming OwnedDescriptor, inheriting inherited: [Key: SharedDescriptor]
    ) {
        self.socket = Mutex(SharedDescriptor(socket))
        self.inherited = Mutex(inherited)
    }

    /// Keeps a descriptor until `drop`.
    func keep(_ descriptor: Descriptor, as key: Key) {
        Self.send(key, [descriptor.rawValue], to: socket.withLock { $0 }.rawValue)
    }

    func drop(_ key: Key) {
        Self.send(key, [], to: socket.withLock { $0 }.rawValue)
    }

    /// Sends to another keeper from now on.
    ///
    /// What the former one kept has to be kept again.
    package func replaceSocket(with other: SharedDescriptor) { socket.withLock { $0 = other } }

    /// Takes a descriptor that an earlier worker kept.
    ///
    /// It stays kept.
    func remove(_ key: Key) -> Descriptor? {
        guard let kept = inherited.withLock({ $0.removeValue(forKey: key) }),
            let copy = try? OwnedDescriptor(duplicating: kept.rawValue)
        else { return nil }
        return Descriptor(copy)
    }

    // MARK: Messages

    /// Sends a key, and the descriptors to keep; without any, the key is to be dropped.
    ///
    /// - Returns: False if the other process is dead, or does not read.
    @discardableResult
    package static func send(_ key: Key, _ descriptors: [CInt], to socket: CInt) -> Bool {
        (try? sendMessage(key.bytes, with: descriptors, to: socket)) != nil
    }

    /// Receives a message without waiting; nil if there is none.
    package static func receive(from socket: CInt) -> (key: Key, descriptors: [SharedDescriptor])? {
        var question = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        guard poll(&question, 1, 0) == 1, question.revents & Int16(POLLIN) != 0 else { return nil }
        return receiveNext(from: socket)
    }

    /// Waits for a message; nil at the end.
    package static func receiveNext(from socket: CInt) -> (key: Key, descriptors: [SharedDescriptor])? {
        guard let message = try? receiveMessage(ofAtMost: 16, from: socket), let key = Key(message.bytes) else {
            return nil
        }
        return (key, message.descriptors)
    }

    /// Says, in place of a key, that a standby is ready, or that it shall take over.
    package static let signal = Key(mount: .max, number: 0)
}

/// The descriptors of one mount in a `DescriptorStore`.
struct KeptDescriptors: Sendable {
    let store: DescriptorStore
    let mount: UInt64

    private func key(_ inode: InodeNumber) -> DescriptorStore.Key {
        DescriptorStore.Key(mount: mount, number: inode.rawValue)
    }

    private func key(_ handle: FileHandle) -> DescriptorStore.Key {
        DescriptorStore.Key(mount: mount, number: handle.rawValue | 1 << 63)
    }

    func keep(_ descriptor: Descriptor, of inode: InodeNumber) { store.keep(descriptor, as: key(inode)) }

    func drop(_ inode: InodeNumber) { store.drop(key(inode)) }

    func remove(_ inode: InodeNumber) -> Descriptor? { store.remove(key(inode)) }

    func keep(_ descriptor: Descriptor, of handle: FileHandle) { store.keep(descriptor, as: key(handle)) }

    func drop(_ handle: FileHandle) { store.drop(key(handle)) }

    func remove(_ handle: FileHandle) -> Descriptor? { store.remove(key(handle)) }
}

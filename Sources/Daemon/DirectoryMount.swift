import Glibc
import Linux
import SystemPackage
import TownFS

/// A mount over a directory of signal files: what its keeper and its worker have of it.
struct DirectoryMount: Sendable {
    /// Opened before it was mounted on.
    let directory: SharedDescriptor
    let connection: SharedDescriptor
    /// A `SharedState`.
    let state: SharedMemory

    init(directory: SharedDescriptor, connection: SharedDescriptor, state: SharedMemory) {
        self.directory = directory
        self.connection = connection
        self.state = state
    }

    /// See `SharedState.mount`.
    var number: UInt64 { SharedState.mount(of: state) }

    /// Relative to the town root.
    var path: [UInt8] { SharedState.path(of: state) }

    /// Whether another worker can go on with it, or begin with it: INIT has been saved, or nobody has read it.
    var canBeServed: Bool {
        var questions = [pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)]
        return SharedState.canBeTakenOver(state) || poll(&questions, until: .now)
    }

    // MARK: Passing it to another process

    /// Its key in what a standby is given.
    var key: DescriptorStore.Key { Self.key(number) }

    static func key(_ number: UInt64) -> DescriptorStore.Key { DescriptorStore.Key(mount: number, number: .max) }

    /// As many as `descriptors` has.
    static let descriptorCount: CInt = 3

    /// What another process needs of it, in the order of `init(_:)`.
    var descriptors: [CInt] { [directory.rawValue, connection.rawValue, state.descriptor] }

    /// - Throws: EINVAL if some are missing.
    init(_ descriptors: [SharedDescriptor]) throws(Errno) {
        guard descriptors.count == Int(Self.descriptorCount) else { throw .invalidArgument }
        let (directory, connection, memory) = (descriptors[0], descriptors[1], descriptors[2])
        let copy = try OwnedDescriptor(duplicating: memory.rawValue)
        withExtendedLifetime(memory) {}
        self.init(directory: directory, connection: connection, state: try SharedMemory(takingOwnershipOf: copy))
    }
}

import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage

/// The state of a mount in memory that the keeper holds: a worker that is killed leaves it to its successor.
///
///     head │ connection │ nodes │ handles
///
/// Each section is valid whenever a process that writes to it is killed.
package final class SharedState: Sendable {
    /// Why a process cannot take over.
    package enum Incompatibility: Error {
        /// The state of another version.
        case format(UInt64)
    }

    /// The version of the format of all sections.
    private static let format: UInt64 = 1

    private static let headSize = 4096
    private static let connectionStart = headSize
    private static let nodesStart = aligned(connectionStart + ConnectionState.size)
    private static let handlesStart = aligned(nodesStart + NodeRecords.size)
    private static let size = aligned(handlesStart + HandleRecords.size)

    private static func aligned(_ offset: Int) -> Int { (offset + 4095) / 4096 * 4096 }

    package let memory: SharedMemory
    let descriptors: DescriptorStore?
    /// Tells the inode numbers of one mount from those of another, which start at the same number.
    let inodeGeneration: UInt32

    /// Creates the state of a new mount, in the keeper.
    package static func make() throws(Errno) -> SharedMemory {
        let memory = try SharedMemory(named: "pulsefs-state", size: size)
        memory.base.storeBytes(of: UInt32.random(in: 1...UInt32.max), toByteOffset: 8, as: UInt32.self)
        clinux_store_release(memory.base.assumingMemoryBound(to: UInt64.self), format)
        return memory
    }

    /// - Throws: `Incompatibility` for the state of another version.
    package init(_ memory: SharedMemory, descriptors: DescriptorStore? = nil) throws {
        let found = clinux_load_acquire(memory.base.assumingMemoryBound(to: UInt64.self))
        guard found == Self.format, memory.size == Self.size else { throw Incompatibility.format(found) }
        self.memory = memory
        self.descriptors = descriptors
        inodeGeneration = memory.base.load(fromByteOffset: 8, as: UInt32.self)
    }

    /// The state of the connection, for the process that serves it next.
    package func connection() -> ConnectionState {
        // because a section is not empty.
        ConnectionState(in: memory[Self.connectionStart, ConnectionState.size].baseAddress!, owner: memory)
    }

    /// How many workers have served the mount so far.
    package static func workers(in memory: SharedMemory) -> Int {
        ConnectionState.generations(in: memory.base + connectionStart)
    }

    /// Whether another worker can take over: the kernel can send requests again, and all nodes are here.
    package static func canBeTakenOver(_ memory: SharedMemory) -> Bool {
        ConnectionState.canBeResumed(in: memory.base + connectionStart)
            && NodeRecords(in: memory, at: nodesStart).isComplete
    }

    func nodes() -> NodeRecords { NodeRecords(in: memory, at: Self.nodesStart) }

    func handles() -> HandleRecords { HandleRecords(in: memory, at: Self.handlesStart) }
}

import CLinux
import Fuse
import Glibc
import Linux
import Liveness
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

    /// The version of the format of all sections, and of what a keeper and a worker inherit.
    package static let format = 2

    private static let headSize = 4096
    private static let deathsStart = 64
    private static let deathCapacity = 8
    private static let keeperStart = 256
    private static let connectionStart = headSize
    private static let nodesStart = aligned(connectionStart + ConnectionState.size)
    private static let handlesStart = aligned(nodesStart + NodeRecords.size)
    private static let size = aligned(handlesStart + HandleRecords.size)

    private static func aligned(_ offset: Int) -> Int { (offset + 4095) / 4096 * 4096 }

    package let memory: SharedMemory
    let descriptors: DescriptorStore?
    /// Tells the inode numbers of one mount from those of another, which start at the same number.
    let inodeGeneration: UInt32
    package let mountTime: MountTime

    /// When the town was mounted, by both clocks, in nanoseconds since 1970 and since the boot.
    package struct MountTime: BitwiseCopyable, Sendable {
        let wall: Int64
        let boot: Int64

        /// RFC 3339.
        var description: String {
            WallTime(seconds: wall / 1_000_000_000, nanoseconds: Int32(wall % 1_000_000_000)).rfc3339
        }

        /// In seconds, including suspend.
        var age: Int64 { (Self.now.boot - boot) / 1_000_000_000 }

        package static var now: MountTime {
            func nanoseconds(_ clock: clockid_t) -> Int64 {
                var time = timespec()
                clock_gettime(clock, &time)
                return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
            }
            return MountTime(wall: nanoseconds(CLOCK_REALTIME), boot: nanoseconds(CLOCK_BOOTTIME))
        }
    }

    /// Creates the state of a new mount, in the keeper.
    package static func make() throws(Errno) -> SharedMemory {
        let memory = try SharedMemory(named: "pulsefs-state", size: size)
        memory.base.storeBytes(of: UInt32.random(in: 1...UInt32.max), toByteOffset: 8, as: UInt32.self)
        memory.base.storeBytes(of: MountTime.now, toByteOffset: 16, as: MountTime.self)
        clinux_store_release(memory.base.assumingMemoryBound(to: UInt64.self), UInt64(format))
        return memory
    }

    /// - Throws: `Incompatibility` for the state of another version.
    package init(_ memory: SharedMemory, descriptors: DescriptorStore? = nil) throws {
        try Self.check(memory)
        self.memory = memory
        self.descriptors = descriptors
        inodeGeneration = memory.base.load(fromByteOffset: 8, as: UInt32.self)
        mountTime = memory.base.load(fromByteOffset: 16, as: MountTime.self)
    }

    /// - Throws: `Incompatibility` for the state of another version.
    package static func check(_ memory: SharedMemory) throws {
        let found = clinux_load_acquire(memory.base.assumingMemoryBound(to: UInt64.self))
        guard found == UInt64(format), memory.size == size else { throw Incompatibility.format(found) }
    }

    /// The state of the connection, for the process that serves it next.
    package func connection() -> ConnectionState {
        // because a section is not empty.
        ConnectionState(in: memory[Self.connectionStart, ConnectionState.size].baseAddress!, owner: memory)
    }

    /// Records that the processes which served have died.
    ///
    /// - Returns: How many times they have within a period, this one included; at most `deathCapacity`.
    package static func recordDeath(in memory: SharedMemory, within period: Duration) -> Int {
        let count = (memory.base + deathsStart).assumingMemoryBound(to: UInt64.self)
        let times = (memory.base + deathsStart + 8).assumingMemoryBound(to: Int64.self)
        let now = MountTime.now.boot
        times[Int(count.pointee) % deathCapacity] = now
        clinux_store_release(count, count.pointee + 1)
        let recorded = min(Int(count.pointee), deathCapacity)
        return (0..<recorded).count { .nanoseconds(now - times[$0]) < period }
    }

    /// The pid of the keeper.
    package static func keeper(in memory: SharedMemory) -> pid_t {
        pid_t(truncatingIfNeeded: clinux_load_acquire((memory.base + keeperStart).assumingMemoryBound(to: UInt64.self)))
    }

    /// Records that this process is the keeper.
    package static func becomeKeeper(of memory: SharedMemory) {
        clinux_store_release((memory.base + keeperStart).assumingMemoryBound(to: UInt64.self), UInt64(getpid()))
    }

    /// How many workers have served the mount so far.
    package static func workers(in memory: SharedMemory) -> Int {
        ConnectionState.generations(in: memory.base + connectionStart)
    }

    /// What the threads of the worker are executing.
    package static func executing(in memory: SharedMemory) -> [(unique: UInt64, thread: pid_t)] {
        ConnectionState.executing(in: memory.base + connectionStart)
    }

    /// Whether another worker can take over: the kernel can send requests again, and all nodes are here.
    package static func canBeTakenOver(_ memory: SharedMemory) -> Bool {
        ConnectionState.canBeResumed(in: memory.base + connectionStart)
            && NodeRecords(in: memory, at: nodesStart).isComplete
    }

    func nodes() -> NodeRecords { NodeRecords(in: memory, at: Self.nodesStart) }

    func handles() -> HandleRecords { HandleRecords(in: memory, at: Self.handlesStart) }
}

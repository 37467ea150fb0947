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
    package static let format = 4

    // The head: format, inode generation (8), mount time (16), number of the mount (32), its kernel id (40), deaths,
    // keeper, and the size and bytes of the path.
    private static let headSize = 8192
    private static let mountStart = 32
    private static let mountIDStart = 40
    private static let deathsStart = 64
    private static let deathCapacity = 8
    private static let keeperStart = 256
    private static let pathStart = 512
    private static let connectionStart = headSize
    private static let nodesStart = aligned(connectionStart + ConnectionState.size)
    private static let handlesStart = aligned(nodesStart + NodeRecords.size)
    private static let size = aligned(handlesStart + HandleRecords.size)

    private static func aligned(_ offset: Int) -> Int { (offset + 4095) / 4096 * 4096 }

    package let memory: SharedMemory
    /// The descriptors that the keeper holds for a successor.
    let descriptors: KeptDescriptors?
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
    ///
    /// - Parameters:
    ///   - mount: Tells the mounts of a town apart; never used again.
    ///   - path: What the mount covers, relative to the town root.
    package static func make(mount: UInt64 = 0, path: [UInt8] = []) throws(Errno) -> SharedMemory {
        guard path.count <= headSize - pathStart - 8 else { throw .fileNameTooLong }
        let memory = try SharedMemory(named: "pulsefs-state", size: size)
        memory.base.storeBytes(of: mount, toByteOffset: mountStart, as: UInt64.self)
        memory.base.storeBytes(of: UInt64(path.count), toByteOffset: pathStart, as: UInt64.self)
        UnsafeMutableRawBufferPointer(start: memory.base + pathStart + 8, count: path.count).copyBytes(from: path)
        memory.base.storeBytes(of: UInt32.random(in: 1...UInt32.max), toByteOffset: 8, as: UInt32.self)
        memory.base.storeBytes(of: MountTime.now, toByteOffset: 16, as: MountTime.self)
        clinux_store_release(memory.base.assumingMemoryBound(to: UInt64.self), UInt64(format))
        return memory
    }

    /// - Throws: `Incompatibility` for the state of another version.
    package init(_ memory: SharedMemory, descriptors: DescriptorStore? = nil) throws {
        try Self.check(memory)
        self.memory = memory
        self.descriptors = descriptors.map { KeptDescriptors(store: $0, mount: Self.mount(of: memory)) }
        inodeGeneration = memory.base.load(fromByteOffset: 8, as: UInt32.self)
        mountTime = memory.base.load(fromByteOffset: 16, as: MountTime.self)
    }

    /// - Throws: `Incompatibility` for the state of another version.
    package static func check(_ memory: SharedMemory) throws {
        let found = clinux_load_acquire(memory.base.assumingMemoryBound(to: UInt64.self))
        guard found == UInt64(format), memory.size == size else { throw Incompatibility.format(found) }
    }

    /// Tells the mounts of a town apart.
    package static func mount(of memory: SharedMemory) -> UInt64 {
        memory.base.load(fromByteOffset: mountStart, as: UInt64.self)
    }

    /// The kernel's id of the mount; 0 if it was not recorded.
    package static func mountID(of memory: SharedMemory) -> Int {
        Int(clinux_load_acquire((memory.base + mountIDStart).assumingMemoryBound(to: UInt64.self)))
    }

    package static func set(mountID: Int, of memory: SharedMemory) {
        clinux_store_release((memory.base + mountIDStart).assumingMemoryBound(to: UInt64.self), UInt64(mountID))
    }

    /// What the mount covers, relative to the town root.
    package static func path(of memory: SharedMemory) -> [UInt8] {
        let size = memory.base.load(fromByteOffset: pathStart, as: UInt64.self)
        let start = memory.base + pathStart + 8
        return Array(UnsafeRawBufferPointer(start: start, count: min(Int(size), headSize - pathStart - 8)))
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

    func handles() -> HandleRecords {
        HandleRecords(in: memory, at: Self.handlesStart, mount: Self.mount(of: memory))
    }
}

import CLinux
import Glibc
import Linux
import SystemPackage

/// What the processes of a mount tell others by locks on the town root's backing directory.
///
/// The corresponding C functions are `fcntl` with `F_OFD_SETLK` and `F_OFD_GETLK`. The byte locked is the raw value.
package enum TownLock: off_t {
    /// A keeper, worker or standby runs: they share the open file that holds it.
    case served
    /// Its mount is gone from the town, but other mounts of it or open files keep its worker serving (`DetachedMount`).
    case detached

    /// How long processes that have lost their mount may take to end or to lock `detached`.
    private static let settlingTime: Duration = .seconds(3)

    /// Locks for as long as the descriptor that it returns, or a copy in another process, is open.
    ///
    /// Does not lock on a file system without locks.
    ///
    /// - Parameter root: The town root.
    func hold(in root: CInt) throws(Errno) -> SharedDescriptor {
        let directory = try OwnedDescriptor(opening: ".", in: root, O_RDONLY | O_DIRECTORY)
        _ = try? retryingInterrupts { clinux_lock_byte(directory.rawValue, rawValue) }
        return SharedDescriptor(directory)
    }

    func isHeld(in directory: CInt) -> Bool {
        clinux_is_byte_locked(directory, rawValue) == 1
    }

    /// Whether a worker serves a detached mount of a town.
    ///
    /// The town must not be mounted.
    package static func isDetachedMountServed(of town: String) -> Bool {
        guard let directory = try? root(of: town) else { return false }
        return detached.isHeld(in: directory.rawValue)
    }

    /// Whether any process of a mount of the town runs.
    ///
    /// The town must not be mounted.
    package static func isServed(_ town: String) -> Bool {
        guard let directory = try? root(of: town) else { return false }
        return served.isHeld(in: directory.rawValue)
    }

    private static func root(of town: String) throws(Errno) -> OwnedDescriptor {
        try OwnedDescriptor(opening: town, in: AT_FDCWD, O_RDONLY | O_DIRECTORY)
    }

    /// Whether another worker reads and writes this directory, though it is not mounted; waits for processes that are
    /// ending.
    static func isShared(_ directory: CInt) -> Bool {
        let limit = ContinuousClock.now + settlingTime
        while served.isHeld(in: directory) {
            if detached.isHeld(in: directory) || limit <= .now { return true }
            usleep(5_000)
        }
        return false
    }
}

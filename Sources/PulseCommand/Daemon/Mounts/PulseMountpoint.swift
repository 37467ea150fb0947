import CLinux
import Glibc
import Linux
import SystemPackage

/// The directory that `.pulse` is mounted over where the town itself is not: made for it, and removed after it.
enum PulseMountpoint {
    static let name = ".pulse"

    /// Makes it where it is not there, and opens it.
    ///
    /// - Parameter root: The town root.
    static func make(in root: CInt, of town: String) throws -> OwnedDescriptor {
        do throws(Errno) {
            do throws(Errno) {
                _ = try retryingInterrupts { mkdirat(root, name, 0o755) }
            } catch .fileExists {}
            return try OwnedDescriptor(opening: name, in: root, O_PATH | O_NOFOLLOW | O_DIRECTORY)
        } catch .notDirectory {
            throw Failure("\(town)/\(name) is no directory. Rename it: pulsefs mounts over that name.")
        } catch {
            throw Failure("cannot make \(town)/\(name) to mount over: \(error)")
        }
    }

    /// Removes it, unless there is something in it, which was somebody else's before.
    static func remove(in root: CInt) {
        unlinkat(root, name, AT_REMOVEDIR)
    }

    static func remove(from town: String) {
        guard let root = try? OwnedDescriptor(opening: town, in: AT_FDCWD, O_PATH | O_DIRECTORY) else { return }
        remove(in: root.rawValue)
    }
}

import CLinux
import Glibc
import Linux
import SystemPackage

/// The directory `.pulse` in the town root, on which `--scope=signals` mounts.
package enum PulseMountpoint {
    package static let name = ".pulse"

    /// Makes the directory if it is missing, and opens it.
    static func make(in root: CInt, of town: String) throws -> OwnedDescriptor {
        do throws(Errno) {
            do throws(Errno) {
                _ = try retryingInterrupts { mkdirat(root, name, 0o755) }
            } catch .fileExists {}
            return try OwnedDescriptor(opening: name, in: root, O_PATH | O_NOFOLLOW | O_DIRECTORY)
        } catch .notDirectory {
            throw Failure("\(town)/\(name) is not a directory. Rename it: pulsefs mounts on that name.")
        } catch {
            throw Failure("cannot make \(town)/\(name) to mount on: \(error)")
        }
    }

    /// Removes the directory.
    ///
    /// One that is not empty existed before the mount, and stays.
    static func remove(in root: CInt) {
        unlinkat(root, name, AT_REMOVEDIR)
    }
}

import Fuse
import Glibc
import Synchronization

/// Inode numbers of what lies on other file systems, mounted somewhere beneath the town before it was.
///
/// A mount has one device number, and programs such as tar take two files of one device and one inode number for one.
/// So what is not on the root's device gets a number made of its own and of which device it is on: the first one met is
/// 1, and so on, in the upper 16 bits, which disk file systems leave 0.
final class DeviceInodeMap: Sendable {
    private let root: dev_t
    private let isRootLocal: Bool
    private let tags = Mutex<[dev_t: UInt16]>([:])

    init(rootDevice: dev_t, isRootLocal: Bool) {
        root = rootDevice
        self.isRootLocal = isRootLocal
    }

    /// Whether close(2) of a file may report an error, as it does where what was written is only then sent somewhere.
    ///
    /// - Parameter device: The file's, if that is known.
    func mayFailAtClose(on device: dev_t?) -> Bool {
        !isRootLocal || device != root
    }

    /// Whether a device is the root's.
    func isRoot(_ device: dev_t) -> Bool { device == root }

    /// The status as the mount shows it.
    func shown(_ status: FileStatus) -> FileStatus {
        guard status.st_dev != root else { return status }
        var shown = status
        shown.st_ino = number(status.st_ino, on: status.st_dev)
        return shown
    }

    /// The inode number as the mount shows it.
    func number(_ number: ino_t, on device: dev_t) -> ino_t {
        guard device != root else { return number }
        let tag = tags.withLock { tags in
            if let known = tags[device] { return known }
            // Beyond that many devices numbers may coincide.
            let next = UInt16(truncatingIfNeeded: tags.count + 1)
            tags[device] = next
            return next
        }
        return number ^ ino_t(tag) << 48
    }
}

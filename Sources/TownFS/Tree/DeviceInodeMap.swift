import Fuse
import Glibc
import Synchronization

/// Inode numbers of files on other file systems that are mounted inside the backing tree.
///
/// The FUSE mount has one device number, and programs such as tar identify a file by device and inode number. Files
/// that are not on the root's device therefore get a device tag in the upper 16 bits of the inode number, which disk
/// file systems leave 0. Devices are tagged 1, 2, … as they are met.
final class DeviceInodeMap: Sendable {
    private let root: dev_t
    private let isRootLocal: Bool
    private let tags = Mutex<[dev_t: UInt16]>([:])

    init(rootDevice: dev_t, isRootLocal: Bool) {
        root = rootDevice
        self.isRootLocal = isRootLocal
    }

    /// Whether close(2) may report an error, as network file systems do when they write back at close.
    ///
    /// - Parameter device: Nil if unknown.
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
            // With more than 65,535 devices, numbers may coincide.
            let next = UInt16(truncatingIfNeeded: tags.count + 1)
            tags[device] = next
            return next
        }
        return number ^ ino_t(tag) << 48
    }
}

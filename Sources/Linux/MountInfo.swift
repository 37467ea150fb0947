import CLinux
import Glibc
import SystemPackage

/// One line of `/proc/PID/mountinfo` (proc(5)).
package struct MountInfo: Sendable {
    /// Unique among the mounts of all namespaces, but used again after an unmount.
    package let id: Int
    /// Unique until the next boot; nil before Linux 6.8, and for entries that were not looked up at a path.
    package private(set) var uniqueID: UInt64?
    package let parent: Int
    /// `major:minor` of the superblock.
    package let device: String
    /// The directory of the file system that is its root.
    package let root: String
    package let path: String
    package let type: String
    package let source: String
    package let superOptions: [Substring]

    /// The user who mounted a FUSE file system.
    package var user: uid_t? {
        superOptions.first { $0.hasPrefix("user_id=") }.flatMap { uid_t($0.dropFirst("user_id=".count)) }
    }

    /// The directory of a FUSE mount in `/sys/fs/fuse/connections`: the minor device number.
    package var connection: String { String(device.drop { $0 != ":" }.dropFirst()) }

    /// Reads a line: id, parent, device, root, path, options, any number of tags, `-`, type, source, super options.
    package init?(_ line: Substring) {
        let fields = line.split(separator: " ", omittingEmptySubsequences: false)
        guard fields.count > 6, let id = Int(fields[0]), let parent = Int(fields[1]),
            let dash = fields.dropFirst(6).firstIndex(of: "-"), fields.indices.contains(dash + 3)
        else { return nil }
        self.id = id
        self.parent = parent
        device = String(fields[2])
        root = Self.unescaped(fields[3])
        path = Self.unescaped(fields[4])
        type = String(fields[dash + 1])
        source = Self.unescaped(fields[dash + 2])
        superOptions = fields[dash + 3].split(separator: ",")
    }

    /// Decodes the kernel's octal escapes, such as `\040` for a space.
    private static func unescaped(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(field.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), let value = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
            {
                bytes.append(value)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// The mounts of one mount namespace.
package struct MountTable: Sendable {
    package let entries: [MountInfo]

    /// The mounts that this process sees.
    package init() throws(Errno) { self.init(try ProcFS.text("/proc/self/mountinfo")) }

    /// The mounts that another process sees.
    package init(of process: pid_t) throws(Errno) { self.init(try ProcFS.text("/proc/\(process)/mountinfo")) }

    private init(_ text: String) { entries = text.split(separator: "\n").compactMap { MountInfo($0) } }

    /// The mount with this id.
    package func entry(_ id: Int) -> MountInfo? { entries.first { $0.id == id }?.identified() }

    /// A mount seen earlier, at its current path, as a directory above it may have been renamed; nil if it is gone.
    package func current(_ mount: MountInfo) -> MountInfo? {
        entries.first { $0.id == mount.id && $0.isSame(as: mount) }
    }

    /// The topmost mount at a path, with its unique id.
    package func top(at path: String) -> MountInfo? { entries.last { $0.path == path }?.identified() }
}

extension MountInfo {
    fileprivate func identified() -> MountInfo {
        var entry = self
        entry.uniqueID = Self.uniqueID(at: path)
        return entry
    }

    /// Whether this is the mount that was seen earlier, and not a later one with the same id.
    ///
    /// Without a unique id only the path distinguishes them, so a mount whose path has changed counts as gone: to unmount
    /// another mount would be worse.
    fileprivate func isSame(as earlier: MountInfo) -> Bool {
        guard device == earlier.device, type == earlier.type, source == earlier.source else { return false }
        guard let uniqueID = earlier.uniqueID else { return path == earlier.path }
        return Self.uniqueID(at: path) == uniqueID
    }

    /// The unique id of the mount at a path, without a request to a FUSE server.
    private static func uniqueID(at path: String) -> UInt64? {
        let flags = CInt(AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)
        var status = statx()
        // STATX_MNT_ID_UNIQUE, newer than Debian 12's headers.
        let mask: UInt32 = 0x4000
        guard clinux_statx(AT_FDCWD, path, flags, mask, &status) == 0, status.stx_mask & mask != 0 else { return nil }
        return status.stx_mnt_id
    }
}

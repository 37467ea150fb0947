import CLinux
import Glibc
import Linux
import SystemPackage

/// One mount, as `/proc/self/mountinfo` tells (proc(5)).
struct MountEntry {
    /// Not unique for ever: once the mount is gone, the kernel gives its id to the next one.
    let id: Int
    /// Unique until the next boot; nil on kernels before 6.8, and where nobody asked for it.
    private(set) var uniqueID: UInt64?
    /// `major:minor`, as files beneath it have in `st_dev`.
    let device: String
    let path: String
    let type: String
    /// What is mounted, as mount(8) shows it: `pulsefs`, or the town of which this is a part.
    let source: String
    let superOptions: [Substring]

    /// Whether it is ours.
    var isPulseFS: Bool { type == "fuse.pulsefs" }

    /// Whether it is `.pulse` alone, of a town whose other mounts lie over directories of signal files.
    var isPulse: Bool { isPulseFS && source != Self.source && path.hasSuffix("/\(PulseMountpoint.name)") }

    /// The source of a mount over a whole town.
    static let source = "pulsefs"

    /// The town that this is the main mount of.
    var town: String { isPulse ? String(path.dropLast(PulseMountpoint.name.utf8.count + 1)) : path }

    /// The user who mounted it, for a FUSE mount.
    var user: uid_t? {
        superOptions.first { $0.hasPrefix("user_id=") }.flatMap { uid_t($0.dropFirst("user_id=".count)) }
    }

    /// The number under `/sys/fs/fuse/connections`: the minor device number.
    var connection: String { String(device.drop { $0 != ":" }.dropFirst()) }
}

/// The mounts that this process sees.
struct MountTable {
    let entries: [MountEntry]

    init() throws(Errno) {
        let file = try OwnedDescriptor(opening: "/proc/self/mountinfo", in: AT_FDCWD, O_RDONLY)
        entries = try file.readToEnd().split(separator: "\n").compactMap { MountEntry($0) }
    }

    /// A mount seen earlier, at its current path: a directory above it may have been renamed.
    ///
    /// Nil if it is gone.
    func current(_ mount: MountEntry) -> MountEntry? {
        entries.first { $0.id == mount.id && $0.isSame(as: mount) }
    }

    /// The mount that a town lies on, whatever is mounted over the town itself.
    func enclosing(_ path: String) -> MountEntry? {
        let candidates = entries.filter { entry in
            if entry.path == path { return !entry.isPulseFS }
            return entry.path == "/" || path.hasPrefix(entry.path + "/")
        }
        // Of several at one path the last is on top.
        return candidates.reversed().max { $0.path.utf8.count < $1.path.utf8.count }
    }

    /// What is mounted at a path, the topmost if there are several, if it is ours.
    func pulsefs(at path: String) -> MountEntry? {
        entries.last { $0.path == path }.flatMap { $0.isPulseFS ? $0.identified() : nil }
    }

    /// The main mount of a town: over the town itself, or over its `.pulse`.
    func town(at path: String) -> MountEntry? {
        if let entry = pulsefs(at: path), !entry.isPulse { return entry }
        return pulsefs(at: "\(path)/\(PulseMountpoint.name)").flatMap { $0.isPulse ? $0 : nil }
    }

    /// The mounts over directories of signal files that belong to a main mount.
    func signalMounts(of main: MountEntry) -> [MountEntry] {
        guard main.isPulse else { return [] }
        return entries.filter {
            $0.isPulseFS && $0.id != main.id && $0.source == main.source && $0.path.hasPrefix(main.town + "/")
        }
    }

    /// Mounts over directories of signal files whose main mount has gone.
    func orphans(of town: String) -> [MountEntry] {
        guard self.town(at: town) == nil else { return [] }
        return entries.filter { $0.isPulseFS && $0.source == town && $0.path.hasPrefix(town + "/") }
    }
}

extension MountEntry {
    /// The same with its unique id.
    fileprivate func identified() -> MountEntry {
        var entry = self
        entry.uniqueID = Self.uniqueID(at: path)
        return entry
    }

    /// Whether this is the mount that was seen earlier, and not a later one with the same id.
    ///
    /// Without unique ids only the path tells them apart, so a mount whose path has changed counts as gone: unmounting
    /// another mount would be worse.
    fileprivate func isSame(as earlier: MountEntry) -> Bool {
        guard device == earlier.device, type == earlier.type, source == earlier.source else { return false }
        guard let uniqueID = earlier.uniqueID else { return path == earlier.path }
        return Self.uniqueID(at: path) == uniqueID
    }

    /// The unique id of the mount at a path; sends no request to a FUSE server.
    private static func uniqueID(at path: String) -> UInt64? {
        let flags = CInt(AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)
        var status = statx()
        // STATX_MNT_ID_UNIQUE, which is newer than Debian 12's headers.
        let mask: UInt32 = 0x4000
        guard clinux_statx(AT_FDCWD, path, flags, mask, &status) == 0, status.stx_mask & mask != 0 else { return nil }
        return status.stx_mnt_id
    }

    /// Reads a line: id, parent, device, root, path, options, any number of tags, `-`, type, source, super options.
    init?(_ line: Substring) {
        let fields = line.split(separator: " ", omittingEmptySubsequences: false)
        guard fields.count > 6, let id = Int(fields[0]), let dash = fields.dropFirst(6).firstIndex(of: "-"),
            fields.indices.contains(dash + 3)
        else { return nil }
        self.id = id
        device = String(fields[2])
        path = Self.unescaped(fields[4])
        type = String(fields[dash + 1])
        source = Self.unescaped(fields[dash + 2])
        superOptions = fields[dash + 3].split(separator: ",")
    }

    /// Undoes the kernel's `\040` for a space, and so on.
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

extension OwnedDescriptor {
    /// All that can still be read, as text; what is not UTF-8 is replaced.
    func readToEnd() throws(Errno) -> String {
        var bytes: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = try retryingInterrupts {
                block.withUnsafeMutableBytes { read(rawValue, $0.baseAddress, $0.count) }
            }
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += block.prefix(count)
        }
    }
}

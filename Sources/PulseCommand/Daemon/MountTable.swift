import Glibc
import Linux
import SystemPackage

/// One mount, as `/proc/self/mountinfo` tells (proc(5)).
struct MountEntry {
    let id: Int
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

    /// The mount of an id, at the path where it is by now: a directory above it may have been renamed.
    func entry(_ id: Int) -> MountEntry? {
        entries.first { $0.id == id }
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
        entries.last { $0.path == path }.flatMap { $0.isPulseFS ? $0 : nil }
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

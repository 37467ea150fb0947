import Glibc
import SystemPackage

/// The mounts of this process's namespace, as `/proc/self/mountinfo` had them.
///
/// Asking the table touches no file system, so it answers for a hung mount too. Paths are compared as they are spelled
/// there: absolute, without symbolic links.
struct MountTable {
    struct Entry {
        let deviceMinor: UInt32
        let mountpoint: String
        let type: String
    }

    private let entries: [Entry]

    static func current() throws(Errno) -> MountTable {
        let text = String(decoding: try GoFile(path: "/proc/self/mountinfo").read(), as: UTF8.self)
        return MountTable(mountinfo: text)
    }

    /// Reads lines as proc(5) describes them; a line it cannot read is left out.
    init(mountinfo: String) {
        entries = mountinfo.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            guard fields.count > 4, let dash = fields.firstIndex(of: "-"), fields.indices.contains(dash + 1),
                let minor = fields[2].split(separator: ":").last.flatMap({ UInt32($0) })
            else { return nil }
            return Entry(deviceMinor: minor, mountpoint: unescaped(fields[4]), type: String(fields[dash + 1]))
        }
    }

    /// The topmost mount on exactly this directory.
    func mount(on directory: String) -> Entry? {
        entries.last { $0.mountpoint == directory }
    }

    /// Whether anything is mounted on this directory or beneath it.
    func isMounted(within directory: String) -> Bool {
        entries.contains { $0.mountpoint == directory || $0.mountpoint.hasPrefix(directory + "/") }
    }

    /// The mount that a path lies in.
    func mount(holding path: String) -> Entry? {
        let holding = entries.filter { entry in
            path == entry.mountpoint || path.hasPrefix(entry.mountpoint == "/" ? "/" : entry.mountpoint + "/")
        }
        guard let longest = holding.map(\.mountpoint.utf8.count).max() else { return nil }
        return holding.last { $0.mountpoint.utf8.count == longest }
    }
}

extension MountTable.Entry {
    /// Fails every request in flight and takes the mount away, whatever its server does.
    ///
    /// Root does both with umount2(2); another owner of a FUSE mount aborts the connection, and leaves the rest to
    /// `fusermount3`.
    func abort() {
        if umount2(mountpoint, Int32(MNT_FORCE | MNT_DETACH)) == 0 { return }
        try? GoFile(path: "/sys/fs/fuse/connections/\(deviceMinor)/abort").write(Array("1".utf8))
    }
}

/// Undoes the octal escapes of mountinfo: space, tab, newline and backslash.
private func unescaped(_ field: Substring) -> String {
    var bytes: [UInt8] = []
    var rest = Array(field.utf8)[...]
    while let byte = rest.popFirst() {
        if byte == UInt8(ascii: "\\"), rest.count >= 3,
            let code = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
        {
            bytes.append(code)
            rest = rest.dropFirst(3)
        } else {
            bytes.append(byte)
        }
    }
    return String(decoding: bytes, as: UTF8.self)
}

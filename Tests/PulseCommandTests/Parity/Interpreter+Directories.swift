import CLinux
import Glibc
import SystemPackage

/// An entry of getdents64(2).
struct DirectoryEntry {
    let name: [UInt8]
    let inode: UInt64
    let type: UInt8

    /// With the suffix of `ls -F`.
    var words: String {
        let marks: [UInt8: String] = [4: "/", 8: "", 10: "@", 1: "|", 12: "=", 2: "!", 6: "#"]
        return spelled(name) + (marks[type] ?? "?")
    }

    var isDotOrDotDot: Bool { name == [0x2e] || name == [0x2e, 0x2e] }

    /// The entries of one call; none at the end.
    static func some(of directory: Int, room: Int) throws -> [DirectoryEntry] {
        let bytes = try PulseCommandTests.bytes(room: room) { try systemCall(SYS_getdents64, directory, $0, room) }
        return bytes.withUnsafeBytes { bytes in
            var entries: [DirectoryEntry] = []
            var start = 0
            while start < bytes.count {
                // struct linux_dirent64: inode, offset, record length, type, name.
                let length = Int(bytes.loadUnaligned(fromByteOffset: start + 16, as: UInt16.self))
                var end = start + 19
                while bytes[end] != 0 { end += 1 }
                entries.append(
                    DirectoryEntry(
                        name: Array(bytes[(start + 19)..<end]),
                        inode: bytes.loadUnaligned(fromByteOffset: start, as: UInt64.self), type: bytes[start + 18]))
                start += length
            }
            return entries
        }
    }

    /// All entries, sorted by name, without `.` and `..`.
    static func all(of directory: Int) throws -> [DirectoryEntry] {
        var entries: [DirectoryEntry] = []
        while true {
            let more = try some(of: directory, room: 1 << 16)
            if more.isEmpty { break }
            entries += more
        }
        return entries.filter { !$0.isDotOrDotDot }.sorted { $0.name.lexicographicallyPrecedes($1.name) }
    }
}

extension Interpreter {
    /// Calls that read directories.
    func directoryCall(_ verb: String) throws -> String? {
        switch verb {
        case "list":
            let entries = try withDirectory { directory in try DirectoryEntry.all(of: directory) }
            return entries.isEmpty ? "empty" : entries.map(\.words).joined(separator: " ")
        case "inodes":
            // Whether listing and stat(2) agree.
            return try withDirectory { directory in
                let differing = try DirectoryEntry.all(of: directory).filter { entry in
                    try entry.inode
                        != FileStatus(FilePlace(entry.name, in: directory), flags: Int(AT_SYMLINK_NOFOLLOW)).st_ino
                }
                return differing.isEmpty ? "ok" : "other numbers: " + differing.map(\.words).joined(separator: " ")
            }
        case "populate", "depopulate":
            let (place, prefix, count) = (try place(), try word().text, try number())
            let directory = try open(place, Int(O_DIRECTORY))
            defer { _ = try? systemCall(SYS_close, directory) }
            for index in 0..<count {
                let file = FilePlace("\(prefix)\(index)".utf8, in: directory)
                if verb == "populate" {
                    try systemCall(SYS_close, open(file, Int(O_CREAT | O_WRONLY), mode: 0o644))
                } else {
                    _ = try call(SYS_unlinkat, at: file, 0)
                }
            }
            return "ok"
        case "readdir":
            let (directory, count) = (try descriptor(), try number())
            var entries: [DirectoryEntry] = []
            while entries.count < count {
                let more = try DirectoryEntry.some(of: directory, room: 512)
                if more.isEmpty { break }
                entries += more
            }
            directoryEntries[directory, default: []] += entries
            return "ok"
        case "rest":
            let (directory, prefix) = (try descriptor(), Array(try word().text.utf8))
            var entries = directoryEntries.removeValue(forKey: directory) ?? []
            while true {
                let more = try DirectoryEntry.some(of: directory, room: 4096)
                if more.isEmpty { break }
                entries += more
            }
            let names = entries.map(\.name).filter { $0.starts(with: prefix) }
            return "\(Set(names).count) names, \(names.count - Set(names).count) again"
        default: return nil
        }
    }

    private func withDirectory<Result>(_ body: (Int) throws -> Result) throws -> Result {
        let directory = try open(place(), Int(O_DIRECTORY))
        defer { _ = try? systemCall(SYS_close, directory) }
        return try body(directory)
    }
}

import CLinux
import Glibc
import SystemPackage

/// The content of a tree: a line for each name, with everything that two equal trees have in
/// common.
enum Manifest {
    /// - Parameter start: Later times become `now`.
    static func lines(of directory: String, since start: FileTime) throws -> [String] {
        let root = try FilePlace(directory).withAddress {
            try systemCall(SYS_openat, Int(AT_FDCWD), $0, Int(O_DIRECTORY | O_CLOEXEC))
        }
        defer { _ = try? systemCall(SYS_close, root) }
        var walk = Walk(start: start)
        walk.describe("", in: root)
        try walk.visit(root, path: "")
        return walk.lines
    }

    private struct Walk {
        let start: FileTime
        var lines: [String] = []
        /// The first name of each inode with several names.
        private var names: [ino_t: String] = [:]

        init(start: FileTime) { self.start = start }

        mutating func visit(_ directory: Int, path: String) throws {
            for entry in try DirectoryEntry.all(of: directory) {
                let name = FilePlace(entry.name, in: directory)
                let path = path + spelled(entry.name)
                describe(path, name, "/proc/self/fd/\(directory)/".utf8 + entry.name)
                guard entry.type == 4 else { continue }
                do {
                    let child = try open(name, O_DIRECTORY)
                    defer { _ = try? systemCall(SYS_close, child) }
                    try visit(child, path: path + "/")
                } catch let error as Errno {
                    lines.append("\(path)/ \(error.name)")
                }
            }
        }

        mutating func describe(_ path: String, in root: Int) {
            describe("./", FilePlace(descriptor: root), Array("/proc/self/fd/\(root)/.".utf8))
        }

        private mutating func describe(_ path: String, _ file: FilePlace, _ fullPath: [UInt8]) {
            do {
                let status = try FileStatus(file, flags: Int(AT_SYMLINK_NOFOLLOW))
                let isDirectory = status.st_mode & S_IFMT == S_IFDIR
                var words = [path, status.words]
                // The kernel does not tell a FUSE server about writes to a fifo.
                if status.st_mode & S_IFMT != S_IFIFO {
                    words.append("mtime \(FileTime(status.st_mtim).description(since: start))")
                }
                if status.st_nlink > 1, !isDirectory {
                    if let first = names[status.st_ino] {
                        lines.append("\(path) is \(first)")
                        return
                    }
                    names[status.st_ino] = path
                }
                let attributes = AttributePlace(FilePlace(fullPath), follows: false)
                words += attributeWords(attributes)
                words.append(content(of: file, status))
                lines.append(words.joined(separator: " "))
            } catch {
                lines.append("\(path) \((error as? Errno)?.name ?? "\(error)")")
            }
        }

        private func attributeWords(_ attributes: AttributePlace) -> [String] {
            do {
                return try attributes.attributeNames().map { name in
                    do {
                        return "\(spelled(name))=\(spelled(try attributes.attribute(FilePlace(name))))"
                    } catch let error as Errno {
                        return "\(spelled(name))=\(error.name)"
                    }
                }
            } catch {
                return ["attributes: \((error as? Errno)?.name ?? "\(error)")"]
            }
        }

        /// The content of a small file, or the target of a link.
        private func content(of file: FilePlace, _ status: FileStatus) -> String {
            do {
                switch status.st_mode & S_IFMT {
                case S_IFLNK:
                    return "-> "
                        + spelled(
                            try file.withAddress { path in
                                try bytes(room: 5000) { try systemCall(SYS_readlinkat, file.directory, path, $0, 5000) }
                            })
                case S_IFREG where status.st_size <= 4 << 20:
                    let descriptor = try open(file, O_RDONLY)
                    defer { _ = try? systemCall(SYS_close, descriptor) }
                    let room = Int(status.st_size) + 1
                    return summary(of: try bytes(room: room) { try systemCall(SYS_read, descriptor, $0, room) })
                default: return ""
                }
            } catch {
                return (error as? Errno)?.name ?? "\(error)"
            }
        }

        private func open(_ place: FilePlace, _ flags: CInt) throws -> Int {
            try place.withAddress { path in
                try systemCall(
                    SYS_openat, place.directory, path, Int(flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK))
            }
        }
    }
}

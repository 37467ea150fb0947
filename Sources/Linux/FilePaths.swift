import Glibc
import SystemPackage

/// Path lookups that the C library offers.
package enum FilePaths {
    /// The path without symbolic links (realpath(3)).
    package static func resolved(_ path: String) throws(Errno) -> String {
        guard let resolved = realpath(path, nil) else { throw .current }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// The path with the current directory before it, unless it is absolute.
    package static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), let directory = getcwd(nil, 0) else { return path }
        defer { free(directory) }
        return String(cString: directory) + "/" + path
    }

    /// Makes a directory and those above it, for this user alone.
    ///
    /// What is missing shows when a file in it is opened.
    package static func makeDirectory(_ path: String) {
        var made = ""
        for component in path.split(separator: "/") {
            made += "/" + component
            mkdir(made, 0o700)
        }
    }

    /// The first file of this name in the directories of `PATH`, whether or not it may be executed.
    package static func inSearchPath(_ program: String) -> String? {
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        return path.split(separator: ":").lazy.map { "\($0)/\(program)" }.first { access($0, F_OK) == 0 }
    }
}

/// A name in a directory, and its type if the file system tells it: `DT_DIR` and so on.
package struct DirectoryEntry: Sendable {
    package let name: String
    package let kind: CInt

    package var isDirectory: Bool { kind == CInt(DT_DIR) }
}

/// Reads and closes a directory (readdir(3)), without `.` and `..`; empty for nil, with which opendir(3) fails.
package func directoryEntries(closing stream: OpaquePointer?) -> [DirectoryEntry] {
    guard let stream else { return [] }
    defer { closedir(stream) }
    var entries: [DirectoryEntry] = []
    while let entry = readdir(stream) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        guard name != ".", name != ".." else { continue }
        entries.append(DirectoryEntry(name: name, kind: CInt(entry.pointee.d_type)))
    }
    return entries
}

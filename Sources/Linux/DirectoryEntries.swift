import Glibc

/// A name in a directory, and its type if the file system tells it: `DT_DIR` and so on.
package struct DirectoryEntry: Sendable {
    package let name: String
    package let kind: CInt

    package var isDirectory: Bool { kind == CInt(DT_DIR) }
}

/// Reads and closes a directory; leaves out `.` and `..`.
///
/// Empty for nil, with which opendir(3) fails.
///
/// The corresponding C function is `readdir`.
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

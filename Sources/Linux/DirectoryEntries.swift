import Glibc

/// A name in a directory, and of what kind it is if the file system says so: `DT_DIR` and its like.
package struct DirectoryEntry: Sendable {
    package let name: String
    package let kind: CInt

    package var isDirectory: Bool { kind == CInt(DT_DIR) }
}

/// What is in an open directory, without `.` and `..`; closes it.
///
/// Empty for nil, which is how opendir(3) fails.
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

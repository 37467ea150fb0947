import Glibc
import SystemPackage

/// A directory for one test, removed with everything in it.
///
/// It lies in /var/tmp, which is on a disk where /tmp may be a tmpfs: towns lie on disks. Its name begins with `pulsefs`,
/// by which `mount-scripts/test` finds leftovers.
package struct TemporaryDirectory: Sendable {
    package let path: String

    package static func with<Result>(_ body: (TemporaryDirectory) throws -> Result) throws -> Result {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        return try body(directory)
    }

    /// Makes a directory that its owner removes with `remove`.
    package init() throws(Errno) {
        var template = Array("/var/tmp/pulsefs-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        // Other users must be able to reach their towns in it.
        chmod(path, 0o755)
    }

    /// Makes a subdirectory, and its parents.
    @discardableResult
    package func directory(_ name: String) throws(Errno) -> String {
        var made = path
        for component in name.split(separator: "/") {
            made += "/\(component)"
            if mkdir(made, 0o755) != 0, errno != EEXIST { throw Errno(rawValue: errno) }
        }
        return made
    }

    /// Removes the directory, but nothing on other file systems: a mount that a test left behind stays as it is.
    package func remove() {
        let directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard directory >= 0 else { return }
        var status = stat()
        fstat(directory, &status)
        Self.removeContents(of: directory, on: status.st_dev)
        rmdir(path)
    }

    /// Goes by descriptors: a tree may be deeper than a path may be long.
    ///
    /// Closes `directory`.
    private static func removeContents(of directory: CInt, on device: dev_t) {
        guard let stream = fdopendir(directory) else {
            close(directory)
            return
        }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                $0.prefix { $0 != 0 }.map(CChar.init(bitPattern:)) + [0]
            }
            if name == [46, 0] || name == [46, 46, 0] || unlinkat(directory, name, 0) == 0 { continue }
            let inner = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            guard inner >= 0 else { continue }
            var status = stat()
            guard fstat(inner, &status) == 0, status.st_dev == device else {
                close(inner)
                continue
            }
            removeContents(of: inner, on: device)
            unlinkat(directory, name, AT_REMOVEDIR)
        }
    }
}

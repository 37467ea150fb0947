import Glibc
import SystemPackage

/// A directory for one test.
///
/// Made on a disk rather than on a tmpfs where there is one: towns lie on disks.
struct Scratch: Sendable {
    let path: String

    /// Makes a directory, lends it, and removes it with all that is in it.
    static func with<Result>(_ body: (Scratch) throws -> Result) throws -> Result {
        var template = Array("/var/tmp/pulsefs-tests-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        let scratch = Scratch(path: String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self))
        defer { scratch.remove() }
        // Other users must be able to get through, to towns of theirs.
        chmod(scratch.path, 0o755)
        return try body(scratch)
    }

    /// Makes a directory in it.
    func directory(_ name: String, owner: Command.User? = nil) throws -> String {
        let directory = "\(path)/\(name)"
        guard mkdir(directory, 0o755) == 0 else { throw Errno(rawValue: errno) }
        if let owner { chown(directory, owner.id, owner.group) }
        return directory
    }

    private func remove() {
        _ = try? Command("rm", "-rf", "--one-file-system", path).output()
    }
}

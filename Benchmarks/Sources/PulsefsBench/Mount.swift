import FoundationEssentials
import Glibc
import SystemPackage

/// A line of `/proc/self/mountinfo`; reading it touches no file system, so it also works for a hung mount.
struct Mount {
    let deviceMinor: UInt32
    let mountpoint: String
    let type: String

    static func all() throws -> [Mount] { all(mountinfo: try readText("/proc/self/mountinfo")) }

    /// Parses lines in the format of proc_pid_mountinfo(5) and skips others.
    static func all(mountinfo: String) -> [Mount] {
        mountinfo.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            guard fields.count > 4, let dash = fields.firstIndex(of: "-"), fields.indices.contains(dash + 1),
                let minor = fields[2].split(separator: ":").last.flatMap({ UInt32($0) })
            else { return nil }
            let escapes = [#"\040"#: " ", #"\011"#: "\t", #"\012"#: "\n", #"\134"#: #"\"#]
            var mountpoint = ""
            var rest = fields[4]
            while let character = rest.first {
                let escaped = character == #"\"# ? escapes[String(rest.prefix(4))] : nil
                mountpoint += escaped ?? String(character)
                rest = rest.dropFirst(escaped == nil ? 1 : 4)
            }
            return Mount(deviceMinor: minor, mountpoint: mountpoint, type: String(fields[dash + 1]))
        }
    }

    /// The topmost mount on exactly this directory, given as an absolute path without symbolic links.
    static func on(_ directory: String) throws -> Mount? {
        try all().last { $0.mountpoint == directory }
    }

    /// The type of the file system that holds a path.
    static func type(at path: String) throws -> String {
        let holding = try all().filter { mount in
            path == mount.mountpoint || path.hasPrefix(mount.mountpoint == "/" ? "/" : mount.mountpoint + "/")
        }
        let longest = holding.map(\.mountpoint.utf8.count).max()
        return holding.last { $0.mountpoint.utf8.count == longest }?.type ?? "unknown"
    }

    /// Fails every request in flight and detaches the mount, whatever its server does.
    ///
    /// An ordinary user can only abort the connection; `fusermount3` does the rest.
    func abort() {
        if umount2(mountpoint, Int32(MNT_FORCE | MNT_DETACH)) == 0 { return }
        // Best effort: the caller reports the failure that led here.
        try? writeFile("/sys/fs/fuse/connections/\(deviceMinor)/abort", "1".utf8)
    }
}

/// Runs `mount`, then `body`, then `unmount`.
///
/// If unmounting fails or takes too long, the connection is aborted, the mount detached and its servers killed. A failure
/// of `body` is thrown rather than one of unmounting.
func withMount<Result>(
    on directory: String, by supervisor: Supervisor, mount: [String], unmount: [String], body: () throws -> Result
) throws -> Result {
    let result = Swift.Result {
        // Uninterrupted: a half-made mount would stay behind.
        try supervisor.run(mount, uninterrupted: true)
        guard try Mount.on(directory) != nil else {
            throw BenchFailure("'\(mount.joined(separator: " "))' has mounted nothing on \(directory)")
        }
        return try body()
    }
    guard let mounted = try Mount.on(directory) else { return try result.get() }
    do {
        try supervisor.run(unmount, uninterrupted: true)
    } catch {
        mounted.abort()
        for process in try processes(withArgument: directory) { kill(process, SIGKILL) }
        if try Mount.on(directory) != nil {
            // Best effort: the error of the regular unmount is thrown below.
            _ = try? supervisor.run(["fusermount3", "-u", "-z", directory], uninterrupted: true)
        }
        _ = try result.get()
        throw error
    }
    return try result.get()
}

/// Processes that have this path, from a scratch directory, as an argument.
private func processes(withArgument path: String) throws -> [pid_t] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { process in
        // A process may end while it is looked at.
        (try? readText("/proc/\(process)/cmdline"))?.split(separator: "\0").contains { $0 == path } ?? false
    }
}

/// Makes a directory, and removes it with its content after `body`.
///
/// If something is still mounted in it, the directory stays and is named on standard error.
func withScratchDirectory<Result>(in parent: String, body: (String) throws -> Result) throws -> Result {
    var template = Array("\(try realPath(parent))/pulsefs-bench.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw BenchFailure("cannot make \(parent)/…", Errno(rawValue: errno)) }
    let directory = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }  // because it is not empty
    defer {
        do {
            guard try !Mount.all().contains(where: { $0.mountpoint.hasPrefix(directory + "/") }) else {
                throw BenchFailure("something is mounted in it")
            }
            try FileManager.default.removeItem(atPath: directory)
        } catch {
            warn("\(directory) stays behind: \(error)")
        }
    }
    return try body(directory)
}

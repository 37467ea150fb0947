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
            let escapes = [(#"\040"#, " "), (#"\011"#, "\t"), (#"\012"#, "\n"), (#"\134"#, #"\"#)]
            let mountpoint = escapes.reduce(String(fields[4])) { $0.replacing($1.0, with: $1.1) }
            return Mount(deviceMinor: minor, mountpoint: mountpoint, type: String(fields[dash + 1]))
        }
    }

    /// The topmost mount on exactly this directory, given as an absolute path without symbolic links.
    static func on(_ directory: String) throws -> Mount? {
        try all().last { $0.mountpoint == directory }
    }

    /// The type of the file system that holds a path.
    static func type(at path: String) throws -> String {
        let holding = try all().filter { (path + "/").hasPrefix($0.mountpoint == "/" ? "/" : $0.mountpoint + "/") }
        let longest = holding.map(\.mountpoint.utf8.count).max()
        return holding.last { $0.mountpoint.utf8.count == longest }?.type ?? "unknown"
    }

    /// Fails every request in flight, which ends the servers, and detaches the mount.
    func abort(by supervisor: Supervisor) {
        // Best effort: the caller reports the failure that led here.
        try? writeFile("/sys/fs/fuse/connections/\(deviceMinor)/abort", "1".utf8)
        _ = try? supervisor.run(["fusermount3", "-u", "-z", mountpoint], uninterrupted: true)
    }
}

/// Runs `mount`, then `body`, then `unmount`.
///
/// If unmounting fails or takes too long, the connection is aborted and the mount detached. A failure of `body` is thrown
/// rather than one of unmounting.
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
        mounted.abort(by: supervisor)
        _ = try result.get()
        throw error
    }
    return try result.get()
}

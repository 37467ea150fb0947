import FoundationEssentials
import Glibc
import SystemPackage

/// Makes a directory, removes it with all it holds when `body` is done, however that ends.
///
/// It is left alone, and named, when something is still mounted in it.
func withScratchDirectory<Result>(in parent: String, body: (String) throws -> Result) throws -> Result {
    guard let resolved = realpath(parent, nil) else {
        throw BenchFailure("no directory \(parent)", Errno(rawValue: errno))
    }
    defer { free(resolved) }
    var template = Array("\(String(cString: resolved))/pulsefs-bench.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw BenchFailure("cannot make \(parent)/…", Errno(rawValue: errno)) }
    let directory = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    defer {
        if (try? MountTable.current().isMounted(within: directory)) == false {
            try? FileManager.default.removeItem(atPath: directory)
        } else {
            warn("left behind, because something is mounted in it: \(directory)")
        }
    }
    return try body(directory)
}

/// Mounts pulsefs over a directory while `body` runs.
///
/// Afterwards the town is unmounted in the ordinary way; where that fails or takes too long, its requests are aborted, the
/// mount is detached and its processes are killed. A failure to unmount is an error only if `body` had none.
func withMountedTown<Result>(
    _ town: String,
    by pulsefs: Pulsefs,
    options: String?,
    body: () throws -> Result
) throws -> Result {
    var servers: [ServerProcess] = []
    let result = Swift.Result {
        try pulsefs.mount(town, options: options)
        guard try MountTable.current().mount(on: town) != nil else {
            throw BenchFailure("\(pulsefs.program) said it had mounted \(town), but nothing is mounted there")
        }
        servers = try pulsefs.status(town).servers
        return try body()
    }
    guard let mount = try MountTable.current().mount(on: town) else { return try result.get() }
    do {
        try pulsefs.unmount(town)
    } catch {
        mount.abort()
        for server in servers where server.serves(town) { kill(server.pid, SIGKILL) }
        // For an ordinary user, who may abort the connection but not detach the mount; as root there is nothing left to do.
        if try MountTable.current().mount(on: town) != nil {
            _ = try? pulsefs.supervisor.run("fusermount3", ["-u", "-z", town], uninterrupted: true)
        }
        _ = try result.get()
        throw error
    }
    return try result.get()
}

/// Makes a directory and gives its path.
func makeDirectory(_ path: String) throws -> String {
    guard mkdir(path, 0o755) == 0 else { throw BenchFailure("cannot make \(path)", Errno(rawValue: errno)) }
    return path
}

/// Says on standard error what the report cannot say.
func warn(_ message: String) {
    _ = try? FileDescriptor.standardError.writeAll("pulsefs-bench: \(message)\n".utf8)
}

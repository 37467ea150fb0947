import Glibc
import SystemPackage

/// A place where the steps are done: a directory as it is, or one that a file system passes through.
struct TreeTarget {
    let name: String
    let kind: Kind
    /// What mounts it; the plain directory has none.
    var program: String?
    /// In the words of that program; for pulsefs what comes after `-o`.
    var options: String?

    enum Kind: String, Codable {
        case plain
        case pulsefs
        case bindfs
        case mergerfs

        /// Whether it is one of those that pulsefs is compared with.
        var isPeer: Bool { self == .bindfs || self == .mergerfs }
    }

    static let plain = TreeTarget(name: "plain", kind: .plain)

    /// What pulsefs is compared with.
    ///
    /// bindfs is taken as it is by default, with one thread; more would, says its manual, let others see files with a wrong
    /// owner. mergerfs gets what its manual recommends where mmap is needed (SQLite needs it), but keeps cached pages of unchanged
    /// files from one open to the next, which is faster.
    static let peers = [
        TreeTarget(name: "bindfs", kind: .bindfs, program: "bindfs", options: "no-allow-other"),
        TreeTarget(
            name: "mergerfs", kind: .mergerfs, program: "mergerfs",
            options: "use_ino,cache.files=auto-full,category.create=mfs,minfreespace=0"),
    ]

    /// Why a peer cannot be measured here, found out by mounting it once in `scratch`; nil when it can.
    ///
    /// mergerfs, for one, brings a helper for ordinary users that is not always installed so that it may mount.
    func obstacle(in scratch: String, supervisor: Supervisor) throws -> String? {
        guard isInstalled(program ?? name) else { return "not installed" }
        return try withScratchDirectory(in: scratch) { place in
            do {
                try withDirectory(in: place, supervisor: supervisor) { _ in }
                return nil
            } catch let failure as BenchFailure {
                return failure.description.replacing(place, with: "…")
            }
        }
    }

    /// What a person would type.
    var command: String? {
        switch kind {
        case .plain: nil
        case .pulsefs: (["pulsefs mount TOWN"] + (options.map { ["-o \($0)"] } ?? [])).joined(separator: " ")
        case .bindfs, .mergerfs: "\(name) -o \(options ?? "") BACKING MOUNTPOINT"
        }
    }

    /// What the program says when asked for its version.
    func version(by supervisor: Supervisor) throws -> String? {
        guard let program else { return nil }
        let (exitCode, printed) = try supervisor.run(program, ["--version"])
        let line = String(decoding: printed, as: UTF8.self).split(separator: "\n").first
        return exitCode == 0 ? line.map { String($0.split(separator: " ").last ?? $0) } : nil
    }

    /// Lends a fresh directory with that file system in it while `body` runs; `parent` holds all that this needs.
    func withDirectory<Result>(
        in parent: String,
        supervisor: Supervisor,
        body: (String) throws -> Result
    ) throws -> Result {
        let directory = try makeDirectory("\(parent)/\(name)")
        switch kind {
        case .plain:
            return try body(directory)
        case .pulsefs:
            let pulsefs = Pulsefs(program: program ?? "pulsefs", supervisor: supervisor)
            return try withMountedTown(directory, by: pulsefs, options: options) { try body(directory) }
        case .bindfs, .mergerfs:
            let backing = try makeDirectory("\(parent)/\(name).backing")
            return try withMountedPeer(on: directory, over: backing, supervisor: supervisor) { try body(directory) }
        }
    }

    private func withMountedPeer<Result>(
        on mountpoint: String,
        over backing: String,
        supervisor: Supervisor,
        body: () throws -> Result
    ) throws -> Result {
        let arguments = (options.map { ["-o", $0] } ?? []) + [backing, mountpoint]
        let (exitCode, _) = try supervisor.run(program ?? name, arguments, uninterrupted: true)
        guard exitCode == 0, let mount = try MountTable.current().mount(on: mountpoint) else {
            throw BenchFailure(
                "\(name) \(arguments.joined(separator: " ")) ended with \(exitCode) and has mounted nothing")
        }
        let result = Swift.Result { try body() }
        let unmounted = try? supervisor.run("fusermount3", ["-u", mountpoint], uninterrupted: true)
        guard unmounted?.exitCode == 0 else {
            mount.abort()
            if try MountTable.current().mount(on: mountpoint) != nil {
                _ = try? supervisor.run("fusermount3", ["-u", "-z", mountpoint], uninterrupted: true)
            }
            _ = try result.get()
            throw BenchFailure("cannot unmount \(mountpoint): it has been detached")
        }
        return try result.get()
    }
}

/// Whether the PATH has a program of this name.
func isInstalled(_ program: String) -> Bool {
    let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
    return path.split(separator: ":").contains { access("\($0)/\(program)", X_OK) == 0 }
}

import CLinux
import Dispatch
import FoundationEssentials
import Glibc
import Synchronization
import SystemPackage
import TestSupport
import Testing

/// A town on which the built program is mounted, in its own processes.
struct MountedTown: Sendable {
    let scratch: TemporaryDirectory
    /// The town root.
    let path: String
    /// The town root in the backing tree, as a path for every process.
    let backing: String
    /// The user who mounts and uses it; nil for the user who runs the tests.
    let user: Command.User?
    private let program: String
    private let root: FileDescriptor

    /// The signal file that most tests write to.
    var keepalive: String { "\(path)/.runtime/keepalive.json" }
    var activity: String { "\(path)/daemon/activity.json" }

    /// Creates the directories of a town.
    fileprivate init(in scratch: TemporaryDirectory, as user: Command.User?) throws {
        self.scratch = scratch
        self.user = user
        path = try scratch.directory("town", owner: user)
        for name in [".runtime", ".runtime/heartbeats", "daemon", "deacon", "mayor"] {
            _ = try scratch.directory("town/\(name)", owner: user)
        }
        _ = try scratch.directory("home", owner: user)
        root = try Client.open(path, O_PATH | O_DIRECTORY)
        backing = "/proc/\(getpid())/fd/\(root.rawValue)"
        program = try user == nil ? BuiltProgram.path : Self.copyProgram(into: scratch)
    }

    // MARK: The program

    /// Other users may be unable to reach the build directory.
    private static func copyProgram(into scratch: TemporaryDirectory) throws -> String {
        let copy = "\(scratch.path)/pulsefs"
        try Command("install", "-m", "755", BuiltProgram.path, copy).output()
        return copy
    }

    /// Runs `pulsefs`, as the town's user.
    func pulsefs(_ words: String..., environment: [String: String] = [:]) throws -> Command.Outcome {
        try pulsefsCommand(words, environment: environment).run()
    }

    func pulsefsCommand(_ words: [String], environment: [String: String] = [:]) -> Command {
        let home = "\(scratch.path)/home"
        let environment = ["HOME": home, "PULSEFS_STATE_DIRECTORY": home].merging(environment) { $1 }
        return Command([program] + words, environment: environment, as: user)
    }

    /// Runs a shell script in the town, as the town's user.
    @discardableResult
    func shell(_ script: String, limit: Duration = .seconds(30)) throws -> String {
        try PulseCommandTests.shell(script, in: path, as: user, limit: limit)
    }

    // MARK: Mounting

    func mount(_ options: [String] = [], environment: [String: String] = [:]) throws {
        // Agents of tests are young.
        let age = options.contains("--min-agent-age") ? [] : ["--min-agent-age", "0s"]
        let words = ["mount", "--log", log] + TownScope.current.options + age + options + [path]
        let outcome = try pulsefsCommand(words, environment: environment).run()
        guard outcome.status == 0 else { throw Command.Failed(description: "\(outcome)\n\(loggedText)") }
    }

    /// Unmounts and checks that no mount and no process is left.
    func unmount() throws {
        var command = pulsefsCommand(["unmount", path])
        // Longer than the command's own timeout, so that it can report what it waited for.
        command.limit = .seconds(45)
        let outcome = try command.run()
        guard outcome.status == 0 else { throw Command.Failed(description: "\(outcome)\n\(loggedText)") }
        #expect(!isMounted, "unmounted, and still in the table of mounts")
        #expect(processes == [], "unmounted, and processes are left")
    }

    func remount(_ options: [String] = []) throws {
        try unmount()
        try mount(options)
    }

    private var log: String { "\(scratch.path)/home/log" }
    var loggedText: String { (try? Client.read(log)) ?? "" }

    /// Writes back all documents.
    func synchronize() throws {
        try Client.synchronize(directory: TownScope.current == .town ? path : "\(path)/.pulse")
    }

    // MARK: State

    /// The content of `.pulse/status.json`.
    struct Status: Decodable {
        struct Tally: Decodable {
            let alive: Int
            let expired: Int
        }
        struct Documents: Decodable {
            let touches: Int
            let refused: Int
            let fromFuture: Int
            let notWrittenDown: Int
        }
        struct FileSystem: Decodable {
            let openFiles: Int
        }
        struct Events: Decodable {
            let readers: Int
            let lastSeq: Int
        }
        struct Uncovered: Decodable, Equatable {
            let directory: String
            let reason: String
        }
        let town: String
        let keeperPid: pid_t
        let workerPid: pid_t
        let ttlSeconds: Double
        let onExpiry: String
        let signalFiles: Tally
        let runtimes: Tally
        let documents: Documents
        let fileSystem: FileSystem
        let events: Events?
        /// Nil if the whole town is mounted.
        let covered: [String]?
        let uncovered: [Uncovered]?
        /// Nil without a mirror.
        let mirror: Mirror?

        init(_ text: String) throws {
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            self = try decoder.decode(Self.self, from: Data(text.utf8))
        }
    }

    func status() throws -> Status {
        if user != nil { return try Status(try pulsefsCommand(["status", "--json", path]).output()) }
        return try Status(Client.read("\(path)/.pulse/status.json"))
    }

    /// The value of a metric, named with its labels, in `.pulse/metrics`.
    func metric(_ name: String) throws -> Int {
        let lines = try Client.read("\(path)/.pulse/metrics").split(separator: "\n")
        let line = try #require(lines.first { $0.hasPrefix("\(name) ") }, "\(name) is missing")
        return try #require(Int(line.dropFirst(name.count + 1)))
    }

    /// The lines of /proc/self/mountinfo for this town, split at spaces.
    var mounts: [[Substring]] {
        guard let file = try? Client.open("/proc/self/mountinfo", O_RDONLY) else { return [] }
        defer { try? Client.close(file) }
        let table = (try? Client.read(file)) ?? ""
        return table.split(separator: "\n").map { $0.split(separator: " ") }.filter { fields in
            fields.contains("fuse.pulsefs") && (fields[4] == path || fields[4].hasPrefix(path + "/"))
        }
    }

    var isMounted: Bool { !mounts.isEmpty }

    /// The pids of keeper, worker and commands of this town.
    var processes: [pid_t] {
        let pids = ((try? Client.names(in: "/proc")) ?? []).compactMap { pid_t($0) }
        return pids.filter { pid in
            let words = (try? Client.read("/proc/\(pid)/cmdline").split(separator: "\0")) ?? []
            return words.first?.hasSuffix("pulsefs") == true && words.contains { $0 == path }
        }
    }

    // MARK: Killing

    /// Kills keeper, worker and standby at once, so that none of them cleans up.
    func killAll() {
        let processes = processes
        // A stopped process starts no other one.
        for pid in processes { kill(pid, SIGSTOP) }
        for pid in processes { kill(pid, SIGKILL) }
    }

    /// Kills workers until the keeper starts no other one, and unmounts.
    func killWorkers() throws {
        #expect(
            eventually {
                if let status = try? status() { kill(status.workerPid, SIGKILL) }
                return !isMounted
            })
    }

    // MARK: Cleaning up

    /// Aborts the FUSE connections: system calls that wait in the mount fail.
    func abort() {
        for fields in mounts {
            let minor = fields[2].split(separator: ":")[1]
            try? Client.write("1", to: "/sys/fs/fuse/connections/\(minor)/abort")
        }
        // Without fusectl: a connection ends when its processes do.
        for pid in processes { kill(pid, SIGKILL) }
    }

    /// Removes mounts and processes, ignoring errors.
    fileprivate func clear() {
        if isMounted || !processes.isEmpty { abort() }
        while let place = mounts.last.map({ String($0[4]) }) {
            if geteuid() == 0 {
                guard umount2(place, CInt(MNT_DETACH)) == 0 else { break }
            } else {
                _ = try? Command("fusermount3", "-uz", place).run()
            }
        }
    }

    fileprivate func closeRoot() { try? Client.close(root) }
}

/// Mounts a new town, calls `body` with it, unmounts it, and checks that nothing is left: no mount, no process, no open
/// file, no directory.
///
/// A body may unmount the town itself or kill its processes. If it takes longer than `limit`, the connection is aborted
/// and the test fails.
///
/// - Parameters:
///   - options: Options for `pulsefs mount`.
///   - prepare: Called with the path of the town before it is mounted.
func withMountedTown(
    _ options: String..., as user: Command.User? = nil, limit: Duration = .seconds(60),
    prepare: (_ path: String) throws -> Void = { _ in }, _ body: (MountedTown) throws -> Void
) throws {
    try withMountedTown(options: options, as: user, limit: limit, prepare: prepare, body)
}

/// The same, with a list of options.
func withMountedTown(
    options: [String], as user: Command.User? = nil, limit: Duration = .seconds(60),
    prepare: (_ path: String) throws -> Void = { _ in }, _ body: (MountedTown) throws -> Void
) throws {
    try withTown(as: user, limit: limit) { town in
        try prepare(town.path)
        try town.mount(options)
        try body(town)
        guard town.isMounted else { return }
        // RELEASE comes after the last close(2) has returned.
        let isClosed = try eventually { try town.status().fileSystem.openFiles == 0 }
        #expect(isClosed, "the worker holds files open that no process has")
        try town.unmount()
    }
}

/// Calls `body` with a town that is not mounted yet, with the same checks afterwards.
func withTown(
    as user: Command.User? = nil, limit: Duration = .seconds(60), _ body: (MountedTown) throws -> Void
) throws {
    if user != nil { chmod("/dev/fuse", 0o666) }
    try TemporaryDirectory.with { scratch in
        let town = try MountedTown(in: scratch, as: user)
        let watchdog = Watchdog(over: town, limit: limit)
        defer {
            _ = watchdog.end()
            town.clear()
            town.closeRoot()
        }
        try body(town)
        if watchdog.end() { Issue.record("aborted after \(limit)") }
        #expect(!town.isMounted, "a mount is left")
        let areGone = eventually { town.processes.isEmpty }
        #expect(areGone, "processes are left: \(town.processes)")
    }
}

/// Aborts a town's connection at a deadline, after it has printed where every thread of the town's processes is.
private final class Watchdog: Sendable {
    private let ended = DispatchSemaphore(value: 0)
    private let hasAborted = Mutex(false)

    init(over town: MountedTown, limit: Duration) {
        DispatchQueue(label: "watchdog").async { [self] in
            guard ended.wait(timeout: .now() + .seconds(Int(limit.components.seconds))) == .timedOut else { return }
            hasAborted.withLock { $0 = true }
            let processes = town.processes
            print("\(town.path) is not unmounted after \(limit)\n\(town.loggedText)")
            let stacks = try? Command(
                ["\(BuiltProgram.sources)/mount-scripts/stacks"] + processes.map(String.init), limit: .seconds(180)
            ).run()
            print(stacks?.output ?? "no stacks")
            town.abort()
        }
    }

    /// Ends the watch.
    ///
    /// - Returns: Whether the connection was aborted.
    func end() -> Bool {
        ended.signal()
        return hasAborted.withLock { $0 }
    }
}

import CLinux
import Dispatch
import FoundationEssentials
import Glibc
import Synchronization
import SystemPackage
import Testing

/// A town with the built program mounted over it, in processes of its own.
struct MountedTown: Sendable {
    let scratch: Scratch
    /// The town root.
    let path: String
    /// The town root beneath the mount, as a path for every process.
    let backing: String
    /// Who mounts and uses it; nil for whoever runs the tests.
    let user: Command.User?
    private let program: String
    private let root: FileDescriptor

    /// The signal file that most tests write to.
    var keepalive: String { "\(path)/.runtime/keepalive.json" }
    var activity: String { "\(path)/daemon/activity.json" }

    /// Makes a directory with those of a town in it.
    fileprivate init(in scratch: Scratch, as user: Command.User?) throws {
        self.scratch = scratch
        self.user = user
        path = try scratch.directory("town", owner: user)
        for name in [".runtime", ".runtime/heartbeats", "daemon", "deacon", "mayor"] {
            _ = try scratch.directory("town/\(name)", owner: user)
        }
        _ = try scratch.directory("home", owner: user)
        root = try Client.open(path, O_PATH | O_DIRECTORY)
        backing = "/proc/\(getpid())/fd/\(root.rawValue)"
        program = try user == nil ? Self.program : Self.copyProgram(into: scratch)
    }

    // MARK: The program

    /// The program that was built with these tests, beside their bundle.
    static let program: String = {
        let own = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? executable
        let directory = FilePath(own).removingLastComponent()
        return directory.appending("pulsefs").string
    }()

    private static var executable: String {
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink("/proc/self/exe", &target, target.count)
        return String(decoding: target.prefix(max(0, count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// Other users may not be able to get to where it was built.
    private static func copyProgram(into scratch: Scratch) throws -> String {
        let copy = "\(scratch.path)/pulsefs"
        try Command("install", "-m", "755", program, copy).output()
        return copy
    }

    /// Runs `pulsefs`, as the town's user.
    func pulsefs(_ words: String..., environment: [String: String] = [:]) throws -> Command.Outcome {
        try pulsefsCommand(words, environment: environment).run()
    }

    func pulsefsCommand(_ words: [String], environment: [String: String] = [:]) -> Command {
        let environment = ["HOME": "\(scratch.path)/home"].merging(environment) { $1 }
        return Command([program] + words, environment: environment, as: user)
    }

    /// Runs a shell script in the town, as the town's user.
    @discardableResult
    func shell(_ script: String, limit: Duration = .seconds(30)) throws -> String {
        try Command("sh", "-euc", script, in: path, as: user, limit: limit).output()
    }

    // MARK: Mounting

    func mount(_ options: [String] = [], environment: [String: String] = [:]) throws {
        let words = ["mount", "--log", log] + TownScope.current.options + options + [path]
        let outcome = try pulsefsCommand(words, environment: environment).run()
        guard outcome.status == 0 else { throw Command.Failed(description: "\(outcome)\n\(loggedText)") }
    }

    /// Unmounts, and sees to it that nothing is left.
    func unmount() throws {
        var command = pulsefsCommand(["unmount", path])
        // Longer than its own patience, lest it be killed before it has said what it waited for.
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

    /// Has all documents in their real files.
    func synchronize() throws {
        try Client.synchronize(directory: TownScope.current == .town ? path : "\(path)/.pulse")
    }

    // MARK: Looking at it

    /// What `.pulse/status.json` says.
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
        /// Nil where all of the town is.
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

    /// Lines of the table of mounts, split at spaces, that are about this town: over all of it, or over parts.
    var mounts: [[Substring]] {
        guard let file = try? Client.open("/proc/self/mountinfo", O_RDONLY) else { return [] }
        defer { try? Client.close(file) }
        let table = (try? Client.read(file)) ?? ""
        return table.split(separator: "\n").map { $0.split(separator: " ") }.filter { fields in
            fields.contains("fuse.pulsefs") && (fields[4] == path || fields[4].hasPrefix(path + "/"))
        }
    }

    var isMounted: Bool { !mounts.isEmpty }

    /// Keeper, worker, and whatever command is at work on this town.
    var processes: [pid_t] {
        let pids = ((try? Client.names(in: "/proc")) ?? []).compactMap { pid_t($0) }
        return pids.filter { pid in
            let words = (try? Client.read("/proc/\(pid)/cmdline").split(separator: "\0")) ?? []
            return words.first?.hasSuffix("pulsefs") == true && words.contains { $0 == path }
        }
    }

    // MARK: Ending badly

    /// Frees everybody who hangs in the mount: their calls fail.
    func abort() {
        for fields in mounts {
            let minor = fields[2].split(separator: ":")[1]
            try? Client.write("1", to: "/sys/fs/fuse/connections/\(minor)/abort")
        }
        // Without the control file system: the connection ends with those who hold it.
        for pid in processes { kill(pid, SIGKILL) }
    }

    /// Takes away whatever is there, without a word.
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

/// Mounts a fresh town, lends it, unmounts it in order, and insists that nothing is left: no mount, no process, no open
/// file, no directory.
///
/// A body that unmounts the town itself, or kills its processes, leaves less to do. One that takes longer than `limit`
/// is freed by aborting the connection.
///
/// - Parameters:
///   - options: For `pulsefs mount`.
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
        // The kernel tells of the last close of a file after close(2) has returned.
        let isClosed = try eventually { try town.status().fileSystem.openFiles == 0 }
        #expect(isClosed, "the worker holds files open that nobody has")
        try town.unmount()
    }
}

/// Lends a town that is not mounted yet, under the same conditions.
func withTown(
    as user: Command.User? = nil, limit: Duration = .seconds(60), _ body: (MountedTown) throws -> Void
) throws {
    if user != nil { chmod("/dev/fuse", 0o666) }
    try Scratch.with { scratch in
        let town = try MountedTown(in: scratch, as: user)
        let watch = Watch(over: town, limit: limit)
        defer {
            _ = watch.end()
            town.clear()
            town.closeRoot()
        }
        try body(town)
        if watch.end() { Issue.record("aborted after \(limit)") }
        #expect(!town.isMounted, "a mount is left")
        let areGone = eventually { town.processes.isEmpty }
        #expect(areGone, "processes are left: \(town.processes)")
    }
}

/// Aborts a town's connection unless it is ended in time.
private final class Watch: Sendable {
    private let ended = DispatchSemaphore(value: 0)
    private let hasAborted = Mutex(false)

    init(over town: MountedTown, limit: Duration) {
        DispatchQueue(label: "watch").async { [self] in
            guard ended.wait(timeout: .now() + .seconds(Int(limit.components.seconds))) == .timedOut else { return }
            hasAborted.withLock { $0 = true }
            town.abort()
        }
    }

    /// Whether it has come to the worst.
    func end() -> Bool {
        ended.signal()
        return hasAborted.withLock { $0 }
    }
}

import CLinux
import Daemon
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import TownFS

/// What `pulsefs doctor` has found out about a town and its machine.
struct TownFacts: Sendable {
    typealias File = (mode: mode_t, owner: uid_t)

    struct Log: Sendable {
        var path: String
        /// Rejected writes since the last mount.
        var rejections = 0
        /// Failed write-backs since the last mount.
        var unwritten = 0
        var lastProblem: String?
    }

    var town: String
    /// The user who asks.
    var user: uid_t
    /// Nil if the town is not mounted; its value is nil if this version cannot decode the status.
    var answer: TownAnswer<TownStatus?>?
    /// How many mounts of pulsefs are stacked here.
    var layers = 0
    /// The mount that contains the town.
    var enclosing: (path: String, type: String)?
    var mounter: uid_t?

    /// Whether keeper and worker run; nil without `/proc`.
    var keeperIsThere: Bool?
    var workerIsThere: Bool?
    /// Processes that use the backing directory: they bypass the mount, or the town is not mounted.
    var holders: [MountUsers.User] = []
    /// Processes that this user cannot examine.
    var hiddenProcesses = 0
    /// Unix sockets in the town of processes that are older than the mount.
    var oldSockets: [String] = []
    /// Seconds since a signal file was last written, where the town is not mounted.
    var lastHeartbeat: (name: String, age: Double)?
    /// Whether a backing `.pulse` exists that the mount hides; nil if unknown.
    var hasBackingPulse: Bool?
    /// Number of names in a town that is not mounted, up to `manyNames`; nil if counting took too long.
    var names: Int?
    /// Whether the worker has the right to use passthrough; nil without a worker.
    var workerIsSystemAdministrator: Bool?
    /// Configuration files of git that set a `core.fsyncMethod` without effect in a town.
    var gitFiles: [String] = []
    var log: Log?

    var fusermount: File?
    var deviceFile: File?
    var deviceIsOpenable = false
    var kernelHasFUSE = true
    var kernel = ""
    var isSystemAdministrator = false
    var allowsOthers: Bool?
    /// RLIMIT_NOFILE, hard: the worker's, else ours.
    var openFilesLimit: UInt64?
    var inotifyWatches: UInt64?
    /// `hidepid` of /proc, where it is set.
    var hidepid: String?
    /// Nil if the kernel does not tell.
    var clockIsSynchronized: Bool?
    /// The clock, in seconds since 1970.
    var clock: Int64 = 0

    /// With so many files, passthrough and scope make a difference.
    static let manyNames = 50_000

    var status: TownStatus? {
        if case .value(let status) = answer { status } else { nil }
    }

    var isScopedToSignals: Bool { status?.scope == MountScope.signals.rawValue }
    var isMounted: Bool { answer != nil }
}

// MARK: - Gathering

extension TownFacts {
    /// Examines a town and its machine.
    ///
    /// Reads only `.pulse/status.json` of a mounted town, and that with a time limit.
    static func gather(_ place: TownPath) throws -> TownFacts {
        var facts = TownFacts(
            town: place.path, user: geteuid(), answer: try place.mount.map { try TownAnswer.status(of: $0) })
        facts.mounter = place.mount?.user
        if let table = try? MountTable() { facts.examine(table, place.mount) }
        if let status = facts.status { facts.examineDaemon(status) }
        if place.mount == nil { try facts.examinePlainTown() }
        // Past the mount, if there is one.
        let root = facts.status.map(backingRoot) ?? place.path
        facts.gitFiles = try within(.seconds(1)) { GitConfig.filesWithoutEffect(in: root, of: place.path) } ?? []
        facts.log = Log.read(of: place.path, keeper: facts.status?.keeperPid)
        facts.examineMachine()
        return facts
    }

    private static func backingRoot(_ status: TownStatus) -> String {
        "/proc/\(status.workerPid)/fd/\(InheritedDescriptor.root)"
    }

    private mutating func examine(_ table: MountTable, _ mount: MountInfo?) {
        let mountpoint = mount?.path ?? town
        layers = table.entries.count { $0.path == mountpoint && $0.isPulseFS }
        hidepid = table.entries.last { $0.path == "/proc" }?.superOptions
            .first { $0.hasPrefix("hidepid=") }.map { String($0.dropFirst("hidepid=".count)) }
        guard let backing = table.enclosing(town) else { return }
        enclosing = (backing.path, backing.type)

        // The directories that are or would be mounted.
        let directories = mount.flatMap { $0.isPulse ? table.signalMounts(of: $0).map(\.path) : nil } ?? [town]
        let users = MountUsers(of: backing, within: directories)
        holders = users.processes().filter { $0.name != "pulsefs-keeper" && $0.name != "pulsefs-worker" }
        hiddenProcesses = MountUsers.hiddenProcesses
        let start = (status?.keeperPid).flatMap(ProcFS.startTime)
        oldSockets = users.sockets(in: directories).filter { socket in
            guard isMounted else { return true }
            guard let start, let owner = ProcFS.startTime(socket.pid) else { return false }
            return owner < start
        }.map { String($0.use.dropFirst("socket ".count)) }.sorted()
    }

    private mutating func examineDaemon(_ status: TownStatus) {
        if access("/proc/self", F_OK) == 0 {
            keeperIsThere = ProcFS.name(status.keeperPid)?.hasPrefix("pulsefs-keeper") ?? false
            workerIsThere = ProcFS.name(status.workerPid)?.hasPrefix("pulsefs-worker") ?? false
        }
        if let limits = ProcFS.field("Max open files", in: "/proc/\(status.workerPid)/limits"), limits.count > 1 {
            // The hard limit, which may be `unlimited`.
            openFilesLimit = UInt64(limits[1]) ?? .max
        }
        workerIsSystemAdministrator =
            ProcFS.field("CapEff:", in: "/proc/\(status.workerPid)/status")?.last
            .flatMap { UInt64($0, radix: 16) }.map { $0 & (1 << UInt64(CAP_SYS_ADMIN)) != 0 }
        // With --scope=signals, a backing `.pulse` is the mountpoint.
        hasBackingPulse = isScopedToSignals ? false : Self.exists(Self.backingRoot(status) + "/.pulse")
    }

    private static let heartbeatFiles = [
        ".runtime/keepalive.json", "daemon/activity.json", "deacon/heartbeat.json", "deacon/.deacon-heartbeat",
    ]

    /// Examines a town that is not mounted, with a time limit: its disk may hang.
    private mutating func examinePlainTown() throws {
        let town = town
        let seen = try within(answerTimeout) {
            let heartbeats = ProcFS.names(town + "/.runtime/heartbeats").filter { $0.hasSuffix(".json") }
                .map { ".runtime/heartbeats/" + $0 }
            let written = (Self.heartbeatFiles + heartbeats).compactMap { name -> (name: String, time: Int)? in
                var status = FileStatus()
                guard lstat("\(town)/\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
                return (name: name, time: status.st_mtim.tv_sec)
            }
            return (written.max { $0.time < $1.time }, Self.exists(town + "/.pulse"))
        }
        guard let (newest, hasBackingPulse) = seen else { return }
        lastHeartbeat = newest.map { ($0.name, Double(max(0, time(nil) - $0.time))) }
        self.hasBackingPulse = hasBackingPulse
        names = try within(.seconds(1)) { Self.countNames(in: town) }
    }

    /// Counts files and directories up to `manyNames`.
    private static func countNames(in town: String) -> Int {
        var count = 0
        var directories = [town]
        while let directory = directories.popLast(), count < manyNames {
            let entries = directoryEntries(closing: opendir(directory))
            count += entries.count
            directories += entries.filter(\.isDirectory).map { "\(directory)/\($0.name)" }
        }
        return count
    }

    /// Nil if the file system does not tell.
    private static func exists(_ path: String) -> Bool? {
        var status = FileStatus()
        if lstat(path, &status) == 0 { return true }
        return Errno.current == .noSuchFileOrDirectory ? false : nil
    }

    private mutating func examineMachine() {
        func lines(_ path: String) -> [Substring]? { (try? ProcFS.text(path))?.split(separator: "\n") }
        func file(_ path: String) -> File? {
            var status = FileStatus()
            return stat(path, &status) == 0 ? (status.st_mode, status.st_uid) : nil
        }
        fusermount = FilePaths.inSearchPath("fusermount3").flatMap(file)
        deviceFile = file(KernelMount.device)
        deviceIsOpenable = access(KernelMount.device, R_OK | W_OK) == 0
        kernelHasFUSE = deviceFile != nil || lines("/proc/filesystems")?.contains { $0.hasSuffix("\tfuse") } ?? true
        kernel = lines("/proc/sys/kernel/osrelease")?.first.map(String.init) ?? ""
        var capabilities = [__user_cap_data_struct](repeating: .init(), count: 2)
        isSystemAdministrator =
            clinux_capabilities(&capabilities) == 0 && capabilities[0].effective & (1 << UInt32(CAP_SYS_ADMIN)) != 0
        allowsOthers =
            lines("/etc/fuse.conf")?.contains { $0.split(whereSeparator: \.isWhitespace) == ["user_allow_other"] }
            ?? false
        inotifyWatches = lines("/proc/sys/fs/inotify/max_user_watches")?.first.flatMap { UInt64($0) }
        var limit = rlimit()
        if openFilesLimit == nil, getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            openFilesLimit = UInt64(limit.rlim_max)
        }
        clock = Int64(time(nil))
        var state = timex()
        let answer = adjtimex(&state)
        if answer >= 0 { clockIsSynchronized = answer != TIME_ERROR && state.status & STA_UNSYNC == 0 }
    }
}

extension TownFacts.Log {
    /// The log of a town: the file that its keeper has open, otherwise the default; nil if there is none.
    fileprivate static func read(of town: String, keeper: pid_t?) -> TownFacts.Log? {
        let path = keeper.flatMap { try? ProcFS.link("/proc/\($0)/fd/2") } ?? (try? Log.defaultPath(for: town))
        guard let path, path.hasPrefix("/"),
            let file = try? OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDONLY | O_NONBLOCK)
        else { return nil }
        var status = FileStatus()
        guard fstat(file.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        // The end is enough: a mount renames a larger log.
        lseek(file.rawValue, max(0, status.st_size - (1 << 20)), SEEK_SET)
        return (try? file.readToEnd()).map { TownFacts.Log(path: path, text: $0) }
    }

    /// - Parameter text: Lines as swift-log's StreamLogHandler writes them: `… [source] message`.
    init(path: String, text: String) {
        self.init(path: path)
        for line in text.split(separator: "\n") {
            // The message follows the source in brackets.
            guard let bracket = line.firstIndex(of: "]"), line[bracket...].hasPrefix("] ") else { continue }
            let message = line[bracket...].dropFirst(2)
            if message == "mounted" {
                (rejections, unwritten, lastProblem) = (0, 0, nil)
            } else if message.hasPrefix("refused a write to ") {
                rejections += 1
                lastProblem = String(message)
            } else if message.hasPrefix("cannot write ") {
                unwritten += 1
            }
        }
    }
}

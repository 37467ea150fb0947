import CLinux
import Daemon
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage

extension TownFacts {
    /// Examines a town and its machine.
    ///
    /// Reads only `.pulse/status.json` of a mounted town, and that with a time limit.
    static func gather(_ place: TownPath) throws -> TownFacts {
        var facts = TownFacts(town: place.path, user: geteuid(), mountState: try mountState(place.mount))
        facts.mounter = place.mount?.user
        if let table = try? MountTable() {
            let mountpoint = place.mount?.path ?? place.path
            facts.layers = table.entries.count { $0.path == mountpoint && $0.isPulseFS }
            facts.enclosing = table.enclosing(place.path).map { Place(path: $0.path, type: $0.type) }
            facts.hidepid = table.entries.last { $0.path == "/proc" }?.superOptions
                .first { $0.hasPrefix("hidepid=") }.map { String($0.dropFirst("hidepid=".count)) }
            if let enclosing = table.enclosing(place.path) {
                let signalMounts = place.mount.map { table.signalMounts(of: $0).map(\.path) } ?? []
                facts.lookAtProcesses(
                    on: enclosing, within: place.mount?.isPulse == true ? signalMounts : [place.path],
                    keeper: facts.status?.keeperPid)
            }
        }
        if let status = facts.status {
            facts.keeperIsThere = isProcess(status.keeperPid, named: "pulsefs-keeper")
            facts.workerIsThere = isProcess(status.workerPid, named: "pulsefs-worker")
            facts.openFilesLimit = openFilesLimit(of: status.workerPid)
            facts.workerIsSystemAdministrator = isSystemAdministrator(status.workerPid)
            // With --scope=signals, a backing `.pulse` is the mountpoint.
            facts.hasRealPulse =
                facts.isScopedToSignals
                ? false : exists("/proc/\(status.workerPid)/fd/\(Keeper.WorkerDescriptor.root)/.pulse")
        }
        if place.mount == nil { try facts.lookIntoPlainTown() }
        try facts.lookAtGit()
        facts.lookAtMachine()
        facts.log = Log.read(of: place.path, keeper: facts.status?.keeperPid)
        return facts
    }

    private static func mountState(_ mount: MountInfo?) throws -> MountState {
        guard let mount else { return .absent }
        return switch try StatusFile.read(of: mount.town) {
        case .value(let text): StatusFile.decode(text).map(MountState.served) ?? .strange
        case .dead: .dead
        case .denied: .denied
        case .silent: .silent
        case .failed(let error): .failed(error)
        }
    }

    // MARK: Processes

    /// - Parameter directories: The directories that are or would be mounted.
    private mutating func lookAtProcesses(on enclosing: MountInfo, within directories: [String], keeper: pid_t?) {
        let users = MountUsers(of: enclosing, within: directories)
        holders = users.processes().filter { $0.name != "pulsefs-keeper" && $0.name != "pulsefs-worker" }
        hiddenProcesses = ProcFS.processes.count { pid in
            do throws(Errno) {
                _ = try ProcFS.link("/proc/\(pid)/cwd")
                return false
            } catch {
                return error == .permissionDenied
            }
        }
        let start = keeper.flatMap(ProcFS.startTime)
        oldSockets = users.sockets(in: directories).filter { socket in
            guard isMounted else { return true }
            guard let start, let owner = ProcFS.startTime(socket.pid) else { return false }
            return owner < start
        }.map { String($0.use.dropFirst("socket ".count)) }.sorted()
    }

    private static func isProcess(_ pid: pid_t, named name: String) -> Bool? {
        guard access("/proc/self", F_OK) == 0 else { return nil }
        return ProcFS.name(pid)?.hasPrefix(name) ?? false
    }

    /// Whether a process has CAP_SYS_ADMIN; nil if that cannot be seen.
    private static func isSystemAdministrator(_ pid: pid_t) -> Bool? {
        ProcFS.field("CapEff:", in: "/proc/\(pid)/status")?.last.flatMap { UInt64($0, radix: 16) }
            .map { $0 & (1 << UInt64(CAP_SYS_ADMIN)) != 0 }
    }

    /// The hard limit.
    private static func openFilesLimit(of pid: pid_t) -> UInt64? {
        guard let fields = ProcFS.field("Max open files", in: "/proc/\(pid)/limits"), fields.count > 1 else {
            return nil
        }
        return UInt64(fields[1]) ?? .max
    }

    // MARK: The town

    /// Examines a town that is not mounted, with a time limit: its disk may hang.
    private mutating func lookIntoPlainTown() throws {
        let town = town
        let seen = try TownAnswer.ask { () throws(Errno) in
            var newest: (name: String, modified: Int)?
            let heartbeats = ProcFS.names(town + "/.runtime/heartbeats").filter { $0.hasSuffix(".json") }
                .map { ".runtime/heartbeats/" + $0 }
            let names = [
                ".runtime/keepalive.json", "daemon/activity.json", "deacon/heartbeat.json", "deacon/.deacon-heartbeat",
            ]
            for name in names + heartbeats {
                var status = FileStatus()
                guard lstat("\(town)/\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
                if status.st_mtim.tv_sec > newest?.modified ?? .min { newest = (name, status.st_mtim.tv_sec) }
            }
            let hasRealPulse = Self.exists(town + "/.pulse")
            return (newest, hasRealPulse)
        }
        guard case .value(let (newest, hasRealPulse)) = seen else { return }
        lastHeartbeat = newest.map { ($0.name, Double(max(0, time(nil) - $0.modified))) }
        self.hasRealPulse = hasRealPulse
        names = try within(.seconds(1)) { Self.countNames(in: town) }
    }

    /// Reads git's configuration with a time limit, past the mount if there is one.
    private mutating func lookAtGit() throws {
        let town = town
        let root = status.map { "/proc/\($0.workerPid)/fd/\(Keeper.WorkerDescriptor.root)" } ?? town
        gitFiles = try within(.seconds(1)) { GitConfig.filesWithoutEffect(in: root, of: town) } ?? []
    }

    /// Counts files and directories up to `manyNames`.
    private static func countNames(in town: String) -> Int {
        var count = 0
        var directories = [town]
        while let directory = directories.popLast(), count < manyNames {
            for entry in directoryEntries(closing: opendir(directory)) {
                count += 1
                if entry.kind == CInt(DT_DIR) { directories.append("\(directory)/\(entry.name)") }
            }
        }
        return count
    }

    /// Nil if it cannot be told.
    private static func exists(_ path: String) -> Bool? {
        var status = FileStatus()
        if lstat(path, &status) == 0 { return true }
        return Errno.current == .noSuchFileOrDirectory ? false : nil
    }

    // MARK: The machine

    private mutating func lookAtMachine() {
        fusermount = FilePaths.inSearchPath("fusermount3").flatMap(Self.file)
        deviceFile = Self.file(KernelMount.device)
        deviceIsOpenable = access(KernelMount.device, R_OK | W_OK) == 0
        kernelHasFUSE = deviceFile != nil || (try? ProcFS.text("/proc/filesystems"))?.contains("\tfuse\n") ?? true
        kernel =
            ((try? ProcFS.text("/proc/sys/kernel/osrelease")) ?? "").split(separator: "\n").first.map(String.init) ?? ""
        isSystemAdministrator = Self.hasSystemAdministration
        allowsOthers =
            (try? ProcFS.text("/etc/fuse.conf"))?.split(separator: "\n")
            .contains { $0.split(whereSeparator: \.isWhitespace) == ["user_allow_other"] } ?? false
        inotifyWatches = (try? ProcFS.text("/proc/sys/fs/inotify/max_user_watches"))
            .flatMap { UInt64($0.prefix { $0.isNumber }) }
        if openFilesLimit == nil {
            var limit = rlimit()
            if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
                openFilesLimit = UInt64(limit.rlim_max)
            }
        }
        clock = Int64(time(nil))
        var state = timex()
        let answer = adjtimex(&state)
        if answer >= 0 { clockIsSynchronized = answer != TIME_ERROR && state.status & STA_UNSYNC == 0 }
    }

    private static var hasSystemAdministration: Bool {
        var words = [__user_cap_data_struct](repeating: .init(), count: 2)
        guard clinux_capabilities(&words) == 0 else { return false }
        return words[0].effective & (1 << UInt32(CAP_SYS_ADMIN)) != 0
    }

    private static func file(_ path: String) -> File? {
        var status = FileStatus()
        guard stat(path, &status) == 0 else { return nil }
        return File(mode: status.st_mode, owner: status.st_uid)
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
        guard let text = try? file.readToEnd() else { return nil }
        return TownFacts.Log(path: path, text: text)
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

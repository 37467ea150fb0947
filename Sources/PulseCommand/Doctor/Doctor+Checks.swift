import Liveness
import TownFS

/// What the facts mean: each check a function of them, and of nothing else.
extension TownFacts {
    /// All findings, in the order in which one would look for a fault.
    var findings: [Finding] {
        [
            mount, scope, processes, place, backing, sockets, heartbeats, device, fusermount3, allowOther,
            kernelVersion,
            openFiles,
            inotify, proc, clockRate, documents, writeback, mirror, pulse, version,
        ].compactMap { $0 }
    }

    private var isRoot: Bool { user == 0 }

    /// `1 write`, `2 writes`.
    private func count(_ number: Int, _ one: String, _ many: String? = nil) -> String {
        number == 1 ? "1 \(one)" : "\(number) \(many ?? one + "s")"
    }

    // MARK: The mount

    var mount: Finding {
        let name = "mount"
        switch mounting {
        case .absent: return .ok(name, "\(town) is not mounted; what follows is about mounting it")
        case .served(let status) where layers > 1:
            return .problem(
                name, "\(layers) mounts of pulsefs lie upon each other, the topmost of worker \(status.workerPid)",
                "Touches are seen by the topmost only", do: "'pulsefs unmount \(town)' until one is left")
        case .served(let status):
            return .ok(name, "served by worker \(status.workerPid) since \(status.mountedAt)")
        case .strange:
            return .unknown(
                name, "the town says something that this version does not understand",
                do: "Use the pulsefs that has mounted it")
        case .dead:
            return .problem(
                name, "mounted, but keeper and worker were both killed",
                "Everybody in the town gets 'Transport endpoint is not connected'",
                do: "'pulsefs mount \(town)' heals it")
        case .denied:
            let mounter = mounter.map { " by the user with id \($0)" } ?? ""
            return .unknown(name, "mounted\(mounter), who has let nobody else in", do: "Ask as that user")
        case .silent:
            return .problem(
                name, "mounted, but it does not answer within \(StatusFile.patience)",
                "The worker is stuck, or a disk beneath it", do: "'pulsefs unmount --lazy \(town)' takes it away")
        case .failed(let error):
            return .problem(
                name, "mounted, and answers with an error: \(error)", "Something else may lie over the town",
                do: "'findmnt --mountpoint \(town)' shows what is there")
        }
    }

    /// What is mounted over, and whether the other choice would be better.
    var scope: Finding? {
        let name = "scope"
        guard let status else {
            guard !isMounted, let names, names >= Self.manyNames, !canPassThrough else { return nil }
            return .warning(
                name, "the town holds over \(Self.manyNames) files and directories, and there is no passthrough",
                "Mounted as a whole, all work on them goes through pulsefs",
                do: "'pulsefs mount --scope=signals \(town)' if only signal files matter; docs/OPERATIONS.md compares")
        }
        guard isScopedToSignals else {
            guard status.fileSystem.inodes >= Self.manyNames, !canPassThrough else {
                return .ok(name, "town: all of it is mounted over")
            }
            return .warning(
                name, "town, with \(status.fileSystem.inodes) files in use, and there is no passthrough",
                "All work on them goes through pulsefs",
                do: "Mount with --scope=signals if only signal files matter; docs/OPERATIONS.md compares")
        }
        let missing = status.uncovered ?? []
        if let first = missing.first {
            let more = missing.count > 1 ? " and \(missing.count - 1) more" : ""
            return .problem(
                name, "\(first.directory)\(more) can hold signal files and is not mounted over: \(first.reason)",
                "What is written there is no touch", do: "Mount the town anew")
        }
        let covered = count(status.covered?.count ?? 0, "directory", "directories")
        if status.activity?.mode == Town.Activity.beat.rawValue {
            return .warning(
                name, "signals: \(covered) mounted over, with --activity=beat",
                "Work elsewhere is not seen, and refreshes no heartbeat", do: "Mount with --scope=town")
        }
        return .ok(name, "signals: \(covered) mounted over; work elsewhere is not seen")
    }

    /// Whether the kernel may serve file data without the worker.
    private var canPassThrough: Bool {
        hasPassthrough && (workerIsSystemAdministrator ?? isSystemAdministrator)
    }

    private var kernelNumbers: [Int] {
        kernel.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
    }

    private var hasPassthrough: Bool {
        kernelNumbers.count == 2 && (kernelNumbers[0], kernelNumbers[1]) >= (6, 9)
    }

    /// Keeper and worker.
    var processes: Finding? {
        guard let status else { return nil }
        let name = "processes"
        guard let keeperIsThere, let workerIsThere else {
            return .ok(name, "keeper \(status.keeperPid) and worker \(status.workerPid) are not to be seen from here")
        }
        if keeperIsThere, workerIsThere {
            return .ok(name, "keeper \(status.keeperPid) and worker \(status.workerPid) run")
        }
        let gone = keeperIsThere ? "worker \(status.workerPid)" : "keeper \(status.keeperPid)"
        return .warning(
            name, "\(gone) is not in this process table",
            "Either it belongs to another pid namespace, or the mount is about to end", do: "Ask again in a second")
    }

    /// What the town lies on.
    var place: Finding {
        let name = "place"
        guard let enclosing else {
            return .unknown(name, "the table of mounts cannot be read", do: "Is /proc mounted?")
        }
        if enclosing.type == "fuse.pulsefs" {
            return .problem(
                name, "the town lies in another, \(enclosing.path)",
                "Each touch takes two ways, and the outer town has the inner one's documents for files",
                do: "Mount one of them, with --signal for what the other has")
        }
        if ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "virtiofs"].contains(enclosing.type)
            || enclosing.type.hasPrefix("fuse")
        {
            return .warning(
                name, "the town lies on \(enclosing.path), of type \(enclosing.type)",
                "What others change there is seen late, and documents go to real files no faster than it is",
                do: "A local disk is better; several hosts share liveness with --redis")
        }
        return .ok(name, "on \(enclosing.path), of type \(enclosing.type)")
    }

    // MARK: Who is beneath

    var backing: Finding {
        let name = "beneath"
        let unseen =
            hiddenProcesses > 0 ? "; \(count(hiddenProcesses, "process", "processes")) may not be looked into" : ""
        guard let first = holders.first else {
            return .ok(name, "no process works \(isMounted ? "beneath the mount" : "in the town")\(unseen)")
        }
        let names = holders.prefix(5).map { "\($0.name) (pid \($0.pid): \($0.use))" }.joined(separator: ", ")
        let more = holders.count > 5 ? " and \(holders.count - 5) more" : ""
        if isMounted {
            return .problem(
                name, "\(names)\(more) \(holders.count == 1 ? "is" : "are") from before the mount and beneath it",
                "What they write there is no touch, and they do not see what others write",
                do: "Restart them; in a shell, 'cd \"$PWD\"'")
        }
        return .warning(
            name, "\(names)\(more) \(holders.count == 1 ? "works" : "work") in the town",
            "Mounted now, they would go on in the files beneath",
            do: "Stop \(first.name) and the others before you mount")
    }

    var sockets: Finding? {
        guard let first = oldSockets.first else { return nil }
        let more = oldSockets.count > 1 ? " and \(oldSockets.count - 1) more" : ""
        return .warning(
            "sockets", "\(first)\(more) \(isMounted ? "may have been" : "was") bound before the mount",
            "A socket that was bound before cannot be reached through the mount",
            do: isMounted ? "Restart who listens on it, if nobody gets through" : "Mount first, then start who listens")
    }

    /// Heartbeats that nobody collects.
    var heartbeats: Finding? {
        guard !isMounted else { return nil }
        let name = "heartbeats"
        guard let (file, age) = lastHeartbeat, age < Touch.defaultTTL / .seconds(1) else {
            return .ok(name, "no signal file was written in the last 90 s")
        }
        return .warning(
            name, "\(file) was written \(describe(seconds: age)) ago",
            "Tools say that they are alive, and pulsefs does not hear it",
            do: "'pulsefs mount \(town)'")
    }

    // MARK: The machine

    var device: Finding {
        let name = "/dev/fuse"
        guard kernelHasFUSE else {
            return .problem(name, "the kernel has no FUSE", "Nothing can be mounted", do: "'modprobe fuse' as root")
        }
        guard let device = deviceFile else {
            return .problem(
                name, "it is missing", "Nothing can be mounted",
                do: "'modprobe fuse' as root, or give the container the device (--device /dev/fuse)")
        }
        let mode = String(device.mode & 0o7777, radix: 8)
        if !deviceIsOpenable {
            return .problem(
                name, "it has mode \(mode) and may not be opened by this user", "This user cannot mount",
                do: "'chmod 666 /dev/fuse' as root")
        }
        if device.mode & 0o666 != 0o666 {
            return .warning(
                name, "it has mode \(mode)", "Ordinary users cannot mount", do: "If they shall, 'chmod 666 /dev/fuse'")
        }
        return .ok(name, "it may be opened by everybody")
    }

    var fusermount3: Finding {
        let name = "fusermount3"
        let meaning = isRoot ? "Ordinary users cannot mount" : "This user cannot mount"
        func finding(_ found: String, do advice: String) -> Finding {
            isRoot ? .warning(name, found, meaning, do: advice) : .problem(name, found, meaning, do: advice)
        }
        guard let fusermount else { return finding("it is not installed", do: "Install the package fuse3") }
        guard fusermount.mode & 0o4000 != 0, fusermount.owner == 0 else {
            return finding("it is not set-user-id root", do: "Install the package fuse3 anew")
        }
        return .ok(name, "installed, set-user-id root")
    }

    var allowOther: Finding? {
        guard !isRoot, let allowsOthers else { return nil }
        return .ok(
            "user_allow_other",
            allowsOthers
                ? "in /etc/fuse.conf: this user may mount with --allow-other"
                : "not in /etc/fuse.conf: --allow-other is root's alone")
    }

    var kernelVersion: Finding {
        let name = "kernel"
        let numbers = kernelNumbers
        guard numbers.count == 2 else {
            return .unknown(name, "its version is '\(kernel)'", do: "Linux 5.11 is needed")
        }
        if (numbers[0], numbers[1]) < (5, 11) {
            return .problem(name, "Linux \(kernel)", "pulsefs needs 5.11", do: "Use a newer kernel")
        }
        let passthrough =
            !hasPassthrough
            ? "no passthrough before 6.9"
            : isSystemAdministrator ? "passthrough can be had" : "passthrough takes CAP_SYS_ADMIN"
        return .ok(name, "Linux \(kernel), \(passthrough)")
    }

    var openFiles: Finding? {
        guard let openFilesLimit else { return nil }
        let name = "open files"
        let limit = openFilesLimit > 1 << 60 ? "unlimited" : "\(openFilesLimit)"
        guard openFilesLimit < 4096 else { return .ok(name, "the limit is \(limit)") }
        return .warning(
            name, "the limit is \(limit)", "Each file that is open in the town is open in the worker as well",
            do: "Raise it: LimitNOFILE= in the unit, or 'ulimit -Hn'")
    }

    var inotify: Finding? {
        guard let inotifyWatches else { return nil }
        let name = "inotify"
        guard inotifyWatches < 8192 else { return .ok(name, "\(inotifyWatches) watches for each user") }
        return .warning(
            name, "\(inotifyWatches) watches for each user", "Tools that watch the town may come to the end of them",
            do: "'sysctl fs.inotify.max_user_watches=524288' as root")
    }

    var proc: Finding {
        let name = "/proc"
        guard let hidepid, hidepid != "0", hidepid != "off" else { return .ok(name, "it hides no processes") }
        return .warning(
            name, "mounted with hidepid=\(hidepid)",
            "Who touches a file can be named only if it is a process of the user who has mounted",
            do: "Mount as root, or /proc with gid= of a group that the worker is in")
    }

    var clockRate: Finding {
        let name = "clock"
        // Before this program was written.
        if clock < 1_767_225_600 {
            return .problem(
                name, "it stands at \(WallTime(seconds: clock).rfc3339)",
                "Documents get times that tools take to be long past",
                do: "Set it")
        }
        if let status, status.documents.fromFuture > 0 {
            return .warning(
                name, "\(count(Int(status.documents.fromFuture), "document")) came from ahead of it",
                "Their times were replaced; a tool's clock and this one differ", do: "Synchronize the clocks (NTP)")
        }
        if clockIsSynchronized == false {
            let finding = "the kernel does not know it to be synchronized"
            guard status?.mirror != nil else { return .ok(name, "\(finding); without a mirror that matters little") }
            return .warning(
                name, finding, "Times of other hosts are compared with it", do: "Synchronize the clocks (NTP)")
        }
        return .ok(name, clockIsSynchronized == true ? "synchronized" : "set")
    }

    // MARK: Documents

    var documents: Finding? {
        let refused = Int(status?.documents.refused ?? 0)
        let logged = log?.rejections ?? 0
        let name = "documents"
        guard max(refused, logged) > 0 else {
            return status.map { .ok(name, "\(count(Int($0.documents.touches), "touch", "touches")), none refused") }
        }
        let last = log?.lastProblem.map { ": \($0)" } ?? ""
        return .warning(
            name, "refused \(count(max(refused, logged), "write"))\(last)",
            "A tool writes what is no document; its close got EINVAL",
            do: log.map { "\($0.path) says which" } ?? "The log says which")
    }

    var writeback: Finding? {
        let name = "write-down"
        if let log, log.unwritten > 0, status?.documents.notWrittenDown != 0 {
            return .problem(
                name, "\(count(log.unwritten, "time")) a document could not be written to its real file",
                "They would be lost if keeper and worker were killed at once",
                do: "Is the disk full, or the directory gone? \(log.path) says more; it is tried again every 20 s")
        }
        guard let status else { return nil }
        let changed = status.documents.notWrittenDown
        return .ok(
            name,
            changed == 0
                ? "every document is in its real file" : "\(count(changed, "document")) changed in the last 30 s")
    }

    var mirror: Finding? {
        guard let status else { return nil }
        let name = "mirror"
        guard let mirror = status.mirror else { return .ok(name, "none; only this host knows who is alive") }
        let links = [
            ("heartbeats", mirror.heartbeats), ("records", mirror.records), ("subscription", mirror.subscription),
        ]
        guard let (what, link) = links.first(where: { $0.1.state != .up }) else {
            return .ok(name, "\(mirror.server) is up")
        }
        let finding =
            "\(what) of \(mirror.server): \(link.state.rawValue) since \(link.since)\(link.reason.map { ", \($0)" } ?? "")"
        switch link.state {
        case .up, .connecting:
            return .warning(name, finding, "Others do not see this town yet", do: "Ask again in a second")
        case .down:
            return .problem(
                name, finding, "Others take this town's runtimes for expired",
                do: "Is the server running, and reachable? It is tried again by itself")
        case .refused:
            return .problem(
                name, finding, "The server turns pulsefs down",
                do: "Mend the password or the permissions; see docs/REDIS.md")
        }
    }

    var pulse: Finding? {
        guard hasRealPulse == true else { return nil }
        return .warning(
            ".pulse", "there is a real file or directory of that name",
            "It \(isMounted ? "is" : "would be") hidden while the town is mounted",
            do: "Rename it while the town is not mounted, if anybody needs it")
    }

    var version: Finding? {
        guard let status, status.version != PulseFS.version else { return nil }
        return .warning(
            "version", "mounted by pulsefs \(status.version), asked by \(PulseFS.version)",
            "The town does what the one that mounted it does", do: "Mount it anew when it suits")
    }
}

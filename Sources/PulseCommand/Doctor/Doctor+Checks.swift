import Daemon
import Liveness
import TownFS

/// The checks: pure functions of the facts.
extension TownFacts {
    /// All findings, in the order in which to look for a fault.
    var findings: [Finding] {
        [
            mount, scope, processes, place, backing, sockets, heartbeats, device, fusermount3, allowOther,
            kernelVersion,
            openFiles,
            inotify, proc, git, clockRate, documents, writeback, mirror, pulse, version,
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
        switch mountState {
        case .absent: return .ok(name, "\(town) is not mounted; what follows is about mounting it")
        case .served(let status) where layers > 1:
            return .problem(
                name, "\(layers) mounts of pulsefs lie upon each other, the topmost of worker \(status.workerPid)",
                "Touches are seen by the topmost only", do: "'pulsefs unmount \(town)' until one is left")
        case .served(let status):
            return .ok(name, "served by worker \(status.workerPid) since \(status.mountedAt)")
        case .strange:
            return .unknown(
                name, "this version does not understand the status of the town",
                do: "Use the pulsefs that has mounted it")
        case .dead:
            return .problem(
                name, "mounted, but keeper and worker were both killed",
                "All calls in the town fail with 'Transport endpoint is not connected'",
                do: "'pulsefs mount \(town)' repairs it")
        case .denied:
            let mounter = mounter.map { " by the user with id \($0)" } ?? ""
            return .unknown(name, "mounted\(mounter), without access for others", do: "Ask as that user")
        case .silent:
            return .problem(
                name, "mounted, but it does not answer within \(StatusFile.timeout)",
                "The worker hangs, or a disk that it waits for", do: "'pulsefs unmount --lazy \(town)' detaches it")
        case .failed(let error):
            return .problem(
                name, "mounted, and answers with an error: \(error)", "Something else may lie over the town",
                do: "'findmnt --mountpoint \(town)' shows what is there")
        }
    }

    /// The scope, and whether the other one would be better.
    var scope: Finding? {
        let name = "scope"
        guard let status else {
            guard !isMounted, let names, names >= Self.manyNames, !canPassThrough else { return nil }
            return .warning(
                name, "the town holds over \(Self.manyNames) files and directories, and there is no passthrough",
                "With --scope=town all work on them goes through pulsefs",
                do: "'pulsefs mount --scope=signals \(town)' if only signal files matter; docs/OPERATIONS.md compares")
        }
        guard isScopedToSignals else {
            guard status.fileSystem.inodes >= Self.manyNames, !canPassThrough else {
                return .ok(name, "town: the whole town is mounted")
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
                name, "\(first.directory)\(more) can hold signal files and is not mounted: \(first.reason)",
                "Writes there are not touches", do: "Unmount and mount the town")
        }
        let covered = count(status.covered?.count ?? 0, "directory", "directories")
        if status.activity?.mode == Town.Activity.beat.rawValue {
            return .warning(
                name, "signals: \(covered) mounted, with --activity=beat",
                "Work elsewhere refreshes no heartbeat", do: "Mount with --scope=town")
        }
        return .ok(name, "signals: \(covered) mounted; work elsewhere is not seen")
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
            return .ok(name, "keeper \(status.keeperPid) and worker \(status.workerPid) cannot be seen from here")
        }
        if keeperIsThere, workerIsThere {
            return .ok(name, "keeper \(status.keeperPid) and worker \(status.workerPid) run")
        }
        let gone = keeperIsThere ? "worker \(status.workerPid)" : "keeper \(status.keeperPid)"
        return .warning(
            name, "\(gone) is not in this process table",
            "It is in another pid namespace, or the mount is about to end", do: "Ask again in a second")
    }

    /// What the town lies on.
    var place: Finding {
        let name = "place"
        guard let enclosing else {
            return .unknown(name, "the mount table cannot be read", do: "Is /proc mounted?")
        }
        if enclosing.type == "fuse.pulsefs" {
            return .problem(
                name, "the town lies in another town, \(enclosing.path)",
                "Each touch passes two mounts, and the outer one stores documents of the inner one as files",
                do: "Mount one of them, with --signal for the signal files of the other")
        }
        if ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "virtiofs"].contains(enclosing.type)
            || enclosing.type.hasPrefix("fuse")
        {
            return .warning(
                name, "the town lies on \(enclosing.path), of type \(enclosing.type)",
                "Changes by other hosts are seen late, and write-back is as slow as that file system",
                do: "A local disk is better; several hosts share liveness with --redis")
        }
        return .ok(name, "on \(enclosing.path), of type \(enclosing.type)")
    }

    // MARK: Processes that bypass the mount

    var backing: Finding {
        let name = "bypass"
        let unseen =
            hiddenProcesses > 0 ? "; \(count(hiddenProcesses, "process", "processes")) cannot be examined" : ""
        guard let first = holders.first else {
            return .ok(name, "no process \(isMounted ? "bypasses the mount" : "works in the town")\(unseen)")
        }
        let names = holders.prefix(5).map { "\($0.name) (pid \($0.pid): \($0.use))" }.joined(separator: ", ")
        let more = holders.count > 5 ? " and \(holders.count - 5) more" : ""
        if isMounted {
            return .problem(
                name,
                "\(names)\(more) \(holders.count == 1 ? "is" : "are") from before the mount and bypass\(holders.count == 1 ? "es" : "") it",
                "Their writes are not touches, and they do not see documents that others write",
                do: "Restart them; in a shell, 'cd \"$PWD\"'")
        }
        return .warning(
            name, "\(names)\(more) \(holders.count == 1 ? "works" : "work") in the town",
            "They would bypass a mount made now",
            do: "Stop \(first.name) and the others before you mount")
    }

    var sockets: Finding? {
        guard let first = oldSockets.first else { return nil }
        let more = oldSockets.count > 1 ? " and \(oldSockets.count - 1) more" : ""
        return .warning(
            "sockets", "\(first)\(more) \(isMounted ? "may have been" : "was") bound before the mount",
            "A socket that was bound before the mount cannot be reached through it",
            do: isMounted ? "Restart its owner if connections fail" : "Mount first, then start its owner")
    }

    /// Heartbeats in a town that is not mounted.
    var heartbeats: Finding? {
        guard !isMounted else { return nil }
        let name = "heartbeats"
        guard let (file, age) = lastHeartbeat, age < Touch.defaultTTL / .seconds(1) else {
            return .ok(name, "no signal file was written in the last 90 s")
        }
        return .warning(
            name, "\(file) was written \(describe(seconds: age)) ago",
            "Tools write heartbeats, and pulsefs does not see them",
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
                name, "it has mode \(mode), and this user may not open it", "This user cannot mount",
                do: "'chmod 666 /dev/fuse' as root")
        }
        if device.mode & 0o666 != 0o666 {
            return .warning(
                name, "it has mode \(mode)", "Ordinary users cannot mount", do: "To allow that, 'chmod 666 /dev/fuse'")
        }
        return .ok(name, "all users may open it")
    }

    var fusermount3: Finding {
        let name = "fusermount3"
        let meaning = isRoot ? "Ordinary users cannot mount" : "This user cannot mount"
        func finding(_ found: String, do advice: String) -> Finding {
            isRoot ? .warning(name, found, meaning, do: advice) : .problem(name, found, meaning, do: advice)
        }
        guard let fusermount else { return finding("it is not installed", do: "Install the package fuse3") }
        guard fusermount.mode & 0o4000 != 0, fusermount.owner == 0 else {
            return finding("it is not set-user-id root", do: "Reinstall the package fuse3")
        }
        return .ok(name, "installed, set-user-id root")
    }

    var allowOther: Finding? {
        guard !isRoot, let allowsOthers else { return nil }
        return .ok(
            "user_allow_other",
            allowsOthers
                ? "in /etc/fuse.conf: this user may mount with --allow-other"
                : "not in /etc/fuse.conf: only root may use --allow-other")
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
            : isSystemAdministrator ? "passthrough available" : "passthrough needs CAP_SYS_ADMIN"
        return .ok(name, "Linux \(kernel), \(passthrough)")
    }

    var openFiles: Finding? {
        guard let openFilesLimit else { return nil }
        let name = "open files"
        let limit = openFilesLimit > 1 << 60 ? "unlimited" : "\(openFilesLimit)"
        guard openFilesLimit < 4096 else { return .ok(name, "the limit is \(limit)") }
        return .warning(
            name, "the limit is \(limit)", "Each file that is open in the town is also open in the worker",
            do: "Raise it: LimitNOFILE= in the unit, or 'ulimit -Hn'")
    }

    var inotify: Finding? {
        guard let inotifyWatches else { return nil }
        let name = "inotify"
        guard inotifyWatches < 8192 else { return .ok(name, "\(inotifyWatches) watches for each user") }
        return .warning(
            name, "\(inotifyWatches) watches for each user", "Tools that watch the town may exhaust them",
            do: "'sysctl fs.inotify.max_user_watches=524288' as root")
    }

    var proc: Finding {
        let name = "/proc"
        guard let hidepid, hidepid != "0", hidepid != "off" else { return .ok(name, "it hides no processes") }
        return .warning(
            name, "mounted with hidepid=\(hidepid)",
            "Touches can only be attributed to processes of the user who has mounted",
            do: "Mount as root, or /proc with gid= of a group that the worker is in")
    }

    /// git's object files, which a method that relies on sync_file_range(2) does not make durable.
    var git: Finding? {
        guard let first = gitFiles.first else { return nil }
        let more = gitFiles.count > 1 ? " and \(gitFiles.count - 1) more" : ""
        return .warning(
            "git", "\(first)\(more) \(more.isEmpty ? "sets" : "set") core.fsyncMethod to batch or writeout-only",
            "That relies on sync_file_range(2), which does nothing in a town: a crash may lose committed objects",
            do: "'git config core.fsyncMethod fsync'")
    }

    var clockRate: Finding {
        let name = "clock"
        // Before this program was written.
        if clock < 1_767_225_600 {
            return .problem(
                name, "it stands at \(WallTime(seconds: clock).rfc3339)",
                "Tools take the times of documents for long past",
                do: "Set it")
        }
        if let status, status.documents.fromFuture > 0 {
            return .warning(
                name, "\(count(Int(status.documents.fromFuture), "document")) had a time ahead of it",
                "Their times were replaced; a tool's clock and this one differ", do: "Synchronize the clocks (NTP)")
        }
        if clockIsSynchronized == false {
            let finding = "not synchronized, as far as the kernel knows"
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
            "A tool wrote an invalid document; close(2) returned EINVAL",
            do: log.map { "\($0.path) names it" } ?? "The log names it")
    }

    var writeback: Finding? {
        let name = "write-back"
        if let log, log.unwritten > 0, status?.documents.notWrittenDown != 0 {
            return .problem(
                name, "\(count(log.unwritten, "time")) a document could not be written back to its file",
                "It is lost if keeper and worker are killed together",
                do: "Is the disk full, or the directory gone? See \(log.path). Write-back is retried every 20 s")
        }
        guard let status else { return nil }
        let changed = status.documents.notWrittenDown
        return .ok(
            name,
            changed == 0
                ? "every document is in its backing file" : "\(count(changed, "document")) changed in the last 30 s")
    }

    var mirror: Finding? {
        guard let status else { return nil }
        let name = "mirror"
        guard let mirror = status.mirror else { return .ok(name, "none; liveness stays on this host") }
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
            return .warning(name, finding, "Other hosts do not see this town yet", do: "Ask again in a second")
        case .down:
            return .problem(
                name, finding, "Other hosts take this town's runtimes for expired",
                do: "Is the server running and reachable? pulsefs keeps trying")
        case .refused:
            return .problem(
                name, finding, "The server rejects pulsefs",
                do: "Correct the password or the permissions; see docs/REDIS.md")
        }
    }

    var pulse: Finding? {
        guard hasRealPulse == true else { return nil }
        return .warning(
            ".pulse", "there is a backing file or directory of that name",
            "It \(isMounted ? "is" : "would be") hidden by the mount",
            do: "If it is needed, unmount and rename it")
    }

    var version: Finding? {
        guard let status, status.version != PulseFS.version else { return nil }
        return .warning(
            "version", "mounted by pulsefs \(status.version), asked by \(PulseFS.version)",
            "The town runs the version that mounted it", do: "Unmount and mount it when convenient")
    }
}

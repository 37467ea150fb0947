import Daemon
import Liveness
import TownFS

/// The checks: pure functions of the facts. Nil means that a check does not apply.
extension TownFacts {
    /// All findings, in the order in which to look for a fault.
    var findings: [Finding] {
        let checks: KeyValuePairs<String, Finding?> = [
            "mount": mount, "scope": scope, "processes": processes, "place": place, "bypass": bypass,
            "sockets": sockets, "heartbeats": heartbeats, "/dev/fuse": device, "fusermount3": fusermount3,
            "user_allow_other": allowOther, "kernel": kernelVersion, "open files": openFiles, "inotify": inotify,
            "/proc": proc, "git": git, "clock": clockRate, "documents": documents, "write-back": writeback,
            "mirror": mirror, ".pulse": pulse, "state": state, "version": version,
        ]
        return checks.compactMap { name, finding in
            var finding = finding
            finding?.check = name
            return finding
        }
    }

    /// `1 write`, `2 writes`.
    private func count(_ number: Int, _ one: String, _ many: String? = nil) -> String {
        number == 1 ? "1 \(one)" : "\(number) \(many ?? one + "s")"
    }

    /// `a, b and 2 more`; nil for none.
    private func list(_ names: [String], showing shown: Int = 1) -> String? {
        guard !names.isEmpty else { return nil }
        let more = names.count > shown ? " and \(names.count - shown) more" : ""
        return names.prefix(shown).joined(separator: ", ") + more
    }

    // MARK: The mount

    private var mount: Finding? {
        switch answer {
        case nil: return .ok("\(town) is not mounted; what follows is about mounting it")
        case .value(let status?) where layers > 1:
            return .problem(
                "\(layers) mounts of pulsefs are stacked here, the topmost of worker \(status.workerPid)",
                "Touches are seen by the topmost only", do: "'pulsefs unmount \(town)' until one is left")
        case .value(let status?): return .ok("served by worker \(status.workerPid) since \(status.mountedAt)")
        case .value(nil):
            return .unknown(
                "this version does not understand the status of the town", do: "Use the pulsefs that has mounted it")
        case .dead:
            return .problem(
                "mounted, but keeper and worker were both killed",
                "All calls in the town fail with 'Transport endpoint is not connected'",
                do: "'pulsefs mount \(town)' repairs it")
        case .denied:
            let mounter = mounter.map { " by the user with id \($0)" } ?? ""
            return .unknown("mounted\(mounter), without access for others", do: "Run doctor as that user")
        case .silent:
            return .problem(
                "mounted, but it does not answer within \(answerTimeout)",
                "The worker hangs, or a disk that it waits for", do: "'pulsefs unmount --lazy \(town)' detaches it")
        case .failed(let error):
            return .problem(
                "mounted, and answers with an error: \(error)", "Something else may be mounted over the town",
                do: "'findmnt --mountpoint \(town)' shows what is there")
        }
    }

    /// The scope, and whether the other one would be better.
    var scope: Finding? {
        guard let status else {
            guard !isMounted, let names, names >= Self.manyNames, !canPassThrough else { return nil }
            return .warning(
                "the town holds over \(Self.manyNames) files and directories, and there is no passthrough",
                "With --scope=town all work on them goes through pulsefs",
                do: "'pulsefs mount --scope=signals \(town)' if only signal files matter; docs/OPERATIONS.md compares")
        }
        guard isScopedToSignals else {
            guard status.fileSystem.inodes >= Self.manyNames, !canPassThrough else {
                return .ok("town: the whole town is mounted")
            }
            return .warning(
                "town, with \(status.fileSystem.inodes) files in use, and there is no passthrough",
                "All work on them goes through pulsefs",
                do: "Mount with --scope=signals if only signal files matter; docs/OPERATIONS.md compares")
        }
        let missing = status.uncovered ?? []
        if let names = list(missing.map(\.directory)) {
            return .problem(
                "\(names) can hold signal files and is not mounted: \(missing[0].reason)",
                "Writes there are not touches", do: "Unmount and mount the town")
        }
        let covered = count(status.covered?.count ?? 0, "directory", "directories")
        if status.activity?.mode == Town.Activity.beat.rawValue {
            return .warning(
                "signals: \(covered) mounted, with --activity=beat", "Work elsewhere refreshes no heartbeat",
                do: "Mount with --scope=town")
        }
        return .ok("signals: \(covered) mounted; work elsewhere is not seen")
    }

    /// Whether the kernel may serve file data without the worker.
    private var canPassThrough: Bool {
        hasPassthrough && (workerIsSystemAdministrator ?? isSystemAdministrator)
    }

    private var hasPassthrough: Bool { kernelNumbers.map { $0 >= (6, 9) } ?? false }

    private var kernelNumbers: (Int, Int)? {
        let numbers = kernel.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        return numbers.count == 2 ? (numbers[0], numbers[1]) : nil
    }

    private var processes: Finding? {
        guard let status else { return nil }
        let both = "keeper \(status.keeperPid) and worker \(status.workerPid)"
        guard let keeperIsThere, let workerIsThere else { return .ok("\(both) cannot be seen from here") }
        if keeperIsThere, workerIsThere { return .ok("\(both) run") }
        let gone = keeperIsThere ? "worker \(status.workerPid)" : "keeper \(status.keeperPid)"
        return .warning(
            "\(gone) is not in this process table",
            "It is in another pid namespace, or the mount is about to end", do: "Run doctor again in a second")
    }

    private static let remoteTypes: Set = ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "virtiofs"]

    /// The file system under the town.
    private var place: Finding? {
        guard let (path, type) = enclosing else {
            return .unknown("the mount table cannot be read", do: "Is /proc mounted?")
        }
        if type == "fuse.pulsefs" {
            return .problem(
                "the town is inside another town, \(path)",
                "Each touch passes two mounts, and the outer one stores documents of the inner one as files",
                do: "Mount one of them, with --signal for the signal files of the other")
        }
        if Self.remoteTypes.contains(type) || type.hasPrefix("fuse") {
            return .warning(
                "the town is on \(path), of type \(type)",
                "Changes by other hosts are seen late, and write-back is as slow as that file system",
                do: "A local disk is better; several hosts share liveness with --redis")
        }
        return .ok("on \(path), of type \(type)")
    }

    // MARK: Processes that bypass the mount

    private var bypass: Finding? {
        let unseen =
            hiddenProcesses > 0 ? "; \(count(hiddenProcesses, "process", "processes")) cannot be examined" : ""
        guard let names = list(holders.map(\.description), showing: 5) else {
            return .ok("no process \(isMounted ? "bypasses the mount" : "works in the town")\(unseen)")
        }
        let isOne = holders.count == 1
        if isMounted {
            return .problem(
                "\(names) \(isOne ? "is" : "are") from before the mount and \(isOne ? "bypasses" : "bypass") it",
                "Their writes are not touches, and they do not see documents that others write",
                do: "Restart them; in a shell, 'cd \"$PWD\"'")
        }
        return .warning(
            "\(names) \(isOne ? "works" : "work") in the town", "They would bypass a mount made now",
            do: "Stop \(holders[0].name) and the others before you mount")
    }

    private var sockets: Finding? {
        list(oldSockets).map { names in
            .warning(
                "\(names) \(isMounted ? "may have been" : "was") bound before the mount",
                "A socket that was bound before the mount cannot be reached through it",
                do: isMounted ? "Restart its owner if connections fail" : "Mount first, then start its owner")
        }
    }

    /// Heartbeats in a town that is not mounted.
    private var heartbeats: Finding? {
        guard !isMounted else { return nil }
        guard let (file, age) = lastHeartbeat, age < Touch.defaultTTL / .seconds(1) else {
            return .ok("no signal file was written in the last 90 s")
        }
        return .warning(
            "\(file) was written \(describe(seconds: age)) ago",
            "Tools write heartbeats, and pulsefs does not see them",
            do: "'pulsefs mount \(town)'")
    }

    // MARK: The machine

    private var device: Finding? {
        guard kernelHasFUSE else {
            return .problem("the kernel has no FUSE", "Nothing can be mounted", do: "'modprobe fuse' as root")
        }
        guard let deviceFile else {
            return .problem(
                "it is missing", "Nothing can be mounted",
                do: "'modprobe fuse' as root, or give the container the device (--device /dev/fuse)")
        }
        let mode = String(deviceFile.mode & 0o7777, radix: 8)
        if !deviceIsOpenable {
            return .problem(
                "it has mode \(mode), and this user may not open it", "This user cannot mount",
                do: "'chmod 666 /dev/fuse' as root")
        }
        if deviceFile.mode & 0o666 != 0o666 {
            return .warning(
                "it has mode \(mode)", "Ordinary users cannot mount", do: "To allow that, 'chmod 666 /dev/fuse'")
        }
        return .ok("all users may open it")
    }

    private var fusermount3: Finding? {
        func finding(_ found: String, do advice: String) -> Finding {
            user == 0
                ? .warning(found, "Ordinary users cannot mount", do: advice)
                : .problem(found, "This user cannot mount", do: advice)
        }
        guard let fusermount else { return finding("it is not installed", do: "Install the package fuse3") }
        guard fusermount.mode & 0o4000 != 0, fusermount.owner == 0 else {
            return finding("it is not set-user-id root", do: "Reinstall the package fuse3")
        }
        return .ok("installed, set-user-id root")
    }

    private var allowOther: Finding? {
        guard user != 0, let allowsOthers else { return nil }
        return .ok(
            allowsOthers
                ? "in /etc/fuse.conf: this user may mount with --allow-other"
                : "not in /etc/fuse.conf: only root may use --allow-other")
    }

    private var kernelVersion: Finding? {
        guard let kernelNumbers else { return .unknown("its version is '\(kernel)'", do: "Linux 5.11 is needed") }
        if kernelNumbers < (5, 11) {
            return .problem("Linux \(kernel)", "pulsefs needs 5.11", do: "Use a newer kernel")
        }
        let passthrough =
            !hasPassthrough
            ? "no passthrough before 6.9"
            : isSystemAdministrator ? "passthrough available" : "passthrough needs CAP_SYS_ADMIN"
        return .ok("Linux \(kernel), \(passthrough)")
    }

    private var openFiles: Finding? {
        guard let openFilesLimit else { return nil }
        let limit = openFilesLimit > 1 << 60 ? "unlimited" : "\(openFilesLimit)"
        guard openFilesLimit < 4096 else { return .ok("the limit is \(limit)") }
        return .warning(
            "the limit is \(limit)", "Each file that is open in the town is also open in the worker",
            do: "Raise it: LimitNOFILE= in the unit, or 'ulimit -Hn'")
    }

    private var inotify: Finding? {
        guard let inotifyWatches else { return nil }
        let limit = "\(inotifyWatches) watches for each user"
        guard inotifyWatches < 8192 else { return .ok(limit) }
        return .warning(
            limit, "Tools that watch the town may exhaust them",
            do: "'sysctl fs.inotify.max_user_watches=524288' as root")
    }

    var proc: Finding? {
        guard let hidepid, hidepid != "0", hidepid != "off" else { return .ok("it hides no processes") }
        return .warning(
            "mounted with hidepid=\(hidepid)",
            "Touches can only be attributed to processes of the user who has mounted",
            do: "Mount as root, or /proc with gid= of a group that the worker is in")
    }

    /// git's object files, which a method that relies on sync_file_range(2) does not make durable.
    private var git: Finding? {
        list(gitFiles).map { names in
            .warning(
                "\(names) \(gitFiles.count > 1 ? "set" : "sets") core.fsyncMethod to batch or writeout-only",
                "That relies on sync_file_range(2), which does nothing in a town: a crash may lose committed objects",
                do: "'git config core.fsyncMethod fsync'")
        }
    }

    var clockRate: Finding? {
        // Before this program was written.
        if clock < 1_767_225_600 {
            return .problem(
                "it stands at \(WallTime(seconds: clock).rfc3339)", "Tools consider every document old",
                do: "Set it")
        }
        if let status, status.documents.fromFuture > 0 {
            return .warning(
                "\(count(Int(status.documents.fromFuture), "document")) had a time ahead of it",
                "Their times were replaced; a tool's clock and this one differ", do: "Synchronize the clocks (NTP)")
        }
        guard clockIsSynchronized == false else { return .ok(clockIsSynchronized == true ? "synchronized" : "set") }
        let finding = "not synchronized, as far as the kernel knows"
        guard status?.mirror != nil else { return .ok("\(finding); without a mirror that matters little") }
        return .warning(finding, "Times of other hosts are compared with it", do: "Synchronize the clocks (NTP)")
    }

    // MARK: Documents

    private var documents: Finding? {
        let refused = max(Int(status?.documents.refused ?? 0), log?.rejections ?? 0)
        guard refused > 0 else {
            return status.map { .ok("\(count(Int($0.documents.touches), "touch", "touches")), none refused") }
        }
        let last = log?.lastProblem.map { ": \($0)" } ?? ""
        return .warning(
            "refused \(count(refused, "write"))\(last)",
            "A tool wrote an invalid document; close(2) returned EINVAL",
            do: log.map { "\($0.path) names it" } ?? "The log names it")
    }

    var writeback: Finding? {
        if let log, log.unwritten > 0, status?.documents.notWrittenDown != 0 {
            return .problem(
                "\(count(log.unwritten, "time")) a document could not be written back to its file",
                "It is lost if keeper and worker are killed together",
                do: "Is the disk full, or the directory gone? See \(log.path). Write-back is retried every 20 s")
        }
        return status.map { status in
            let dirty = status.documents.notWrittenDown
            return .ok(
                dirty == 0
                    ? "every document is in its backing file" : "\(count(dirty, "document")) changed in the last 30 s")
        }
    }

    private var mirror: Finding? {
        guard let status else { return nil }
        guard let mirror = status.mirror else { return .ok("none; liveness stays on this host") }
        let links = [
            ("heartbeats", mirror.heartbeats), ("records", mirror.records), ("subscription", mirror.subscription),
        ]
        guard let (name, link) = links.first(where: { $0.1.state != .up }) else { return .ok("\(mirror.server) is up") }
        let finding = "\(name) of \(mirror.server): \(link.words)"
        switch link.state {
        case .up, .connecting:
            return .warning(finding, "Other hosts do not see this town yet", do: "Run doctor again in a second")
        case .down:
            return .problem(
                finding, "Other hosts consider this town's runtimes expired",
                do: "Is the server running and reachable? pulsefs keeps trying")
        case .refused:
            return .problem(
                finding, "The server rejects pulsefs",
                do: "Correct the password or the permissions; see docs/REDIS.md")
        }
    }

    private var pulse: Finding? {
        guard hasBackingPulse == true else { return nil }
        return .warning(
            "there is a backing file or directory of that name",
            "It \(isMounted ? "is" : "would be") hidden by the mount", do: "If it is needed, unmount and rename it")
    }

    /// What the mount knows of the one before it.
    private var state: Finding? {
        guard let restored = status?.restored else { return nil }
        let forgotten = restored.forgotten == 0 ? "" : ", and that \(restored.forgotten) were forgotten"
        return .ok(
            "\(count(restored.runtimes, "runtime")) known from the mount before, as of \(restored.savedAt)\(forgotten)")
    }

    private var version: Finding? {
        guard let status, status.version != PulseFS.version else { return nil }
        return .warning(
            "mounted by pulsefs \(status.version); this is \(PulseFS.version)",
            "The town runs the version that mounted it", do: "'pulsefs upgrade \(town)' lets this one serve")
    }
}

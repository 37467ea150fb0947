import Glibc
import Liveness
import SystemPackage
import Testing

@testable import Daemon
@testable import PulseCommand
@testable import TownFS

/// The findings of `pulsefs doctor` for given facts.
@Suite struct DoctorJudgementTests {
    /// A healthy machine and town.
    private static func facts(_ answer: TownAnswer<TownStatus?>? = .value(status())) -> TownFacts {
        var facts = TownFacts(town: "/gt", user: 1000, answer: answer)
        facts.layers = 1
        facts.enclosing = ("/", "ext4")
        facts.keeperIsThere = true
        facts.workerIsThere = true
        facts.hasBackingPulse = false
        facts.fusermount = (mode: S_IFREG | 0o4755, owner: 0)
        facts.deviceFile = (mode: S_IFCHR | 0o666, owner: 0)
        facts.deviceIsOpenable = true
        facts.kernel = "6.1.0-18-amd64"
        facts.allowsOthers = false
        facts.openFilesLimit = 524_288
        facts.inotifyWatches = 65_536
        facts.clockIsSynchronized = true
        facts.clock = 1_800_000_000
        facts.log = TownFacts.Log(path: "/log")
        return facts
    }

    private static func status(_ change: (inout TownStatus) -> Void = { _ in }) -> TownStatus {
        let text = """
            {"version":"\(PulseFS.version)","town":"/gt","keeper_pid":10,"worker_pid":11,
            "mounted_at":"2027-01-01T00:00:00Z","uptime_seconds":1,"ttl_seconds":90,"on_expiry":"keep",
            "signal_files":{"alive":1,"expired":0,"exited":0},"runtimes":{"alive":1,"expired":0,"exited":0},
            "documents":{"touches":1,"refused":0,"from_future":0,"not_written_down":0},
            "file_system":{"inodes":1,"open_files":0}}
            """
        guard var status: TownStatus = JSONText.decode(text) else { fatalError("the status above cannot be read") }
        change(&status)
        return status
    }

    private static func signals(_ change: (inout TownStatus) -> Void = { _ in }) -> TownStatus {
        status {
            $0.scope = "signals"
            $0.covered = [".runtime"]
            $0.uncovered = []
            change(&$0)
        }
    }

    @Test func scopeIsRecommendedOnlyWhereTheKernelCannotPassThrough() {
        var facts = Self.facts(.value(Self.status { $0.fileSystem.inodes = 60_000 }))
        facts.kernel = "6.12.1"
        facts.workerIsSystemAdministrator = true
        #expect(facts.scope?.level == .ok)
        facts.workerIsSystemAdministrator = false
        #expect(facts.scope?.level == .warning)
        #expect(Self.facts(.value(Self.signals())).scope?.level == .ok)
        #expect(Self.facts(nil).scope == nil)
    }

    private static func mirror(_ state: MirrorStatus.State) -> MirrorStatus {
        let up = MirrorStatus.Link(.up, since: WallTime(seconds: 0))
        return MirrorStatus(
            server: "redis://r:6379/0", townName: "gt", heartbeats: up,
            records: .init(state, since: WallTime(seconds: 0), reason: "why"), subscription: up)
    }

    /// One fault, and the finding expected for it.
    struct Fault: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let check: String
        let level: Finding.Level
        /// A string that the message must contain.
        let names: String
        let facts: TownFacts

        init(
            _ description: String, _ check: String, _ level: Finding.Level, naming names: String,
            _ answer: TownAnswer<TownStatus?>? = .value(status()), _ change: (inout TownFacts) -> Void = { _ in }
        ) {
            testDescription = description
            self.check = check
            self.level = level
            self.names = names
            var facts = DoctorJudgementTests.facts(answer)
            change(&facts)
            self.facts = facts
        }
    }

    static let faults = [
        Fault("dead mount", "mount", .problem, naming: "pulsefs mount /gt", .dead),
        Fault("silent mount", "mount", .problem, naming: "--lazy", .silent),
        Fault("another user's mount", "mount", .unknown, naming: "id 7", .denied) { $0.mounter = 7 },
        Fault("error of the mount", "mount", .problem, naming: "findmnt", .failed(.ioError)),
        Fault("status of another version", "mount", .unknown, naming: "understand", .value(nil)),
        Fault("two mounts", "mount", .problem, naming: "2 mounts") { $0.layers = 2 },
        Fault(
            "directories that are not mounted", "scope", .problem, naming: "daemon and 1 more",
            .value(
                signals {
                    $0.uncovered = [
                        .init(directory: "daemon", reason: "it was unmounted"), .init(directory: "deacon", reason: "x"),
                    ]
                })),
        Fault(
            "beats without activity", "scope", .warning, naming: "--scope=town",
            .value(
                signals {
                    $0.activity = .init(mode: "beat", observed: 0, dropped: 0)
                })),
        Fault(
            "many files without passthrough", "scope", .warning, naming: "--scope=signals",
            .value(status { $0.fileSystem.inodes = 60_000 })),
        Fault("large town without passthrough", "scope", .warning, naming: "--scope=signals /gt", nil) {
            $0.names = 50_000
        },
        Fault("worker gone", "processes", .warning, naming: "worker 11") { $0.workerIsThere = false },
        Fault("keeper gone", "processes", .warning, naming: "keeper 10") { $0.keeperIsThere = false },
        Fault("no table of mounts", "place", .unknown, naming: "/proc") { $0.enclosing = nil },
        Fault("town in a town", "place", .problem, naming: "/outer") {
            $0.enclosing = ("/outer", "fuse.pulsefs")
        },
        Fault("town on NFS", "place", .warning, naming: "nfs4") { $0.enclosing = ("/home", "nfs4") },
        Fault("files open past the mount", "bypass", .problem, naming: "vim (pid 5: file /gt/x) is from") {
            $0.holders = [.init(name: "vim", pid: 5, use: "file /gt/x")]
        },
        Fault("files open in an unmounted town", "bypass", .warning, naming: "bash", nil) {
            $0.holders = [.init(name: "bash", pid: 5, use: "its current directory")]
        },
        Fault("many processes past the mount", "bypass", .problem, naming: "and 2 more are from") { facts in
            facts.holders = (1...7).map { .init(name: "sh", pid: $0, use: "its root") }
        },
        Fault("old socket", "sockets", .warning, naming: "/gt/a.sock and 1 more may") {
            $0.oldSockets = ["/gt/a.sock", "/gt/b.sock"]
        },
        Fault("heartbeats without a mount", "heartbeats", .warning, naming: "daemon/activity.json", nil) {
            $0.lastHeartbeat = ("daemon/activity.json", 3)
        },
        Fault("no FUSE", "/dev/fuse", .problem, naming: "modprobe") { $0.kernelHasFUSE = false },
        Fault("no device", "/dev/fuse", .problem, naming: "--device") { $0.deviceFile = nil },
        Fault("device that may not be opened", "/dev/fuse", .problem, naming: "600") {
            $0.deviceFile?.mode = S_IFCHR | 0o600
            $0.deviceIsOpenable = false
        },
        Fault("device for root alone", "/dev/fuse", .warning, naming: "660") { $0.deviceFile?.mode = S_IFCHR | 0o660 },
        Fault("no fusermount3", "fusermount3", .problem, naming: "fuse3") { $0.fusermount = nil },
        Fault("fusermount3 without its bit", "fusermount3", .problem, naming: "set-user-id") {
            $0.fusermount?.mode = S_IFREG | 0o755
        },
        Fault("fusermount3 of another owner", "fusermount3", .problem, naming: "set-user-id") {
            $0.fusermount?.owner = 1
        },
        Fault("no fusermount3 for root", "fusermount3", .warning, naming: "Ordinary users") {
            $0.user = 0
            $0.fusermount = nil
        },
        Fault("old kernel", "kernel", .problem, naming: "5.11") { $0.kernel = "5.10.0" },
        Fault("strange kernel", "kernel", .unknown, naming: "x") { $0.kernel = "x" },
        Fault("few descriptors", "open files", .warning, naming: "1024") { $0.openFilesLimit = 1024 },
        Fault("few watches", "inotify", .warning, naming: "max_user_watches") { $0.inotifyWatches = 100 },
        Fault("hidepid", "/proc", .warning, naming: "invisible") { $0.hidepid = "invisible" },
        Fault("git that syncs in batches", "git", .warning, naming: "/gt/a/.git/config and 1 more") {
            $0.gitFiles = ["/gt/a/.git/config", "/gt/b/.git/config"]
        },
        Fault("clock of 1970", "clock", .problem, naming: "1970") { $0.clock = 100 },
        Fault(
            "documents of the future", "clock", .warning, naming: "3 documents",
            .value(status { $0.documents.fromFuture = 3 })),
        Fault(
            "clock alone with a mirror", "clock", .warning, naming: "NTP", .value(status { $0.mirror = mirror(.up) })
        ) {
            $0.clockIsSynchronized = false
        },
        Fault("refused writes", "documents", .warning, naming: "1 write:", .value(status { $0.documents.refused = 1 }))
        {
            $0.log?.lastProblem = "refused a write to x\u{1b}[2J"
        },
        Fault("refused writes in the log of a town", "documents", .warning, naming: "/log", nil) {
            $0.log?.rejections = 2
        },
        Fault(
            "documents that cannot be written back", "write-back", .problem, naming: "/log",
            .value(status { $0.documents.notWrittenDown = 1 })
        ) { $0.log?.unwritten = 2 },
        Fault("mirror that is down", "mirror", .problem, naming: "why", .value(status { $0.mirror = mirror(.down) })),
        Fault(
            "mirror that refuses", "mirror", .problem, naming: "why", .value(status { $0.mirror = mirror(.refused) })),
        Fault(
            "mirror at its start", "mirror", .warning, naming: "again",
            .value(status { $0.mirror = mirror(.connecting) })),
        Fault("hidden .pulse", ".pulse", .warning, naming: "hidden") { $0.hasBackingPulse = true },
        Fault("other version", "version", .warning, naming: "0.0.9", .value(status { $0.version = "0.0.9" })),
    ]

    @Test(arguments: faults) func faultIsFoundAndNamed(_ fault: Fault) throws {
        let finding = try #require(fault.facts.findings.first { $0.check == fault.check })
        #expect(finding.level == fault.level)
        #expect(finding.line.contains(fault.names), "\(finding.line)")
        #expect(finding.line.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f })
        // Each finding has advice.
        #expect(finding.advice != nil)
    }

    /// Each check has a fault here, and none of them fires on a healthy town.
    @Test(arguments: [facts(), facts(nil)]) func healthyMachineHasNoFindings(_ facts: TownFacts) {
        for finding in facts.findings { #expect(finding.level == .ok, "\(finding.line)") }
        let missing = Set(facts.findings.map(\.check)).subtracting(Self.faults.map(\.check))
        #expect(missing == ["user_allow_other"])
    }

    @Test func repairedFaultIsNoProblem() {
        var facts = Self.facts()
        facts.log?.unwritten = 3
        #expect(facts.writeback?.level == .ok)
        facts.clockIsSynchronized = false
        #expect(facts.clockRate?.level == .ok)
        facts.hidepid = "0"
        #expect(facts.proc?.level == .ok)
    }

    @Test func worstFindingIsTheVerdict() {
        let ok = Finding.ok("b")
        let warning = Finding.warning("b", "c", do: "d")
        let unknown = Finding.unknown("b", do: "d")
        let problem = Finding.problem("b", "c", do: "d")
        #expect(Doctor.verdict([]) == .ok)
        #expect(Doctor.verdict([ok, warning]) == .warning)
        #expect(Doctor.verdict([warning, unknown]) == .unknown)
        #expect(Doctor.verdict([unknown, problem, ok]) == .problem)
    }

    @Test func logCountsSinceTheLastMount() {
        let line = "2026-11-21T21:52:05+0000 warning pulsefs.worker: pid=4 user=0 [TownFS] "
        let log = TownFacts.Log(
            path: "/log",
            text: """
                \(line)refused a write to a: why
                \(line)mounted
                \(line)refused a write to b: why
                \(line)cannot write c down: No space left on device
                \(line)refused a write to x] mounted
                nonsense
                """)
        #expect(log.rejections == 2)
        #expect(log.unwritten == 1)
        #expect(log.lastProblem == "refused a write to x] mounted")
    }
}

import Daemon
import Glibc
import SystemPackage
import TownFS

/// What `pulsefs doctor` has found out about a town and its machine.
struct TownFacts: Sendable {
    /// How the town is mounted.
    enum MountState: Sendable {
        case absent
        case served(TownStatus)
        /// The status is not in a form that this version understands.
        case strange
        case dead
        case denied
        case silent
        case failed(Errno)
    }

    /// From stat(2).
    struct File: Hashable, Sendable {
        var mode: mode_t
        var owner: uid_t
    }

    /// A mount of any type.
    struct Place: Hashable, Sendable {
        let path: String
        let type: String
    }

    struct Log: Hashable, Sendable {
        var path: String
        /// Since the last mount: rejected writes, and failed write-backs.
        var rejections = 0
        var unwritten = 0
        var lastProblem: String?
    }

    var town: String
    /// The user who asks.
    var user: uid_t
    var mountState: MountState
    /// How many mounts of pulsefs are stacked here.
    var layers = 0
    /// The mount that the town lies on.
    var enclosing: Place?
    var mounter: uid_t?

    /// Whether keeper and worker run.
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
    /// Whether a backing `.pulse` exists; nil if unknown.
    var hasRealPulse: Bool?

    /// Number of names in a town that is not mounted, up to `manyNames`; nil if counting took too long.
    var names: Int?
    /// Whether the worker has the right to use passthrough; nil without a worker.
    var workerIsSystemAdministrator: Bool?

    /// With so many files, passthrough and scope make a difference.
    static let manyNames = 50_000

    /// Configuration files of git that set a `core.fsyncMethod` without effect in a town.
    var gitFiles: [String] = []

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
    var log: Log?

    init(town: String, user: uid_t, mountState: MountState) {
        self.town = town
        self.user = user
        self.mountState = mountState
    }

    var status: TownStatus? {
        if case .served(let status) = mountState { status } else { nil }
    }

    var isScopedToSignals: Bool { status?.scope == MountScope.signals.rawValue }

    var isMounted: Bool {
        if case .absent = mountState { false } else { true }
    }
}

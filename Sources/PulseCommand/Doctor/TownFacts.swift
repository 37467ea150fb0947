import Glibc
import SystemPackage
import TownFS

/// What `pulsefs doctor` has gathered about a town and its machine, to be judged.
struct TownFacts: Sendable {
    /// How the town is mounted.
    enum Mounting: Sendable {
        case absent
        case served(TownStatus)
        /// It answers what this version does not understand.
        case strange
        case dead
        case denied
        case silent
        case failed(Errno)
    }

    /// A process with something open in the directory beneath the mount.
    struct Holder: Hashable, Sendable {
        let name: String
        let pid: Int32
        /// `its current directory`, `file /gt/x`.
        let use: String
    }

    /// A file as stat(2) says, or why not.
    struct File: Hashable, Sendable {
        var mode: mode_t
        var owner: uid_t
    }

    /// A mount, of whatever kind.
    struct Place: Hashable, Sendable {
        let path: String
        let type: String
    }

    struct Log: Hashable, Sendable {
        var path: String
        /// Since the last mount: writes refused, documents that could not be written down, errors of any kind.
        var rejections = 0
        var unwritten = 0
        var lastProblem: String?
    }

    var town: String
    /// Of who asks.
    var user: uid_t
    var mounting: Mounting
    /// How many mounts of pulsefs lie upon each other here.
    var layers = 0
    /// The mount that the town lies on.
    var enclosing: Place?
    /// Who has mounted it.
    var mounter: uid_t?

    /// Whether keeper and worker, of which the status tells, are there.
    var keeperIsThere: Bool?
    var workerIsThere: Bool?
    /// Who uses the directory beneath the mount; or the town, where it is not mounted.
    var holders: [Holder] = []
    /// Processes that this user may not look into.
    var hiddenProcesses = 0
    /// Unix sockets in the town of processes that are older than the mount.
    var oldSockets: [String] = []
    /// Seconds since a signal file was last written, where the town is not mounted.
    var lastHeartbeat: (name: String, age: Double)?
    /// Whether there is a real `.pulse`; nil where that could not be seen.
    var hasRealPulse: Bool?

    /// How many names there are in a town that is not mounted, counted up to `manyNames`; nil where that took too long.
    var names: Int?
    /// Whether file data can bypass the worker, if there is one, as far as its rights go.
    var workerIsSystemAdministrator: Bool?

    /// So many files in use that how they are served makes a difference.
    static let manyNames = 50_000

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
    /// Whether the kernel takes the clock to be right; nil where it does not say.
    var clockIsSynchronized: Bool?
    /// The clock, in seconds since 1970.
    var clock: Int64 = 0
    var log: Log?

    init(town: String, user: uid_t, mounting: Mounting) {
        self.town = town
        self.user = user
        self.mounting = mounting
    }

    var status: TownStatus? {
        if case .served(let status) = mounting { status } else { nil }
    }

    var isScopedToSignals: Bool { status?.scope == MountScope.signals.rawValue }

    var isMounted: Bool {
        if case .absent = mounting { false } else { true }
    }
}

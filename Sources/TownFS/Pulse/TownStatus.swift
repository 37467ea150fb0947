import Liveness

/// What `.pulse/status.json` says.
///
/// Field names are its JSON keys, in snake case; they are only ever added to.
package struct TownStatus: Codable, Sendable {
    package struct Tally: Codable, Sendable {
        package var alive: Int
        package var expired: Int
        /// Of runtimes only.
        package var exited: Int?

        package init(alive: Int, expired: Int, exited: Int? = nil) {
            self.alive = alive
            self.expired = expired
            self.exited = exited
        }
    }

    package struct Documents: Codable, Sendable {
        /// Touches received since the mount.
        package var touches: UInt64
        /// Writes that were no documents, since the mount.
        package var refused: UInt64
        /// Documents whose timestamp was ahead of the clock, since the mount.
        package var fromFuture: UInt64
        /// Changed, and not in their real files yet.
        package var notWrittenDown: Int
    }

    /// Work on ordinary files, as a sign of life.
    package struct ActivityTally: Codable, Sendable {
        /// `off`, `observe` or `beat`.
        package var mode: String
        /// Touches that it has led to, since the mount.
        package var observed: UInt64
        /// Not looked at, as there was too much of it.
        package var dropped: UInt64

        package init(mode: String, observed: UInt64, dropped: UInt64) {
            self.mode = mode
            self.observed = observed
            self.dropped = dropped
        }
    }

    package struct FileSystem: Codable, Sendable {
        /// Inodes that the kernel knows.
        package var inodes: Int
        package var openFiles: Int
    }

    /// A directory that can hold signal files and is not mounted over.
    package struct Uncovered: Codable, Hashable, Sendable {
        /// Relative to the town.
        package var directory: String
        package var reason: String

        package init(directory: String, reason: String) {
            self.directory = directory
            self.reason = reason
        }
    }

    package struct Events: Codable, Sendable {
        /// The number of the last one; 0 before the first.
        package var lastSeq: UInt64
        /// How many have `.pulse/events` open.
        package var readers: Int
        /// Events that readers were too slow for.
        package var lost: UInt64
    }

    /// Of pulsefs.
    package var version: String
    /// The town root.
    package var town: String
    package var keeperPid: Int32
    package var workerPid: Int32
    /// When the town was mounted, RFC 3339.
    package var mountedAt: String
    package var uptimeSeconds: Int64
    package var ttlSeconds: Double
    /// `keep` or `absent`.
    package var onExpiry: String
    package var signalFiles: Tally
    package var runtimes: Tally
    package var documents: Documents
    package var fileSystem: FileSystem
    /// How long after its deadline the last runtime was seen to have expired; nil before the first.
    package var expiryLagSeconds: Double?
    package var events: Events?
    /// Nil from a pulsefs that does not say.
    package var activity: ActivityTally?
    /// Processes that runtimes are, as far as they are watched.
    package var rootProcesses: Int?
    /// `town` or `signals`; nil from a pulsefs that knows only of the first.
    package var scope: String?
    /// The directories mounted over, relative to the town; nil where it is all of it.
    package var covered: [String]?
    /// Those that should be and are not.
    package var uncovered: [Uncovered]?
    /// Nil without a mirror.
    package var mirror: MirrorStatus?

    package init(
        version: String, town: String, keeperPid: Int32, workerPid: Int32, mountedAt: String, uptimeSeconds: Int64,
        ttlSeconds: Double, onExpiry: String, signalFiles: Tally, runtimes: Tally, documents: Documents,
        fileSystem: FileSystem, activity: ActivityTally? = nil, rootProcesses: Int? = nil,
        mirror: MirrorStatus? = nil
    ) {
        self.version = version
        self.town = town
        self.keeperPid = keeperPid
        self.workerPid = workerPid
        self.mountedAt = mountedAt
        self.uptimeSeconds = uptimeSeconds
        self.ttlSeconds = ttlSeconds
        self.onExpiry = onExpiry
        self.signalFiles = signalFiles
        self.runtimes = runtimes
        self.documents = documents
        self.fileSystem = fileSystem
        self.activity = activity
        self.rootProcesses = rootProcesses
        self.mirror = mirror
    }
}

extension TownFileSystem {
    /// The part of the status that the file system knows.
    package struct Snapshot: Sendable {
        package let configuration: Town.Configuration
        package let counts: LivenessTable.Counts
        package let documents: TownStatus.Documents
        package let fileSystem: TownStatus.FileSystem
        package let activity: TownStatus.ActivityTally
        package let rootProcesses: Int
        package let mirror: MirrorStatus?
    }
}

import Liveness

/// The content of `.pulse/status.json`.
///
/// Field names are its JSON keys, in snake case. Keys are only ever added; those that an older worker does not write are
/// nil.
package struct TownStatus: Codable, Sendable {
    package struct Tally: Codable, Sendable {
        package var alive: Int
        package var expired: Int
        /// Of runtimes only.
        package var exited: Int?
        /// Runtimes for which only others touched.
        package var never: Int?
    }

    package struct Documents: Codable, Sendable {
        /// Touches received since the mount.
        package var touches: UInt64
        /// Rejected writes since the mount.
        package var refused: UInt64
        /// Documents whose timestamp was ahead of the clock, since the mount.
        package var fromFuture: UInt64
        /// Dirty documents.
        package var notWrittenDown: Int
    }

    /// Activity: work on ordinary files.
    package struct ActivityTally: Codable, Sendable {
        /// `off`, `observe` or `beat`.
        package var mode: String
        /// Touches by activity since the mount.
        package var observed: UInt64
        /// The same, by processes older than the ttl.
        package var background: UInt64?
        /// Dropped, as there was too much of it.
        package var dropped: UInt64

        package init(mode: String, observed: UInt64, background: UInt64? = nil, dropped: UInt64) {
            self.mode = mode
            self.observed = observed
            self.background = background
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

    /// What a mount has taken over from the one before it.
    package struct Restored: Codable, Sendable {
        package var runtimes: Int
        /// Runtimes that were forgotten, and are not known by older files.
        package var forgotten: Int
        /// RFC 3339.
        package var savedAt: String
    }

    package struct Events: Codable, Sendable {
        /// The number of the last one; 0 before the first.
        package var lastSeq: UInt64
        /// Open files of `.pulse/events`.
        package var readers: Int
        /// Events that slow readers have lost.
        package var lost: UInt64
    }

    /// The part that only the process knows.
    package struct Server: Sendable {
        let version: String
        package var keeper: Int32
        let scope: String
        let mountTime: SharedState.MountTime
        let servingSince = WallTime.now
        let takeovers: Int
        /// See `covered` and `uncovered` of `TownStatus`.
        package var coverage: (covered: [String], uncovered: [Uncovered])?

        /// - Parameter takeovers: How many workers have served the mount before this one.
        package init(
            version: String, keeper: Int32, scope: String, mountTime: SharedState.MountTime = .now, takeovers: Int = 0
        ) {
            self.version = version
            self.mountTime = mountTime
            self.takeovers = takeovers
            self.keeper = keeper
            self.scope = scope
        }
    }

    /// The version of pulsefs.
    package var version: String
    /// The town root.
    package var town: String
    package var keeperPid: Int32
    package var workerPid: Int32
    /// When the town was mounted, RFC 3339.
    package var mountedAt: String
    package var uptimeSeconds: Int64
    /// How many workers have served the mount before this one.
    package var takeovers: Int?
    /// Since when this worker serves, RFC 3339.
    package var servingSince: String?
    /// The format of the state that a worker of another version would have to take over.
    package var stateFormat: Int?
    package var ttlSeconds: Double
    /// `keep` or `absent`.
    package var onExpiry: String
    package var signalFiles: Tally
    package var runtimes: Tally
    package var documents: Documents
    package var fileSystem: FileSystem
    /// The lag of the last expiry after its deadline; nil before the first.
    package var expiryLagSeconds: Double?
    package var events: Events?
    package var activity: ActivityTally?
    /// The number of root processes that are watched.
    package var rootProcesses: Int?
    /// What was taken over from the mount before this one; nil for nothing.
    package var restored: Restored?
    /// `town` or `signals`.
    package var scope: String?
    /// The directories mounted over, relative to the town; nil if it is the whole town.
    package var covered: [String]?
    /// Directories that should be mounted over and are not.
    package var uncovered: [Uncovered]?
    /// Nil without a mirror.
    package var mirror: MirrorStatus?
}

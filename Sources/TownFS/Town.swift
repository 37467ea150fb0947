import Fuse
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// The shared parts of one mounted town.
package final class Town: Sendable {
    /// The options of the mount.
    package struct Configuration: Sendable {
        /// The town root's path, for messages.
        package var path: String
        /// This host's name.
        package var host = "localhost"
        /// The default ttl of a touch.
        package var ttl: Duration = Touch.defaultTTL
        package var patterns: SignalPatterns
        package var expiry = Expiry.keep
        /// How many directories and files keep an `O_PATH` descriptor.
        package var descriptorCacheCapacity = 4096
        /// Whether other hosts may change signal files.
        package var sharesSignals = false
        /// Whether the backing tree may change while it is mounted: the kernel caches for a short time only.
        package var sharesBacking = false
        /// Whether backing files may be registered for passthrough.
        package var usesPassthrough = true
        /// Whether id-mapped mounts may be made of the town.
        package var allowsIDMapping = false
        /// Whether the mount is read-only: nothing is written back.
        package var isReadOnly = false
        /// What the next mount shall know.
        package var stateFile: StateFile?
        /// Whether directories may be opened by file handle.
        var usesHandles = true
        /// The delay of write-back: users are promised 30 s, and the rest is for a slow disk.
        package var writebackDelay: Duration = .seconds(20)

        /// After a longer time without service, no runtime is taken for silent; nil for never.
        var stallLimit: Duration? = .seconds(5)

        /// Whether callers are identified by `/proc`, and not only by paths and documents.
        package var looksAtCallers = true
        /// How work on ordinary files counts.
        package var activity = Activity.observe
        /// Programs whose work on files is no activity.
        package var ignoredCommands: Set<String> = []
        /// The size of the caller cache; each entry has an open descriptor.
        package var callerCapacity = 1024
        /// How processes name their runtime.
        package var identities = IdentityRules.gasTown
        /// A younger process is a tool: its end proves nothing about an agent.
        package var minimumAgentAge: Duration = .seconds(30)

        /// Whether signal files change only through the kernel, so that it may cache them.
        var isExclusive: Bool { expiry == .keep && !sharesSignals }

        /// Programs that read all files of a user.
        package static let commonIndexers: Set<String> = [
            "updatedb", "updatedb.plocate", "updatedb.mlocate", "tracker-miner-fs-3", "tracker-extract-3",
            "baloo_file", "baloo_file_extractor", "watchman", "fsnotifier", "restic", "borg", "duplicity",
        ]

        package init(path: String, patterns: SignalPatterns) {
            self.path = path
            self.patterns = patterns
        }
    }

    /// What tools see of a signal file whose record has expired.
    package enum Expiry: String, Sendable, CaseIterable {
        /// The last document with its old timestamp, which tools understand.
        case keep
        /// ENOENT.
        case absent
    }

    /// How work on ordinary files (open, create, rename, unlink, change) counts.
    package enum Activity: String, Sendable, CaseIterable {
        /// It does not.
        case off
        /// It is a touch.
        case observe
        /// The same, and it refreshes the timestamp of the runtime's own heartbeat.
        case beat
    }

    /// One moment by both clocks: wall time for documents and files, the monotonic one for deadlines.
    struct Timestamps: Sendable {
        let wall: WallTime
        let instant: ContinuousClock.Instant
    }

    let configuration: Configuration
    /// The town without its mounts.
    let backing: BackingTree
    package let liveness: InMemoryLivenessStore
    /// Receives the table's changes.
    let mirror: (any LivenessMirror)?
    let journal: Journal
    let livenessLog: LivenessLog
    /// Nil for a town without a state file.
    private let saver: StateSaver?
    /// The paths of the mounts for which an earlier worker has completed the startup scan.
    let scannedBefore: Set<[UInt8]>
    let writeback: Writeback
    let events: EventStream
    let expiry: ExpiryTimer
    var counters: Counters { journal.counters }
    let rejections: RejectionLog
    let callers: CallerTable
    let processes: ProcessWatch
    let log: Logger
    private let detached = Atomic(false)
    private let clock: @Sendable () -> Timestamps

    /// - Parameters:
    ///   - root: The town root, opened before the mount covers it (`O_PATH` is enough).
    ///   - journal: Where the state survives the process; it is restored from what an earlier worker has left there.
    ///   - mirror: Where the table's changes are told of.
    package convenience init(
        takingOwnershipOf root: consuming OwnedDescriptor, journal: Journal, configuration: Configuration, log: Logger,
        mirror: (any LivenessMirror)? = nil
    ) throws(Errno) {
        try self.init(
            root: Descriptor(root), journal: journal, configuration: configuration, log: log, mirror: mirror
        ) {
            Timestamps(wall: .now, instant: .now)
        }
    }

    /// For tests, with a fake clock.
    init(
        root: Descriptor, journal: Journal, configuration: Configuration, log: Logger,
        mirror: (any LivenessMirror)? = nil, clock: @escaping @Sendable () -> Timestamps
    ) throws(Errno) {
        backing = BackingTree(root: root)
        self.journal = journal
        self.configuration = configuration
        self.log = log
        self.clock = clock
        rejections = RejectionLog(log: log)
        self.mirror = mirror
        let notifier = try TableNotifier()
        let delay = configuration.writebackDelay
        saver = try configuration.stateFile.map { (file) throws(Errno) in
            try StateSaver(file, journal: journal, delay: delay, log: log)
        }
        livenessLog = LivenessLog(journal, saver: saver, log: log)
        scannedBefore = journal.scanned
        liveness = InMemoryLivenessStore(
            table: LivenessTable(isShared: mirror != nil), mirror: mirror, watcher: notifier, persistence: livenessLog,
            restoring: livenessLog.saved(), stallLimit: configuration.stallLimit, now: { clock().instant },
            wallTime: { clock().wall })
        events = try EventStream(
            of: liveness, notifier: notifier, counters: journal.counters, wallTime: { clock().wall })
        writeback = try Writeback(in: backing, delay: configuration.writebackDelay, log: log)
        callers = CallerTable(
            in: configuration.path, sessions: TownSessions(in: backing, log: log), rules: configuration.identities,
            capacity: configuration.callerCapacity,
            ignoring: configuration.ignoredCommands, isBlind: !configuration.looksAtCallers)
        processes = try ProcessWatch(
            callers, liveness: liveness, journal: journal, configuration: configuration, clock: clock)
        expiry = try ExpiryTimer(
            over: liveness, event: notifier.deadlines, now: { clock().instant },
            isRunning: { [processes] in processes.isRunning($0) })
    }

    /// Whether the mount is gone from the town's path, and the kernel still serves others: see `TownFileSystem.detach`.
    package var isDetached: Bool { detached.load(ordering: .relaxed) }

    /// Whether other processes change the backing tree without going through the mount.
    var sharesBacking: Bool { configuration.sharesBacking || isDetached }

    /// The mount is gone from the town's path: ends the stream of events, whose readers would keep the mount alive.
    func recordDetached() {
        detached.store(true, ordering: .relaxed)
        events.end()
    }

    /// Writes back every document that has changed.
    package func writeBack() { writeback.writeAll() }

    /// Logs who asks for a write-back of all documents: before an unmount, that is who unmounts.
    func logWriteback(for request: Request) {
        log.info("writing all documents back", metadata: ["requestedBy": "\(ProcFS.description(of: request.thread))"])
    }

    var now: Timestamps { clock() }

    /// The town root, opened before mounting.
    var root: Descriptor { backing.root }

    /// Writes all documents back and stops all threads: the last call to a town.
    ///
    /// - Returns: How many documents could not be written; the log says which and why.
    package func close() -> Int {
        processes.close()
        expiry.close()
        events.close()
        saver?.close()
        return writeback.close()
    }
}

extension WallTime {
    init(_ time: Glibc.timespec) { self.init(seconds: Int64(time.tv_sec), nanoseconds: Int32(time.tv_nsec)) }

    var timespec: Glibc.timespec { Glibc.timespec(tv_sec: Int(seconds), tv_nsec: Int(nanoseconds)) }
}

extension String {
    /// A path for a log: control characters are escaped.
    init(printable path: [UInt8]) {
        var text = ""
        for scalar in String(decoding: path, as: UTF8.self).unicodeScalars {
            if scalar.value < 0x20 || scalar.value == 0x7F {
                text += scalar.escaped(asASCII: true)
            } else {
                text.unicodeScalars.append(scalar)
            }
        }
        self = text
    }
}

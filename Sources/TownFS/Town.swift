import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// What the parts of one mounted town share: the directory beneath, the liveness table, clocks, the journal, counters.
package final class Town: Sendable {
    /// What the person who mounts decides.
    package struct Configuration: Sendable {
        /// The town root as it is shown to people.
        package var path: String
        /// What this host is called.
        package var host = "localhost"
        /// For how long a touch proves life.
        package var ttl: Duration = Touch.defaultTTL
        package var patterns: SignalPatterns
        package var expiry = Expiry.keep
        /// How many directories and files keep an `O_PATH` descriptor.
        package var descriptorCacheCapacity = 4096
        /// Whether documents of signal files are shared with others, and may change without anybody's doing here.
        package var sharesSignals = false
        /// Whether somebody else may change the backing tree while it is mounted, so that the kernel had better ask often.
        package var sharesBacking = false
        /// Whether the kernel may read and write ordinary files beneath by itself, where it can.
        package var usesPassthrough = true
        /// Whether id-mapped mounts may be made of the town.
        package var allowsIDMapping = false
        /// Whether nothing in the town may change, so that not even a real file is brought up to date.
        package var isReadOnly = false
        /// Whether a directory may be found again by its kernel handle, where that is allowed.
        var usesHandles = true
        /// How long a changed document may wait before it goes to its real file.
        ///
        /// The promise to users is 30 s; the rest is for a slow disk.
        package var writebackDelay: Duration = .seconds(20)

        /// Whether callers are looked at in `/proc`; else only paths and documents say whose a touch is.
        package var looksAtCallers = true
        /// What work on ordinary files counts for.
        package var activity = Activity.observe
        /// Names of programs whose work on files is no sign of anybody's life.
        package var ignoredCommands: Set<String> = []
        /// How many callers are remembered, each with an open descriptor.
        package var callerCapacity = 1024

        /// Whether signal files change only by what the kernel asks for, so that it may keep what it was told of them.
        var isExclusive: Bool { expiry == .keep && !sharesSignals }

        /// Programs that go through everybody's files, and are started by whoever happens to be there.
        package static let commonIndexers: Set<String> = [
            "updatedb", "updatedb.plocate", "updatedb.mlocate", "tracker-miner-fs-3", "tracker-extract-3",
            "baloo_file", "baloo_file_extractor", "watchman", "fsnotifier", "restic", "borg", "duplicity",
        ]

        package init(path: String, patterns: SignalPatterns) {
            self.path = path
            self.patterns = patterns
        }
    }

    /// What a legacy tool meets in the place of a signal file that nobody has touched for its ttl.
    package enum Expiry: String, Sendable, CaseIterable {
        /// The last document with its own old timestamp: what the tools are made for.
        case keep
        /// ENOENT.
        case absent
    }

    /// What work on ordinary files counts for: opening, creating, renaming, removing and changing them.
    package enum Activity: String, Sendable, CaseIterable {
        /// Nothing.
        case off
        /// It is evidence of life in pulsefs's own answers.
        case observe
        /// The same; and in a runtime's own heartbeat, tools read the later of its timestamp and the last sign of life.
        case beat
    }

    /// The two readings of one moment: one for documents and file times, one for deadlines.
    struct Timestamps: Sendable {
        let wall: WallTime
        let instant: ContinuousClock.Instant
    }

    let configuration: Configuration
    /// The town as it is beneath what is mounted over it.
    let backing: BackingTree
    package let liveness: InMemoryLivenessStore
    /// Where the table's changes are told of, if anywhere.
    let mirror: (any LivenessMirror)?
    let journal: Journal
    let writeback: Writeback
    let events: EventStream
    let expiry: ExpiryTimer
    let counters = Counters()
    let rejections: RejectionLog
    let callers: CallerTable
    let processes: ProcessWatch
    let log: Logger
    private let detached = Atomic(false)
    private let clock: @Sendable () -> Timestamps

    /// - Parameters:
    ///   - root: The town root, opened before the mount covers it (`O_PATH` is enough).
    ///   - journal: Where committed documents survive the process.
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

    /// For tests, which bring a clock of their own.
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
        let bell = try TableNotifier()
        liveness = InMemoryLivenessStore(
            table: LivenessTable(isShared: mirror != nil), mirror: mirror, watcher: bell, now: { clock().instant },
            wallTime: { clock().wall })
        events = try EventStream(of: liveness, bell: bell, wallTime: { clock().wall })
        expiry = try ExpiryTimer(over: liveness, event: bell.deadlines, now: { clock().instant })
        writeback = try Writeback(in: backing, delay: configuration.writebackDelay, log: log)
        callers = CallerTable(
            in: configuration.path, sessions: TownSessions(in: backing, log: log),
            capacity: configuration.callerCapacity,
            ignoring: configuration.ignoredCommands, isBlind: !configuration.looksAtCallers)
        processes = try ProcessWatch(
            callers, liveness: liveness, counters: counters, configuration: configuration, log: log, clock: clock)
    }

    /// Whether the mount is gone from the town's path, and the kernel still serves others: see `TownFileSystem.detach`.
    var isDetached: Bool { detached.load(ordering: .relaxed) }

    /// Whether other processes change the backing tree without going through the mount.
    var sharesBacking: Bool { configuration.sharesBacking || isDetached }

    func noteDetached() { detached.store(true, ordering: .relaxed) }

    /// Writes back every document that has changed.
    package func writeBack() {
        writeback.writeAll()
    }

    var now: Timestamps { clock() }

    /// The town root, opened before mounting.
    var root: Descriptor { backing.root }

    /// Writes every document down to its real file and stops the thread that does so.
    ///
    /// The last call to a town.
    ///
    /// - Returns: how many documents could not be written; the log says which and why.
    package func close() -> Int {
        processes.close()
        expiry.close()
        events.close()
        return writeback.close()
    }
}

extension WallTime {
    init(_ time: Glibc.timespec) {
        self.init(seconds: Int64(time.tv_sec), nanoseconds: Int32(time.tv_nsec))
    }

    var timespec: Glibc.timespec { Glibc.timespec(tv_sec: Int(seconds), tv_nsec: Int(nanoseconds)) }
}

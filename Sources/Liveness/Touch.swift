/// One piece of evidence that a runtime is alive.
public struct Touch: Hashable, Sendable {
    /// How long a touch counts if nobody says otherwise.
    public static let defaultTTL: Duration = .seconds(90)

    /// What the evidence was.
    public enum Source: String, Hashable, Sendable, CaseIterable {
        /// A document written to the signal file.
        case written
        /// A file renamed over the signal file.
        case renamed
        /// The signal file's times set, as `touch` does.
        case attributes
        /// A request to pulsefs itself, by command or by the store's `touch`.
        case command
        /// Work on ordinary files of the town.
        case activity
    }

    /// Where a touch came from: one process of this host, as it was then.
    public final class Process: Hashable, Sendable {
        /// In the pid namespace of whoever serves the town.
        public let pid: Int32
        /// What the kernel calls the program, `comm` in proc(5).
        public let program: String

        public init(pid: Int32, program: String) {
            self.pid = pid
            self.program = program
        }

        public static func == (one: Process, other: Process) -> Bool {
            one.pid == other.pid && one.program == other.program
        }

        public func hash(into hasher: inout Hasher) {
            hasher.combine(pid)
            hasher.combine(program)
        }
    }

    /// The signal file, by its path in the town; nil if the touch did not come through one.
    public var signal: [UInt8]?
    /// Who is alive; nil if nobody can be named, and then only the signal file is touched.
    public var runtime: RuntimeID?
    /// When it was received, for documents and file times.
    public var receivedAt: WallTime
    public var source: Source
    /// What named the runtime; nil if nothing had to, or if it was named elsewhere.
    public var evidence: Attribution.Evidence?
    /// Who made the touch, where that is known.
    public var process: Process?
    /// When it was received, for the deadline.
    ///
    /// `ContinuousClock` reads CLOCK_BOOTTIME on Linux (`swift_get_time` in the Swift runtime's
    /// `Concurrency/Clock.cpp`): it counts through suspend, and setting the wall clock does not move it. It starts
    /// anew at boot.
    public var at: ContinuousClock.Instant
    /// For how long it proves life; a lower bound.
    public var ttl: Duration
    /// Its place among all touches of the same record, here and elsewhere.
    ///
    /// Without an origin for one received here.
    public var stamp: HLCTimestamp
    /// What the signal file holds from now on; nil if the touch brings no document, and what is known stays.
    public var document: Document?

    public init(
        signal: [UInt8]? = nil, runtime: RuntimeID? = nil, receivedAt: WallTime, at: ContinuousClock.Instant,
        ttl: Duration = Touch.defaultTTL, document: Document?, source: Source, evidence: Attribution.Evidence? = nil,
        process: Process? = nil, stamp: HLCTimestamp? = nil
    ) {
        self.signal = signal
        self.runtime = runtime
        self.receivedAt = receivedAt
        self.source = source
        self.evidence = evidence
        self.process = process
        self.at = at
        self.ttl = ttl
        self.document = document
        self.stamp = stamp ?? HLCTimestamp(receivedAt)
    }

    /// The end of the life that this touch proves.
    public var deadline: ContinuousClock.Instant { at + ttl }
}

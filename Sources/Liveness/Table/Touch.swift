/// Evidence that a runtime is alive.
public struct Touch: Hashable, Sendable {
    public static let defaultTTL: Duration = .seconds(90)

    /// The kind of evidence.
    public enum Source: String, Hashable, Sendable, CaseIterable {
        /// A document written to the signal file.
        case written
        /// A file renamed over the signal file.
        case renamed
        /// The signal file's times set, as `touch` does.
        case attributes
        /// A request to pulsefs itself, by command or by the store's `touch`.
        case command
        /// Work on ordinary files of the town, by the agent or by a process younger than the ttl.
        case activity
        /// The same by an older process, such as a dev server: it may go on although the agent does not.
        case background

        var isWork: Bool { self == .activity || self == .background }
    }

    /// The local process that made a touch.
    ///
    /// A class, because thousands of touches share one.
    public final class Process: Hashable, Sendable {
        /// In the pid namespace of the daemon.
        public let pid: Int32
        /// The program's name, `comm` in proc(5).
        public let program: String

        public init(pid: Int32, program: String) {
            self.pid = pid
            self.program = program
        }

        public static func == (first: Process, second: Process) -> Bool {
            first.pid == second.pid && first.program == second.program
        }

        public func hash(into hasher: inout Hasher) {
            hasher.combine(pid)
            hasher.combine(program)
        }
    }

    /// The signal file's path in the town; nil if the touch did not come through one.
    public var signal: [UInt8]?
    /// The runtime that is alive; nil if it is not known, and then only the signal file is touched.
    public var runtime: RuntimeID?
    /// For documents and file times.
    public var receivedAt: WallTime
    public var source: Source
    /// What identified the runtime; nil if the caller named it, or if another origin did.
    public var evidence: Attribution.Evidence?
    /// The runtime whose process touched for another one; nil for a runtime's own sign of life.
    public var writer: RuntimeID?
    public var process: Process?
    /// When the runtime was alive, for the deadline: when the touch was received, or earlier by `lateness`.
    ///
    /// `ContinuousClock` reads CLOCK_BOOTTIME on Linux (`swift_get_time` in the Swift runtime's
    /// `Concurrency/Clock.cpp`): it counts through suspend, ignores changes of the wall clock, and restarts at boot.
    public var at: ContinuousClock.Instant {
        get { ContinuousClock.Instant(offset: offset) }
        set { offset = newValue.offset }
    }
    package private(set) var offset: Duration
    /// How long before the receipt that was, by the file's own time.
    package private(set) var lateness: Duration = .zero
    /// How long it proves life; a lower bound.
    public var ttl: Duration
    /// A longer time for which the writer announced to be silent; until its next beat.
    public var announcedTTL: Duration?
    /// Orders it among all touches of the record; without an origin if it was received here.
    public var stamp: HLCTimestamp
    /// The signal file's new content; nil leaves the content as it is.
    public var document: Document?
    /// The number of the FUSE request that made it; 0 if there is none.
    public var request: UInt64
    /// Whether the runtime's process is known: then it lives as long as that runs, and the ttl only tells when to look.
    public var isHeld = false

    public init(
        signal: [UInt8]? = nil, runtime: RuntimeID? = nil, receivedAt: WallTime, at: ContinuousClock.Instant,
        ttl: Duration = Touch.defaultTTL, document: Document?, source: Source, evidence: Attribution.Evidence? = nil,
        writer: RuntimeID? = nil, process: Process? = nil, stamp: HLCTimestamp? = nil, request: UInt64 = 0
    ) {
        self.signal = signal
        self.runtime = runtime
        self.receivedAt = receivedAt
        self.source = source
        self.evidence = evidence
        self.writer = writer
        self.process = process
        offset = at.offset
        self.ttl = ttl
        self.document = document
        self.request = request
        self.stamp = stamp ?? HLCTimestamp(receivedAt)
    }

    /// Dates the touch earlier than its receipt.
    package mutating func moveBack(by lateness: Duration) {
        offset -= lateness
        self.lateness += lateness
    }

    /// When it was received.
    public var receipt: ContinuousClock.Instant { ContinuousClock.Instant(offset: receiptOffset) }
    var receiptOffset: Duration { offset + lateness }

    public var deadline: ContinuousClock.Instant { ContinuousClock.Instant(offset: deadlineOffset) }
    var deadlineOffset: Duration { offset + ttl }
    /// The end of the announced silence; otherwise the deadline.
    var announcedOffset: Duration { offset + (announcedTTL ?? ttl) }

    /// The runtime or the signal file; nil if the touch is about both or neither.
    var subject: RecordSubject? {
        switch (signal, runtime) {
        case (let signal?, nil): .signal(SignalPath(bytes: signal))
        case (nil, let runtime?): .runtime(runtime)
        case (nil, nil), (_?, _?): nil
        }
    }
}

/// Instants are stored and compared as durations, whose size the compiler knows: values with a `ContinuousClock.Instant`
/// are laid out and copied by functions that are looked up at run time, which doubles the cost of a touch.
extension ContinuousClock.Instant {
    private static let origin = ContinuousClock().systemEpoch

    /// Since boot.
    package var offset: Duration { self - Self.origin }

    package init(offset: Duration) {
        self = Self.origin + offset
    }
}

/// A best-effort copy of local changes elsewhere.
///
/// Thread-safe. Never blocks, so callers may hold locks.
public protocol LivenessMirror: Sendable {
    /// The stamp of a change made here now, by the clock that all origins share.
    func stamp(_ now: WallTime) -> HLCTimestamp

    /// Queues a change made here, whose state is then in the table.
    ///
    /// - Parameter isUrgent: Whether the record was ended or forgotten, and not touched.
    func enqueue(_ subject: RecordSubject, isUrgent: Bool)

    var status: MirrorStatus { get }
}

/// Receives the changes of other origins.
public protocol SharedRecordReceiver: Sendable {
    /// Merges a touch of a runtime or of a signal file, unless a later change is known.
    ///
    /// - Parameter exit: The exit of the runtime since then, if it has exited.
    func receive(_ touch: Touch, exit: Record.Exit?)

    /// Drops a record that another origin forgot, unless it was touched later.
    ///
    /// - Parameter time: When it was forgotten, by the local clock.
    func receiveForget(_ subject: RecordSubject, stamp: HLCTimestamp, at time: WallTime)
}

/// The state of a mirror; its fields are, in snake case, the keys of `.pulse/status.json`.
public struct MirrorStatus: Codable, Hashable, Sendable {
    public enum State: String, Codable, Sendable, CaseIterable {
        /// Not connected since the start.
        case connecting
        /// Connected, and the last request succeeded.
        case up
        /// Failed for now. Retried soon.
        case down
        /// Failed until someone intervenes: wrong password, missing permission. Retried slowly.
        case refused
    }

    /// A connection, or one use of it.
    public struct Link: Codable, Hashable, Sendable {
        public var state: State
        /// When the state began, RFC 3339.
        public var since: String
        /// Why it is not `up`.
        public var reason: String?

        public init(_ state: State, since: WallTime, reason: String? = nil) {
            self.state = state
            self.since = since.rfc3339
            self.reason = reason
        }
    }

    /// The map from runtime ids to UUIDs.
    public struct IDMap: Codable, Hashable, Sendable {
        public var entries: Int
        /// Why the file is unusable; the previous map stays in use.
        public var problem: String?

        public init(entries: Int, problem: String? = nil) {
            self.entries = entries
            self.problem = problem
        }
    }

    /// The server's URL, without credentials.
    public var server: String
    /// The keys that tell other programs who is alive.
    public var heartbeats: Link
    /// Whole records, written.
    public var records: Link
    /// Whole records of others, read.
    public var subscription: Link
    /// The name under which records are shared.
    public var townName: String
    /// Changes that wait to be sent.
    public var queueLength = 0
    /// Changes replaced by a later one of the same record before they were sent.
    public var coalesced: UInt64 = 0
    /// Changes for which there was no room; everything alive was sent again afterwards.
    public var dropped: UInt64 = 0
    /// Changes accepted by the server.
    public var sent: UInt64 = 0
    /// Changes received from others.
    public var received: UInt64 = 0
    /// Invalid messages of others.
    public var malformed: UInt64 = 0
    /// Between the last batch and its replies.
    public var roundTripMicroseconds: Int64?
    public var runtimeIds: IDMap?

    /// The status of a mirror that has sent nothing yet.
    public init(server: String, townName: String, heartbeats: Link, records: Link, subscription: Link) {
        self.server = server
        self.townName = townName
        self.heartbeats = heartbeats
        self.records = records
        self.subscription = subscription
    }
}

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

    /// The server, without credentials.
    public var server: String
    /// Heartbeats: the keys with which others are told who is alive.
    public var heartbeats: Link
    /// Whole records, written.
    public var records: Link
    /// Whole records of others, read.
    public var subscription: Link
    /// The name under which records are shared.
    public var townName: String
    /// Changes that wait to be sent.
    public var queueLength: Int
    /// Changes that a later one of the same record has taken the place of before they were sent.
    public var coalesced: UInt64
    /// Changes for which there was no room; everything alive was sent again afterwards.
    public var dropped: UInt64
    /// Changes that the server has taken.
    public var sent: UInt64
    /// Changes received from others.
    public var received: UInt64
    /// Messages of others that made no sense.
    public var malformed: UInt64
    /// Between the last batch and its replies.
    public var roundTripMicroseconds: Int64?
    public var runtimeIds: IDMap?

    public init(
        server: String, heartbeats: Link, records: Link, subscription: Link, townName: String, queueLength: Int,
        coalesced: UInt64, dropped: UInt64, sent: UInt64, received: UInt64, malformed: UInt64,
        roundTripMicroseconds: Int64?, runtimeIds: IDMap?
    ) {
        self.server = server
        self.heartbeats = heartbeats
        self.records = records
        self.subscription = subscription
        self.townName = townName
        self.queueLength = queueLength
        self.coalesced = coalesced
        self.dropped = dropped
        self.sent = sent
        self.received = received
        self.malformed = malformed
        self.roundTripMicroseconds = roundTripMicroseconds
        self.runtimeIds = runtimeIds
    }
}

extension LivenessTable {
    public func record(of id: RuntimeID) -> Record? { record(of: .runtime(id)) }

    public func record(ofSignal path: [UInt8]) -> Record? { record(of: .signal(SignalPath(bytes: path))) }

    func record(of subject: RecordSubject) -> Record? { records[subject]?.record }

    /// False for an unknown runtime.
    public func isAlive(_ id: RuntimeID, at now: ContinuousClock.Instant) -> Bool { isAlive(id, at: now.offset) }

    func isAlive(_ id: RuntimeID, at now: Duration) -> Bool {
        records.index(of: .runtime(id)).map { records.read($0) { $0.record.isAlive(at: now) } } ?? false
    }

    public struct Counts: Hashable, Sendable {
        public struct Tally: Hashable, Sendable {
            public private(set) var alive = 0
            public private(set) var expired = 0
            public private(set) var exited = 0

            mutating func add(_ state: Record.State) {
                switch state {
                case .alive: alive += 1
                case .expired: expired += 1
                case .exited: exited += 1
                }
            }
        }

        public internal(set) var runtimes = Tally()
        public internal(set) var signals = Tally()
    }

    // MARK: Replication

    /// What an origin has to send about a subject; nil if another origin changed it last.
    func message(about subject: RecordSubject, by origin: Origin) -> MirrorQueue.Message? {
        if let record = record(of: subject) {
            return record.stamp.origin == origin ? .touched(subject, record) : nil
        }
        guard let stamp = tombstones[subject]?.stamp, stamp.origin == origin else { return nil }
        return .forgotten(subject, stamp)
    }

    // MARK: Directories of ids

    /// The records from a least runtime id on.
    private func subjects(from start: String) -> ArraySlice<RecordSubject> {
        records.keys[
            records.position { subject in
                guard case .runtime(let id) = subject else { return false }
                return id.description < start
            }...]
    }

    /// Whether a directory of ids, which is empty or ends in a slash, contains a runtime.
    func hasRuntimes(in directory: String) -> Bool {
        guard case .runtime(let id)? = subjects(from: directory).first else { return false }
        return id.description.hasPrefix(directory)
    }

    /// Visits runtimes whose ids begin with a prefix, in order, until `visit` returns false.
    ///
    /// - Parameters:
    ///   - start: The least id to visit.
    ///   - limit: Maximum number of runtimes visited.
    /// - Returns: Where to continue; nil at the end, or if `visit` returned false.
    func visitRuntimes(
        in prefix: String, from start: String, limit: Int, _ visit: (RuntimeID, Record) -> Bool
    ) -> String? {
        let subjects = subjects(from: start)
        for subject in subjects.prefix(limit) {
            guard case .runtime(let id) = subject, id.description.hasPrefix(prefix),
                let index = records.index(of: subject), records.read(index, { visit(id, $0.record) })
            else { return nil }
        }
        guard case .runtime(let next)? = subjects.dropFirst(limit).first else { return nil }
        return next.description
    }
}

/// The content of a directory of ids, collected a part at a time.
///
/// Contains everything that exists throughout; what comes or goes meanwhile may be missing.
public struct RuntimeListing: Sendable {
    /// Empty, or ending in a slash.
    public let path: String
    public private(set) var runtimes: [(id: RuntimeID, isAlive: Bool)] = []
    /// Paths, each with whether it contains a living runtime.
    public private(set) var directories: [(path: String, isAlive: Bool)] = []

    /// The least id that has not been looked at.
    private var next: String?
    var isComplete: Bool { next == nil }

    init(of path: String) {
        self.path = path
        next = path
    }

    /// Looks at up to `limit` more runtimes; none in a directory that is known to contain a living one.
    mutating func advance(through table: LivenessTable, limit: Int, at now: ContinuousClock.Instant) {
        guard let start = next else { return }
        let now = now.offset
        var afterDirectory: String?
        let rest = table.visitRuntimes(in: path, from: start, limit: limit) { id, record in
            let isAlive = record.isAlive(at: now)
            let name = id.description.utf8.dropFirst(path.utf8.count)
            guard let slash = name.firstIndex(of: UInt8(ascii: "/")) else {
                runtimes.append((id, isAlive))
                return true
            }
            let directory = String(id.description[...slash])
            if directories.last?.path != directory { directories.append((directory, false)) }
            guard isAlive else { return true }
            directories[directories.count - 1].isAlive = true
            // The character after the slash in ASCII.
            afterDirectory = String(id.description[..<slash]) + "0"
            return false
        }
        next = afterDirectory ?? rest
    }
}

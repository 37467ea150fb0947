extension LivenessTable {
    public func record(of id: RuntimeID) -> Record? { runtimes[id]?.record }

    public func record(ofSignal path: [UInt8]) -> Record? { signals[SignalPath(bytes: path)] }

    func record(of subject: RecordSubject) -> Record? {
        switch subject {
        case .runtime(let id): runtimes[id]?.record
        case .signal(let path): signals[path]
        }
    }

    /// False for an unknown runtime.
    public func isAlive(_ id: RuntimeID, at now: ContinuousClock.Instant) -> Bool { isAlive(id, at: now.offset) }

    func isAlive(_ id: RuntimeID, at now: Duration) -> Bool {
        runtimes.index(of: id).map { runtimes.read($0) { $0.record.isAlive(at: now) } } ?? false
    }

    public struct Counts: Hashable, Sendable {
        public struct Tally: Hashable, Sendable {
            public private(set) var alive = 0
            public private(set) var expired = 0
            public private(set) var exited = 0
            public private(set) var never = 0

            mutating func add(_ state: Record.State) {
                switch state {
                case .alive: alive += 1
                case .expired: expired += 1
                case .exited: exited += 1
                case .never: never += 1
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
            // A touch for another runtime is no news of that one's life.
            return record.stamp.origin == origin && record.touch.writer == nil ? .touched(subject, record) : nil
        }
        guard let stamp = tombstones[subject]?.stamp, stamp.origin == origin else { return nil }
        return .forgotten(subject, stamp)
    }

    // MARK: Directories of ids

    // All text is compared as bytes.

    /// The runtimes from a least id on.
    private func runtimes(from start: String) -> ArraySlice<RuntimeID> {
        runtimes.keys[runtimes.position { $0.description.hasBytes(before: start) }...]
    }

    /// Whether an id lies in a directory: `a/` itself, with a slash at its end, does not lie in `a/`.
    private static func contains(_ directory: String, _ id: RuntimeID) -> Bool {
        directory.isEmpty || id.description.utf8.count > directory.utf8.count
    }

    /// Whether a directory of ids, which is empty or ends in a slash, contains a runtime.
    func hasRuntimes(in directory: String) -> Bool {
        // The first one may be `a/`.
        runtimes(from: directory).prefix(2).contains {
            Self.contains(directory, $0) && $0.description.hasBytes(atStart: directory)
        }
    }

    /// Visits runtimes whose ids begin with a prefix, in order, until `visit` returns false.
    ///
    /// - Parameters:
    ///   - prefix: The ids are longer.
    ///   - start: The least id to visit.
    ///   - limit: Maximum number of runtimes visited.
    /// - Returns: Where to continue; nil at the end, or if `visit` returned false.
    func visitRuntimes(
        in prefix: String, from start: String, limit: Int, _ visit: (RuntimeID, Record) -> Bool
    ) -> String? {
        let ids = runtimes(from: start)
        for id in ids.prefix(limit) {
            guard id.description.hasBytes(atStart: prefix), let index = runtimes.index(of: id),
                !Self.contains(prefix, id) || runtimes.read(index, { visit(id, $0.record) })
            else { return nil }
        }
        return ids.dropFirst(limit).first?.description
    }
}

/// The content of a directory of ids, collected a part at a time.
///
/// Contains everything that exists throughout; what comes or goes meanwhile may be missing. `RuntimeDirectory` tells
/// which slashes of an id separate directories.
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
            guard let slash = RuntimeDirectory.separator(in: name) else {
                runtimes.append((id, isAlive))
                return true
            }
            let directory = String(id.description[..<id.description.utf8.index(after: slash)])
            if !(directories.last?.path.hasSameBytes(as: directory) ?? false) { directories.append((directory, false)) }
            guard isAlive else { return true }
            directories[directories.count - 1].isAlive = true
            // The character after the slash in ASCII.
            afterDirectory = String(id.description[..<slash]) + "0"
            return false
        }
        next = afterDirectory ?? rest
    }
}

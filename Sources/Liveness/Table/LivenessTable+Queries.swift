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
    public func isAlive(_ id: RuntimeID, at now: ContinuousClock.Instant) -> Bool {
        runtimes.index(of: id).map { runtimes.read($0) { $0.record.isAlive(at: now) } } ?? false
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

    /// The current form of a message that has waited; nil if another origin has overtaken it.
    func current(_ message: MirrorQueue.Message) -> MirrorQueue.Message? {
        guard let origin = message.stamp.origin else { return message }
        if case .forgotten(let subject, _) = message, record(of: subject) == nil, tombstones[subject] == nil {
            return message
        }
        return self.message(about: message.subject, by: origin)
    }

    // MARK: Directories of ids

    /// Whether a directory of ids, which is empty or ends in a slash, contains a runtime.
    func hasRuntimes(in directory: String) -> Bool {
        let position = runtimes.position { $0.description < directory }
        return position < runtimes.count && runtimes.keys[position].description.hasPrefix(directory)
    }

    /// What a visitor wants to see next.
    enum Step {
        case next, stop
        /// The first id that does not begin with these characters.
        case skip(String)
    }

    /// Visits runtimes whose ids begin with a prefix, in order.
    ///
    /// - Parameters:
    ///   - start: The least id to visit; set to where to continue, or nil at the end.
    ///   - limit: Maximum number of runtimes visited.
    func visitRuntimes(
        in prefix: String, from start: inout String?, limit: Int, _ visit: (RuntimeID, Record) -> Step
    ) {
        guard let first = start else { return }
        var position = runtimes.position { $0.description < first }
        for _ in 0..<limit {
            guard position < runtimes.count, case let id = runtimes.keys[position], id.description.hasPrefix(prefix),
                let index = runtimes.index(of: id)
            else {
                start = nil
                return
            }
            switch runtimes.read(index, { visit(id, $0.record) }) {
            case .next: position += 1
            case .skip(let done):
                position = runtimes.position { $0.description < done || $0.description.hasPrefix(done) }
            case .stop:
                start = nil
                return
            }
        }
        start = position < runtimes.count ? runtimes.keys[position].description : nil
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

    /// Looks at up to `limit` more runtimes.
    mutating func advance(through table: LivenessTable, limit: Int, at now: ContinuousClock.Instant) {
        var next = next
        table.visitRuntimes(in: path, from: &next, limit: limit) { id, record in
            let isAlive = record.isAlive(at: now)
            let rest = id.description.utf8.dropFirst(path.utf8.count)
            guard let slash = rest.firstIndex(of: UInt8(ascii: "/")) else {
                runtimes.append((id, isAlive))
                return .next
            }
            let directory = String(id.description[...slash])
            if directories.last?.path != directory { directories.append((directory, false)) }
            guard isAlive else { return .next }
            directories[directories.count - 1].isAlive = true
            return .skip(directory)
        }
        self.next = next
    }
}

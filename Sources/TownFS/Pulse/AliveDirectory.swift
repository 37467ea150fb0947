import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// `.pulse/alive`: a file for each runtime that is alive; touching it is a touch; removing it forgets the runtime.
///
///     alive/mayor
///     alive/deacon/@                    the id `deacon`, as other ids begin with `deacon/`
///     alive/deacon/boot
///     alive/gastown@/polecats@/@        `gastown/polecats`, whatever else exists
///
/// Ids that cannot be paths are encoded, see `RuntimeDirectory`. A directory exists while a runtime in it is alive, or
/// once it was created. So an id is a file or a directory, depending on other ids. Its alias, with an `@` at the end,
/// always is a directory: a program can touch an id without looking.
final class AliveDirectory: Sendable {
    /// The maximum number of created directories; each is kept until it is removed.
    private static let maximumCreated = 4096

    private let town: Town
    private let created = Mutex(CreatedDirectories())
    /// By the thread that opened them.
    private let opened = Mutex<[pid_t: [AliveOpenFile]]>([:])

    /// Directories that were created.
    private struct CreatedDirectories {
        private(set) var all: Set<RuntimeDirectory> = []
        /// Their number at and under each directory.
        private var counts: [RuntimeDirectory: Int] = [:]

        func isAny(at directory: RuntimeDirectory) -> Bool { counts[directory] != nil }

        mutating func insert(_ directory: RuntimeDirectory) {
            if all.insert(directory).inserted { add(1, directory) }
        }

        mutating func remove(_ directory: RuntimeDirectory) {
            if all.remove(directory) != nil { add(-1, directory) }
        }

        /// Counts at `a/` and `a/b/` for `a/b/`.
        private mutating func add(_ change: Int, _ directory: RuntimeDirectory) {
            for directory in directory.lineage {
                let count = counts[directory, default: 0] + change
                counts[directory] = count > 0 ? count : nil
            }
        }
    }

    init(of town: Town) {
        self.town = town
        let saved = town.journal.log.entries(Journal.Kind.aliveDirectory).keys
        created.withLock { created in
            for directory in saved {
                created.insert(RuntimeDirectory(validated: String(decoding: directory, as: UTF8.self)))
            }
        }
    }

    private var liveness: InMemoryLivenessStore { town.liveness }

    // MARK: Names

    /// The node of a name that exists.
    ///
    /// - Throws: ENOENT, ENAMETOOLONG.
    func node(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        if case .aliveDirectory(let place) = parent, let directory = try? place.directory(named: name),
            directory.mayContainIDs, exists(.aliveDirectory(directory))
        {
            return .aliveDirectory(directory)
        }
        let node: PulseNode
        do throws(Errno) {
            node = try named(name, in: parent)
        } catch .invalidArgument {
            throw .noSuchFileOrDirectory
        }
        guard exists(node) else { throw .noSuchFileOrDirectory }
        return node
    }

    /// The node that a name means, whether it exists or not: an alias or an id.
    ///
    /// - Throws: EINVAL for a name that is neither, ENAMETOOLONG.
    func named(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        let place = try ids(in: parent)
        if name == PulseNode.at {
            guard let id = place.id else { throw .invalidArgument }
            return .alive(id)
        }
        if name.hasBytes(atEnd: PulseNode.at) {
            return .alias(
                try valid { () throws(RuntimeID.Invalid) in
                    try place.directory(named: String(name.unicodeScalars.dropLast()))
                })
        }
        // An alias contains aliases only.
        if case .alias = parent { throw .invalidArgument }
        return .alive(try valid { () throws(RuntimeID.Invalid) in try place.id(named: name) })
    }

    private func ids(in node: PulseNode) throws(Errno) -> RuntimeDirectory {
        switch node {
        case .aliveDirectory(let ids), .alias(let ids): return ids
        default: throw .invalidArgument
        }
    }

    private func valid<Value>(_ named: () throws(RuntimeID.Invalid) -> Value?) throws(Errno) -> Value {
        let value: Value?
        do throws(RuntimeID.Invalid) {
            value = try named()
        } catch .tooLong, .nameTooLong, .encodedNameTooLong {
            throw .fileNameTooLong
        } catch {
            throw .invalidArgument
        }
        guard let value else { throw .invalidArgument }
        return value
    }

    func exists(_ node: PulseNode) -> Bool {
        switch node {
        case .alive(let id): return liveness.isAlive(id)
        case .alias, .aliveDirectory(.top): return true
        case .aliveDirectory(let directory):
            if created.withLock({ $0.isAny(at: directory) }) { return true }
            return liveness.hasRuntimes(in: directory.prefix) && isAnyAlive(directory)
        default: return false
        }
    }

    /// Whether the runtime of that id, or one under it, is alive.
    private func isAnyAlive(_ directory: RuntimeDirectory) -> Bool {
        livingRuntime(directory) != nil || liveness.hasLivingRuntimes(in: directory.prefix)
    }

    /// The runtime whose id a directory has, if it is alive.
    private func livingRuntime(_ directory: RuntimeDirectory) -> RuntimeID? {
        guard let id = directory.id, liveness.isAlive(id) else { return nil }
        return id
    }

    /// The content of a directory.
    func entries(of node: PulseNode) -> [(name: String, node: PulseNode)] {
        let place: RuntimeDirectory
        var files: [PulseNode] = []
        var directories: Set<RuntimeDirectory> = []
        switch node {
        case .aliveDirectory(let ids):
            place = ids
            let listing = liveness.listing(of: place.prefix)
            let known = listing.directories.map { (RuntimeDirectory(validated: $0.path), $0.isAlive) }
            directories = Set(known.lazy.filter { $1 }.map { $0.0 })
            for directory in created.withLock({ $0.all }) {
                if let child = place.child(towards: directory.prefix + "x") { directories.insert(child) }
            }
            let others = Set(known.lazy.filter { !$1 }.map { $0.0 })
            for (id, isAlive) in listing.runtimes where isAlive {
                // A directory that contains ids exists while its own is alive.
                let directory = RuntimeDirectory(validated: "\(id)/")
                if others.contains(directory) { directories.insert(directory) }
                if !directories.contains(directory) { files.append(.alive(id)) }
            }
        case .alias(let ids): place = ids
        default: return []
        }
        let entries = (files + directories.map { .aliveDirectory($0) }).map { (name: $0.name, node: $0) }
        return entries + (livingRuntime(place).map { [(PulseNode.at, .alive($0))] } ?? [])
    }

    // MARK: Changes

    /// - Throws: EEXIST, EINVAL, ENAMETOOLONG, ENOSPC.
    func makeDirectory(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        guard case .aliveDirectory(let place) = parent else { throw .invalidArgument }
        let directory = try valid { () throws(RuntimeID.Invalid) in try place.directory(named: name) }
        guard directory.mayContainIDs else { throw .invalidArgument }
        let node = PulseNode.aliveDirectory(directory)
        guard livingRuntime(directory) == nil, !exists(node) else { throw .fileExists }
        try created.withLock { (created) throws(Errno) in
            guard created.all.count < Self.maximumCreated else { throw .noSpace }
            created.insert(directory)
            _ = town.journal.log.append(Journal.Kind.aliveDirectory, key: Array(directory.prefix.utf8), value: [])
        }
        return node
    }

    /// - Throws: ENOTEMPTY while a runtime in it is alive; ENOENT, ENOTDIR, EPERM for an alias.
    func removeDirectory(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        let node = try node(name, in: parent)
        guard case .aliveDirectory(let directory) = node else {
            if case .alias = node { throw .notPermitted }
            throw .notDirectory
        }
        guard !isAnyAlive(directory) else { throw .directoryNotEmpty }
        try created.withLock { (created) throws(Errno) in
            guard !created.all.contains(where: { directory.child(towards: $0.prefix + "x") != nil }) else {
                throw .directoryNotEmpty
            }
            created.remove(directory)
            town.journal.log.remove(Journal.Kind.aliveDirectory, key: Array(directory.prefix.utf8))
        }
        return node
    }

    /// Forgets a runtime.
    ///
    /// - Throws: ENOENT for one that is not alive, EISDIR.
    func remove(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        let node = try node(name, in: parent)
        guard case .alive(let id) = node else { throw .isDirectory }
        liveness.forget(id)
        return node
    }

    /// - Parameters:
    ///   - ttl: Nil is the town's.
    ///   - request: The number of the FUSE request.
    func touch(_ id: RuntimeID, ttl: Duration? = nil, by process: Touch.Process?, in request: UInt64 = 0) {
        let now = town.now
        liveness.touch(
            Touch(
                runtime: id, receivedAt: now.wall, at: now.instant, ttl: ttl ?? town.configuration.ttl, document: nil,
                source: .command, process: process, request: request))
        town.counters.countTouch(.command)
    }

    func process(of request: Request) -> Touch.Process? { town.callers.caller(request.thread)?.process }

    // MARK: Open files

    /// - Parameter isTouch: Whether the opening created or truncated the file.
    func open(_ id: RuntimeID, text: [UInt8], isTouch: Bool, for request: Request) -> AliveOpenFile {
        let file = AliveOpenFile(
            id, in: self, text: text, isTouch: isTouch, thread: request.thread, process: process(of: request))
        opened.withLock { $0[file.thread, default: []].append(file) }
        return file
    }

    fileprivate func deregister(_ file: AliveOpenFile) {
        opened.withLock { opened in
            opened[file.thread]?.removeAll { $0 === file }
            if opened[file.thread]?.isEmpty == true { opened[file.thread] = nil }
        }
    }

    /// Commits the touches of files that the caller has created or truncated and closed: the kernel sends RELEASE later
    /// than the caller's next request.
    func commitFlushed(by request: Request) {
        for file in opened.withLock({ $0[request.thread] ?? [] }) { file.commit(isReleased: false) }
    }

    /// Discards the pending touches of open files, because the runtime was touched through its name.
    func supersede(_ id: RuntimeID) {
        for file in opened.withLock({ $0.values.flatMap { $0 } }) where file.id == id { file.supersede() }
    }

    /// The runtime whose id a node has; nil for the top directory, and one whose name is no id.
    static func id(of node: PulseNode) -> RuntimeID? {
        switch node {
        case .alive(let id): id
        case .aliveDirectory(let directory), .alias(let directory): directory.id
        default: nil
        }
    }
}

/// One opening of a file in `.pulse/alive`.
///
/// Creating or truncating the file is a touch; writing `30s` to it is a touch with that ttl. A program that does both
/// makes one touch. So truncation counts only once no more can be written: at RELEASE, or at the caller's next request
/// after a close. A shell closes a duplicate of the descriptor before it writes.
final class AliveOpenFile: PulseTextFile {
    /// No duration is longer.
    private static let maximumSize = 64

    private struct State {
        var draft: [UInt8] = []
        /// Whether a touch is to be committed.
        var isPending: Bool
        /// Whether a descriptor of it was closed.
        var isFlushed = false
    }

    let id: RuntimeID
    let text: [UInt8]
    /// The thread that opened it.
    let thread: pid_t
    private let process: Touch.Process?
    private let directory: AliveDirectory
    private let state: Mutex<State>

    init(
        _ id: RuntimeID, in directory: AliveDirectory, text: [UInt8], isTouch: Bool, thread: pid_t,
        process: Touch.Process?
    ) {
        self.id = id
        self.directory = directory
        self.text = text
        self.thread = thread
        self.process = process
        state = Mutex(State(isPending: isTouch))
    }

    func openReply(_ handle: FileHandle) -> OpenReply { OpenReply(handle: handle, ioMode: .direct) }

    /// - Throws: EFBIG beyond the length of a duration, EINVAL for a hole and for a line that is no duration.
    func write(
        _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, by request: Request
    ) throws(Errno) -> Int {
        try state.withLock { (state) throws(Errno) in
            // A refused write discards the touch of the opening, too.
            state.isPending = false
            let start = appending ? state.draft.count : Int(offset)
            guard start >= 0 else { throw .invalidArgument }
            guard start <= Self.maximumSize, bytes.count <= Self.maximumSize - start else { throw .fileTooLarge }
            guard start <= state.draft.count else { throw .invalidArgument }
            var draft = state.draft
            draft.replaceSubrange(start..<min(start + bytes.count, draft.count), with: bytes)
            // Shells report a failed write, and not a failed close.
            if draft.last == UInt8(ascii: "\n") { _ = try Self.ttl(draft) }
            state.draft = draft
            state.isPending = true
            return bytes.count
        }
    }

    /// - Throws: EINVAL for any size but 0.
    func truncate(to size: off_t, by request: Request) throws(Errno) {
        guard size == 0 else { throw .invalidArgument }
        state.withLock { state in
            state.draft = []
            state.isPending = true
        }
    }

    /// Discards a pending touch without a ttl, as touch(1) sets the times between opening and closing.
    func supersede() {
        state.withLock { state in
            if state.draft.isEmpty { state.isPending = false }
        }
    }

    /// Commits what was written.
    ///
    /// - Throws: EINVAL if it is no duration.
    func flush() throws(Errno) {
        let draft: [UInt8]? = state.withLock { state in
            state.isFlushed = true
            guard state.isPending, !state.draft.isEmpty else { return nil }
            state.isPending = false
            return state.draft
        }
        if let draft { directory.touch(id, ttl: try Self.ttl(draft), by: process) }
    }

    func fsync(dataOnly: Bool) throws(Errno) { try flush() }

    func close() {
        directory.deregister(self)
        commit(isReleased: true)
    }

    /// Commits a creation or truncation, once a descriptor was closed.
    func commit(isReleased: Bool) {
        let isDue = state.withLock { state in
            guard state.isPending, state.draft.isEmpty, isReleased || state.isFlushed else { return false }
            state.isPending = false
            return true
        }
        if isDue { directory.touch(id, by: process) }
    }

    private static func ttl(_ draft: [UInt8]) throws(Errno) -> Duration {
        let words = String(decoding: draft, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        guard words.count == 1, let ttl = try? Duration(spelled: String(words[0])) else { throw .invalidArgument }
        return ttl
    }
}

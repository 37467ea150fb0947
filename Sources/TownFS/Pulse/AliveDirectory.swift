import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// `.pulse/alive`: a file for each runtime that is alive.
///
/// To touch it is a touch; to remove it forgets the runtime.
///
///     alive/mayor
///     alive/deacon/@                    the id `deacon`, as other ids begin with `deacon/`
///     alive/deacon/boot
///     alive/gastown@/polecats@/@        `gastown/polecats`, whatever else exists
///
/// A directory exists while a runtime below it is alive, or once it was made. So an id is a file or a directory,
/// depending on what other ids there are. Its alias, with an `@` at the end, always is a directory: a program can touch
/// an id without looking.
final class AliveDirectory: Sendable {
    /// The most directories that can be made.
    ///
    /// Each is kept until it is removed.
    private static let mostDirectories = 4096

    private let town: Town
    private let made = Mutex(MadeDirectories())
    private let opened = Mutex(OpenFiles())

    /// Open files, by the thread that opened them and by runtime.
    private struct OpenFiles {
        var byThread: [pid_t: [AliveOpenFile]] = [:]
        var byID: [RuntimeID: [AliveOpenFile]] = [:]

        mutating func insert(_ file: AliveOpenFile) {
            byThread[file.thread, default: []].append(file)
            byID[file.id, default: []].append(file)
        }

        mutating func remove(_ file: AliveOpenFile) {
            byThread[file.thread]?.removeAll { $0 === file }
            if byThread[file.thread]?.isEmpty == true { byThread[file.thread] = nil }
            byID[file.id]?.removeAll { $0 === file }
            if byID[file.id]?.isEmpty == true { byID[file.id] = nil }
        }
    }

    /// Directories that were made, by prefix.
    private struct MadeDirectories {
        private(set) var all: Set<String> = []
        /// How many there are at and below each prefix.
        private var counts: [String: Int] = [:]

        func isAny(at prefix: String) -> Bool { counts[prefix] != nil }

        mutating func insert(_ directory: String) {
            guard all.insert(directory).inserted else { return }
            for prefix in Self.prefixes(of: directory) { counts[prefix, default: 0] += 1 }
        }

        mutating func remove(_ directory: String) {
            guard all.remove(directory) != nil else { return }
            for prefix in Self.prefixes(of: directory) {
                let count = counts[prefix, default: 1] - 1
                counts[prefix] = count > 0 ? count : nil
            }
        }

        /// `a/`, `a/b/` for `a/b/`.
        private static func prefixes(of directory: String) -> [String] {
            directory.indices.filter { directory[$0] == "/" }.map { String(directory[...$0]) }
        }
    }

    init(of town: Town) {
        self.town = town
    }

    private var liveness: InMemoryLivenessStore { town.liveness }

    // MARK: Names

    /// The node of a name that exists.
    ///
    /// ENOENT, ENAMETOOLONG.
    func node(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        let named: PulseNode
        do throws(Errno) {
            named = try self.named(name, in: parent)
        } catch .invalidArgument {
            throw .noSuchFileOrDirectory
        }
        switch named {
        case .alias: return named
        case .living(let id):
            let directory = PulseNode.livingBelow("\(id)/")
            if name != String(PulseNode.at), exists(directory) { return directory }
            guard liveness.isAlive(id) else { throw .noSuchFileOrDirectory }
            return named
        default: throw .noSuchFileOrDirectory
        }
    }

    /// The node that a name stands for, whether it exists or not: an alias or an id.
    ///
    /// EINVAL for a name that is neither, ENAMETOOLONG.
    func named(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        let prefix: String
        switch parent {
        case .livingBelow(let ids), .alias(let ids): prefix = ids
        default: throw .invalidArgument
        }
        if name == String(PulseNode.at) { return .living(try id(String(prefix.dropLast()))) }
        if name.last == PulseNode.at { return .alias("\(try id(prefix + name.dropLast()))/") }
        // An alias contains aliases only.
        if case .alias = parent { throw .invalidArgument }
        return .living(try id(prefix + name))
    }

    private func id(_ text: String) throws(Errno) -> RuntimeID {
        do {
            return try RuntimeID(text)
        } catch .tooLong, .nameTooLong {
            throw .fileNameTooLong
        } catch {
            throw .invalidArgument
        }
    }

    func exists(_ node: PulseNode) -> Bool {
        switch node {
        case .living(let id): return liveness.isAlive(id)
        case .alias, .livingBelow(""): return true
        case .livingBelow(let prefix):
            if made.withLock({ $0.isAny(at: prefix) }) { return true }
            return liveness.hasRuntimes(in: prefix) && hasLiving(prefix)
        default: return false
        }
    }

    /// Whether the runtime of that id, or one below it, is alive.
    private func hasLiving(_ prefix: String) -> Bool {
        if let id = try? RuntimeID(String(prefix.dropLast())), liveness.isAlive(id) { return true }
        return liveness.hasLivingRuntimes(in: prefix)
    }

    /// The content of a directory.
    func entries(of directory: PulseNode) -> [(name: String, node: PulseNode)] {
        let prefix: String
        switch directory {
        case .livingBelow(let ids): prefix = ids
        case .alias(let ids):
            let own = try? RuntimeID(String(ids.dropLast()))
            return own.flatMap { liveness.isAlive($0) ? [(String(PulseNode.at), .living($0))] : [] } ?? []
        default: return []
        }
        var directories: [String: Bool] = [:]
        var files: Set<String> = []
        let listing = liveness.listing(of: prefix)
        for (path, isAlive) in listing.directories {
            directories[String(path.dropFirst(prefix.count).dropLast())] = isAlive
        }
        for (id, isAlive) in listing.runtimes where isAlive {
            files.insert(String(id.description.dropFirst(prefix.count)))
        }
        for directory in made.withLock({ $0.all.filter { $0.hasPrefix(prefix) && $0 != prefix } }) {
            let rest = directory.dropFirst(prefix.count)
            directories[String(rest.prefix { $0 != "/" })] = true
        }
        var entries: [(name: String, node: PulseNode)] = []
        for (name, exists) in directories where exists || files.contains(name) {
            entries.append((name, .livingBelow("\(prefix)\(name)/")))
        }
        for name in files where directories[name] == nil {
            if let id = try? RuntimeID(prefix + name) { entries.append((name, .living(id))) }
        }
        if let own = try? RuntimeID(String(prefix.dropLast())), liveness.isAlive(own) {
            entries.append((String(PulseNode.at), .living(own)))
        }
        return entries
    }

    // MARK: Changes

    /// EEXIST, EINVAL, ENAMETOOLONG, ENOSPC.
    func makeDirectory(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        guard case .living(let id) = try named(name, in: parent), name != String(PulseNode.at),
            case .livingBelow = parent
        else { throw .invalidArgument }
        let node = PulseNode.livingBelow("\(id)/")
        guard !liveness.isAlive(id), !exists(node) else { throw .fileExists }
        try made.withLock { (made) throws(Errno) in
            guard made.all.count < Self.mostDirectories else { throw .noSpace }
            made.insert("\(id)/")
        }
        return node
    }

    /// ENOTEMPTY while a runtime below it is alive; ENOENT, ENOTDIR.
    func removeDirectory(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        let node = try node(name, in: parent)
        guard case .livingBelow(let prefix) = node else {
            if case .alias = node { throw .notPermitted }
            throw .notDirectory
        }
        guard !hasLiving(prefix) else { throw .directoryNotEmpty }
        try made.withLock { (made) throws(Errno) in
            guard !made.all.contains(where: { $0.hasPrefix(prefix) && $0 != prefix }) else { throw .directoryNotEmpty }
            made.remove(prefix)
        }
        return node
    }

    /// Forgets a runtime.
    ///
    /// ENOENT for one that is not alive, EISDIR.
    func remove(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        let node = try node(name, in: parent)
        guard case .living(let id) = node else { throw .isDirectory }
        liveness.forget(id)
        return node
    }

    /// - Parameter ttl: Nil is the town's.
    func touch(_ id: RuntimeID, ttl: Duration? = nil, by process: Touch.Process?) {
        let now = town.now
        liveness.touch(
            Touch(
                runtime: id, receivedAt: now.wall, at: now.instant, ttl: ttl ?? town.configuration.ttl, document: nil,
                source: .command, process: process))
        town.counters.countTouch(.command)
    }

    func process(of request: Request) -> Touch.Process? { town.callers.caller(request.thread)?.process }

    // MARK: Open files

    /// - Parameter isTouch: Whether the opening created or truncated the file.
    func open(_ id: RuntimeID, text: [UInt8], isTouch: Bool, for request: Request) -> AliveOpenFile {
        let file = AliveOpenFile(
            id, in: self, text: text, isTouch: isTouch, thread: request.thread, process: process(of: request))
        opened.withLock { $0.insert(file) }
        return file
    }

    fileprivate func deregister(_ file: AliveOpenFile) {
        opened.withLock { $0.remove(file) }
    }

    /// Commits the touches of files that the caller has created or truncated and closed: the kernel sends RELEASE later
    /// than the caller's next request.
    func commitFlushed(by request: Request) {
        for file in opened.withLock({ $0.byThread[request.thread] ?? [] }) { file.commit(isReleased: false) }
    }

    /// Discards the pending touches of open files, because the runtime was touched through its name.
    func supersede(_ id: RuntimeID) {
        for file in opened.withLock({ $0.byID[id] ?? [] }) { file.supersede() }
    }

    /// The runtime whose id a node has; nil for the top directory.
    static func id(of node: PulseNode) -> RuntimeID? {
        switch node {
        case .living(let id): id
        case .livingBelow(let prefix), .alias(let prefix): try? RuntimeID(String(prefix.dropLast()))
        default: nil
        }
    }
}

/// One opening of a file in `.pulse/alive`.
///
/// Creating or truncating the file is a touch; writing `30s` to it is a touch with that ttl. A program that does both
/// makes one touch. So truncation counts only once no more can be written: at RELEASE, or when the caller has closed
/// the file and looks at `.pulse`. A shell closes a duplicate of the descriptor before it writes.
final class AliveOpenFile: PulseTextFile {
    /// No duration is longer.
    private static let mostBytes = 64

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

    /// EFBIG beyond the length of a duration, EINVAL for a hole and for a line that is no duration.
    func write(
        _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, by request: Request
    ) throws(Errno) -> Int {
        try state.withLock { (state) throws(Errno) in
            // A refused write discards the touch of the opening, too.
            state.isPending = false
            let start = appending ? state.draft.count : Int(offset)
            guard start >= 0 else { throw .invalidArgument }
            guard start <= Self.mostBytes, bytes.count <= Self.mostBytes - start else { throw .fileTooLarge }
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

    /// EINVAL for any size but 0.
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
    /// EINVAL when it is no duration.
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

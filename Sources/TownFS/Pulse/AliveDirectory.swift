import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// `.pulse/alive`: a file for each runtime while it is alive, which to touch is to say so, and to remove, to forget.
///
///     alive/mayor
///     alive/deacon/@                    the id `deacon`, as there are others beneath it
///     alive/deacon/boot
///     alive/gastown@/polecats@/@        `gastown/polecats`, whatever there is
///
/// A directory is there while somebody beneath it is alive, or once it has been made. Whether an id is a file or a
/// directory changes with who is known; by its other name, with an `@`, each is a directory at any time, so that a program
/// can touch an id without looking.
final class AliveDirectory: Sendable {
    /// More directories are not made: each is kept until it is removed.
    private static let mostDirectories = 4096

    private let town: Town
    /// Directories that were made, as ids begin in them.
    private let made = Mutex(MadeDirectories())
    private let opened = Mutex(Opened())

    /// Files that are open, of which something may have to be said yet: found by who has opened them, and by whose they are.
    private struct Opened {
        var byThread: [pid_t: [AliveHandle]] = [:]
        var byID: [RuntimeID: [AliveHandle]] = [:]

        mutating func insert(_ handle: AliveHandle) {
            byThread[handle.thread, default: []].append(handle)
            byID[handle.id, default: []].append(handle)
        }

        mutating func remove(_ handle: AliveHandle) {
            byThread[handle.thread]?.removeAll { $0 === handle }
            if byThread[handle.thread]?.isEmpty == true { byThread[handle.thread] = nil }
            byID[handle.id]?.removeAll { $0 === handle }
            if byID[handle.id]?.isEmpty == true { byID[handle.id] = nil }
        }
    }

    /// Directories that were made, and how many are in each directory or beneath it, itself included.
    private struct MadeDirectories {
        private(set) var all: Set<String> = []
        private var backing: [String: Int] = [:]

        func isAny(backing prefix: String) -> Bool { backing[prefix] != nil }

        mutating func insert(_ directory: String) {
            guard all.insert(directory).inserted else { return }
            for prefix in Self.prefixes(of: directory) { backing[prefix, default: 0] += 1 }
        }

        mutating func remove(_ directory: String) {
            guard all.remove(directory) != nil else { return }
            for prefix in Self.prefixes(of: directory) {
                let count = backing[prefix, default: 1] - 1
                backing[prefix] = count > 0 ? count : nil
            }
        }

        /// `a/`, `a/b/` of `a/b/`.
        private static func prefixes(of directory: String) -> [String] {
            directory.indices.filter { directory[$0] == "/" }.map { String(directory[...$0]) }
        }
    }

    init(of town: Town) {
        self.town = town
    }

    private var liveness: InMemoryLivenessStore { town.liveness }

    // MARK: What is there

    /// What a name in a directory stands for, for looking.
    ///
    /// ENOENT, ENAMETOOLONG.
    func place(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        let named: PulseNode
        do throws(Errno) {
            named = try self.named(name, in: parent)
        } catch .invalidArgument {
            throw .noSuchFileOrDirectory
        }
        switch named {
        case .way: return named
        case .living(let id):
            let directory = PulseNode.livingBeneath("\(id)/")
            if name != String(PulseNode.at), isThere(directory) { return directory }
            guard liveness.isAlive(id) else { throw .noSuchFileOrDirectory }
            return named
        default: throw .noSuchFileOrDirectory
        }
    }

    /// What a name would stand for, a directory's other name or an id.
    ///
    /// EINVAL for a name that is none of an id, ENAMETOOLONG.
    func named(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        let prefix: String
        switch parent {
        case .livingBeneath(let ids), .way(let ids): prefix = ids
        default: throw .invalidArgument
        }
        if name == String(PulseNode.at) { return .living(try id(String(prefix.dropLast()))) }
        if name.last == PulseNode.at { return .way("\(try id(prefix + name.dropLast()))/") }
        // By their other names, directories lead to directories only.
        if case .way = parent { throw .invalidArgument }
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

    func isThere(_ place: PulseNode) -> Bool {
        switch place {
        case .living(let id): return liveness.isAlive(id)
        case .way, .livingBeneath(""): return true
        case .livingBeneath(let prefix):
            if made.withLock({ $0.isAny(backing: prefix) }) { return true }
            return liveness.hasRuntimes(in: prefix) && isSomebodyAlive(in: prefix)
        default: return false
        }
    }

    /// Whether the runtime of that id, or one beneath it, is alive.
    private func isSomebodyAlive(in prefix: String) -> Bool {
        if let id = try? RuntimeID(String(prefix.dropLast())), liveness.isAlive(id) { return true }
        return liveness.hasLivingRuntimes(in: prefix)
    }

    /// What a directory lists, by name; the places are what the names stand for.
    func entries(of place: PulseNode) -> [(name: String, place: PulseNode)] {
        let prefix: String
        switch place {
        case .livingBeneath(let ids): prefix = ids
        case .way(let ids):
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
        var entries: [(name: String, place: PulseNode)] = []
        for (name, isThere) in directories where isThere || files.contains(name) {
            entries.append((name, .livingBeneath("\(prefix)\(name)/")))
        }
        for name in files where directories[name] == nil {
            if let id = try? RuntimeID(prefix + name) { entries.append((name, .living(id))) }
        }
        if let own = try? RuntimeID(String(prefix.dropLast())), liveness.isAlive(own) {
            entries.append((String(PulseNode.at), .living(own)))
        }
        return entries.sorted { $0.name < $1.name }
    }

    // MARK: Changes

    /// EEXIST, EINVAL, ENAMETOOLONG, ENOSPC.
    func makeDirectory(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        guard case .living(let id) = try named(name, in: parent), name != String(PulseNode.at),
            case .livingBeneath = parent
        else { throw .invalidArgument }
        let place = PulseNode.livingBeneath("\(id)/")
        guard !liveness.isAlive(id), !isThere(place) else { throw .fileExists }
        try made.withLock { (made) throws(Errno) in
            guard made.all.count < Self.mostDirectories else { throw .noSpace }
            made.insert("\(id)/")
        }
        return place
    }

    /// ENOTEMPTY while somebody beneath it is alive; ENOENT, ENOTDIR.
    func removeDirectory(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        let place = try place(name, in: parent)
        guard case .livingBeneath(let prefix) = place else {
            if case .way = place { throw .notPermitted }
            throw .notDirectory
        }
        guard !isSomebodyAlive(in: prefix) else { throw .directoryNotEmpty }
        try made.withLock { (made) throws(Errno) in
            guard !made.all.contains(where: { $0.hasPrefix(prefix) && $0 != prefix }) else { throw .directoryNotEmpty }
            made.remove(prefix)
        }
        return place
    }

    /// Forgets a runtime.
    ///
    /// ENOENT for one that is not alive, EISDIR.
    func remove(_ name: String, in parent: PulseNode) throws(Errno) -> PulseNode {
        let place = try place(name, in: parent)
        guard case .living(let id) = place else { throw .isDirectory }
        liveness.forget(id)
        return place
    }

    /// Takes a request for somebody's sign of life.
    ///
    /// - Parameter ttl: Nil is what the town says.
    func touch(_ id: RuntimeID, ttl: Duration? = nil, by process: Touch.Process?) {
        let now = town.now
        liveness.touch(
            Touch(
                runtime: id, receivedAt: now.wall, at: now.instant, ttl: ttl ?? town.configuration.ttl, document: nil,
                source: .command, process: process))
        town.counters.noteTouch(.command)
    }

    func process(of request: Request) -> Touch.Process? { town.callers.caller(request.thread)?.process }

    // MARK: Open files

    func open(_ id: RuntimeID, text: [UInt8], isTouching: Bool, for request: Request) -> AliveHandle {
        let handle = AliveHandle(
            id, text: text, isTouching: isTouching, thread: request.thread, process: process(of: request))
        opened.withLock { $0.insert(handle) }
        return handle
    }

    /// Judges what has been written, at each close.
    ///
    /// EINVAL.
    func flush(_ handle: AliveHandle) throws(Errno) {
        if let ttl = try handle.flush() { touch(handle.id, ttl: ttl, by: handle.process) }
    }

    func close(_ handle: AliveHandle) {
        opened.withLock { $0.remove(handle) }
        if handle.settle(isReleased: true) { touch(handle.id, by: handle.process) }
    }

    /// Lets a caller who made or emptied files and closed them see that as done, though the kernel has not said so yet.
    func settle(for request: Request) {
        let own = opened.withLock { $0.byThread[request.thread] ?? [] }
        for handle in own where handle.settle(isReleased: false) { touch(handle.id, by: handle.process) }
    }

    /// Notes that an id has been touched by its name.
    func noteTouch(of id: RuntimeID) {
        let handles = opened.withLock { $0.byID[id] ?? [] }
        for handle in handles { handle.noteTouch() }
    }

    /// The id that a directory is beside.
    ///
    /// Nil for the top one.
    static func id(of place: PulseNode) -> RuntimeID? {
        switch place {
        case .living(let id): id
        case .livingBeneath(let prefix), .way(let prefix): try? RuntimeID(String(prefix.dropLast()))
        default: nil
        }
    }
}

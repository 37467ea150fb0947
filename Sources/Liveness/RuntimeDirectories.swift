/// Which runtimes and directories lie in each directory of ids, such as `gastown/polecats/`, and where somebody lives.
///
/// Runtimes are told by the slots that they have in the table. A directory is there while a runtime is beneath it; the
/// top one, "", always.
struct RuntimeDirectories: Sendable {
    /// Where a runtime is listed.
    struct Entry: Sendable {
        fileprivate var directory: UInt32 = 0
        fileprivate var place: UInt32 = 0
    }

    private struct Directory: Sendable {
        var runtimes = Blocks<UInt32>()
        var directories = Blocks<UInt32>()
        /// Where it is listed itself.
        var entry: Entry

        var isEmpty: Bool { runtimes.count == 0 && directories.count == 0 }
    }

    /// How long somebody lives in a directory or beneath it: what each touch may move on.
    fileprivate struct Life: Sendable {
        /// Nobody lives longer.
        var latest = CompactInstant.past
        /// Of the directory that it lies in.
        var parent: UInt32
        /// The runtime that lives until then; `nobody` when it is not there or has ended.
        var witness = Self.nobody

        static let nobody = UInt32.max
    }

    private static let top = 0
    private var directories = SlotMap<String, Directory>()
    /// By the slots of `directories`.
    private var lives = Blocks<Life>()

    init() {
        _ = directories.insert("", Directory(entry: Entry()))
        lives.append(Life(parent: UInt32(Self.top)))
    }

    // MARK: Changes

    mutating func add(_ slot: Int, _ id: RuntimeID) -> Entry {
        let directory = directory(String(id.description.prefix(throughLast: "/")))
        directories[slot: directory].runtimes.append(UInt32(slot))
        return Entry(
            directory: UInt32(directory), place: UInt32(directories[slot: directory].runtimes.count - 1))
    }

    /// The slot of a directory, which is made with those that it lies in if it is not there.
    private mutating func directory(_ path: String) -> Int {
        if let known = directories.slot(of: path) { return known }
        let parent = directory(String(path.dropLast().prefix(throughLast: "/")))
        let place = directories[slot: parent].directories.count
        let slot = directories.insert(
            path, Directory(entry: Entry(directory: UInt32(parent), place: UInt32(place))))
        directories[slot: parent].directories.append(UInt32(slot))
        let life = Life(parent: UInt32(parent))
        if slot < lives.count { lives[slot] = life } else { lives.append(life) }
        return slot
    }

    /// Takes a runtime out.
    ///
    /// - Returns: Another one that has its entry from now on.
    mutating func remove(_ slot: Int, _ entry: Entry) -> Int? {
        noteLife(of: slot, entry, until: .past)
        let directory = Int(entry.directory)
        let last = directories[slot: directory].runtimes.removeLast()
        if entry.place < directories[slot: directory].runtimes.count {
            directories[slot: directory].runtimes[Int(entry.place)] = last
            return Int(last)
        }
        removeIfEmpty(directory)
        return nil
    }

    private mutating func removeIfEmpty(_ directory: Int) {
        guard directory != Self.top, directories[slot: directory].isEmpty else { return }
        let entry = directories[slot: directory].entry
        let parent = Int(entry.directory)
        let last = directories[slot: parent].directories.removeLast()
        if last != directory {
            directories[slot: parent].directories[Int(entry.place)] = last
            directories[slot: Int(last)].entry.place = entry.place
        }
        directories.remove(slot: directory)
        removeIfEmpty(parent)
    }

    /// Notes until when a runtime lives; the past when it does not any more.
    mutating func noteLife(of slot: Int, _ entry: Entry, until life: CompactInstant) {
        var directory = Int(entry.directory)
        // Where this one is not the last to live, it is not further up either.
        while lives[directory].note(UInt32(slot), until: life), directory != Self.top {
            directory = Int(lives[directory].parent)
        }
    }

    // MARK: Questions

    /// Whether a directory, which is empty or ends in a slash, has any runtimes.
    func hasRuntimes(backing path: String) -> Bool {
        directories.slot(of: path).map { !directories[slot: $0].isEmpty } ?? false
    }

    /// Whether one of them is alive: found at once, but while somebody has ended who would have lived longest.
    ///
    /// - Parameter life: Until when a runtime is alive.
    func hasLiving(
        backing path: String, at now: CompactInstant, life: (_ slot: Int) -> CompactInstant
    ) -> Bool {
        directories.slot(of: path).map { hasLiving(in: $0, at: now, life: life) } ?? false
    }

    private func hasLiving(in slot: Int, at now: CompactInstant, life: (_ slot: Int) -> CompactInstant) -> Bool {
        guard now < lives[slot].latest else { return false }
        if lives[slot].witness != Life.nobody { return true }
        let directory = directories[slot: slot]
        return (0..<directory.runtimes.count).contains { now < life(Int(directory.runtimes[$0])) }
            || (0..<directory.directories.count).contains {
                hasLiving(in: Int(directory.directories[$0]), at: now, life: life)
            }
    }

    /// Goes on with a listing.
    ///
    /// - Parameters:
    ///   - limit: How many entries are added.
    ///   - runtime: Who is in a slot, and until when that one is alive.
    func list(
        _ listing: inout RuntimeListing, limit: Int, at now: CompactInstant,
        runtime: (_ slot: Int) -> (id: RuntimeID, life: CompactInstant)?
    ) {
        guard let slot = directories.slot(of: listing.path) else {
            listing.isDone = true
            return
        }
        let directory = directories[slot: slot]
        var rest = limit
        listing.nextRuntime = min(listing.nextRuntime, directory.runtimes.count)
        while rest > 0, listing.nextRuntime > 0 {
            listing.nextRuntime -= 1
            rest -= 1
            guard let runtime = runtime(Int(directory.runtimes[listing.nextRuntime])) else { continue }
            listing.runtimes.append((runtime.id, now < runtime.life))
        }
        listing.nextDirectory = min(listing.nextDirectory, directory.directories.count)
        while rest > 0, listing.nextDirectory > 0 {
            listing.nextDirectory -= 1
            rest -= 1
            let slot = Int(directory.directories[listing.nextDirectory])
            guard let path = directories.key(at: slot) else { continue }
            let isAlive = hasLiving(in: slot, at: now) { runtime($0)?.life ?? .past }
            listing.directories.append((path, isAlive))
        }
        listing.isDone = listing.nextRuntime == 0 && listing.nextDirectory == 0
    }
}

/// What is in a directory of ids, put together a part at a time, so that nobody has to wait for it.
///
/// What is there all the while is in it; what comes or goes meanwhile may be, and may be twice.
public struct RuntimeListing: Sendable {
    /// Empty, or ending in a slash.
    public let path: String
    public fileprivate(set) var runtimes: [(id: RuntimeID, isAlive: Bool)] = []
    /// By their paths, each with whether somebody beneath it is alive.
    public fileprivate(set) var directories: [(path: String, isAlive: Bool)] = []

    // Downwards: where one is taken out the last takes its place, and that has been met by then.
    fileprivate var nextRuntime = Int.max
    fileprivate var nextDirectory = Int.max
    var isDone = false

    init(of path: String) {
        self.path = path
    }
}

extension RuntimeDirectories.Life {
    /// Whether there may be something to be noted further up.
    fileprivate mutating func note(_ slot: UInt32, until life: CompactInstant) -> Bool {
        if life > latest {
            latest = life
            witness = slot
            return true
        }
        guard witness == slot else { return false }
        if life < latest { witness = Self.nobody }
        return true
    }
}

extension StringProtocol {
    /// What comes before the last of some character, and that; nothing where there is none.
    fileprivate func prefix(throughLast character: Character) -> SubSequence {
        lastIndex(of: character).map { self[...$0] } ?? self[startIndex..<startIndex]
    }
}

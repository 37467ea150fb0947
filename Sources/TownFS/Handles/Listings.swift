import Fuse
import Glibc
import Synchronization
import SystemPackage

/// The open directories of a file system, and listings of directories that are not open.
final class DirectoryHandles: Sendable {
    let opened: HandleTable<OpenDirectory>
    let listings = Listings()

    /// - Parameter first: The first handle to give out.
    init(from first: FileHandle = FileHandle(rawValue: 1)) {
        opened = HandleTable(from: first)
    }

    /// Adds entries to a reply until it is full.
    ///
    /// - Parameters:
    ///   - isKept: Whether the kernel may keep the listing.
    ///   - open: Opens the directory for one request, when it was not opened before.
    func list(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, into reply: inout DirectoryReply,
        isKept: () -> Bool, open: () throws(Errno) -> OpenDirectory,
        _ add: (OpenDirectory.Listed, inout DirectoryReply) throws(Errno) -> Bool
    ) throws(Errno) {
        let directory: OpenDirectory
        if handle != .unopened {
            directory = try opened[handle]
        } else if offset > 0, let known = listings.find(of: inode, at: offset) {
            directory = known
        } else {
            directory = try open()
        }
        let hasEnded = try directory.forEach(from: offset) { (entry) throws(Errno) in try add(entry, &reply) }
        guard handle == .unopened else {
            if hasEnded { reply.end(isKept: isKept()) }
            return
        }
        if let next = reply.nextOffset {
            listings.keep(directory, of: inode, at: next)
        } else if hasEnded {
            listings.end(of: inode)
            reply.end(isKept: isKept())
        }
    }
}

/// Listings under way of directories that nobody has opened: kept for the request that goes on with them.
///
/// That request says only in which directory it goes on, and at which offset; not for whom. Any offset that was ever given out
/// leads to the names that are still ahead, whatever has come and gone since. So whoever is there may take over, and what is
/// not kept any more is read once more.
final class Listings: Sendable {
    private struct Place: Hashable {
        let inode: InodeNumber
        let offset: off_t
    }

    private struct Kept {
        let directory: OpenDirectory
        /// By the count of all uses.
        var lastUse: UInt64
    }

    private struct State {
        /// Read from a descriptor, which is for one request at a time.
        var streams: [Place: Kept] = [:]
        /// Read as a whole.
        var wholes: [InodeNumber: Kept] = [:]
        /// In all the whole ones.
        var entries = 0
        var uses: UInt64 = 0

        mutating func keep(_ directory: OpenDirectory) -> Kept {
            uses += 1
            return Kept(directory: directory, lastUse: uses)
        }

        /// Takes out what has not been used for longest, while there is too much.
        mutating func makeRoom() -> [Kept?] {
            var dropped: [Kept?] = []
            while streams.count > Listings.most, let oldest = streams.min(by: { $0.value.lastUse < $1.value.lastUse }) {
                dropped.append(streams.removeValue(forKey: oldest.key))
            }
            while wholes.count > Listings.most || (entries > Listings.mostEntries && wholes.count > 1),
                let oldest = wholes.min(by: { $0.value.lastUse < $1.value.lastUse })
            {
                dropped.append(dropWhole(of: oldest.key))
            }
            return dropped
        }

        mutating func dropWhole(of inode: InodeNumber) -> Kept? {
            let dropped = wholes.removeValue(forKey: inode)
            entries -= dropped?.directory.count ?? 0
            return dropped
        }
    }

    /// How many streams are kept at most, each with a descriptor, and how many that were read as a whole.
    static let most = 64
    /// How many entries the latter have together at most, of some 100 bytes each; but for the one used last, which is kept in any case.
    static let mostEntries = 50_000

    private let state = Mutex(State())

    /// How many are kept.
    var count: Int { state.withLock { $0.streams.count + $0.wholes.count } }

    /// Keeps a listing for the request that goes on at `offset`.
    func keep(_ directory: OpenDirectory, of inode: InodeNumber, at offset: off_t) {
        // The last to hold one lets go outside the lock: with it may go a descriptor.
        let dropped = state.withLock { state in
            var dropped: [Kept?] = []
            let kept = state.keep(directory)
            if let count = directory.count {
                dropped.append(state.dropWhole(of: inode))
                state.wholes[inode] = kept
                state.entries += count
            } else {
                dropped.append(state.streams.updateValue(kept, forKey: Place(inode: inode, offset: offset)))
            }
            return dropped + state.makeRoom()
        }
        withExtendedLifetime(dropped) {}
    }

    /// Finds a listing that goes on at `offset`, if one is kept; a stream is then kept no longer.
    func find(of inode: InodeNumber, at offset: off_t) -> OpenDirectory? {
        state.withLock { state in
            if let whole = state.wholes[inode] { return whole.directory }
            return state.streams.removeValue(forKey: Place(inode: inode, offset: offset))?.directory
        }
    }

    /// Drops what has been read as a whole of a directory: somebody has come to its end.
    func end(of inode: InodeNumber) {
        let dropped = state.withLock { $0.dropWhole(of: inode) }
        withExtendedLifetime(dropped) {}
    }

    /// Drops all listings of a directory.
    func forget(_ inode: InodeNumber) {
        let dropped: [Kept?] = state.withLock { state in
            guard !state.streams.isEmpty || !state.wholes.isEmpty else { return [] }
            let places = state.streams.keys.filter { $0.inode == inode }
            return [state.dropWhole(of: inode)] + places.map { state.streams.removeValue(forKey: $0) }
        }
        withExtendedLifetime(dropped) {}
    }
}

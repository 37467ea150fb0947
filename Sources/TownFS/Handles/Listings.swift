import Fuse
import Glibc
import Synchronization
import SystemPackage

/// The open directories of a file system, and listings of directories that are not open.
package final class DirectoryHandles: Sendable {
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

/// Unfinished listings of directories without a handle, kept for the next request.
///
/// That request has only the inode and an offset. Every offset leads to the names that follow it, so any caller may
/// continue a listing. One that is not kept any more is read again.
final class Listings: Sendable {
    private struct Place: Hashable {
        let inode: InodeNumber
        let offset: off_t
    }

    private struct Kept {
        let directory: OpenDirectory
        /// The time of the last use, in uses.
        var lastUse: UInt64
    }

    private struct State {
        /// Streams: a descriptor serves one request at a time.
        var streams: [Place: Kept] = [:]
        /// Whole listings.
        var wholes: [InodeNumber: Kept] = [:]
        /// The number of entries in `wholes`.
        var entries = 0
        var uses: UInt64 = 0

        mutating func keep(_ directory: OpenDirectory) -> Kept {
            uses += 1
            return Kept(directory: directory, lastUse: uses)
        }

        /// Removes the least recently used listings, while there are too many.
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

    /// The most streams, each with a descriptor; and the most whole listings.
    static let most = 64
    /// The most entries of whole listings, of some 100 bytes each.
    ///
    /// The last used one is kept in any case.
    static let mostEntries = 50_000

    private let state = Mutex(State())

    /// How many are kept.
    var count: Int { state.withLock { $0.streams.count + $0.wholes.count } }

    /// Keeps a listing for the request that goes on at `offset`.
    func keep(_ directory: OpenDirectory, of inode: InodeNumber, at offset: off_t) {
        // Released outside the lock: they may own descriptors.
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

    /// Finds a listing that continues at `offset`; a stream is removed from the table.
    func find(of inode: InodeNumber, at offset: off_t) -> OpenDirectory? {
        state.withLock { state in
            if let whole = state.wholes[inode] { return whole.directory }
            return state.streams.removeValue(forKey: Place(inode: inode, offset: offset))?.directory
        }
    }

    /// Drops a whole listing, as a caller has come to its end.
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

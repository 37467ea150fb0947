import Fuse
import Glibc
import Synchronization
import SystemPackage

/// The open directories of a file system, and listings of directories that are not open.
package final class DirectoryHandles: Sendable {
    let opened = HandleTable<OpenDirectory>()
    let listings = Listings()

    /// Adds entries to a reply until it is full.
    ///
    /// - Parameters:
    ///   - isKept: Whether the kernel may keep the listing.
    ///   - open: Opens the directory for one request, when it was not opened before.
    ///   - lookup: Looks a name up, for READDIRPLUS (`plus`).
    func list(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, plus: Bool, into reply: inout DirectoryReply,
        isKept: () -> Bool, open: () throws(Errno) -> OpenDirectory, lookup: (FileName) throws(Errno) -> Entry
    ) throws(Errno) {
        let directory: OpenDirectory
        if handle != .unopened {
            directory = try opened[handle]
        } else if offset > 0, let known = listings.find(of: inode, at: offset) {
            directory = known
        } else {
            directory = try open()
        }
        let hasEnded = try directory.forEach(from: offset) { $0.add(to: &reply, plus: plus, lookup) }
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
    private struct Kept {
        let inode: InodeNumber
        /// Where a stream goes on; a whole listing goes on anywhere.
        let offset: off_t
        let directory: OpenDirectory
        /// The number of entries in memory: 0 for a stream.
        let count: Int
    }

    private struct State {
        /// Streams, least recently used first: a descriptor serves one request at a time.
        var streams: [Kept] = []
        /// Whole listings, least recently used first.
        var wholes: [Kept] = []

        var hasTooManyEntries: Bool {
            wholes.count > 1 && wholes.reduce(0) { $0 + $1.count } > Listings.mostEntries
        }
    }

    /// The most streams, each with a descriptor; and the most whole listings.
    static let most = 64
    /// The most entries of whole listings, of some 100 bytes each; the last used one is kept in any case.
    static let mostEntries = 50_000

    private let state = Mutex(State())

    /// How many are kept.
    var count: Int { state.withLock { $0.streams.count + $0.wholes.count } }

    // Dropped listings are released outside the lock, as they may own descriptors.

    /// Keeps a listing for the request that goes on at `offset`.
    func keep(_ directory: OpenDirectory, of inode: InodeNumber, at offset: off_t) {
        let count = directory.count
        let kept = Kept(inode: inode, offset: offset, directory: directory, count: count ?? 0)
        let dropped = state.withLock { state in
            if count == nil {
                var dropped = state.streams.extract { $0.inode == inode && $0.offset == offset }
                state.streams.append(kept)
                if state.streams.count > Self.most { dropped.append(state.streams.removeFirst()) }
                return dropped
            }
            var dropped = state.wholes.extract { $0.inode == inode }
            state.wholes.append(kept)
            while state.wholes.count > Self.most || state.hasTooManyEntries {
                dropped.append(state.wholes.removeFirst())
            }
            return dropped
        }
        withExtendedLifetime(dropped) {}
    }

    /// Finds a listing that continues at `offset`; a stream is removed from the table.
    func find(of inode: InodeNumber, at offset: off_t) -> OpenDirectory? {
        state.withLock { state in
            if let whole = state.wholes.first(where: { $0.inode == inode }) { return whole.directory }
            return state.streams.extract { $0.inode == inode && $0.offset == offset }.first?.directory
        }
    }

    /// Drops a whole listing, as a caller has come to its end.
    func end(of inode: InodeNumber) {
        let dropped = state.withLock { $0.wholes.extract { $0.inode == inode } }
        withExtendedLifetime(dropped) {}
    }

    /// Drops all listings of a directory.
    func forget(_ inode: InodeNumber) {
        let dropped = state.withLock { state in
            state.wholes.extract { $0.inode == inode } + state.streams.extract { $0.inode == inode }
        }
        withExtendedLifetime(dropped) {}
    }
}

extension Array {
    /// Removes and returns the elements that meet a condition.
    fileprivate mutating func extract(where isExtracted: (Element) -> Bool) -> [Element] {
        let extracted = filter(isExtracted)
        if !extracted.isEmpty { removeAll(where: isExtracted) }
        return extracted
    }
}

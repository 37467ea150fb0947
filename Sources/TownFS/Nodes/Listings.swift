import Fuse
import Glibc
import Synchronization

/// Listings under way of directories that nobody has opened: what is left of each waits for the request that goes on with it.
///
/// That request says only where in which directory it goes on. Whoever comes to that place may take over from there; a
/// listing made up here counts its entries from a number of its own, so that none goes on in another's.
///
/// What nobody comes back for goes when there are many. Whoever comes back all the same has the directory opened again, and
/// goes on at the same offset.
final class Listings: Sendable {
    /// What is left of a listing.
    enum Rest: Sendable {
        case nothing
        case ofDirectory(OpenDirectory)
    }

    private struct Place: Hashable {
        let inode: InodeNumber
        let offset: off_t
    }

    private struct Waiting {
        let rest: Rest
        /// By the count of all that have been left.
        let since: UInt64
    }

    private struct State {
        var waiting: [Place: Waiting] = [:]
        var left: UInt64 = 0
        var begun: UInt32 = 0
    }

    /// How many wait at most.
    ///
    /// Each may be a descriptor.
    static let most = 64

    private let state = Mutex(State())

    /// How many wait.
    var count: Int { state.withLock { $0.waiting.count } }

    /// A number that no other listing has had for long.
    func number() -> UInt32 {
        state.withLock { state in
            // Above 0, in offsets above 0.
            state.begun = state.begun % UInt32(Int32.max) + 1
            return state.begun
        }
    }

    /// Leaves the rest of a listing to the request that goes on at `offset`.
    func leave(_ rest: Rest, of inode: InodeNumber, at offset: off_t) {
        // The last to hold it lets go outside the lock: with it may go a descriptor.
        let dropped: Waiting? = state.withLock { state in
            state.left += 1
            let place = Place(inode: inode, offset: offset)
            if let former = state.waiting.updateValue(Waiting(rest: rest, since: state.left), forKey: place) {
                return former
            }
            guard state.waiting.count > Self.most,
                let oldest = state.waiting.min(by: { $0.value.since < $1.value.since })
            else { return nil }
            return state.waiting.removeValue(forKey: oldest.key)
        }
        withExtendedLifetime(dropped) {}
    }

    /// Takes the rest of a listing, if it is still here.
    func take(of inode: InodeNumber, at offset: off_t) -> Rest? {
        state.withLock { $0.waiting.removeValue(forKey: Place(inode: inode, offset: offset))?.rest }
    }

    /// Drops what is left of an inode's listings.
    func forget(_ inode: InodeNumber) {
        let dropped = state.withLock { state in
            state.waiting.keys.filter { $0.inode == inode }.compactMap { state.waiting.removeValue(forKey: $0) }
        }
        withExtendedLifetime(dropped) {}
    }
}

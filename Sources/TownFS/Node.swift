import Fuse
import Glibc

/// What is known of one inode that the kernel knows.
///
/// A node is described by where it was last seen, (parent, name), and by which file it is; a descriptor is only a
/// cache over that, except once its name is gone.
struct Node: Sendable {
    enum Meaning: Sendable {
        /// A file, directory or anything else of the backing tree.
        case backing(FileIdentity)
        case signal(SignalFile)
    }

    var meaning: Meaning
    /// The root is its own parent.
    var parent: InodeNumber
    var name: NodeName
    /// When a backing file was made, if that is known and can be relied on.
    var birth: Birth?
    /// When a rename last put it there, by the count of renames.
    ///
    /// What was seen before that is out of date.
    var placed: UInt64 = 0
    /// What the kernel will give back by `forget`.
    var lookups: UInt64
    /// How many nodes name this one as their parent.
    ///
    /// They need it to be found, so it outlives the kernel's interest.
    var children = 0
    /// Where signal files can lie beneath this directory; nil almost everywhere.
    var signals: SignalDirectory?
    /// An `O_PATH` descriptor of it, if one is at hand.
    var descriptor: Descriptor?
    /// The descriptor is the only way left to the file, as its name has been removed.
    var isPinned = false
    /// Where the descriptor stands in the cache's ring.
    var cacheSlot: Int?

    var identity: FileIdentity? {
        if case .backing(let identity) = meaning { identity } else { nil }
    }

    var signalFile: SignalFile? {
        if case .signal(let file) = meaning { file } else { nil }
    }

    /// Whether it is the file that was found.
    func isOf(_ found: ExtendedStatus) -> Bool {
        identity == found.status.identity && Birth.agree(birth, found.birth)
    }
}

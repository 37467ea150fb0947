import Fuse
import Glibc
import Synchronization
import SystemPackage

/// Which way the bytes of each open backing file go: past us, or through requests.
///
/// The kernel wants all openings of one inode to agree, and those that are lent to be lent the same file: it is lent with
/// the first opening and taken back with the last. We learn of a last close later than the kernel does, never earlier.
///
/// A small file that is only read is not lent, if its first opening decides: the kernel then has it in its page cache, and the
/// next who reads it asks nothing of us. Those pages are good until somebody writes: to the file as lent, past them; or to them,
/// and then the file's next reader has its time of access noted, as everywhere (`relatime`, mount(8)).
final class IOModes: Sendable {
    private struct OpenInode {
        /// Nil if it is not lent.
        let backingID: Connection.BackingID?
        /// The file system user of writes that bypass the daemon.
        var user: uid_t = 0
        /// What was lent; the inode may be another file's by now.
        let identity: FileIdentity?
        /// Whether what the kernel had of it before the first opening is good.
        var hasGoodPages = false
        var openings = 1
        var isWritten = false
    }

    private struct State {
        var connection: Connection?
        var openInodes: [InodeNumber: OpenInode] = [:]
        /// Inodes that have only been read since the kernel dropped what pages it had had before.
        var withGoodPages: Set<InodeNumber> = []

        /// Counts one more opening, if there is one already.
        mutating func join(_ inode: InodeNumber, writing: Bool) -> OpenInode? {
            guard openInodes[inode] != nil else { return nil }
            openInodes[inode]?.openings += 1
            if writing { noteWriting(inode) }
            return openInodes[inode]
        }

        mutating func begin(_ openInode: OpenInode, _ inode: InodeNumber, writing: Bool) {
            openInodes[inode] = openInode
            if writing { noteWriting(inode) }
        }

        private mutating func noteWriting(_ inode: InodeNumber) {
            openInodes[inode]?.isWritten = true
            withGoodPages.remove(inode)
        }

        /// Counts one opening less, and returns what was lent for it if it was the last.
        mutating func leave(_ inode: InodeNumber) -> Connection.BackingID? {
            guard let openInode = openInodes[inode] else { return nil }
            guard openInode.openings == 1 else {
                openInodes[inode]?.openings -= 1
                return nil
            }
            openInodes[inode] = nil
            // By now all who were to drop the pages of before have done so.
            if openInode.backingID == nil, openInode.identity != nil, !openInode.isWritten {
                withGoodPages.insert(inode)
            }
            return openInode.backingID
        }
    }

    /// Whether the kernel may keep what it has read after the last close.
    private let mayKeepPages: Atomic<Bool>
    private let state = Mutex(State())

    init(keepsPages: Bool) {
        mayKeepPages = Atomic(keepsPages)
    }

    private var keepsPages: Bool { mayKeepPages.load(ordering: .relaxed) }

    /// From now on the kernel drops a file's pages at each open.
    func stopKeepingPages() {
        mayKeepPages.store(false, ordering: .relaxed)
    }

    /// Inodes of open backing files whose reads the kernel serves from its page cache.
    var cachedInodes: [InodeNumber] {
        state.withLock { state in
            state.openInodes.filter { $0.value.backingID == nil && $0.value.identity != nil }.map(\.key)
        }
    }

    func connect(to connection: Connection) {
        state.withLock { $0.connection = connection }
    }

    /// Whether files may still be lent.
    var supportsPassthrough: Bool { connection?.supportsPassthrough ?? false }

    /// The kernel's end, once there is one.
    var connection: Connection? { state.withLock { $0.connection } }

    /// Counts an opening of a backing file, and says which way it goes.
    ///
    /// - Parameters:
    ///   - identity: Which file the inode is now.
    ///   - isLendable: Whether there is nothing against it but what others do who have the file open.
    ///   - mayKeep: Whether the inode has always meant this file.
    func enter(
        _ inode: InodeNumber, _ file: BackingFile, _ identity: FileIdentity?, isLendable: Bool, mayKeep: Bool
    ) -> OpenReply.IOMode {
        let writing = file.isWritable
        func path(_ openInode: OpenInode) -> OpenReply.IOMode {
            // The kernel lends all who have the inode open what it lent the first of them.
            if let backingID = openInode.backingID {
                // Else users could use blocks reserved for root, or root could not.
                let isForeign = writing && (openInode.user == 0) != (file.user == 0)
                return .passthrough(
                    backingID, directIO: file.requiresServerIO || openInode.identity != identity || isForeign)
            }
            return .cached(isKept: mayKeep && keepsPages && openInode.hasGoodPages)
        }
        let (known, connection) = state.withLock { state in (state.join(inode, writing: writing), state.connection) }
        if let known { return path(known) }
        let isPassthrough = isLendable && !(keepsPages && file.isSmallAndOnlyRead)
        let backingID =
            isPassthrough
            ? Credentials.withUser(file.user) { connection.flatMap { try? $0.registerBackingFile(file.path.rawValue) } }
            : nil
        let (openInode, isBackingIDUsed) = state.withLock { state in
            // Somebody may have been faster.
            if let known = state.join(inode, writing: writing) { return (known, false) }
            let openInode = OpenInode(
                backingID: backingID, user: file.user, identity: identity,
                hasGoodPages: state.withGoodPages.contains(inode))
            state.begin(openInode, inode, writing: writing)
            return (openInode, true)
        }
        if let backingID, !isBackingIDUsed { connection?.unregisterBackingFile(backingID) }
        return path(openInode)
    }

    /// Counts an opening of something whose reads and writes all come to us.
    ///
    /// It has to agree with others all the same: they may have had the inode open as a backing file before it became a
    /// signal file's.
    func enter(_ inode: InodeNumber) -> OpenReply.IOMode {
        state.withLock { state in
            guard let openInode = state.join(inode, writing: true) else {
                state.openInodes[inode] = OpenInode(backingID: nil, identity: nil)
                return .direct
            }
            return openInode.backingID.map { .passthrough($0, directIO: true) } ?? .direct
        }
    }

    /// Drops what is known of an inode that the kernel has forgotten, and with it its pages.
    func forget(_ inode: InodeNumber) {
        state.withLock { _ = $0.withGoodPages.remove(inode) }
    }

    /// Takes back what has been counted, at the end of an opening.
    func leave(_ inode: InodeNumber) {
        let (backingID, connection) = state.withLock { state in (state.leave(inode), state.connection) }
        if let backingID { connection?.unregisterBackingFile(backingID) }
    }
}

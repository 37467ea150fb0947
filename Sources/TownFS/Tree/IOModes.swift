import Fuse
import Glibc
import Synchronization
import SystemPackage

/// The I/O mode of each open inode: passthrough, cached or direct.
///
/// All open files of an inode must have the same mode, and in passthrough the same backing file. It is registered with
/// the first open and unregistered after the last release, which the server learns of later than the kernel.
///
/// A small file that is only read is not passed through if its first open decides: the kernel then reads it from its
/// page cache without a request. Those pages are valid until the file is written to.
final class IOModes: Sendable {
    private struct OpenInode {
        /// Nil without passthrough.
        let backingID: Connection.BackingID?
        /// The file system user of writes that bypass the daemon.
        var user: uid_t = 0
        /// The registered file; the inode may mean another one by now.
        let identity: FileIdentity?
        /// Whether pages cached before the first open are valid.
        var hasValidPages = false
        var openCount = 1
        var isWritten = false
    }

    private struct State {
        var connection: Connection?
        var openInodes: [InodeNumber: OpenInode] = [:]
        /// Inodes that were only read since the kernel dropped their pages.
        var withValidPages: Set<InodeNumber> = []

        /// Counts another open, if the inode is open.
        mutating func join(_ inode: InodeNumber, writing: Bool) -> OpenInode? {
            guard openInodes[inode] != nil else { return nil }
            openInodes[inode]?.openCount += 1
            if writing { setWritten(inode) }
            return openInodes[inode]
        }

        mutating func begin(_ openInode: OpenInode, _ inode: InodeNumber, writing: Bool) {
            openInodes[inode] = openInode
            if writing { setWritten(inode) }
        }

        private mutating func setWritten(_ inode: InodeNumber) {
            openInodes[inode]?.isWritten = true
            withValidPages.remove(inode)
        }

        /// Counts a release, and returns the backing file to unregister after the last one.
        mutating func leave(_ inode: InodeNumber) -> Connection.BackingID? {
            guard let openInode = openInodes[inode] else { return nil }
            guard openInode.openCount == 1 else {
                openInodes[inode]?.openCount -= 1
                return nil
            }
            openInodes[inode] = nil
            // Every open that had to drop earlier pages has done so.
            if openInode.backingID == nil, openInode.identity != nil, !openInode.isWritten {
                withValidPages.insert(inode)
            }
            return openInode.backingID
        }
    }

    /// Whether the kernel may keep pages after the last release.
    private let mayKeepPages: Atomic<Bool>
    private let state = Mutex(State())

    init(keepsPages: Bool) { mayKeepPages = Atomic(keepsPages) }

    private var keepsPages: Bool { mayKeepPages.load(ordering: .relaxed) }

    /// From now on the kernel drops a file's pages at each open.
    func stopKeepingPages() { mayKeepPages.store(false, ordering: .relaxed) }

    /// Inodes of open backing files whose reads the kernel serves from its page cache.
    var cachedInodes: [InodeNumber] {
        state.withLock { state in
            state.openInodes.filter { $0.value.backingID == nil && $0.value.identity != nil }.map(\.key)
        }
    }

    /// Whether any process has a file open.
    func isOpen(_ inode: InodeNumber) -> Bool { state.withLock { $0.openInodes[inode] != nil } }

    func connect(to connection: Connection) { state.withLock { $0.connection = connection } }

    /// Whether backing files can be registered.
    var supportsPassthrough: Bool { connection?.supportsPassthrough ?? false }

    /// Nil before the file system is connected.
    var connection: Connection? { state.withLock { $0.connection } }

    /// Counts an open of a backing file, and returns its mode.
    ///
    /// - Parameters:
    ///   - identity: The file that the inode means now.
    ///   - allowsPassthrough: Whether this file may be passed through, if no other open file of the inode objects.
    ///   - mayKeep: Whether the inode has always meant this file.
    func enter(
        _ inode: InodeNumber, _ file: BackingFile, _ identity: FileIdentity?, allowsPassthrough: Bool, mayKeep: Bool
    ) -> OpenReply.IOMode {
        let writing = file.isWritable
        func mode(_ openInode: OpenInode) -> OpenReply.IOMode {
            // All open files of the inode use the backing file of the first.
            if let backingID = openInode.backingID {
                // Else users could use blocks reserved for root, or root could not.
                let isForeign = writing && (openInode.user == 0) != (file.user == 0)
                return .passthrough(
                    backingID, directIO: file.requiresServerIO || openInode.identity != identity || isForeign)
            }
            return .cached(isKept: mayKeep && keepsPages && openInode.hasValidPages)
        }
        let (known, connection) = state.withLock { state in (state.join(inode, writing: writing), state.connection) }
        if let known { return mode(known) }
        let isPassthrough = allowsPassthrough && !(keepsPages && file.isSmallAndOnlyRead)
        let backingID =
            isPassthrough
            ? Credentials.withUser(file.user) { connection.flatMap { try? $0.registerBackingFile(file.path.rawValue) } }
            : nil
        let (openInode, isBackingIDUsed) = state.withLock { state in
            // Another open may have been faster.
            if let known = state.join(inode, writing: writing) { return (known, false) }
            let openInode = OpenInode(
                backingID: backingID, user: file.user, identity: identity,
                hasValidPages: state.withValidPages.contains(inode))
            state.begin(openInode, inode, writing: writing)
            return (openInode, true)
        }
        if let backingID, !isBackingIDUsed { connection?.unregisterBackingFile(backingID) }
        return mode(openInode)
    }

    /// Counts an open of a file that the server reads and writes.
    ///
    /// It must agree with earlier opens of the inode, which may have meant a backing file then.
    func enter(_ inode: InodeNumber) -> OpenReply.IOMode {
        state.withLock { state in
            guard let openInode = state.join(inode, writing: true) else {
                state.openInodes[inode] = OpenInode(backingID: nil, identity: nil)
                return .direct
            }
            return openInode.backingID.map { .passthrough($0, directIO: true) } ?? .direct
        }
    }

    /// Counts an open of an earlier process.
    ///
    /// - Parameter identity: Nil for a signal file.
    func restore(_ content: HandleRecords.Content, _ ioMode: OpenReply.IOMode, _ identity: FileIdentity?) {
        let writing = identity == nil || content.flags & O_ACCMODE != O_RDONLY
        state.withLock { state in
            guard state.join(content.inode, writing: writing) == nil else { return }
            var openInode = OpenInode(backingID: nil, identity: identity)
            if case .passthrough(let backingID, _) = ioMode {
                openInode = OpenInode(backingID: backingID, user: content.user, identity: identity)
            }
            state.begin(openInode, content.inode, writing: writing)
        }
    }

    /// Drops the state of an inode that the kernel has forgotten, with its pages.
    func forget(_ inode: InodeNumber) { state.withLock { _ = $0.withValidPages.remove(inode) } }

    /// Counts a release.
    func leave(_ inode: InodeNumber) {
        let (backingID, connection) = state.withLock { state in (state.leave(inode), state.connection) }
        if let backingID { connection?.unregisterBackingFile(backingID) }
    }
}

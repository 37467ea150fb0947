/// What is left to do of requests that nobody waits for, until there is nothing else to do.
///
/// A client that closes a file and opens the next would have that wait behind the closing. So ends of openings that may be
/// late (`FileSystem.mayReleaseLater`), and forgetting, are done while nobody asks for anything: mostly a few microseconds later,
/// as the client is just being woken.
///
/// Belongs to one thread, which leaves nothing undone when it goes to sleep; while it answers a request, it may.
struct DeferredReleases: ~Copyable {
    private enum Duty {
        case release(FileHandle, of: InodeNumber, unique: UInt64)
        case releasedir(FileHandle, unique: UInt64)
        case forget(InodeNumber, count: UInt64)
    }

    /// How many may be left at most.
    ///
    /// They are descriptors, and room on a file system, that might have been given back; and of twelve requests that nobody waits
    /// for (`max_background` of fs/fuse/inode.c), reading ahead among them, the kernel makes no more until one is answered.
    private static let most = 8

    private let served: Session.Served
    private var duties: [Duty] = []
    /// Those before it are done.
    private var next = 0

    init(of served: Session.Served) {
        self.served = served
        duties.reserveCapacity(Self.most)
    }

    var isEmpty: Bool { next == duties.count }
    var isFull: Bool { duties.count - next >= Self.most }

    /// Leaves the end of an opening for later.
    mutating func release(_ handle: FileHandle, of inode: InodeNumber, unique: UInt64) {
        duties.append(.release(handle, of: inode, unique: unique))
    }

    /// Leaves the end of a directory's opening for later.
    mutating func releasedir(_ handle: FileHandle, unique: UInt64) {
        duties.append(.releasedir(handle, unique: unique))
    }

    /// Leaves the giving back of lookups for later.
    mutating func forget(_ inode: InodeNumber, count: UInt64) {
        duties.append(.forget(inode, count: count))
    }

    /// Does what was left first.
    ///
    /// There has to be one.
    mutating func doOne() {
        let duty = duties[next]
        next += 1
        // Whether all are done or there is always one left, the list does not grow.
        if next == duties.count || next == Self.most {
            duties.removeFirst(next)
            next = 0
        }
        switch duty {
        case .release(let handle, _, let unique):
            served.fileSystem.release(handle)
            served.connection.acknowledge(unique)
        case .releasedir(let handle, let unique):
            served.fileSystem.releasedir(handle)
            served.connection.acknowledge(unique)
        case .forget(let inode, let count):
            served.fileSystem.forget(inode, count: count)
        }
    }

    mutating func doAll() {
        while !isEmpty { doOne() }
    }

    /// Does what is left of an inode's openings, and all before it, as somebody is about to open it.
    ///
    /// What another thread has left is not seen here: the opening then goes the way of the former ones, which is right, if slower.
    mutating func doAll(of inode: InodeNumber) {
        while duties[next...].contains(where: { if case .release(_, inode, _) = $0 { true } else { false } }) {
            doOne()
        }
    }
}

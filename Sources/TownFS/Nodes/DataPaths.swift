import Fuse
import Synchronization
import SystemPackage

/// Which way the bytes of each open backing file go: past us, or through requests.
///
/// The kernel wants all openings of one inode to agree, and those that are lent to be lent the same file: it is lent with
/// the first opening and taken back with the last. We learn of a last close later than the kernel does, never earlier.
final class DataPaths: Sendable {
    private struct Way {
        /// Nil if it is not lent.
        let loan: Connection.BackingID?
        /// What was lent; the inode may be another file's by now.
        let identity: FileIdentity?
        var openings = 1
    }

    private struct State {
        var connection: Connection?
        var ways: [InodeNumber: Way] = [:]

        /// Counts one more opening, if there is one already.
        mutating func join(_ inode: InodeNumber) -> Way? {
            ways[inode]?.openings += 1
            return ways[inode]
        }

        /// Counts one opening less, and returns what was lent for it if it was the last.
        mutating func leave(_ inode: InodeNumber) -> Connection.BackingID? {
            guard let way = ways[inode] else { return nil }
            guard way.openings == 1 else {
                ways[inode]?.openings -= 1
                return nil
            }
            ways[inode] = nil
            return way.loan
        }
    }

    /// Whether the kernel may keep what it has read after the last close.
    private let isKept: Bool
    private let state = Mutex(State())

    init(isKept: Bool) {
        self.isKept = isKept
    }

    func connect(to connection: Connection) {
        state.withLock { $0.connection = connection }
    }

    /// Whether files may still be lent.
    var canLend: Bool { connection?.canLend ?? false }

    /// The kernel's end, once there is one.
    var connection: Connection? { state.withLock { $0.connection } }

    /// Counts an opening of a backing file, and says which way it goes.
    ///
    /// - Parameters:
    ///   - identity: Which file the inode is now.
    ///   - isLendable: Whether there is nothing against it but what others do who have the file open.
    ///   - inRequests: Whether its reads and writes have to come to us in any case.
    ///   - isKept: Whether what the kernel has of it from before is good.
    func enter(
        _ inode: InodeNumber, _ file: Descriptor, _ identity: FileIdentity?, isLendable: Bool, inRequests: Bool,
        isKept: Bool
    ) -> OpenReply.DataPath {
        func path(_ way: Way, _ connection: Connection?) -> OpenReply.DataPath {
            // The kernel lends all who have the inode open what it lent the first of them.
            if let loan = way.loan { return .lent(loan, inRequests: inRequests || way.identity != identity) }
            // What is read past us, and written, is not what the kernel may have kept from before.
            return .cached(isKept: isKept && self.isKept && connection?.canLend == false)
        }
        let (known, connection) = state.withLock { state in (state.join(inode), state.connection) }
        if let known { return path(known, connection) }
        let loan = isLendable ? connection.flatMap { try? $0.lend(file.rawValue) } : nil
        let (way, isLoanUsed) = state.withLock { state in
            // Somebody may have been faster.
            if let known = state.join(inode) { return (known, false) }
            let way = Way(loan: loan, identity: identity)
            state.ways[inode] = way
            return (way, true)
        }
        if let loan, !isLoanUsed { connection?.takeBack(loan) }
        return path(way, connection)
    }

    /// Counts an opening of something whose reads and writes all come to us.
    ///
    /// It has to agree with others all the same: they may have had the inode open as a backing file before it became a
    /// signal file's.
    func enter(_ inode: InodeNumber) -> OpenReply.DataPath {
        state.withLock { state in
            guard let way = state.join(inode) else {
                state.ways[inode] = Way(loan: nil, identity: nil)
                return .direct
            }
            return way.loan.map { .lent($0, inRequests: true) } ?? .direct
        }
    }

    /// Takes back what has been counted, at the end of an opening.
    func leave(_ inode: InodeNumber) {
        let (loan, connection) = state.withLock { state in (state.leave(inode), state.connection) }
        if let loan { connection?.takeBack(loan) }
    }
}

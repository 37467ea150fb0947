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
    ///   - isLendable: Whether there is nothing against it but what others do who have the file open.
    ///   - inRequests: Whether its reads and writes have to come to us in any case.
    ///   - isKept: Whether what the kernel has of it from before is good.
    func enter(
        _ inode: InodeNumber, _ file: Descriptor, isLendable: Bool, inRequests: Bool, isKept: Bool
    ) -> OpenReply.DataPath {
        // What is read past us, and written, is not what the kernel may have kept from before.
        func path(_ loan: Connection.BackingID?, _ connection: Connection?) -> OpenReply.DataPath {
            if let loan { return .lent(loan, inRequests: inRequests) }
            return .cached(isKept: isKept && self.isKept && connection?.canLend == false)
        }
        let (known, connection) = state.withLock { state in (state.join(inode), state.connection) }
        if let known { return path(known.loan, connection) }
        let loan = isLendable ? connection.flatMap { try? $0.lend(file.rawValue) } : nil
        let (way, isLoanUsed) = state.withLock { state in
            // Somebody may have been faster.
            if let known = state.join(inode) { return (known, false) }
            let way = Way(loan: loan)
            state.ways[inode] = way
            return (way, true)
        }
        if let loan, !isLoanUsed { connection?.takeBack(loan) }
        return path(way.loan, connection)
    }

    /// Counts an opening of something whose reads and writes all come to us, if it has to agree with others: they had it
    /// open as a backing file when it became a signal file.
    ///
    /// - Returns: Nil if it has not, and is not counted.
    func enterIfLent(_ inode: InodeNumber) -> OpenReply.DataPath? {
        state.withLock { state in
            guard state.ways[inode]?.loan != nil, let loan = state.join(inode)?.loan else { return nil }
            return .lent(loan, inRequests: true)
        }
    }

    /// Takes back what has been counted, at the end of an opening.
    func leave(_ inode: InodeNumber) {
        let (loan, connection) = state.withLock { state in (state.leave(inode), state.connection) }
        if let loan { connection?.takeBack(loan) }
    }
}

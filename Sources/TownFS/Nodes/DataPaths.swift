import Fuse
import Synchronization
import SystemPackage

/// Which way the bytes of each open backing file go: past us, or through requests.
///
/// The kernel wants all openings of one inode to agree, and those that are lent to be lent the same file: it is lent with
/// the first opening and taken back with the last. We learn of a last close later than the kernel does, never earlier.
final class DataPaths: Sendable {
    private struct Way {
        let path: OpenReply.DataPath
        var openings = 1
    }

    private struct State {
        var connection: Connection?
        var ways: [InodeNumber: Way] = [:]
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

    /// Counts an opening, and says which way it goes.
    ///
    /// - Parameter isLendable: Whether there is nothing against it but what others do who have the file open.
    func enter(_ inode: InodeNumber, _ file: Descriptor, isLendable: Bool, isKept: Bool) -> OpenReply.DataPath {
        let (known, connection) = state.withLock { state in
            (Self.join(inode, in: &state.ways), state.connection)
        }
        if let known { return known }
        let loan = isLendable ? connection.flatMap { try? $0.lend(file.rawValue) } : nil
        // What is read past us, and written, is not what the kernel may have kept from before.
        let cached = OpenReply.DataPath.cached(isKept: isKept && self.isKept && connection?.canLend == false)
        let (path, isLoanUsed) = state.withLock { state in
            // Somebody may have been faster.
            if let known = Self.join(inode, in: &state.ways) { return (known, false) }
            let path = loan.map { OpenReply.DataPath.lent($0) } ?? cached
            state.ways[inode] = Way(path: path)
            return (path, true)
        }
        if let loan, !isLoanUsed { connection?.takeBack(loan) }
        return path
    }

    private static func join(_ inode: InodeNumber, in ways: inout [InodeNumber: Way]) -> OpenReply.DataPath? {
        guard let way = ways[inode] else { return nil }
        ways[inode]?.openings += 1
        return way.path
    }

    /// Takes back what `enter` has counted, at the end of an opening.
    func leave(_ inode: InodeNumber) {
        let (last, connection) = state.withLock { state in
            guard let way = state.ways[inode] else { return (nil as OpenReply.DataPath?, state.connection) }
            guard way.openings == 1 else {
                state.ways[inode]?.openings -= 1
                return (nil, state.connection)
            }
            state.ways[inode] = nil
            return (way.path, state.connection)
        }
        if case .lent(let loan) = last { connection?.takeBack(loan) }
    }
}

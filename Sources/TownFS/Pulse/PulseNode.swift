import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// A file or directory of `.pulse`.
enum PulseNode: Hashable, Sendable {
    case top
    case status
    case metrics
    /// Events from the opening on.
    case events
    /// Events from a number on; in no listing.
    case eventsFrom(UInt64)
    /// A directory of `runtimes/`, by the common prefix of the ids in it: empty, or ending in a slash.
    case runtimes(String)
    case runtime(RuntimeID)
    /// A directory of `alive/`, likewise.
    case aliveDirectory(String)
    case alive(RuntimeID)
    /// A directory of `alive/` by its alias, `gastown@`; in no listing.
    case alias(String)

    /// Suffix of a runtime's file.
    static let suffix = ".json"
    /// In a directory, the runtime whose id the directory has; between `events` and a number; at the end of an alias.
    static let at: Character = "@"

    var isDirectory: Bool {
        switch self {
        case .top, .runtimes, .aliveDirectory, .alias: true
        case .status, .metrics, .events, .eventsFrom, .runtime, .alive: false
        }
    }

    /// The kernel checks them.
    var permissions: mode_t {
        switch self {
        case .top: 0o555
        case .runtimes, .aliveDirectory, .alias: 0o755
        case .alive: 0o644
        case .status, .metrics, .events, .eventsFrom, .runtime: 0o444
        }
    }

    /// Relative to `.pulse`; the same in every mount.
    var path: String {
        switch self {
        case .top: ""
        case .status: "status.json"
        case .metrics: "metrics"
        case .events: "events"
        case .eventsFrom(let number): "events\(Self.at)\(number)"
        case .runtimes(let prefix): "runtimes/\(prefix)"
        case .runtime(let id): "runtimes/\(id)\(Self.suffix)"
        case .aliveDirectory(let prefix): "alive/\(prefix)"
        case .alive(let id): "alive/\(id)"
        case .alias(let prefix): "alive/\(prefix)\(Self.at)"
        }
    }

    /// The last component of its path.
    var name: String { path.split(separator: "/").last.map(String.init) ?? "" }

    /// `st_ino`: above the numbers of disk file systems and signal files, with a hash of the path.
    var number: ino_t { 0x7070_0000_0000_0000 | SignalFile.inodeNumber(of: Array(path.utf8)) & 0xffff_ffff_ffff }
}

/// The inode numbers of `.pulse`.
///
/// The kernel keeps a number until it forgets the inode. No number is given out twice in one mount.
final class PulseInodes: Sendable {
    private struct State {
        var nodes: [InodeNumber: (node: PulseNode, lookups: UInt64)] = [:]
        var inodes: [PulseNode: InodeNumber] = [:]
        var next: UInt64 = 1
    }

    /// `.pulse` itself in the root of a mount over a town.
    static let top = InodeNumber(rawValue: 2)
    /// The first number above the fixed ones.
    static let firstFree: UInt64 = 1024

    /// The nodes with the numbers from `top` on.
    private static let fixed: [PulseNode] = [.top, .status, .runtimes(""), .aliveDirectory(""), .events, .metrics]

    /// The lower half of each number that is given out here; `NodeTable` gives out no such number.
    private static let mark: UInt64 = 0xffff_ffff

    /// Whether a number is of `.pulse` in a mount over a town.
    static func contains(_ inode: InodeNumber) -> Bool {
        (top.rawValue..<firstFree).contains(inode.rawValue) || inode.rawValue & mark == mark
    }

    /// `.pulse` itself.
    let top: InodeNumber
    private let state = Mutex(State())

    /// - Parameter top: The root where `.pulse` is a mount of its own.
    init(top: InodeNumber) {
        self.top = top
    }

    /// The number of inodes that the kernel knows, except those with a fixed number.
    var count: Int { state.withLock { $0.nodes.count } }

    /// Nil for an inode that the kernel has forgotten.
    func node(of inode: InodeNumber) -> PulseNode? {
        if inode == top { return .top }
        let index = inode.rawValue &- Self.top.rawValue
        return index < UInt64(Self.fixed.count) ? Self.fixed[Int(index)] : state.withLock { $0.nodes[inode]?.node }
    }

    /// The inode of a node, counting a lookup.
    func lookup(_ node: PulseNode) -> InodeNumber {
        if node == .top { return top }
        if let index = Self.fixed.firstIndex(of: node) {
            return InodeNumber(rawValue: Self.top.rawValue + UInt64(index))
        }
        return state.withLock { state in
            if let inode = state.inodes[node] {
                state.nodes[inode]?.lookups += 1
                return inode
            }
            let inode = InodeNumber(rawValue: state.next << 32 | Self.mark)
            state.next += 1
            state.inodes[node] = inode
            state.nodes[inode] = (node, 1)
            return inode
        }
    }

    /// Gives the next lookup of a node another inode: its name was removed, and the kernel takes the former inode for
    /// deleted.
    func detach(_ node: PulseNode) {
        state.withLock { $0.inodes[node] = nil }
    }

    /// Subtracts lookups.
    func forget(_ inode: InodeNumber, count: UInt64) {
        state.withLock { state in
            guard let (node, lookups) = state.nodes[inode] else { return }
            if lookups > count {
                state.nodes[inode]?.lookups -= count
            } else {
                state.nodes[inode] = nil
                if state.inodes[node] == inode { state.inodes[node] = nil }
            }
        }
    }
}

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
    /// A directory of `runtimes/`.
    case runtimes(RuntimeDirectory)
    case runtime(RuntimeID)
    /// A directory of `alive/`.
    case aliveDirectory(RuntimeDirectory)
    case alive(RuntimeID)
    /// A directory of `alive/` by its alias, `gastown@`; in no listing.
    case alias(RuntimeDirectory)

    /// One byte for the kind, and what the kind has, not encoded.
    var coded: [UInt8] {
        switch self {
        case .top, .status, .metrics, .events: []
        case .eventsFrom(let number): [1] + "\(number)".utf8
        case .runtimes(let directory): [2] + directory.prefix.utf8
        case .runtime(let id): [3] + id.description.utf8
        case .aliveDirectory(let directory): [4] + directory.prefix.utf8
        case .alive(let id): [5] + id.description.utf8
        case .alias(let directory): [6] + directory.prefix.utf8
        }
    }

    /// Nil for what `coded` does not make.
    init?(coded bytes: ArraySlice<UInt8>) {
        let text = String(decoding: bytes.dropFirst(), as: UTF8.self)
        switch bytes.first {
        case 1: if let number = UInt64(text) { self = .eventsFrom(number) } else { return nil }
        case 2: self = .runtimes(RuntimeDirectory(validated: text))
        case 3: if let id = try? RuntimeID(text) { self = .runtime(id) } else { return nil }
        case 4: self = .aliveDirectory(RuntimeDirectory(validated: text))
        case 5: if let id = try? RuntimeID(text) { self = .alive(id) } else { return nil }
        case 6: self = .alias(RuntimeDirectory(validated: text))
        default: return nil
        }
    }

    /// Suffix of a runtime's file.
    static let suffix = ".json"
    /// In a directory, the runtime whose id the directory has; between `events` and a number; at the end of an alias.
    static let at = "@"

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
    ///
    /// See `RuntimeDirectory` for the names.
    var path: String {
        switch self {
        case .top: ""
        case .status: "status.json"
        case .metrics: "metrics"
        case .events: "events"
        case .eventsFrom(let number): "events\(Self.at)\(number)"
        case .runtimes(let directory): "runtimes/\(directory.reportNames.map { $0 + "/" }.joined())"
        case .runtime(let id): "runtimes/\(id.reportPath)"
        case .aliveDirectory(let directory): "alive/\(directory.names.map { $0 + "/" }.joined())"
        case .alive(let id): "alive/\(id.names.joined(separator: "/"))"
        case .alias(let directory): "alive/\(directory.names.map { $0 + "/" }.joined())\(Self.at)"
        }
    }

    /// The last component of its path.
    var name: String {
        // A character may begin with a slash.
        path.utf8.split(separator: UInt8(ascii: "/")).last.map { String(Substring($0)) } ?? ""
    }

    /// `st_ino`: above the numbers of disk file systems and signal files, with a hash of the path.
    var number: ino_t { 0x7070_0000_0000_0000 | SignalFile.inodeNumber(of: Array(path.utf8)) & 0xffff_ffff_ffff }
}

// MARK: - Names in `runtimes`

extension RuntimeID {
    /// Its file's path in `.pulse/runtimes`.
    package var reportPath: String {
        let names = names
        return (names.dropLast().map(\.asReportDirectory) + [names[names.count - 1] + PulseNode.suffix])
            .joined(separator: "/")
    }
}

extension RuntimeDirectory {
    /// The names that lead to it in `.pulse/runtimes`.
    package var reportNames: [String] { names.map(\.asReportDirectory) }

    /// The id whose file has a name; nil if none has.
    package func id(ofReport name: String) -> RuntimeID? {
        guard name.hasBytes(atEnd: PulseNode.suffix) else { return nil }
        return try? id(named: String(name.unicodeScalars.dropLast(PulseNode.suffix.utf8.count)))
    }

    /// The directory of `.pulse/runtimes` with a name; nil if none can have it.
    package func directory(ofReports name: String) -> RuntimeDirectory? {
        guard !name.hasBytes(atEnd: PulseNode.suffix) else { return nil }
        let isHidden = name.hasBytes(atEnd: String.hiddenSuffix)
        let name =
            isHidden
            ? String(name.unicodeScalars.dropLast(String.hiddenSuffix.utf8.count)) + PulseNode.suffix : name
        return try? directory(named: name)
    }
}

extension String {
    /// `.json` at the end of a directory's name: `x.json` is the file of `x`.
    fileprivate static let hiddenSuffix = "%2Ejson"

    fileprivate var asReportDirectory: String {
        guard hasBytes(atEnd: PulseNode.suffix) else { return self }
        return String(unicodeScalars.dropLast(PulseNode.suffix.utf8.count)) + Self.hiddenSuffix
    }
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
    private static let fixed: [PulseNode] = [.top, .status, .runtimes(.top), .aliveDirectory(.top), .events, .metrics]

    /// The lower half of each number that is given out here; `NodeTable` gives out no such number.
    private static let mark: UInt64 = 0xffff_ffff

    /// Whether a number is of `.pulse` in a mount over a town.
    static func contains(_ inode: InodeNumber) -> Bool {
        (top.rawValue..<firstFree).contains(inode.rawValue) || inode.rawValue & mark == mark
    }

    /// `.pulse` itself.
    let top: InodeNumber
    private let log: SharedLog
    private let state = Mutex(State())

    /// - Parameters:
    ///   - top: The root where `.pulse` is a mount of its own.
    ///   - log: Where a successor finds the inodes. If it holds some, this is the successor.
    init(top: InodeNumber, log: SharedLog) {
        self.top = top
        self.log = log
        state.withLock { state in
            for (key, value) in log.entries(Journal.Kind.pulseInode) where key.count == 8 && value.count >= 8 {
                let number = key.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
                let lookups = value.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
                guard let node = PulseNode(coded: value.dropFirst(8)) else { continue }
                let inode = InodeNumber(rawValue: number)
                state.nodes[inode] = (node, lookups)
                // Of two with one name, the later one; the other's name was removed.
                if state.inodes[node].map({ $0.rawValue < number }) ?? true { state.inodes[node] = inode }
                state.next = max(state.next, number >> 32 + 1)
            }
        }
    }

    private func save(_ inode: InodeNumber, _ state: State) {
        let key = withUnsafeBytes(of: inode.rawValue.littleEndian) { Array($0) }
        guard let (node, lookups) = state.nodes[inode] else {
            log.remove(Journal.Kind.pulseInode, key: key)
            return
        }
        let count = withUnsafeBytes(of: lookups.littleEndian) { Array($0) }
        // Without room, a successor answers ESTALE, and the kernel looks the name up again.
        _ = log.append(Journal.Kind.pulseInode, key: key, value: count + node.coded)
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
                save(inode, state)
                return inode
            }
            let inode = InodeNumber(rawValue: state.next << 32 | Self.mark)
            state.next += 1
            state.inodes[node] = inode
            state.nodes[inode] = (node, 1)
            save(inode, state)
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
            save(inode, state)
        }
    }
}

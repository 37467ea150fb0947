import Fuse
import Glibc
import Synchronization

/// The inode numbers of `.pulse`: what they stand for, for as long as the kernel knows them.
final class PulseInodes: Sendable {
    private struct Known {
        var places: [InodeNumber: (place: PulseNode, lookups: UInt64)] = [:]
        var inodes: [PulseNode: InodeNumber] = [:]
        var next: UInt64 = 1
    }

    /// `.pulse` itself, where it lies in the root of a mount.
    static let top = InodeNumber(rawValue: 2)
    /// The first number that is none of those below.
    static let firstFree: UInt64 = 1024

    /// What is always there has a number of its own.
    private static let fixed: [PulseNode: InodeNumber] = [
        .top: top, .status: InodeNumber(rawValue: 3), .runtimes(""): InodeNumber(rawValue: 4),
        .livingBeneath(""): InodeNumber(rawValue: 5), .events: InodeNumber(rawValue: 6),
        .metrics: InodeNumber(rawValue: 7),
    ]
    private static let fixedPlaces = Dictionary(uniqueKeysWithValues: fixed.map { ($0.value, $0.key) })

    /// The lower half of each number that is given out here, and of none that `NodeTable` gives out.
    private static let mark: UInt64 = 0xffff_ffff

    /// `st_ino` of all of it: a range beyond what disk file systems and signal files use, and a hash of the path.
    private static let firstNumber: ino_t = 0x7070_0000_0000_0000

    /// `.pulse` itself.
    let top: InodeNumber
    private let known = Mutex(Known())

    /// - Parameter top: The root's number where `.pulse` is a mount of its own.
    init(top: InodeNumber = PulseInodes.top) {
        self.top = top
    }

    func contains(_ inode: InodeNumber) -> Bool {
        (Self.top.rawValue..<Self.firstFree).contains(inode.rawValue) || inode.rawValue & Self.mark == Self.mark
            || inode == top
    }

    static func number(of place: PulseNode) -> ino_t {
        firstNumber | SignalFile.inodeNumber(of: Array(place.path.utf8)) & 0xffff_ffff_ffff
    }

    /// How many the kernel knows, of those that are not always there.
    var count: Int { known.withLock { $0.places.count } }

    /// Nil for one that the kernel has forgotten.
    func place(of inode: InodeNumber) -> PulseNode? {
        inode == top ? .top : Self.fixedPlaces[inode] ?? known.withLock { $0.places[inode]?.place }
    }

    /// The inode of a place, counting a lookup.
    func look(up place: PulseNode) -> InodeNumber {
        if place == .top { return top }
        if let inode = Self.fixed[place] { return inode }
        return known.withLock { known in
            if let inode = known.inodes[place] {
                known.places[inode]?.lookups += 1
                return inode
            }
            let inode = InodeNumber(rawValue: known.next << 32 | Self.mark)
            known.next += 1
            known.inodes[place] = inode
            known.places[inode] = (place, 1)
            return inode
        }
    }

    /// Gives a place another inode from now on: its name has been removed, and the kernel takes what had it for gone.
    func detach(_ place: PulseNode) {
        known.withLock { $0.inodes[place] = nil }
    }

    /// Takes back lookups, as the kernel does when it drops an inode.
    func forget(_ inode: InodeNumber, count: UInt64) {
        known.withLock { known in
            guard let (place, lookups) = known.places[inode] else { return }
            if lookups > count {
                known.places[inode]?.lookups -= count
            } else {
                known.places[inode] = nil
                if known.inodes[place] == inode { known.inodes[place] = nil }
            }
        }
    }
}

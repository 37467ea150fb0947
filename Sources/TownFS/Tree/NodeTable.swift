import Fuse
import Glibc

/// Nodes by inode number, and by which file they are.
///
///     inode number:  use (32 bits) │ slot (32 bits)          slot:  block │ place in the block
///
/// A slot is used again when its node is gone, each time with another number, so that no number is ever given out
/// twice. Blocks are given back when nothing is left in them: memory follows what the kernel knows, down as well as up.
/// The index from file to node holds slots alone and compares with the nodes themselves.
///
/// A node takes `MemoryLayout<Node>.stride` bytes here, and 6 to 12 in the index.
struct NodeTable {
    private final class Block {
        var nodes = [Node?](repeating: nil, count: NodeTable.blockSize)
        /// Which use of its slot the next node in it will be, or is.
        var uses: [UInt32]
        /// Places without a node.
        var free: [UInt16] = (0..<UInt16(NodeTable.blockSize)).reversed()

        init(firstUse: UInt32) {
            uses = Array(repeating: firstUse, count: NodeTable.blockSize)
        }

        var isEmpty: Bool { free.count == NodeTable.blockSize }
    }

    private struct Shelf {
        var block: Block?
        /// For a block that is made anew.
        var firstUse: UInt32 = 0
        /// Whether it is among `roomy`.
        var isRoomy = false
    }

    static let blockSize = 1024

    private var shelves: [Shelf] = []
    /// Shelves with a free place; the last one is filled next.
    private var roomy: [Int] = []
    /// The first shelf that is for everybody; those before hold numbers that are fixed.
    private let firstShelf: Int
    private(set) var count = 0
    private var index = SlotIndex()

    /// - Parameter firstInode: The first number to give out; those below are for `insert`.
    init(firstInode: UInt64) {
        firstShelf = (Int(firstInode) + Self.blockSize - 1) / Self.blockSize
        shelves = Array(repeating: Shelf(), count: firstShelf)
    }

    // MARK: By number

    subscript(_ inode: InodeNumber) -> Node? {
        get {
            guard let (block, place) = find(inode) else { return nil }
            return block.nodes[place]
        }
        _modify {
            guard let (block, place) = find(inode) else {
                var nothing: Node?
                yield &nothing
                return
            }
            yield &block.nodes[place]
        }
    }

    /// The block and place of a node that is there.
    private func find(_ inode: InodeNumber) -> (Block, Int)? {
        let (shelf, place) = Self.position(slot: inode.slot)
        guard shelf < shelves.count, let block = shelves[shelf].block, block.uses[place] == inode.use,
            block.nodes[place] != nil
        else { return nil }
        return (block, place)
    }

    private static func position(slot: UInt32) -> (shelf: Int, place: Int) {
        (Int(slot) / blockSize, Int(slot) % blockSize)
    }

    /// Takes a node in and gives it a number.
    mutating func add(_ node: Node) -> InodeNumber {
        if roomy.isEmpty {
            roomy.append(shelves.count)
            shelves.append(Shelf(isRoomy: true))
        }
        let shelf = roomy[roomy.count - 1]
        let block = shelves[shelf].block ?? Block(firstUse: shelves[shelf].firstUse)
        shelves[shelf].block = block
        let place = Int(block.free.removeLast())
        if block.free.isEmpty {
            roomy.removeLast()
            shelves[shelf].isRoomy = false
        }
        block.nodes[place] = node
        count += 1
        return InodeNumber(slot: UInt32(shelf * Self.blockSize + place), use: block.uses[place])
    }

    /// Takes in the node of a number that is fixed.
    mutating func insert(_ node: Node, as inode: InodeNumber) {
        let (shelf, place) = Self.position(slot: inode.slot)
        precondition(shelf < firstShelf && inode.use == 0)
        let block = shelves[shelf].block ?? Block(firstUse: 0)
        shelves[shelf].block = block
        block.free.removeAll { $0 == place }
        block.nodes[place] = node
        count += 1
    }

    /// Takes a node out, and out of the index.
    mutating func remove(_ inode: InodeNumber) {
        guard let (block, place) = find(inode) else { return }
        unindex(inode)
        block.nodes[place] = nil
        count -= 1
        let shelf = Self.position(slot: inode.slot).shelf
        // A slot that has been used up is not used any more.
        guard block.uses[place] < .max else { return }
        block.uses[place] += 1
        block.free.append(UInt16(place))
        guard shelf >= firstShelf else { return }
        if !shelves[shelf].isRoomy {
            shelves[shelf].isRoomy = true
            roomy.append(shelf)
        }
        if block.isEmpty {
            shelves[shelf].firstUse = block.uses.max() ?? 0
            shelves[shelf].block = nil
        }
    }

    /// Calls `body` with every node, in no particular order.
    func forEach(_ body: (InodeNumber, Node) -> Void) {
        for (number, shelf) in shelves.enumerated() {
            guard let block = shelf.block else { continue }
            for (place, node) in block.nodes.enumerated() {
                guard let node else { continue }
                body(InodeNumber(slot: UInt32(number * Self.blockSize + place), use: block.uses[place]), node)
            }
        }
    }

    // MARK: By parent

    /// Adds a node to its parent's children.
    mutating func link(_ inode: InodeNumber) {
        guard let parent = self[inode]?.parent, let next = self[parent]?.firstChild else { return }
        self[inode]?.nextSibling = next
        self[inode]?.previousSibling = 0
        if let next = self.inode(slot: next) { self[next]?.previousSibling = inode.slot }
        self[parent]?.firstChild = inode.slot
    }

    /// Removes a node from its parent's children; called before its parent changes.
    mutating func unlink(_ inode: InodeNumber) {
        guard let node = self[inode] else { return }
        if let next = self.inode(slot: node.nextSibling) { self[next]?.previousSibling = node.previousSibling }
        if let previous = self.inode(slot: node.previousSibling) {
            self[previous]?.nextSibling = node.nextSibling
        } else {
            self[node.parent]?.firstChild = node.nextSibling
        }
    }

    /// The nodes whose parent this one is.
    func children(of inode: InodeNumber) -> [InodeNumber] {
        var children: [InodeNumber] = []
        var next = self[inode]?.firstChild ?? 0
        while let child = self.inode(slot: next), let node = self[child] {
            children.append(child)
            next = node.nextSibling
        }
        return children
    }

    // MARK: By file

    /// The node that is indexed for a file.
    func inode(of identity: FileIdentity) -> InodeNumber? {
        index.slot(of: identity, identityOf: identityOfSlot).flatMap { inode(slot: $0) }
    }

    /// Makes a node the one that is found by the file it is of, instead of another if need be.
    mutating func index(_ inode: InodeNumber) {
        guard let identity = self[inode]?.identity else { return }
        if let former = self.inode(of: identity) { unindex(former) }
        index.insert(inode.slot, identityOf: identityOfSlot)
    }

    /// Lets a node be found no more by the file it is of; called before it becomes another's.
    mutating func unindex(_ inode: InodeNumber) {
        guard let identity = self[inode]?.identity, self.inode(of: identity) == inode else { return }
        index.remove(inode.slot, identityOf: identityOfSlot)
    }

    /// For the index, while it is being changed: the nodes are not.
    private var identityOfSlot: SlotIndex.IdentityOf {
        let shelves = shelves
        return { slot in
            let (shelf, place) = Self.position(slot: slot)
            return shelves[shelf].block?.nodes[place]?.identity
        }
    }

    private func inode(slot: UInt32) -> InodeNumber? {
        guard slot != 0 else { return nil }
        let (shelf, place) = Self.position(slot: slot)
        return shelves[shelf].block.map { InodeNumber(slot: slot, use: $0.uses[place]) }
    }
}

extension InodeNumber {
    fileprivate init(slot: UInt32, use: UInt32) {
        self.init(rawValue: UInt64(use) << 32 | UInt64(slot))
    }

    fileprivate var slot: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    fileprivate var use: UInt32 { UInt32(rawValue >> 32) }
}

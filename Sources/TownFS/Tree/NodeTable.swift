import Fuse
import Glibc

/// Nodes, indexed by inode number and by file identity.
///
///     inode number:  use (32 bits) │ slot (32 bits)          slot:  block │ place in the block
///
/// Each reuse of a slot changes the upper half, so no inode number is given out twice. Empty blocks are freed. The
/// index holds slots only and reads identities from the nodes.
///
/// A node takes `MemoryLayout<Node>.stride` bytes here, and 6 to 12 in the index.
struct NodeTable {
    private final class Block {
        var nodes = [Node?](repeating: nil, count: NodeTable.blockSize)
        /// The current or next use of each slot.
        var uses: [UInt32]
        /// Unused places.
        var free: [UInt16] = (0..<UInt16(NodeTable.blockSize)).reversed()

        init(firstUse: UInt32) {
            uses = Array(repeating: firstUse, count: NodeTable.blockSize)
        }

        var isEmpty: Bool { free.count == NodeTable.blockSize }
    }

    private struct Shelf {
        var block: Block?
        /// For the next block allocated here.
        var firstUse: UInt32 = 0
        /// Whether it is among `roomy`.
        var isRoomy = false
    }

    static let blockSize = 1024

    private var shelves: [Shelf] = []
    /// Shelves with a free place; the last one is used next.
    private var roomy: [Int] = []
    /// The first shelf for `add`; those before hold fixed numbers.
    private let firstShelf: Int
    private(set) var count = 0
    private var index = SlotIndex()
    /// Where a successor finds the nodes; nil if there will be none.
    private let records: NodeRecords?

    /// - Parameter firstInode: The first number for `add`; smaller ones are for `insert`.
    init(firstInode: UInt64, records: NodeRecords? = nil) {
        self.records = records
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
            record(&block.nodes[place], inode)
        }
    }

    /// The block and place of an existing node.
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

    /// Adds a node and returns its new inode number.
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
        let inode = InodeNumber(slot: UInt32(shelf * Self.blockSize + place), use: block.uses[place])
        record(&block.nodes[place], inode)
        return inode
    }

    /// Adds a node with a fixed number.
    mutating func insert(_ node: Node, as inode: InodeNumber) {
        let (shelf, place) = Self.position(slot: inode.slot)
        precondition(shelf < firstShelf && inode.use == 0)
        let block = shelves[shelf].block ?? Block(firstUse: 0)
        shelves[shelf].block = block
        block.free.removeAll { $0 == place }
        block.nodes[place] = node
        count += 1
        record(&block.nodes[place], inode)
    }

    /// Removes a node, also from the index.
    mutating func remove(_ inode: InodeNumber) {
        guard let (block, place) = find(inode) else { return }
        unindex(inode)
        block.nodes[place] = nil
        count -= 1
        let shelf = Self.position(slot: inode.slot).shelf
        // A slot without further numbers is retired.
        let isRetired = block.uses[place] == .max
        if !isRetired { block.uses[place] += 1 }
        records?.remove(slot: inode.slot, nextUse: block.uses[place])
        guard !isRetired else { return }
        block.free.append(UInt16(place))
        guard shelf >= firstShelf else { return }
        if !shelves[shelf].isRoomy {
            shelves[shelf].isRoomy = true
            roomy.append(shelf)
        }
        if block.isEmpty {
            shelves[shelf].firstUse = block.uses.max() ?? 0
            shelves[shelf].block = nil
            records?.free(block: shelf, firstUse: shelves[shelf].firstUse)
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

    // MARK: Records

    private func record(_ node: inout Node?, _ inode: InodeNumber) {
        guard let records, let unrecorded = node?.unrecorded, unrecorded != .nothing else { return }
        // because `node?` is not nil.
        if unrecorded == .lookups {
            records.write(lookups: node!.lookups, slot: inode.slot)
        } else {
            records.write(node!, slot: inode.slot, use: inode.use)
        }
        node!.unrecorded = .nothing
    }

    /// Adds the nodes of an earlier process.
    ///
    /// - Parameter firstInode: As it was for that process.
    init(restoring records: NodeRecords, firstInode: UInt64) {
        self.init(firstInode: firstInode, records: records)
        var restored: [(inode: InodeNumber, isPinned: Bool, birth: Int64)] = []
        records.restore { slot, use, node in
            let (shelf, place) = Self.position(slot: slot)
            while shelves.count <= shelf { shelves.append(Shelf()) }
            guard let node else {
                shelves[shelf].firstUse = max(shelves[shelf].firstUse, use)
                if let block = shelves[shelf].block { block.uses[place] = use }
                return
            }
            let block = shelves[shelf].block ?? Block(firstUse: shelves[shelf].firstUse)
            shelves[shelf].block = block
            block.uses[place] = use
            block.nodes[place] = Node(node)
            count += 1
            restored.append((InodeNumber(slot: slot, use: use), node.flags.contains(.pinned), node.birth))
        }
        for shelf in shelves.indices {
            if let block = shelves[shelf].block {
                block.free = (0..<Self.blockSize).reversed().filter { block.nodes[$0] == nil && block.uses[$0] < .max }
                    .map(UInt16.init)
            }
            if shelf >= firstShelf, shelves[shelf].block?.free.isEmpty != true {
                shelves[shelf].isRoomy = true
                roomy.append(shelf)
            }
        }
        // Of several nodes with one identity the last one is indexed: that of a later file, not of an unlinked one.
        restored.sort { ($0.isPinned ? 0 : 1, $0.birth) < ($1.isPinned ? 0 : 1, $1.birth) }
        for (inode, _, _) in restored {
            if inode != .root { link(inode) }
            index(inode)
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

    // MARK: By identity

    /// The node that is indexed for an identity.
    func inode(of identity: FileIdentity) -> InodeNumber? {
        index.slot(of: identity, identityOf: identityOfSlot).flatMap { inode(slot: $0) }
    }

    /// Indexes a node by its identity, in place of any other node of that identity.
    mutating func index(_ inode: InodeNumber) {
        guard let identity = self[inode]?.identity else { return }
        if let former = self.inode(of: identity) { unindex(former) }
        index.insert(inode.slot, identityOf: identityOfSlot)
    }

    /// Removes a node from the index; called before its identity changes.
    mutating func unindex(_ inode: InodeNumber) {
        guard let identity = self[inode]?.identity, self.inode(of: identity) == inode else { return }
        index.remove(inode.slot, identityOf: identityOfSlot)
    }

    /// Reads identities while the index changes; nodes do not change meanwhile.
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

import Fuse
import Glibc

/// Nodes, indexed by inode number and by file identity.
///
///     inode number:  use (32 bits) │ slot (32 bits)          slot:  block │ place in the block
///
/// Each reuse of a slot changes the upper half, so no inode number is given out twice. A block without nodes takes little
/// memory.
struct NodeTable {
    private final class Block {
        /// Empty while no place is used.
        var nodes: [Node?] = []
        /// The current or next use of each slot.
        var uses = [UInt32](repeating: 0, count: NodeTable.blockSize)
        /// Unused places.
        var free: [UInt16] = (0..<UInt16(NodeTable.blockSize)).reversed()

        func insert(_ node: Node, at place: Int) {
            if nodes.isEmpty { nodes = Array(repeating: nil, count: NodeTable.blockSize) }
            nodes[place] = node
        }
    }

    static let blockSize = 1024

    private var blocks: [Block]
    /// Blocks with a free place; the last one is used next.
    private var roomy: [Int] = []
    /// The first block for `add`; those before hold fixed numbers.
    private let firstBlock: Int
    private(set) var count = 0
    private var index: [FileIdentity: InodeNumber] = [:]
    /// Where a successor finds the nodes; nil if there will be none.
    private let records: NodeRecords?

    /// - Parameter firstInode: The first number for `add`; smaller ones are for `insert`.
    init(firstInode: UInt64, records: NodeRecords? = nil) {
        self.records = records
        firstBlock = (Int(firstInode) + Self.blockSize - 1) / Self.blockSize
        blocks = (0..<firstBlock).map { _ in Block() }
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
        let (number, place) = Self.position(slot: inode.slot)
        guard number < blocks.count, case let block = blocks[number], !block.nodes.isEmpty,
            block.uses[place] == inode.use, block.nodes[place] != nil
        else { return nil }
        return (block, place)
    }

    private static func position(slot: UInt32) -> (block: Int, place: Int) {
        (Int(slot) / blockSize, Int(slot) % blockSize)
    }

    /// Adds a node and returns its new inode number.
    mutating func add(_ node: Node) -> InodeNumber {
        if roomy.isEmpty {
            roomy.append(blocks.count)
            blocks.append(Block())
        }
        let number = roomy[roomy.count - 1]
        let block = blocks[number]
        let place = Int(block.free.removeLast())
        if block.free.isEmpty { roomy.removeLast() }
        block.insert(node, at: place)
        count += 1
        let inode = InodeNumber(slot: UInt32(number * Self.blockSize + place), use: block.uses[place])
        record(&block.nodes[place], inode)
        return inode
    }

    /// Adds a node with a fixed number.
    mutating func insert(_ node: Node, as inode: InodeNumber) {
        let (number, place) = Self.position(slot: inode.slot)
        precondition(number < firstBlock && inode.use == 0)
        blocks[number].free.removeAll { $0 == place }
        blocks[number].insert(node, at: place)
        count += 1
        record(&blocks[number].nodes[place], inode)
    }

    /// Removes a node, also from the index.
    mutating func remove(_ inode: InodeNumber) {
        guard let (block, place) = find(inode) else { return }
        unindex(inode)
        block.nodes[place] = nil
        count -= 1
        // A slot without further numbers is retired.
        let isRetired = block.uses[place] == .max
        if !isRetired { block.uses[place] += 1 }
        records?.remove(slot: inode.slot, nextUse: block.uses[place])
        guard !isRetired else { return }
        block.free.append(UInt16(place))
        let number = Self.position(slot: inode.slot).block
        if block.free.count == 1, number >= firstBlock { roomy.append(number) }
        if block.free.count == Self.blockSize {
            block.nodes = []
            records?.free(block: number, firstUse: block.uses.max() ?? 0)
        }
    }

    /// Calls `body` with every node, in no particular order.
    func forEach(_ body: (InodeNumber, Node) -> Void) {
        for (number, block) in blocks.enumerated() {
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
            let (number, place) = Self.position(slot: slot)
            while blocks.count <= number { blocks.append(Block()) }
            let block = blocks[number]
            block.uses[place] = use
            guard let node else { return }
            block.insert(Node(node), at: place)
            count += 1
            restored.append((InodeNumber(slot: slot, use: use), node.flags.contains(.pinned), node.birth))
        }
        for (number, block) in blocks.enumerated() {
            block.free = (0..<UInt16(Self.blockSize)).reversed().filter { place in
                (block.nodes.isEmpty || block.nodes[Int(place)] == nil) && block.uses[Int(place)] < .max
            }
            if number >= firstBlock, !block.free.isEmpty { roomy.append(number) }
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
    func inode(of identity: FileIdentity) -> InodeNumber? { index[identity] }

    /// Indexes a node by its identity, in place of any other node of that identity.
    mutating func index(_ inode: InodeNumber) {
        if let identity = self[inode]?.identity { index[identity] = inode }
    }

    /// Removes a node from the index; called before its identity changes.
    mutating func unindex(_ inode: InodeNumber) {
        if let identity = self[inode]?.identity, index[identity] == inode { index[identity] = nil }
    }

    /// Frees the memory of an index that has become much too large.
    mutating func shrinkIndex() { index = Dictionary(uniqueKeysWithValues: index.map { ($0, $1) }) }

    private func inode(slot: UInt32) -> InodeNumber? {
        guard slot != 0 else { return nil }
        let (number, place) = Self.position(slot: slot)
        return InodeNumber(slot: slot, use: blocks[number].uses[place])
    }
}

extension InodeNumber {
    fileprivate init(slot: UInt32, use: UInt32) {
        self.init(rawValue: UInt64(use) << 32 | UInt64(slot))
    }

    fileprivate var slot: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    fileprivate var use: UInt32 { UInt32(rawValue >> 32) }
}

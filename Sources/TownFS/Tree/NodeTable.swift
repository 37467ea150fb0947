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

    /// - Parameter firstInode: The first number for `add`; smaller ones are for `insert`.
    init(firstInode: UInt64) {
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
        return InodeNumber(slot: UInt32(number * Self.blockSize + place), use: block.uses[place])
    }

    /// Adds a node with a fixed number.
    mutating func insert(_ node: Node, as inode: InodeNumber) {
        let (number, place) = Self.position(slot: inode.slot)
        precondition(number < firstBlock && inode.use == 0)
        blocks[number].free.removeAll { $0 == place }
        blocks[number].insert(node, at: place)
        count += 1
    }

    /// Removes a node, also from the index.
    mutating func remove(_ inode: InodeNumber) {
        guard let (block, place) = find(inode) else { return }
        unindex(inode)
        block.nodes[place] = nil
        count -= 1
        // A slot without further numbers is retired.
        guard block.uses[place] < .max else { return }
        block.uses[place] += 1
        block.free.append(UInt16(place))
        let number = Self.position(slot: inode.slot).block
        if block.free.count == 1, number >= firstBlock { roomy.append(number) }
        if block.free.count == Self.blockSize { block.nodes = [] }
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

import Fuse
import SystemPackage

// What happens under the store's lock: memory only.

extension NodeStore.State {
    mutating func add(
        _ nameKind: Node.NameKind, named name: NodeName, in parent: InodeNumber, isDirectory: Bool = false,
        signals: SignalDirectory? = nil
    ) -> InodeNumber {
        let inode = nodes.add(
            Node(
                nameKind: nameKind, parent: parent, name: name, lookups: 1, isDirectory: isDirectory, signals: signals))
        nodes.link(inode)
        peak = max(peak, nodes.count)
        return inode
    }

    /// Whether so many nodes have gone since this was last true that their memory is worth giving back.
    mutating func hasShrunk() -> Bool {
        guard peak > 1024, nodes.count * 2 < peak else { return false }
        peak = nodes.count
        return true
    }

    /// Notes where a file is now.
    ///
    /// Nodes that are of no more use are handed out, to be destroyed outside the lock.
    mutating func place(
        _ inode: InodeNumber, at name: NodeName, in parent: InodeNumber, signals: SignalDirectory?,
        removing removed: inout [Node]
    ) {
        guard let node = nodes[inode] else { return }
        if node.parent != parent {
            // A change beneath may show a directory in what we still take for its own child. The way to it stays the old
            // one then, which is out of date, but has an end.
            guard !isAt(parent, orBelow: inode) else { return }
            nodes.unlink(inode)
            nodes[inode]?.parent = parent
            nodes.link(inode)
            removeIfUnused(node.parent, into: &removed)
        }
        nodes[inode]?.name = name
        nodes[inode]?.signals = signals
        if node.isPinned, inode != .root {
            // It has a name again, and need not hold a descriptor for the lack of one.
            nodes[inode]?.isPinned = false
            nodes[inode]?.descriptor = nil
            removed.append(node)
        }
    }

    private func isAt(_ inode: InodeNumber, orBelow top: InodeNumber) -> Bool {
        var next = inode
        while next != top {
            guard next != .root, let node = nodes[next] else { return false }
            next = node.parent
        }
        return true
    }

    mutating func removeIfUnused(_ inode: InodeNumber, into removed: inout [Node]) {
        var next = inode
        while next != .root, let node = nodes[next], node.lookups == 0, node.firstChild == 0 {
            nodes.unlink(next)
            nodes.remove(next)
            if let file = node.signalFile, bySignal[ObjectIdentifier(file)] == next {
                bySignal[ObjectIdentifier(file)] = nil
            }
            removed.append(node)
            next = node.parent
        }
    }

    /// The names to walk, and from where: nothing to walk when a descriptor of the inode itself is at hand.
    func way(to inode: InodeNumber, byHandle: Bool = true) throws(Errno) -> NodePath {
        var steps: [NodePath.Step] = []
        var next = inode
        while true {
            guard let node = nodes[next], let identity = node.identity else { throw .staleNFSFileHandle }
            let step = NodePath.Step(name: node.name, identity: identity, birth: node.birth)
            let end = steps.first?.identity ?? identity
            if let start = node.descriptor {
                return NodePath(start: .descriptor(start), steps: steps.reversed(), end: end)
            }
            if byHandle, let handle = node.handle {
                return NodePath(start: .handle(handle, step), steps: steps.reversed(), end: end)
            }
            steps.append(step)
            next = node.parent
        }
    }

    /// Takes an inode's descriptor out of the cache, to be closed outside the lock.
    mutating func dropDescriptor(of inode: InodeNumber) -> Descriptor? {
        guard let node = nodes[inode], !node.isPinned, let slot = node.cacheSlot, ring[slot] == inode else {
            return nil
        }
        ring[slot] = nil
        nodes[inode]?.cacheSlot = nil
        nodes[inode]?.descriptor = nil
        return node.descriptor
    }

    /// Empties the cache and returns the descriptors, to be closed outside the lock.
    mutating func dropDescriptors() -> [Descriptor] {
        ring.compactMap(\.self).compactMap { dropDescriptor(of: $0) }
    }

    /// Keeps a descriptor, and returns the one that had to go for it, to be closed outside the lock.
    mutating func keep(
        _ descriptor: Descriptor, for inode: InodeNumber, identity: FileIdentity
    ) -> NodeStore.Evicted? {
        guard let node = nodes[inode], node.identity == identity, node.descriptor == nil else { return nil }
        var dropped: NodeStore.Evicted?
        if let evicted = ring[hand], let former = nodes[evicted], former.cacheSlot == hand {
            nodes[evicted]?.cacheSlot = nil
            if !former.isPinned {
                if let identity = former.identity, let descriptor = former.descriptor {
                    dropped = NodeStore.Evicted(
                        inode: evicted, identity: identity, descriptor: descriptor, hasHandle: former.handle != nil)
                }
                nodes[evicted]?.descriptor = nil
            }
        }
        nodes[inode]?.descriptor = descriptor
        nodes[inode]?.cacheSlot = hand
        ring[hand] = inode
        hand = (hand + 1) % ring.count
        return dropped
    }
}

extension NodeStore {
    /// A descriptor that has had to go for another.
    struct Evicted {
        let inode: InodeNumber
        let identity: FileIdentity
        let descriptor: Descriptor
        let hasHandle: Bool
    }
}

/// A walk down the tree by names, to files of known identity.
struct NodePath {
    enum Start {
        case descriptor(Descriptor)
        /// With what it shall be found to be.
        case handle(ExportHandle, Step)
    }

    struct Step {
        let name: NodeName
        let identity: FileIdentity
        let birth: Birth?

        /// Whether it is the file that was found.
        func isOf(_ found: ExtendedStatus) -> Bool {
            found.isOf(identity, born: birth)
        }
    }

    let start: Start
    let steps: [Step]
    /// What it leads to.
    let end: FileIdentity
}

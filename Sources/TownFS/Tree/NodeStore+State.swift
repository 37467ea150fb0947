import Fuse
import SystemPackage

// Runs under the store's lock and touches memory only.

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

    /// Whether half of the nodes have gone since this was last true, so that `malloc_trim` is worth its time.
    mutating func hasShrunk() -> Bool {
        guard peak > 1024, nodes.count * 2 < peak else { return false }
        peak = nodes.count
        nodes.shrinkIndex()
        return true
    }

    /// Sets where a file is.
    ///
    /// - Parameter removed: Receives unused nodes. Destroy them outside the lock, as they may close descriptors.
    mutating func place(
        _ inode: InodeNumber, at name: NodeName, in parent: InodeNumber, signals: SignalDirectory?,
        removing removed: inout [Node]
    ) {
        guard let node = nodes[inode] else { return }
        if node.parent != parent {
            // After a change past the mount, a directory may be found in what is still recorded as its own child. Keeping
            // the outdated parent avoids a cycle.
            guard !isAncestor(inode, orSelfOf: parent) else { return }
            nodes.unlink(inode)
            nodes[inode]?.parent = parent
            nodes.link(inode)
            removeIfUnused(node.parent, into: &removed)
        }
        nodes[inode]?.name = name
        nodes[inode]?.signals = signals
        if node.isPinned, inode != .root {
            // It has a name again, so its descriptor need not be kept.
            nodes[inode]?.isPinned = false
            nodes[inode]?.descriptor = nil
            removed.append(node)
        }
    }

    private func isAncestor(_ ancestor: InodeNumber, orSelfOf inode: InodeNumber) -> Bool {
        var next = inode
        while next != ancestor {
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
            removeSignal(node.signalFile, of: next)
            removed.append(node)
            next = node.parent
        }
    }

    /// Gives a signal file a new inode at its next lookup, if this one is its inode.
    mutating func removeSignal(_ file: SignalFile?, of inode: InodeNumber) {
        if let file, bySignal[ObjectIdentifier(file)] == inode { bySignal[ObjectIdentifier(file)] = nil }
    }

    /// The names to walk from the nearest descriptor or export handle; none if the inode itself has a descriptor.
    func path(to inode: InodeNumber, byHandle: Bool = true) throws(Errno) -> NodePath {
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

    /// Caches a descriptor, and returns the one that was evicted, to be closed outside the lock.
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
    /// A descriptor that was evicted from the cache.
    struct Evicted {
        let inode: InodeNumber
        let identity: FileIdentity
        let descriptor: Descriptor
        let hasHandle: Bool
    }
}

/// A walk down the tree that checks the identity of each file on it.
struct NodePath {
    enum Start {
        case descriptor(Descriptor)
        /// With the identity that it must lead to.
        case handle(ExportHandle, Step)
    }

    struct Step {
        let name: NodeName
        let identity: FileIdentity
        let birth: Birth?

        /// Whether this is the file that was found.
        func matches(_ found: ExtendedStatus) -> Bool {
            found.matches(identity, born: birth)
        }
    }

    let start: Start
    let steps: [Step]
    /// The file that the walk leads to.
    let end: FileIdentity
}

import Fuse
import SystemPackage

/// The backing directory of a signal file, found when an operation needs it.
///
/// Most operations on a committed file are answered from memory. They must not wait for the backing tree.
enum ParentDirectory: Sendable {
    case open(Descriptor)
    case node(InodeNumber, in: NodeStore)

    var descriptor: Descriptor {
        get throws(Errno) {
            switch self {
            case .open(let descriptor): descriptor
            case .node(let inode, let nodes): try nodes.descriptor(of: inode)
            }
        }
    }
}

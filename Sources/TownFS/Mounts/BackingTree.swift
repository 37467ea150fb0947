import Glibc
import Linux
import Synchronization
import SystemPackage

/// The directories of a town as they are beneath its mounts.
///
/// A path is walked from the nearest directory that was opened before anything was mounted over it: from there on no
/// mount of ours is in the way. With a mount over the whole town that is the root alone; where signal files have mounts of
/// their own, those directories, too.
package final class BackingTree: Sendable {
    let root: Descriptor
    private let covered = Mutex<[[UInt8]: Descriptor]>([:])

    /// - Parameter root: The town root, opened before it was mounted over (`O_PATH` is enough).
    package convenience init(takingOwnershipOf root: consuming OwnedDescriptor) {
        self.init(root: Descriptor(root))
    }

    init(root: Descriptor) {
        self.root = root
    }

    /// The root's, borrowed for a system call.
    package var rawRoot: CInt { root.rawValue }

    /// Notes that the directory at a path is about to be mounted over.
    ///
    /// - Parameter directory: The same, opened before.
    package func cover(_ path: [UInt8], with directory: consuming OwnedDescriptor) {
        let directory = Descriptor(directory)
        covered.withLock { $0[path] = directory }
    }

    /// Notes that nothing is mounted over the directory any more.
    package func uncover(_ path: [UInt8]) {
        // Closed outside the lock.
        let dropped = covered.withLock { $0.removeValue(forKey: path) }
        withExtendedLifetime(dropped) {}
    }

    /// The directory to walk a path from, and what is left of the path.
    func start(to path: [UInt8]) -> (directory: Descriptor, rest: ArraySlice<UInt8>) {
        let slash = UInt8(ascii: "/")
        return covered.withLock { covered in
            if covered.isEmpty { return (root, path[...]) }
            var end = path.endIndex
            while true {
                if let directory = covered[Array(path[..<end])] {
                    return (directory, path[end...].drop { $0 == slash })
                }
                guard let next = path[..<end].lastIndex(of: slash) else { return (root, path[...]) }
                end = next
            }
        }
    }

    /// A directory by its path, following no symbolic link.
    func directory(at path: [UInt8]) throws(Errno) -> Descriptor {
        let (start, rest) = start(to: path)
        return try start.directory(at: Array(rest))
    }

    /// Calls `body` with the descriptor of a directory.
    func withDirectory(at path: [UInt8], _ body: (_ directory: CInt) throws(Errno) -> Void) throws(Errno) {
        let directory = try directory(at: path)
        try body(directory.rawValue)
    }
}

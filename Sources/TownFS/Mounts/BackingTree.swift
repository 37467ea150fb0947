import CLinux
import Fuse
import Glibc
import Linux
import Synchronization
import SystemPackage

/// The backing directories of a town, reached past our mounts.
///
/// A path is resolved from the nearest directory that was opened before it was mounted on, so no mount of ours is in
/// the way. With one mount over the whole town that is the root; with `--scope=signals`, also the mounted directories.
package final class BackingTree: Sendable {
    let root: Descriptor
    private let mountpoints = Mutex<[[UInt8]: Descriptor]>([:])

    /// - Parameter root: The town root, opened before mounting; `O_PATH` is enough.
    package convenience init(takingOwnershipOf root: consuming OwnedDescriptor) {
        self.init(root: Descriptor(root))
    }

    init(root: Descriptor) {
        self.root = root
    }

    /// The root, for system calls.
    package var rawRoot: CInt { root.rawValue }

    /// Registers a directory that is going to be mounted on.
    ///
    /// - Parameter directory: Opened before the mount.
    package func addMountpoint(_ path: [UInt8], _ directory: consuming OwnedDescriptor) {
        let directory = Descriptor(directory)
        mountpoints.withLock { $0[path] = directory }
    }

    /// Unregisters a directory after an unmount.
    package func removeMountpoint(_ path: [UInt8]) {
        // Closed outside the lock.
        let dropped = mountpoints.withLock { $0.removeValue(forKey: path) }
        withExtendedLifetime(dropped) {}
    }

    /// The open directory nearest to a path, and the rest of the path.
    func start(to path: [UInt8]) -> (directory: Descriptor, rest: ArraySlice<UInt8>) {
        let slash = UInt8(ascii: "/")
        return mountpoints.withLock { mountpoints in
            if mountpoints.isEmpty { return (root, path[...]) }
            var end = path.endIndex
            while true {
                if let directory = mountpoints[Array(path[..<end])] {
                    return (directory, path[end...].drop { $0 == slash })
                }
                guard let next = path[..<end].lastIndex(of: slash) else { return (root, path[...]) }
                end = next
            }
        }
    }

    /// Opens a directory by its path, without following symbolic links (`O_PATH`).
    func directory(at path: [UInt8]) throws(Errno) -> Descriptor {
        let (start, rest) = start(to: path)
        return try start.directory(at: rest)
    }

    /// Calls `body` with the descriptor of a directory.
    func withDirectory(at path: [UInt8], _ body: (_ directory: CInt) throws(Errno) -> Void) throws(Errno) {
        let directory = try directory(at: path)
        try body(directory.rawValue)
    }
}

extension Descriptor {
    /// Opens a directory by its path under this one, without following symbolic links (`O_PATH`).
    func directory(at path: some Collection<UInt8>) throws(Errno) -> Descriptor {
        var reached = self
        for component in path.split(separator: UInt8(ascii: "/")) {
            reached = Descriptor(try NodeName(component).openDirectory(in: reached.rawValue))
        }
        return reached
    }

    /// Calls `body` with the descriptor of a directory under this one.
    func withDirectory(at path: [UInt8], _ body: (_ directory: CInt) throws(Errno) -> Void) throws(Errno) {
        let directory = try directory(at: path)
        try body(directory.rawValue)
    }
}

/// System calls on a name in a backing directory. None follows a symbolic link.
extension NodeName {
    /// Nil if there is no such name.
    func status(in directory: CInt) throws(Errno) -> FileStatus? {
        do throws(Errno) {
            return try withPointer { (name) throws(Errno) in try FileStatus(of: name, in: directory) }
        } catch .noSuchFileOrDirectory {
            return nil
        }
    }

    /// Opens a file, without waiting for the other end of a FIFO.
    func open(in directory: CInt, _ flags: CInt, mode: mode_t = 0) throws(Errno) -> OwnedDescriptor {
        try withPointer { (name) throws(Errno) in
            try OwnedDescriptor(opening: name, in: directory, flags | O_NOFOLLOW | O_NONBLOCK, mode: mode)
        }
    }

    /// Opens a directory with `O_PATH`.
    func openDirectory(in directory: CInt) throws(Errno) -> OwnedDescriptor {
        try withPointer { (name) throws(Errno) in
            try OwnedDescriptor(opening: name, in: directory, O_PATH | O_NOFOLLOW | O_DIRECTORY)
        }
    }

    func unlink(in directory: CInt) throws(Errno) {
        _ = try withPointer { (name) throws(Errno) in try retryingInterrupts { unlinkat(directory, name, 0) } }
    }
}

extension [UInt8] {
    /// The path of a name in the directory at this path, which is empty for the town root.
    func appending(component name: [UInt8]) -> [UInt8] { isEmpty ? name : self + [UInt8(ascii: "/")] + name }
}

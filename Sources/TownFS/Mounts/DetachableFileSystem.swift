import Fuse
import Glibc
import Linux
import SystemPackage

/// A file system that goes on serving after its mount is gone from the town's path, or its keeper has died.
///
/// A bind mount, another mount namespace or open files may keep the kernel asking. Their users share the directory with
/// processes that work in the plain files or in a later mount.
package protocol DetachableFileSystem: Sendable {
    /// Serves plain files from now on. May be called again.
    ///
    /// Signal files are written back, and their names mean backing files; one that is open for writing is written back
    /// at each commit. No reply allows the kernel to cache anything for more than a second.
    func detach()

    /// Makes the kernel ask again for everything that it has cached under the rules from before `detach`.
    ///
    /// Goes on doing so for the pages of open files: the kernel does not check whether those are current. Not to be
    /// called from an operation.
    ///
    /// - Parameter names: Whether cached names are invalidated, too. That needs Linux 6.1; earlier kernels would unmount
    ///   what is mounted on a name, and make working directories unreachable.
    func invalidateEverything(names: Bool)

    /// The keeper has died, and another one has taken its place: it is to hold what the former one held.
    func keepDescriptorsAgain()
}

extension TownFileSystem: DetachableFileSystem {
    package func detach() { tree.detach() }

    package func invalidateEverything(names: Bool) { tree.invalidateEverything(names: names) }

    package func keepDescriptorsAgain() { tree.keepDescriptorsAgain() }
}

extension TreeFileSystem: DetachableFileSystem {
    package func keepDescriptorsAgain() {
        nodes.keepAgain()
        keptHandles.keepAgain()
    }

    /// How often the kernel drops the pages of open files of a detached mount, in microseconds.
    private static let pageLifetime: UInt32 = 500_000

    package func detach() {
        town.recordDetached()
        ioModes.stopKeepingPages()
        town.writeback.writeNow(signals.allFiles(under: []))
    }

    package func invalidateEverything(names: Bool) {
        guard let connection = ioModes.connection else { return }
        for (inode, parent, name) in nodes.names {
            connection.invalidatePages(of: inode)
            if names, inode != .root { name.withPointer { connection.expire(FileName(borrowing: $0), in: parent) } }
        }
        do throws(Errno) {
            _ = try Thread(named: "invalidation") { [ioModes] in
                while true {
                    usleep(Self.pageLifetime)
                    for inode in ioModes.cachedInodes { connection.invalidatePages(of: inode) }
                }
            }
        } catch {
            town.log.error("open files of the detached mount may read old content: \(error)")
        }
    }
}

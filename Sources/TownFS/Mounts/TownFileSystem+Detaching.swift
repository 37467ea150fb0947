import Fuse
import Glibc
import Linux
import SystemPackage

extension TownFileSystem {
    /// How often the kernel drops the pages of open files of a detached mount.
    private static let pageLifetime: UInt32 = 500_000

    /// Serves on after the mount is gone from the town's path.
    ///
    /// A bind mount, another mount namespace or open files may keep the kernel asking. Its users share the directory with
    /// processes that work in the plain files or in a later mount. So signal files are written back, and their names mean
    /// backing files from now on; one that is open for writing is written back at each commit. No reply allows the kernel
    /// to cache anything for more than a second.
    ///
    /// May be called again.
    package func detach() {
        town.noteDetached()
        ioModes.stopKeepingPages()
        town.writeback.writeNow(signals.allFiles(backing: []))
    }

    /// Makes the kernel ask again for everything that it has cached under the rules from before `detach`, and keeps
    /// doing so for the pages of open files: the kernel does not check whether those are current.
    ///
    /// Not to be called from an operation.
    ///
    /// - Parameter names: Whether cached names are invalidated, too. That needs Linux 6.1; earlier kernels would unmount
    ///   what is mounted on a name, and make working directories unreachable.
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

import Fuse
import Glibc
import SystemPackage

/// A file system whose directories are listed by `DirectoryHandles`.
package protocol DirectoryFileSystem: FileSystem {
    var directories: DirectoryHandles { get }
    /// Nil if the kernel caches no attributes.
    var connection: Connection? { get }
    /// A directory to be listed through one handle.
    func openDirectory(_ inode: InodeNumber) throws(Errno) -> OpenDirectory
    /// A directory to be listed without a handle.
    func listedDirectory(_ inode: InodeNumber) throws(Errno) -> OpenDirectory
    /// Whether the kernel may cache a listing.
    func isListingKept(_ inode: InodeNumber) -> Bool
    /// The entry of a listed name, counted as a lookup.
    func listedEntry(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) -> Entry
}

extension DirectoryFileSystem {
    package func opendir(_ inode: InodeNumber, for request: Request) throws(Errno) -> OpenDirectoryReply {
        OpenDirectoryReply(
            handle: directories.opened.insert(try openDirectory(inode)), isListingKept: isListingKept(inode))
    }

    package func readdir(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno) {
        try list(inode, handle, from: offset, into: &reply) { (entry, reply) in entry.add(to: &reply) }
    }

    package func readdirplus(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno) {
        try list(inode, handle, from: offset, into: &reply) { (entry, reply) in
            entry.add(to: &reply) { (name) throws(Errno) in try listedEntry(name, in: inode, for: request) }
        }
    }

    package func releasedir(_ handle: FileHandle) {
        _ = directories.opened.remove(handle)
    }

    private func list(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, into reply: inout DirectoryReply,
        _ add: (OpenDirectory.Listed, inout DirectoryReply) -> Bool
    ) throws(Errno) {
        do throws(Errno) {
            try directories.list(
                inode, handle, from: offset, into: &reply, isKept: { isListingKept(inode) },
                open: { () throws(Errno) in try listedDirectory(inode) }, add)
        } catch  where handle == .unopened && (error == .staleNFSFileHandle || error == .noSuchFileOrDirectory) {
            // Removed in the backing tree; its name may be another directory's. The next path walk looks it up again.
            connection?.invalidateAttributes(of: inode)
            throw .staleNFSFileHandle
        }
    }
}

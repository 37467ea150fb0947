import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage

extension TreeFileSystem {
    package func opendir(_ inode: InodeNumber, for request: Request) throws(Errno) -> OpenDirectoryReply {
        OpenDirectoryReply(
            handle: handle(of: try openDirectory(inode), inode, for: request), isListingKept: isListingKept(inode))
    }

    /// A directory to be listed through one handle.
    func openDirectory(_ inode: InodeNumber) throws(Errno) -> OpenDirectory {
        let directory = try directory(inode)
        let real = try nodes.retryingWithFewerDescriptors { () throws(Errno) in
            try directory.descriptor.reopenedDirectory()
        }
        if let signals = directory.signals {
            let hidden = inode == .root ? hiddenName : nil
            return OpenDirectory(
                real: real, listing: { () throws(Errno) in try signals.listing(over: real, without: hidden) })
        }
        return OpenDirectory(streaming: real, shown: try shownNumbers(inode))
    }

    /// A directory to be listed without a handle: read as a whole if offsets differ from one opening to the next.
    private func listedDirectory(_ inode: InodeNumber) throws(Errno) -> OpenDirectory {
        let directory = try openDirectory(inode)
        return try directory.hasLastingOffsets() ? directory : directory.snapshot()
    }

    /// The function that maps backing inode numbers in a directory to `d_ino`.
    private func shownNumbers(_ inode: InodeNumber) throws(Errno) -> @Sendable (ino_t) -> ino_t {
        let device = try nodes.node(inode).identity?.device ?? 0
        return { [devices] in devices.number($0, on: device) }
    }

    /// Whether the kernel may cache a listing: signal files come and go without the kernel.
    private func isListingKept(_ inode: InodeNumber) -> Bool {
        guard !town.sharesBacking, let node = try? nodes.node(inode) else { return false }
        return node.signals?.scope.hasSignals != true && !node.isAliased
    }

    package func readdir(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, plus: Bool, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno) {
        do throws(Errno) {
            try directories.list(
                inode, handle, from: offset, plus: plus, into: &reply, isKept: { isListingKept(inode) },
                open: { () throws(Errno) in try listedDirectory(inode) },
                lookup: { (name) throws(Errno) in try find(name, in: inode, for: request) })
        } catch  where handle == .unopened && (error == .staleNFSFileHandle || error == .noSuchFileOrDirectory) {
            // Removed in the backing tree; its name may be another directory's. The next path walk looks it up again.
            ioModes.connection?.invalidateAttributes(of: inode)
            throw .staleNFSFileHandle
        }
    }

    package func fsyncdir(
        _ inode: InodeNumber, _ handle: FileHandle, dataOnly: Bool, for request: Request
    ) throws(Errno) {
        let node = try nodes.node(inode)
        if inode == .root { town.logWriteback(for: request) }
        // All signal files in this directory and below.
        if let signals = node.signals {
            let files = signals.subtree.flatMap(\.knownFiles)
            if let failure = town.writeback.writeNow(files) { throw failure }
        }
        guard let real = try real(inode, handle) else { return }
        _ = try retryingInterrupts { dataOnly ? fdatasync(real.rawValue) : Glibc.fsync(real.rawValue) }
    }

    /// The backing directory of a handle, or one that is opened now.
    func real(_ inode: InodeNumber, _ handle: FileHandle) throws(Errno) -> Descriptor? {
        guard handle == .unopened else { return try directories.opened[handle].real }
        return try nodes.descriptor(of: inode).reopenedDirectory()
    }
}

extension SignalDirectory {
    /// All names in the directory, each once: those of the backing directory, and signal files that were not written
    /// back.
    ///
    /// - Parameter hiddenName: A name that is never listed.
    fileprivate func listing(over real: Descriptor, without hiddenName: [UInt8]?) throws(Errno) -> [OpenDirectory
        .Listed]
    {
        var entries: [OpenDirectory.Listed] = []
        var pending: [NodeName: SignalFile] = [:]
        var hidden: Set<NodeName> = []
        for file in knownFiles where isSignal(file.name.bytes) {
            switch file.listing {
            case .shown: pending[file.name] = file
            case .hidden: hidden.insert(file.name)
            case .asBacking: break
            }
        }
        try DirectoryStream(real).forEach(from: 0) { (listed) throws(Errno) in
            var entry = listed
            let bytes = entry.name.bytes
            if bytes == hiddenName || BackingDocument.isTemporary(bytes, in: scope) { return true }
            if isSignal(bytes), entry.kind == S_IFREG || entry.kind == 0 {
                if hidden.contains(entry.name) || hasExpired(entry.name, in: real) { return true }
                pending[entry.name] = nil
                entry.number = SignalFile.inodeNumber(of: path(of: bytes))
            }
            entries.append(entry)
            return true
        }
        for file in pending.values {
            entries.append(OpenDirectory.Listed(name: file.name, number: file.number, kind: S_IFREG))
        }
        return entries
    }
}

import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage

extension TreeFileSystem {
    package func lookup(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) -> Entry {
        do throws(Errno) {
            return try find(name, in: parent, for: request)
        } catch .noSuchFileOrDirectory where isLastingAbsence(of: name, in: parent) {
            // Other hosts may create signal files without the kernel. In a directory that is renamed to where signal
            // files can lie, the kernel has cached absences.
            return .absent(for: town.configuration.sharesSignals ? SignalFile.attributeTimeout : backingTimeout)
        }
    }

    /// Whether a name stays absent until the kernel creates it.
    private func isLastingAbsence(of name: FileName, in parent: InodeNumber) -> Bool {
        guard !town.sharesBacking, let node = try? nodes.node(parent) else {
            return false
        }
        return node.signals?.scope.hasSignals != true && !node.isAliased
    }

    /// Looks a name up, and counts that.
    func find(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) -> Entry {
        let directory = try directory(parent)
        switch try nameKind(of: name, in: directory) {
        case .backing: return try entry(ofBacking: name, in: directory)
        case .signal(let signals):
            let file = signals.file(NodeName(name))
            do throws(Errno) {
                if separateInodes.isPending(file, for: request.thread) {
                    return try separateEntry(of: file, in: directory, for: request)
                }
                return entry(of: file, in: directory, status: try status(of: file, in: directory, for: request))
            } catch .noSuchFileOrDirectory {
                if file.retire() { signals.drop(file) }
                throw .noSuchFileOrDirectory
            }
        }
    }

    private func status(
        of file: SignalFile, in directory: Directory, for request: Request
    ) throws(Errno) -> StatusReply {
        try file.status(for: request, on: nodes.inode(of: file), in: directory.location)
    }

    package func forget(_ inode: InodeNumber, count: UInt64) {
        guard nodes.forget(inode, count: count) else { return }
        ioModes.forget(inode)
        directories.listings.forget(inode)
    }

    // MARK: Making

    package func mknod(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, device: dev_t, for request: Request
    ) throws(Errno) -> Entry {
        let directory = try directory(forMaking: name, in: parent, for: request)
        // Usually `create` creates regular files. For mknod(2) the signal file is empty.
        if mode & S_IFMT == S_IFREG, case .signal(let signals) = try nameKind(of: name, in: directory) {
            let (file, opened) = try make(
                NodeName(name), in: signals, of: directory, mode: mode, flags: O_WRONLY | O_EXCL, for: request)
            opened.close()
            return entry(of: file, in: directory, status: try status(of: file, in: directory, for: request))
        }
        let mode = try creationMode(mode, in: directory, for: request)
        return try makeBacking(name, in: directory, for: request) { mknodat($0, name.pointer, mode, device) }
    }

    package func mkdir(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, for request: Request
    ) throws(Errno) -> Entry {
        let directory = try directory(forMaking: name, in: parent, for: request)
        return try makeBacking(name, in: directory, for: request) { mkdirat($0, name.pointer, mode) }
    }

    package func symlink(
        to target: UnsafePointer<CChar>, named name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> Entry {
        let directory = try directory(forMaking: name, in: parent, for: request)
        return try makeBacking(name, in: directory, for: request) { symlinkat(target, $0, name.pointer) }
    }

    /// Calls `make` with the backing directory, and looks up what it has made.
    private func makeBacking(
        _ name: FileName, in directory: Directory, for request: Request, _ make: (CInt) -> CInt
    ) throws(Errno) -> Entry {
        try refuseSignal(name, in: directory, for: request)
        let backing = try directory.descriptor
        _ = try retryingInterrupts { make(backing.rawValue) }
        return try entry(ofBacking: name, in: directory)
    }

    package func link(
        _ inode: InodeNumber, to name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> Entry {
        guard case .backing = try inodeKind(inode) else { throw .notPermitted }
        let directory = try directory(forMaking: name, in: parent, for: request)
        if case .signal = try nameKind(of: name, in: directory) {
            try refuseSignal(name, in: directory, for: request)
            throw .notPermitted
        }
        // Through /proc: AT_EMPTY_PATH of linkat(2) requires a capability.
        let source = try nodes.descriptor(of: inode)
        let backing = try directory.descriptor
        try Credentials.withUser(request.callingUser) { () throws(Errno) in
            _ = try source.callByPath {
                linkat(AT_FDCWD, $0, backing.rawValue, name.pointer, AT_SYMLINK_FOLLOW)
            }
        }
        return try entry(ofBacking: name, in: directory)
    }

    /// The mode of a new file, without the set-group-id bit if the caller may not set it.
    ///
    /// A file in a set-group-id directory gets the directory's group. It may run with that group's rights only if its
    /// creator is a member or has CAP_FSETID. Since Linux 6.0 the VFS removes the bit (`mode_strip_sgid`, fs/inode.c).
    /// Before, the backing file system did (`inode_init_owner`), which does not know the groups of a root server's
    /// caller.
    func creationMode(_ mode: mode_t, in directory: Directory, for request: Request) throws(Errno) -> mode_t {
        let bits = S_ISGID | S_IXGRP
        guard mode & bits == bits else { return mode }
        let descriptor = try directory.descriptor
        let status = try FileStatus(of: descriptor.rawValue)
        guard status.st_mode & S_ISGID != 0, status.st_gid != request.group else { return mode }
        let credentials = ProcessFiles.isOwnNamespace ? ProcessFiles(number: request.thread).credentials() : nil
        // Capabilities of another user may be those of a user namespace, which do not count here.
        if request.user == 0, credentials?.hasFSetID ?? true { return mode }
        return credentials?.groups.contains(status.st_gid) == true ? mode : mode & ~S_ISGID
    }

    /// Creates a signal file, or opens it if another process was faster.
    func make(
        _ name: NodeName, in signals: SignalDirectory, of directory: Directory, mode: mode_t, flags: CInt,
        for request: Request
    ) throws(Errno) -> (SignalFile, SignalOpenFile) {
        let descriptor = try directory.descriptor
        let real = try FileStatus(of: descriptor.rawValue)
        let ownership = SignalFile.Ownership(
            mode: mode & 0o7777 & ~request.umask, user: request.user,
            group: real.st_mode & S_ISGID == 0 ? request.group : real.st_gid)
        return try signals.withFile(name) { (file) throws(Errno) in
            try file.create(ownership, flags: flags, for: request, in: directory.location).map { (file, $0) }
        }
    }

    /// The directory in which a name is to be created.
    private func directory(
        forMaking name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> Directory {
        let directory = try directory(parent)
        try refuseTemporary(name, in: directory)
        town.processes.recordActivity(request)
        return directory
    }

    /// EPERM for the name of a temporary file of write-back.
    func refuseTemporary(_ name: FileName, in directory: Directory) throws(Errno) {
        if let signals = directory.signals, BackingDocument.isTemporary(name.bytes, in: signals.scope) {
            throw .notPermitted
        }
    }

    /// EEXIST if there is a signal file, even without a backing file.
    func refuseSignal(_ name: FileName, in directory: Directory, for request: Request) throws(Errno) {
        guard case .signal(let signals) = try nameKind(of: name, in: directory) else { return }
        let file = signals.file(NodeName(name))
        do throws(Errno) {
            _ = try status(of: file, in: directory, for: request)
        } catch .noSuchFileOrDirectory {
            return
        }
        throw .fileExists
    }

    // MARK: Removing

    package func unlink(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) {
        let directory = try directory(parent)
        switch try nameKind(of: name, in: directory) {
        case .signal(let signals):
            let file = signals.file(NodeName(name))
            try unlessDone(request) { () throws(Errno) in try file.remove(in: directory.location) }
            nodes.detach(file)
        case .backing:
            town.processes.recordActivity(request)
            let backing = try directory.descriptor
            try pinning(name, in: directory.inode, backing) { () throws(Errno) in
                try unlessDone(request) { () throws(Errno) in
                    _ = try retryingInterrupts { unlinkat(backing.rawValue, name.pointer, 0) }
                }
            }
        }
    }

    /// Runs an operation whose last step removes a name.
    ///
    /// If the request is repeated, the name may be gone already.
    func unlessDone(_ request: Request, _ remove: () throws(Errno) -> Void) throws(Errno) {
        do throws(Errno) {
            try remove()
        } catch .noSuchFileOrDirectory where request.isRepeated {}
    }

    package func rmdir(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) {
        let directory = try directory(parent)
        switch try nameKind(of: name, in: directory) {
        case .signal(let signals):
            let file = signals.file(NodeName(name))
            _ = try status(of: file, in: directory, for: request)
            throw .notDirectory
        case .backing:
            town.processes.recordActivity(request)
            let removed = directory.signals?.knownChild(NodeName(name))
            // Documents that are not written back, files that are being created.
            if let removed, removed.holdsFiles { throw .directoryNotEmpty }
            let backing = try directory.descriptor
            func remove() throws(Errno) {
                try unlessDone(request) { () throws(Errno) in
                    _ = try retryingInterrupts { unlinkat(backing.rawValue, name.pointer, AT_REMOVEDIR) }
                }
            }
            try pinning(name, in: directory.inode, backing) { () throws(Errno) in
                do throws(Errno) {
                    try remove()
                } catch .directoryNotEmpty {
                    let signals = directory.signals?.child(NodeName(name))
                    guard let signals, signals.scope.hasSignals else { throw .directoryNotEmpty }
                    try emptyBackingDirectory(signals, name, in: directory)
                    try remove()
                }
            }
            _ = removed?.detachSubtree()
        }
    }

    /// Removes temporary files from a backing directory; ENOTEMPTY if signal files were not written back.
    func emptyBackingDirectory(_ signals: SignalDirectory, _ name: FileName, in parent: Directory) throws(Errno) {
        // Documents that were not written back, and files that are being created.
        guard !signals.holdsFiles else { throw .directoryNotEmpty }
        let descriptor = try parent.descriptor
        let real = try OwnedDescriptor(
            opening: name.pointer, in: descriptor.rawValue, O_PATH | O_NOFOLLOW | O_DIRECTORY)
        try BackingDocument.removeTemporaries(in: Descriptor(real), scope: signals.scope)
    }

    /// Keeps a backing file reachable that the kernel knows, while `body` removes its name and after that.
    func pinning(
        _ name: FileName, in parent: InodeNumber, _ backing: Descriptor, _ body: () throws(Errno) -> Void
    ) throws(Errno) {
        let status = try? ExtendedStatus(of: name.pointer, in: backing.rawValue)
        let place = NodeStore.Place(
            parent: parent, directory: backing, name: NodeName(name))
        let pinned = status.flatMap { nodes.pin($0.identity, at: place) ? $0.identity : nil }
        if let pinned, let inode = nodes.inode(of: pinned), status?.isDirectory == true || ioModes.isOpen(inode) {
            nodes.keep(inode)
        }
        do throws(Errno) {
            try body()
        } catch {
            if let pinned { nodes.unpin(pinned) }
            throw error
        }
    }

    package func readlink(_ inode: InodeNumber) throws(Errno) -> [UInt8] {
        guard case .backing = try inodeKind(inode) else { throw .invalidArgument }
        let descriptor = try nodes.descriptor(of: inode)
        var target = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = try retryingInterrupts {
            target.withUnsafeMutableBytes { room in
                room.withMemoryRebound(to: CChar.self) {
                    // because the room is PATH_MAX bytes.
                    readlinkat(descriptor.rawValue, "", $0.baseAddress!, $0.count)
                }
            }
        }
        return Array(target.prefix(count))
    }
}

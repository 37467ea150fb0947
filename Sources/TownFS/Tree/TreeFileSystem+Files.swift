import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage

extension TreeFileSystem {
    package func open(_ inode: InodeNumber, flags: CInt, for request: Request) throws(Errno) -> OpenReply {
        switch try inodeKind(inode) {
        case .backing:
            town.processes.recordActivity(request)
            return reply(inode, try openBacking(inode, flags: flags, for: request), for: request)
        case .signal(let file, let parent):
            do throws(Errno) {
                // A write is a touch, which says more.
                if flags & O_ACCMODE == O_RDONLY { town.processes.recordActivity(request) }
                return reply(inode, try open(file, on: inode, flags: flags, for: request, in: parent), for: request)
            } catch .noSuchFileOrDirectory {
                // The kernel still has the name. ESTALE makes it look the name up again, and create the file if asked to.
                throw .staleNFSFileHandle
            }
        }
    }

    /// Opens a signal file; ESTALE makes the kernel look the name up again, to get an inode for this open file alone.
    func open(
        _ file: SignalFile, on inode: InodeNumber, flags: CInt, for request: Request, in parent: ParentDirectory
    ) throws(Errno) -> SignalOpenFile {
        let isRetry = separateInodes.isPending(file, for: request.thread)
        switch try file.open(flags: flags, for: request, on: inode, maySeparate: !isRetry, in: parent) {
        case .needsSeparateInode:
            separateInodes.begin(file, for: request.thread)
            throw .staleNFSFileHandle
        case .opened(let handle, let invalidatesAttributes):
            separateInodes.end(for: request.thread)
            if invalidatesAttributes { ioModes.connection?.invalidateAttributes(of: inode) }
            // A write to a separate inode changes the attributes of the first one.
            if handle.isWritable, let first = nodes.inode(of: file), first != inode {
                ioModes.connection?.invalidateAttributes(of: first)
            }
            return handle
        }
    }

    private func openBacking(_ inode: InodeNumber, flags: CInt, for request: Request) throws(Errno) -> BackingFile {
        try nodes.retryingWithFewerDescriptors { () throws(Errno) in
            let path = try nodes.descriptor(of: inode)
            // If it is unlinked, opened by another descriptor or through /proc.
            nodes.keep(inode)
            if Self.onlyReads(flags), ioModes.supportsPassthrough {
                return BackingFile(reading: path, user: request.callingUser, in: backingContext)
            }
            let opened = try Self.reopen(path, flags)
            // Keep one descriptor per open file: clients may have thousands of them.
            nodes.dropDescriptor(of: inode)
            return BackingFile(opened, flags: flags, user: request.callingUser, in: backingContext)
        }
    }

    package func create(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, flags: CInt, for request: Request
    ) throws(Errno) -> (Entry, OpenReply) {
        let directory = try directory(parent)
        try refuseTemporary(name, in: directory)
        if flags & clinux_tmpfile == clinux_tmpfile {
            return try createUnnamed(
                in: directory, mode: creationMode(mode, in: directory, for: request), flags: flags, for: request)
        }
        switch try nameKind(of: name, in: directory) {
        case .signal(let signals):
            let (file, opened) = try make(
                NodeName(name), in: signals, of: directory, mode: mode,
                flags: request.isRepeated ? flags & ~O_EXCL : flags, for: request)
            let entry = entry(of: file, in: directory, status: StatusReply(status: opened.ownStatus, timeout: 0))
            opened.assign(entry.inode)
            return (entry, reply(entry.inode, opened, for: request))
        case .backing:
            town.processes.recordActivity(request)
            let mode = try creationMode(mode, in: directory, for: request)
            let renameGeneration = nodes.renameGeneration
            let opened: Descriptor
            do throws(Errno) {
                opened = try open(name.pointer, in: directory, flags, adding: O_CREAT | O_EXCL, mode: mode)
            } catch .fileExists where request.isRepeated {
                // Made by this call, before the process that served it was killed.
                let path = try OwnedDescriptor(
                    opening: name.pointer, in: directory.descriptor.rawValue, O_PATH | O_NOFOLLOW)
                opened = try Self.reopenCreated(Descriptor(path), flags & ~O_TRUNC)
            } catch .fileExists where flags & O_EXCL == 0 {
                // Another process created it first. The kernel has to check whether this caller may open it, and follow it
                // if it is a symbolic link. ESTALE makes it look the name up again.
                throw .staleNFSFileHandle
            }
            let found = try ExtendedStatus(of: opened.rawValue)
            let entry = entry(ofBacking: NodeName(name), in: directory, found, seenAt: renameGeneration)
            nodes.markCreated(entry.inode)
            let file = BackingFile(
                opened, flags: flags, user: request.user, status: found.status, in: backingContext)
            let reply = reply(entry.inode, file, for: request)
            keptHandles.keep(file, of: reply.handle, mode: found.status.st_mode)
            return (entry, reply)
        }
    }

    /// Opens a file that was just created with a mode that may forbid that.
    private static func reopenCreated(_ file: Descriptor, _ flags: CInt) throws(Errno) -> Descriptor {
        do throws(Errno) {
            return try reopen(file, flags)
        } catch .permissionDenied {
            let mode = try FileStatus(of: file.rawValue).st_mode & 0o7777
            _ = try file.callByPath { chmod($0, mode | S_IRUSR | S_IWUSR) }
            defer { _ = try? file.callByPath { chmod($0, mode) } }
            return try reopen(file, flags)
        }
    }

    private func open(
        _ name: UnsafePointer<CChar>, in directory: Directory, _ flags: CInt, adding more: CInt, mode: mode_t
    ) throws(Errno) -> Descriptor {
        try nodes.retryingWithFewerDescriptors { () throws(Errno) in
            let descriptor = try directory.descriptor
            return Descriptor(
                try OwnedDescriptor(
                    opening: name, in: descriptor.rawValue, Self.backingFlags(flags) | more, mode: mode))
        }
    }

    /// Creates a file without a name, `O_TMPFILE`; linkat(2) may give it one later.
    private func createUnnamed(
        in directory: Directory, mode: mode_t, flags: CInt, for request: Request
    ) throws(Errno) -> (Entry, OpenReply) {
        let opened = try open(".", in: directory, flags, adding: flags & O_EXCL, mode: mode)
        let found = try ExtendedStatus(of: opened.rawValue)
        let inode = nodes.remember(unnamed: found, in: directory.inode, descriptor: opened)
        nodes.keep(inode)
        let entry = Entry(
            inode: inode, generation: generation, status: devices.shown(found.status), nameTimeout: 0, statusTimeout: 0)
        let file = BackingFile(opened, flags: flags, user: request.user, status: found.status, in: backingContext)
        let reply = reply(inode, file, for: request)
        keptHandles.keep(file, of: reply.handle, mode: found.status.st_mode)
        return (entry, reply)
    }

    static func reopen(_ file: Descriptor, _ flags: CInt) throws(Errno) -> Descriptor {
        do throws(Errno) {
            return try file.reopened(backingFlags(flags))
        } catch .notPermitted where flags & O_APPEND != 0 {
            // An append-only file (chattr +a) requires the flag, and then every write appends.
            return try file.reopened(backingFlags(flags) | O_APPEND)
        }
    }

    /// The caller's flags, for the backing file.
    ///
    /// Appending is decided for each write. Direct I/O is the kernel's: our buffers are not aligned.
    private static func backingFlags(_ flags: CInt) -> CInt {
        flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_APPEND | O_DIRECT | O_NOFOLLOW)
    }

    /// Whether the caller only reads, which cannot fail once the kernel has allowed it.
    static func onlyReads(_ flags: CInt) -> Bool {
        flags & (O_ACCMODE | O_TRUNC | O_DIRECT | clinux_noatime) == O_RDONLY
    }

    package func ioMode(of handle: FileHandle) -> OpenReply.IOMode {
        guard let opened = try? files[handle] else { return .direct }
        let openFile = opened.file
        guard let file = openFile as? BackingFile, let node = try? nodes.node(opened.inode) else {
            return opened.setIOMode(ioModes.enter(opened.inode), for: openFile)
        }
        // A file beside signal files is probably about to be renamed onto one, and later writes to it must come to us.
        // A file that may be mapped already bypasses us anyway.
        let isBesideSignals = (try? nodes.node(node.parent))?.signals?.scope.hasSignals == true
        let ioMode = ioModes.enter(
            opened.inode, file, node.identity, allowsPassthrough: !isBesideSignals || node.mayBeMapped,
            mayKeep: !node.hasChangedKind)
        if case .passthrough = ioMode, file.isMappable, nodes.markMapped(of: opened.inode) {
            ioModes.connection?.invalidateAttributes(of: opened.inode)
        }
        // It may have been renamed onto a signal file at this very moment.
        return opened.setIOMode(ioMode, for: file)
    }

    package func release(_ handle: FileHandle) {
        guard let opened = files.remove(handle) else { return }
        keptHandles.drop(handle)
        if opened.hasIOMode { ioModes.leave(opened.inode) }
        opened.close()
    }

    package func discard(_ opened: OpenHandle) {
        if let handle = opened.handle { keptHandles.drop(handle) }
        if opened.hasIOMode { ioModes.leave(opened.inode) }
        opened.discard()
    }

    package func ioctl(
        _ inode: InodeNumber, _ handle: FileHandle, isDirectory: Bool, _ command: UInt32,
        _ argument: UnsafeMutableRawBufferPointer
    ) throws(Errno) {
        if isDirectory {
            guard let real = try real(inode, handle) else { throw .inappropriateIOCTLForDevice }
            try real.attributesIOCTL(command, argument)
        } else {
            try files[handle].file.ioctl(command, argument)
        }
        // The kernel does not know of the new change time.
        if command == clinux_set_flags || command == clinux_set_fsx {
            ioModes.connection?.invalidateAttributes(of: inode)
        }
    }
}

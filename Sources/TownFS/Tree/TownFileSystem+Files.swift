import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage

extension TownFileSystem {
    package func open(_ inode: InodeNumber, flags: CInt, for request: Request) throws(Errno) -> OpenReply {
        switch try inodeKind(inode) {
        case .backing:
            town.processes.noteActivity(request)
            return reply(OpenFile(inode, .backing(try openBacking(inode, flags: flags, for: request))))
        case .signal(let file, let parent):
            do throws(Errno) {
                // Whoever writes is about to touch it, which says more.
                if flags & O_ACCMODE == O_RDONLY { town.processes.noteActivity(request) }
                let opened = try open(file, on: inode, flags: flags, for: request, in: parent)
                return reply(OpenFile(inode, .signal(opened)))
            } catch .noSuchFileOrDirectory {
                // The kernel still has the name. ESTALE makes it look once more, and make the file if asked to.
                throw .staleNFSFileHandle
            }
        case .pulse:
            return reply(OpenFile(inode, try pulse.open(inode, flags: flags, for: request), thread: request.thread))
        }
    }

    /// Opens a signal file.
    ///
    /// ESTALE makes the kernel look the name up once more, for an inode that is this opening's alone.
    func open(
        _ file: SignalFile, on inode: InodeNumber, flags: CInt, for request: Request, in parent: Descriptor
    ) throws(Errno) -> SignalHandle {
        let isRetry = separateInodes.isPending(file, for: request.thread)
        switch try file.open(flags: flags, for: request, on: inode, maySeparate: !isRetry, in: parent) {
        case .needsSeparateInode:
            separateInodes.begin(file, for: request.thread)
            throw .staleNFSFileHandle
        case .opened(let handle, let invalidatesAttributes):
            separateInodes.end(for: request.thread)
            if invalidatesAttributes { ioModes.connection?.invalidateAttributes(of: inode) }
            // The kernel does not know that what is written to another inode is about to change this one.
            if handle.isWritable, let first = nodes.inode(of: file), first != inode {
                ioModes.connection?.invalidateAttributes(of: first)
            }
            return handle
        }
    }

    private func openBacking(_ inode: InodeNumber, flags: CInt, for request: Request) throws(Errno) -> BackingFile {
        try nodes.retryingWithFewerDescriptors { () throws(Errno) in
            let path = try nodes.descriptor(of: inode)
            if Self.onlyReads(flags), ioModes.supportsPassthrough {
                return BackingFile(reading: path, user: request.user)
            }
            let opened = try Self.reopen(path, flags)
            // One descriptor is enough, and clients may have thousands of files open.
            nodes.dropDescriptor(of: inode)
            return BackingFile(opened, flags: flags, user: request.user)
        }
    }

    package func create(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, flags: CInt, for request: Request
    ) throws(Errno) -> (Entry, OpenReply) {
        if pulse.contains(parent) {
            // Without a name it would be nobody's.
            guard flags & clinux_tmpfile != clinux_tmpfile else { throw .notSupported }
            let (inode, status, handle) = try pulse.create(name, in: parent, for: request)
            let entry = Entry(
                inode: inode, generation: generation, status: status, nameTimeout: 0, statusTimeout: 0)
            return (entry, reply(OpenFile(inode, .alive(handle), thread: request.thread)))
        }
        let directory = try directory(parent)
        try refuseTemporary(name, in: directory)
        if flags & clinux_tmpfile == clinux_tmpfile {
            return try createUnnamed(in: directory, mode: mode, flags: flags, for: request)
        }
        switch try nameKind(of: name, in: directory) {
        case .pulse: throw .isDirectory
        case .signal(let signals):
            let (file, opened) = try make(
                NodeName(name), in: signals, of: directory, mode: mode, flags: flags, for: request)
            let entry = entry(of: file, in: directory, status: StatusReply(status: opened.ownStatus, timeout: 0))
            opened.assign(entry.inode)
            return (entry, reply(OpenFile(entry.inode, .signal(opened))))
        case .backing:
            town.processes.noteActivity(request)
            let moment = nodes.moment
            let opened: Descriptor
            do throws(Errno) {
                opened = try nodes.retryingWithFewerDescriptors { () throws(Errno) in
                    Descriptor(
                        try OwnedDescriptor(
                            opening: name.pointer, in: directory.descriptor.rawValue,
                            Self.backingFlags(flags) | O_CREAT | O_EXCL, mode: mode))
                }
            } catch .fileExists where flags & O_EXCL == 0 {
                // Somebody was faster, and whether this caller may open theirs is for the kernel to say, or where a
                // symbolic link leads. ESTALE makes it look once more.
                throw .staleNFSFileHandle
            }
            let found = try ExtendedStatus(of: opened.rawValue)
            let entry = entry(ofBacking: NodeName(name), in: directory, found, seenAt: moment)
            nodes.noteNew(entry.inode)
            let file = BackingFile(opened, flags: flags, user: request.user, status: found.status)
            return (entry, reply(OpenFile(entry.inode, .backing(file))))
        }
    }

    /// Makes a file without a name, `O_TMPFILE`; linkat(2) may give it one later.
    private func createUnnamed(
        in directory: Directory, mode: mode_t, flags: CInt, for request: Request
    ) throws(Errno) -> (Entry, OpenReply) {
        let opened = try nodes.retryingWithFewerDescriptors { () throws(Errno) in
            Descriptor(
                try OwnedDescriptor(
                    opening: ".", in: directory.descriptor.rawValue, Self.backingFlags(flags) | (flags & O_EXCL),
                    mode: mode))
        }
        let found = try ExtendedStatus(of: opened.rawValue)
        let inode = nodes.remember(unnamed: found, in: directory.inode, descriptor: opened)
        let entry = Entry(
            inode: inode, generation: generation, status: others.shown(found.status), nameTimeout: 0, statusTimeout: 0)
        let file = BackingFile(opened, flags: flags, user: request.user, status: found.status)
        return (entry, reply(OpenFile(inode, .backing(file))))
    }

    private static func reopen(_ file: Descriptor, _ flags: CInt) throws(Errno) -> Descriptor {
        do throws(Errno) {
            return try file.reopened(backingFlags(flags))
        } catch .notPermitted where flags & O_APPEND != 0 {
            // A file that can only grow (chattr +a) wants the flag, and then every write goes to its end.
            return try file.reopened(backingFlags(flags) | O_APPEND)
        }
    }

    /// The caller's flags, for the file beneath.
    ///
    /// Appending is decided write by write. Direct I/O stays above: the kernel leaves its own cache out, and buffers
    /// here are not aligned for it below.
    private static func backingFlags(_ flags: CInt) -> CInt {
        flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_APPEND | O_DIRECT | O_NOFOLLOW)
    }

    /// Whether these are the flags of somebody who reads and nothing else, which never fails once the kernel has allowed it.
    private static func onlyReads(_ flags: CInt) -> Bool {
        flags & (O_ACCMODE | O_TRUNC | O_DIRECT | clinux_noatime) == O_RDONLY
    }

    private func reply(_ opened: OpenFile) -> OpenReply {
        switch opened.target {
        case .backing(let file):
            return OpenReply(
                handle: files.insert(opened), allowsPassthrough: true,
                needsFlush: file.isWritable && others.mayFailAtClose(on: file.device))
        case .signal(let file):
            return OpenReply(
                handle: files.insert(opened), ioMode: .direct, allowsPassthrough: true, needsFlush: file.isWritable)
        case .text: return OpenReply(handle: files.insert(opened), ioMode: .direct, needsFlush: false)
        case .alive: return OpenReply(handle: files.insert(opened), ioMode: .direct)
        case .events:
            return OpenReply(handle: files.insert(opened), ioMode: .direct, needsFlush: false, isStream: true)
        }
    }

    package func ioMode(of handle: FileHandle) -> OpenReply.IOMode {
        guard let opened = try? files[handle] else { return .direct }
        guard case .backing(let file) = opened.target, let node = try? nodes.node(opened.inode) else {
            let path = ioModes.enter(opened.inode)
            opened.settle(path)
            return path
        }
        // What is written beside signal files is about to be renamed onto one, more often than not, and we go on to see
        // what is written then. What may be mapped past us stays so.
        let isBesideSignals = (try? nodes.node(node.parent))?.signals?.scope.hasSignals == true
        let path = ioModes.enter(
            opened.inode, file, node.identity, isLendable: !isBesideSignals || node.mayBeMapped,
            mayKeep: !node.hasChangedMeaning)
        if case .passthrough = path, file.isMappable, nodes.noteMapping(of: opened.inode) {
            ioModes.connection?.invalidateAttributes(of: opened.inode)
        }
        // It may have been renamed onto a signal file in this very moment, and then all has to come to us.
        return opened.settle(path, as: file)
    }

    // MARK: Data

    package func read(
        _ handle: FileHandle, into bytes: UnsafeMutableRawBufferPointer, at offset: off_t
    ) throws(Errno) -> Int {
        switch try files[handle].target {
        case .backing(let file):
            let descriptor = try nodes.retryingWithFewerDescriptors { () throws(Errno) in try file.descriptor }
            return try retryingInterrupts { pread(descriptor.rawValue, bytes.baseAddress, bytes.count, offset) }
        case .signal(let file):
            return try file.read(into: bytes, at: offset)
        case .events(let reader):
            return try reader.read(into: bytes)
        case .alive(let handle):
            let part = handle.text.dropFirst(Int(clamping: offset)).prefix(bytes.count)
            bytes.copyBytes(from: part)
            return part.count
        case .text(let text):
            let part = text.dropFirst(Int(clamping: offset)).prefix(bytes.count)
            bytes.copyBytes(from: part)
            return part.count
        }
    }

    package func withFile<Result>(backing handle: FileHandle, _ body: (CInt) -> Result) -> Result? {
        guard case .backing(let file)? = try? files[handle].target, let descriptor = try? file.descriptor else {
            return nil
        }
        return withExtendedLifetime(descriptor) { body(descriptor.rawValue) }
    }

    package func wait(_ read: PendingRead, on handle: FileHandle) {
        do throws(Errno) {
            // Nothing else has its readers wait.
            guard case .events(let reader) = try files[handle].target else { throw .resourceTemporarilyUnavailable }
            reader.wait(read)
        } catch {
            read.fail(error)
        }
    }

    package func write(
        _ handle: FileHandle, _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool,
        for request: Request
    ) throws(Errno) -> Int {
        switch try files[handle].target {
        case .backing(let file):
            town.processes.noteActivity(request)
            let descriptor = try file.descriptor
            return try Credentials.withUser(request.user) { () throws(Errno) in
                try retryingInterrupts {
                    appending
                        ? clinux_append(descriptor.rawValue, bytes.baseAddress, bytes.count)
                        : pwrite(descriptor.rawValue, bytes.baseAddress, bytes.count, offset)
                }
            }
        case .signal(let file):
            return try file.write(bytes, at: offset, appending: appending, by: request)
        case .alive(let handle):
            return try handle.write(bytes, at: offset, appending: appending)
        case .text, .events:
            throw .badFileDescriptor
        }
    }

    package func flush(_ handle: FileHandle, for request: Request) throws(Errno) {
        switch try files[handle].target {
        case .backing(let file):
            // What the file system beneath has to say at close, such as a full quota over a network.
            let descriptor = try file.descriptor
            let duplicate = try retryingInterrupts { fcntl(descriptor.rawValue, F_DUPFD_CLOEXEC, 0) }
            if close(duplicate) == -1, Errno.current != .interrupted { throw .current }
        case .signal(let file):
            try file.flush()
        case .alive(let handle): try pulse.flush(handle)
        case .text, .events: break
        }
    }

    package func mayReleaseLater(_ handle: FileHandle) -> Bool {
        // With a signal file's last close goes a touch, perhaps, and what the file is then is the next one's to read.
        guard let opened = try? files[handle], case .backing = opened.target else { return false }
        return opened.leftBehind == nil
    }

    package func release(_ handle: FileHandle) {
        guard let opened = files.remove(handle) else { return }
        if opened.path != nil { ioModes.leave(opened.inode) }
        switch opened.target {
        case .signal(let file):
            if let left = opened.leftBehind { file.takeOver(left) }
            file.close()
        case .events(let reader): reader.close()
        case .alive(let handle): pulse.close(handle)
        case .backing, .text: break
        }
    }

    package func fsync(_ handle: FileHandle, dataOnly: Bool, for request: Request) throws(Errno) {
        switch try files[handle].target {
        case .backing(let file):
            let descriptor = try file.descriptor
            _ = try retryingInterrupts {
                dataOnly ? fdatasync(descriptor.rawValue) : Glibc.fsync(descriptor.rawValue)
            }
        case .signal(let file):
            // Whoever asks for it shall have the document in the real file; a touch alone never waits for a disk.
            try file.fsync()
            if let failure = town.writeback.writeNow([file.file], isDurable: true) { throw failure }
        case .alive(let handle): try pulse.flush(handle)
        case .text, .events: break
        }
    }

    package func fallocate(
        _ handle: FileHandle, mode: CInt, offset: off_t, length: off_t
    ) throws(Errno) {
        guard case .backing(let file) = try files[handle].target else { throw .notSupported }
        let descriptor = try file.descriptor
        try Credentials.withUser(file.user) { () throws(Errno) in
            _ = try retryingInterrupts { CLinux.fallocate(descriptor.rawValue, mode, offset, length) }
        }
    }

    package func lseek(_ handle: FileHandle, offset: off_t, whence: CInt) throws(Errno) -> off_t {
        switch try files[handle].target {
        case .backing(let file):
            let descriptor = try file.descriptor
            return try retryingInterrupts { Glibc.lseek(descriptor.rawValue, offset, whence) }
        case .signal(let file): return try file.lseek(offset: offset, whence: whence)
        case .text, .alive, .events: throw .invalidArgument
        }
    }

    package func copyFileRange(
        from source: FileHandle, at sourceOffset: off_t, to target: FileHandle, at targetOffset: off_t, count: Int,
        flags: CInt
    ) throws(Errno) -> Int {
        // EXDEV makes the kernel copy by reading and writing; ENOSYS would make it do so for every file.
        guard case .backing(let source) = try files[source].target,
            case .backing(let target) = try files[target].target
        else { throw .improperLink }
        let (input, output) = (try source.descriptor, try target.descriptor)
        var from = sourceOffset
        var to = targetOffset
        return try Credentials.withUser(target.user) { () throws(Errno) in
            try retryingInterrupts {
                copy_file_range(input.rawValue, &from, output.rawValue, &to, count, UInt32(bitPattern: flags))
            }
        }
    }

    package func ioctl(
        _ inode: InodeNumber, _ handle: FileHandle, isDirectory: Bool, _ command: UInt32,
        _ argument: UnsafeMutableRawBufferPointer
    ) throws(Errno) {
        // Flags (lsattr, chattr) and project ids. The kernel has checked who may set what.
        let sizes = [
            clinux_get_flags: MemoryLayout<CInt>.size, clinux_set_flags: MemoryLayout<CInt>.size,
            clinux_get_fsx: MemoryLayout<fsxattr>.size, clinux_set_fsx: MemoryLayout<fsxattr>.size,
        ]
        guard let size = sizes[command], argument.count >= size else { throw .inappropriateIOCTLForDevice }
        var real: Descriptor?
        if isDirectory {
            real = try self.real(inode, handle)
        } else if case .backing(let file) = try files[handle].target {
            real = try file.descriptor
        }
        guard let real else { throw .inappropriateIOCTLForDevice }
        _ = try retryingInterrupts { clinux_ioctl(real.rawValue, command, argument.baseAddress) }
        // The time of change is another, of which the kernel knows nothing.
        if command == clinux_set_flags || command == clinux_set_fsx {
            ioModes.connection?.invalidateAttributes(of: inode)
        }
    }

    package func poll(_ handle: FileHandle, pollHandle: PollHandle?) throws(Errno) -> UInt32 {
        if case .events(let reader) = try files[handle].target { return reader.poll(pollHandle: pollHandle) }
        // Files on a disk always are ready, and so are these.
        return UInt32(POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM)
    }
}

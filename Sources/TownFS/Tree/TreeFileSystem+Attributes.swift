import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage

extension TreeFileSystem {
    package func getattr(_ inode: InodeNumber, for request: Request) throws(Errno) -> StatusReply {
        switch try inodeKind(inode) {
        case .backing:
            let status = try status(ofBacking: inode)
            let node = try nodes.node(inode)
            let parent = try? nodes.node(node.parent)
            let isAliased = node.isAliased || parent?.isAliased == true
            let timeout = statusTimeout(
                status, in: parent?.signals, lower: node.signals, mayBeMapped: node.mayBeMapped)
            return StatusReply(status: devices.shown(status), timeout: isAliased ? 0 : timeout)
        case .signal(let file, let parent):
            do throws(Errno) {
                return try file.status(for: request, on: inode, in: parent)
            } catch .noSuchFileOrDirectory {
                // Unlinked, and still open: a process inherited the descriptor, or had the file open before it was
                // renamed onto this one.
                if file.isRemoved, var status = signalFiles(of: inode).last?.1.ownStatus {
                    status.st_nlink = 0
                    return StatusReply(status: status, timeout: 0)
                }
                if let status = file.statusWhileCreating(for: request) {
                    return StatusReply(status: status, timeout: 0)
                }
                // The kernel still has the name. ESTALE makes it look the name up again.
                throw .staleNFSFileHandle
            }
        }
    }

    package func birthTime(of inode: InodeNumber) throws(Errno) -> timespec? {
        guard case .backing = try inodeKind(inode) else { return nil }
        let descriptor = try nodes.descriptor(of: inode)
        return try ExtendedStatus(of: descriptor.rawValue).birth?.timespec
    }

    package func setattr(
        _ inode: InodeNumber, _ changes: StatusChanges, handle: FileHandle?, for request: Request
    ) throws(Errno) -> StatusReply {
        switch try inodeKind(inode) {
        case .backing:
            town.processes.recordActivity(request)
            try change(inode, changes, handle: handle, for: request)
        case .signal(let file, let parent):
            try change(inode, of: file, in: parent, changes, handle: handle, for: request)
        }
        return try getattr(inode, for: request)
    }

    // MARK: Backing files

    /// A descriptor of a backing file: the store's; or, if a directory on its path cannot be searched or its name is
    /// gone, that of an open handle.
    private func descriptor(of inode: InodeNumber) throws(Errno) -> Descriptor {
        do throws(Errno) {
            return try nodes.descriptor(of: inode)
        } catch {
            guard let opened = openDescriptor(of: inode) else { throw error }
            return opened
        }
    }

    private func status(ofBacking inode: InodeNumber) throws(Errno) -> FileStatus {
        do throws(Errno) {
            return try nodes.status(of: inode)
        } catch {
            guard let opened = openDescriptor(of: inode) else { throw error }
            return try FileStatus(of: opened.rawValue)
        }
    }

    private func openDescriptor(of inode: InodeNumber) -> Descriptor? {
        for opened in files.all where opened.inode == inode {
            if let file = opened.file as? BackingFile { return file.path }
        }
        return nil
    }

    private func change(
        _ inode: InodeNumber, _ changes: StatusChanges, handle: FileHandle?, for request: Request
    ) throws(Errno) {
        let file = try descriptor(of: inode)
        if let mode = changes.mode { keepOpenFiles(of: inode, before: mode) }
        try changeOwnership(of: file, changes)
        if let size = changes.size { try truncate(file, to: size, handle: handle, for: request) }
        if changes.accessed != nil || changes.modified != nil {
            let times = [timespec(changes.accessed), timespec(changes.modified)]
            _ = try retryingInterrupts { utimensat(file.rawValue, "", times, AT_EMPTY_PATH) }
        }
    }

    /// Has the keeper hold what a successor could not open with a new mode.
    private func keepOpenFiles(of inode: InodeNumber, before mode: mode_t) {
        guard mode & (S_IRUSR | S_IWUSR) != S_IRUSR | S_IWUSR, !keptHandles.isUnnecessary else { return }
        for (handle, opened) in files.entries where opened.inode == inode {
            if let file = opened.file as? BackingFile { keptHandles.keep(file, of: handle, mode: mode) }
        }
    }

    private func changeOwnership(of file: Descriptor, _ changes: StatusChanges) throws(Errno) {
        if changes.user != nil || changes.group != nil || changes.isEmpty {
            // All bits set is "leave it" to chown(2).
            _ = try retryingInterrupts {
                fchownat(file.rawValue, "", changes.user ?? uid_t.max, changes.group ?? gid_t.max, AT_EMPTY_PATH)
            }
        }
        if let mode = changes.mode {
            // After the owner, as chown(2) clears set-id bits. An O_PATH descriptor takes no fchmod(2).
            _ = try file.callByPath { chmod($0, mode & 0o7777) }
        }
    }

    private func truncate(
        _ file: Descriptor, to size: off_t, handle: FileHandle?, for request: Request
    ) throws(Errno) {
        guard let handle else {
            _ = try file.callByPath { Glibc.truncate($0, size) }
            return
        }
        // Through what was opened, and never through a name, which may be another file's by now.
        try files[handle].file.truncate(to: size, by: request)
    }

    // MARK: Signal files

    private func change(
        _ inode: InodeNumber, of file: SignalFile, in parent: ParentDirectory, _ changes: StatusChanges,
        handle: FileHandle?, for request: Request
    ) throws(Errno) {
        if changes.mode != nil || changes.user != nil || changes.group != nil {
            let carrier = file.changeOwnership { ownership in
                if let mode = changes.mode { ownership.mode = mode & 0o7777 }
                if let user = changes.user { ownership.user = user }
                if let group = changes.group { ownership.group = group }
            }
            if case .backingDocument = carrier { try changeBackingFile(file, in: parent, changes) }
        }
        if let size = changes.size {
            try truncate(inode, of: file, in: parent, to: size, handle: handle, for: request)
        }
        // The time of access alone is no sign of life.
        if let modified = changes.modified {
            var given: WallTime?
            if case .at(let time) = modified { given = WallTime(time) }
            try file.touch(modified: given, by: request, in: parent)
        }
    }

    /// Changes mode and owner of the backing file, if no content carries them.
    private func changeBackingFile(_ file: SignalFile, in parent: ParentDirectory, _ changes: StatusChanges)
        throws(Errno)
    {
        let directory = try parent.descriptor
        let opened = try file.name.open(in: directory.rawValue, O_PATH)
        guard try FileStatus(of: opened.rawValue).isRegularFile else { throw .staleNFSFileHandle }
        try changeOwnership(of: Descriptor(opened), changes)
    }

    private func truncate(
        _ inode: InodeNumber, of file: SignalFile, in parent: ParentDirectory, to size: off_t, handle: FileHandle?,
        for request: Request
    ) throws(Errno) {
        if let handle, let opened = try files[handle].file as? SignalOpenFile {
            return try opened.truncate(to: size, by: request)
        }
        // By name, as truncate(1) does: opened, cut and closed in one.
        let opened = try open(file, on: inode, flags: O_WRONLY, for: request, in: parent)
        defer { opened.close() }
        try opened.truncate(to: size, by: request)
        try opened.flush()
    }

    // MARK: The file system as a whole

    package func statfs(_ inode: InodeNumber) throws(Errno) -> FileSystemStatus {
        var descriptor = town.root
        if case .backing = try inodeKind(inode) { descriptor = try nodes.descriptor(of: inode) }
        var status = FileSystemStatus()
        _ = try retryingInterrupts { fstatvfs(descriptor.rawValue, &status) }
        return status
    }

    // MARK: Extended attributes

    // A signal file has none: ENODATA, an empty list, and EOPNOTSUPP for setting one.

    package func setxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, value: UnsafeRawBufferPointer, flags: CInt
    ) throws(Errno) {
        guard case .backing = try inodeKind(inode) else { throw .notSupported }
        let file = try descriptor(of: inode)
        if Self.isCapability(name) { nodes.setCapabilityPossible(inode) }
        _ = try file.callByPath { CLinux.setxattr($0, name, value.baseAddress, value.count, flags) }
    }

    package func getxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, into value: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        guard case .backing = try inodeKind(inode) else { throw .noData }
        let isCapability = !town.sharesBacking && Self.isCapability(name)
        if isCapability, nodes.hasNoCapability(inode) { throw .noData }
        let file = try descriptor(of: inode)
        do throws(Errno) {
            return try file.callByPath { CLinux.getxattr($0, name, value.baseAddress, value.count) }
        } catch .noData where isCapability {
            nodes.setCapabilityAbsent(inode)
            throw .noData
        }
    }

    private static func isCapability(_ name: UnsafePointer<CChar>) -> Bool {
        strcmp(name, "security.capability") == 0
    }

    package func listxattr(
        _ inode: InodeNumber, into names: UnsafeMutableRawBufferPointer, for request: Request
    ) throws(Errno) -> Int {
        guard case .backing = try inodeKind(inode) else { return 0 }
        let file = try descriptor(of: inode)
        if request.callingUser == 0 || geteuid() != 0 { return try list(file, into: names) }
        // Only privileged users see trusted attributes. The server's list has them.
        let all = try list(file)
        let shown = all.split(separator: 0).filter { !$0.starts(with: "trusted.".utf8) }.flatMap { $0 + [0] }
        guard !names.isEmpty else { return shown.count }
        guard shown.count <= names.count else { throw .outOfRange }
        names.copyBytes(from: shown)
        return shown.count
    }

    private func list(_ file: Descriptor, into names: UnsafeMutableRawBufferPointer) throws(Errno) -> Int {
        try file.callByPath {
            CLinux.listxattr($0, names.baseAddress?.assumingMemoryBound(to: CChar.self), names.count)
        }
    }

    /// All names, each with its NUL.
    private func list(_ file: Descriptor) throws(Errno) -> [UInt8] {
        // XATTR_LIST_MAX, limits.h.
        var names = [UInt8](repeating: 0, count: 65_536)
        var span = names.mutableSpan
        let count = try span.withUnsafeMutableBytes { (room) throws(Errno) in try list(file, into: room) }
        names.removeLast(names.count - count)
        return names
    }

    package func removexattr(_ inode: InodeNumber, _ name: UnsafePointer<CChar>) throws(Errno) {
        guard case .backing = try inodeKind(inode) else { throw .noData }
        let file = try descriptor(of: inode)
        _ = try file.callByPath { CLinux.removexattr($0, name) }
    }
}

extension timespec {
    /// As utimensat(2) takes it; nil is `UTIME_OMIT`.
    fileprivate init(_ time: StatusChanges.Time?) {
        switch time {
        case nil: self.init(tv_sec: 0, tv_nsec: clinux_utime_omit)
        case .now: self.init(tv_sec: 0, tv_nsec: clinux_utime_now)
        case .at(let time): self = time
        }
    }
}

import CFuse
import Glibc
import SystemPackage

/// libfuse's table of operations, each entry decoding its arguments for a `FileSystem` and handing its result to a
/// `PendingReply`.
///
/// Policy lives in neither. What comes most often is not here but in `DirectRequest`.
///
/// The closures capture nothing, as C demands, and stand in a function of a plain file: formed at the top level of a
/// main file they would belong to the main actor and trap on libfuse's threads.
enum OperationTable {
    static func make() -> fuse_lowlevel_ops {
        var table = fuse_lowlevel_ops()
        addNames(to: &table)
        addAttributes(to: &table)
        addFiles(to: &table)
        addDirectories(to: &table)
        table.`init` = { served, connection in
            guard let connection else { return }
            // The kernel clears set-id bits itself and says so by setattr: a daemon that runs as root would not lose
            // them by writing.
            connection.pointee.want &= ~UInt32(FUSE_CAP_HANDLE_KILLPRIV)
            // The kernel checks access control lists, and leaves umasks to the file system beneath, which knows whether
            // a directory has a default list.
            let lists = UInt32(FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK)
            connection.pointee.want |= connection.pointee.capable & lists
            if Session.Served.of(served).fileSystem.features.isExclusive {
                connection.pointee.want &= ~UInt32(FUSE_CAP_AUTO_INVAL_DATA)
                connection.pointee.want |=
                    connection.pointee.capable & UInt32(FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_CACHE_SYMLINKS)
            }
        }
        return table
    }

    private static func addNames(to table: inout fuse_lowlevel_ops) {
        table.mknod = { request, parent, name, mode, device in
            PendingReply(request!).newEntry { (fileSystem, caller) throws(Errno) in
                try fileSystem.mknod(
                    FileName(name), in: InodeNumber(rawValue: parent), mode: mode, device: device, for: caller)
            }
        }
        table.mkdir = { request, parent, name, mode in
            PendingReply(request!).newEntry { (fileSystem, caller) throws(Errno) in
                try fileSystem.mkdir(FileName(name), in: InodeNumber(rawValue: parent), mode: mode, for: caller)
            }
        }
        table.symlink = { request, target, parent, name in
            PendingReply(request!).newEntry { (fileSystem, caller) throws(Errno) in
                try fileSystem.symlink(
                    to: target!, named: FileName(name), in: InodeNumber(rawValue: parent), for: caller)
            }
        }
        table.link = { request, inode, parent, name in
            PendingReply(request!).entry { (fileSystem, caller) throws(Errno) in
                try fileSystem.link(
                    InodeNumber(rawValue: inode), to: FileName(name), in: InodeNumber(rawValue: parent), for: caller)
            }
        }
        table.unlink = { request, parent, name in
            PendingReply(request!).nothing { (fileSystem, caller) throws(Errno) in
                try fileSystem.unlink(FileName(name), in: InodeNumber(rawValue: parent), for: caller)
            }
        }
        table.rmdir = { request, parent, name in
            PendingReply(request!).nothing { (fileSystem, caller) throws(Errno) in
                try fileSystem.rmdir(FileName(name), in: InodeNumber(rawValue: parent), for: caller)
            }
        }
        table.rename = { request, parent, name, newParent, newName, flags in
            PendingReply(request!).nothing { (fileSystem, caller) throws(Errno) in
                try fileSystem.rename(
                    FileName(name), in: InodeNumber(rawValue: parent), to: FileName(newName),
                    in: InodeNumber(rawValue: newParent), flags: flags, for: caller)
            }
        }
        table.readlink = { request, inode in
            PendingReply(request!).link { (fileSystem) throws(Errno) in
                try fileSystem.readlink(InodeNumber(rawValue: inode))
            }
        }
    }

    private static func addAttributes(to table: inout fuse_lowlevel_ops) {
        table.setattr = { request, inode, values, selection, info in
            // A change of owner takes them away by itself, whoever makes it.
            let killPriv =
                selection & FUSE_SET_ATTR_SIZE != 0 && values!.pointee.st_mode & Dialect.killPrivMode != 0
            PendingReply(request!).status(killingPrivileges: killPriv) { (fileSystem, caller) throws(Errno) in
                try fileSystem.setattr(
                    InodeNumber(rawValue: inode), StatusChanges(values!.pointee, selection),
                    handle: info.map { FileHandle($0) }, for: caller)
            }
        }
        table.statfs = { request, inode in
            PendingReply(request!).fileSystemStatus { (fileSystem) throws(Errno) in
                try fileSystem.statfs(InodeNumber(rawValue: inode))
            }
        }
        table.setxattr = { request, inode, name, value, size, flags in
            PendingReply(request!).nothing(killingPrivileges: flags & Dialect.killPriv != 0) {
                (fileSystem, _) throws(Errno) in
                try fileSystem.setxattr(
                    InodeNumber(rawValue: inode), name!, value: UnsafeRawBufferPointer(start: value, count: size),
                    flags: flags & ~Dialect.killPriv)
            }
        }
        table.getxattr = { request, inode, name, size in
            PendingReply(request!).attribute(capacity: size) { (fileSystem, _, room) throws(Errno) in
                try fileSystem.getxattr(InodeNumber(rawValue: inode), name!, into: room)
            }
        }
        table.listxattr = { request, inode, size in
            PendingReply(request!).attribute(capacity: size) { (fileSystem, caller, room) throws(Errno) in
                try fileSystem.listxattr(InodeNumber(rawValue: inode), into: room, for: caller)
            }
        }
        table.removexattr = { request, inode, name in
            PendingReply(request!).nothing { (fileSystem, _) throws(Errno) in
                try fileSystem.removexattr(InodeNumber(rawValue: inode), name!)
            }
        }
    }

    private static func addFiles(to table: inout fuse_lowlevel_ops) {
        table.read = { request, _, size, offset, info in
            PendingReply(request!).read(FileHandle(info!), capacity: size, at: offset, flags: info!.pointee.flags)
        }
        table.write = { request, _, bytes, size, offset, info in
            let killPriv = info!.pointee.removeKillPriv()
            PendingReply(request!).count(killingPrivileges: killPriv) { (fileSystem, caller) throws(Errno) in
                // A page of a mapping is written back through any handle that can write; its place is its offset.
                let appending = info!.pointee.flags & O_APPEND != 0 && info!.pointee.writepage == 0
                return try fileSystem.write(
                    FileHandle(info!), UnsafeRawBufferPointer(start: bytes, count: size), at: offset,
                    appending: appending, for: caller)
            }
        }
        table.fsync = { request, _, dataOnly, info in
            PendingReply(request!).nothing { (fileSystem, caller) throws(Errno) in
                try fileSystem.fsync(FileHandle(info!), dataOnly: dataOnly != 0, for: caller)
            }
        }
        table.fallocate = { request, _, mode, offset, length, info in
            let reply = PendingReply(request!)
            reply.nothing(killingPrivileges: reply.isForOthers) { (fileSystem, _) throws(Errno) in
                try fileSystem.fallocate(FileHandle(info!), mode: mode, offset: offset, length: length)
            }
        }
        table.lseek = { request, _, offset, whence, info in
            PendingReply(request!).offset { (fileSystem) throws(Errno) in
                try fileSystem.lseek(FileHandle(info!), offset: offset, whence: whence)
            }
        }
        table.copy_file_range = { request, _, sourceOffset, source, _, targetOffset, target, count, flags in
            let reply = PendingReply(request!)
            reply.count(killingPrivileges: reply.isForOthers) { (fileSystem, _) throws(Errno) in
                try fileSystem.copyFileRange(
                    from: FileHandle(source!), at: sourceOffset, to: FileHandle(target!), at: targetOffset,
                    count: count, flags: flags)
            }
        }
        table.ioctl = { request, inode, command, _, info, flags, input, inputSize, outputSize in
            let isDirectory = flags & UInt32(FUSE_IOCTL_DIR) != 0
            PendingReply(request!).ioctl(
                UnsafeRawBufferPointer(start: input, count: inputSize), capacity: outputSize
            ) { (fileSystem, argument) throws(Errno) in
                try fileSystem.ioctl(
                    InodeNumber(rawValue: inode), FileHandle(info!), isDirectory: isDirectory, command, argument)
            }
        }
        table.poll = { request, _, info, pollHandle in
            PendingReply(request!).events(pollHandle: pollHandle) { (fileSystem, pollHandle) throws(Errno) in
                try fileSystem.poll(FileHandle(info!), pollHandle: pollHandle)
            }
        }
    }

    private static func addDirectories(to table: inout fuse_lowlevel_ops) {
        table.readdir = { request, inode, size, offset, info in
            PendingReply(request!).directory(capacity: size) { (fileSystem, caller, reply) throws(Errno) in
                try fileSystem.readdir(
                    InodeNumber(rawValue: inode), FileHandle(info!), from: offset, into: &reply, for: caller)
            }
        }
        table.readdirplus = { request, inode, size, offset, info in
            PendingReply(request!).directory(capacity: size) { (fileSystem, caller, reply) throws(Errno) in
                try fileSystem.readdirplus(
                    InodeNumber(rawValue: inode), FileHandle(info!), from: offset, into: &reply, for: caller)
            }
        }
        table.fsyncdir = { request, inode, dataOnly, info in
            PendingReply(request!).nothing { (fileSystem, _) throws(Errno) in
                try fileSystem.fsyncdir(InodeNumber(rawValue: inode), FileHandle(info!), dataOnly: dataOnly != 0)
            }
        }
    }
}

// libfuse's header marks nothing as non-null, but every pointer that is unwrapped above and here is one it always
// passes: because it takes them from the request itself (lib/fuse_lowlevel.c, the do_… functions).

extension FileName {
    fileprivate init(_ name: UnsafePointer<CChar>?) {
        self.init(borrowing: name!)
    }
}

extension FileHandle {
    fileprivate init(_ info: UnsafeMutablePointer<fuse_file_info>) {
        self.init(rawValue: info.pointee.fh)
    }
}

extension StatusChanges {
    /// Reads libfuse's `FUSE_SET_ATTR_…` bits.
    fileprivate init(_ values: FileStatus, _ selection: CInt) {
        self.init()
        func isSet(_ bit: CInt) -> Bool { selection & bit != 0 }
        if isSet(FUSE_SET_ATTR_MODE) { mode = values.st_mode & ~Dialect.killPrivMode }
        if isSet(FUSE_SET_ATTR_UID) { user = values.st_uid }
        if isSet(FUSE_SET_ATTR_GID) { group = values.st_gid }
        if isSet(FUSE_SET_ATTR_SIZE) { size = values.st_size }
        if isSet(FUSE_SET_ATTR_ATIME_NOW) {
            accessed = .now
        } else if isSet(FUSE_SET_ATTR_ATIME) {
            accessed = .at(values.st_atim)
        }
        if isSet(FUSE_SET_ATTR_MTIME_NOW) {
            modified = .now
        } else if isSet(FUSE_SET_ATTR_MTIME) {
            modified = .at(values.st_mtim)
        }
    }
}

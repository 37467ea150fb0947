import CLinux
import Glibc

// Our values as the structures of linux/fuse.h.

extension fuse_entry_out {
    init(_ entry: Entry) {
        self.init()
        nodeid = entry.inode.rawValue
        generation = UInt64(entry.generation)
        (entry_valid, entry_valid_nsec) = kernelTime(entry.nameTimeout)
        (attr_valid, attr_valid_nsec) = kernelTime(entry.statusTimeout)
        attr = fuse_attr(entry.status)
    }
}

extension fuse_attr_out {
    init(_ reply: StatusReply) {
        self.init()
        (attr_valid, attr_valid_nsec) = kernelTime(reply.timeout)
        attr = fuse_attr(reply.status)
    }
}

extension clinux_fuse_statx_out {
    init(_ reply: StatusReply, born birth: timespec?) {
        self.init()
        (attr_valid, attr_valid_nsec) = kernelTime(reply.timeout)
        let status = reply.status
        mask = UInt32(STATX_BASIC_STATS) | (birth == nil ? 0 : UInt32(STATX_BTIME))
        blksize = UInt32(truncatingIfNeeded: status.st_blksize)
        nlink = UInt32(truncatingIfNeeded: status.st_nlink)
        uid = status.st_uid
        gid = status.st_gid
        mode = UInt16(truncatingIfNeeded: status.st_mode)
        ino = UInt64(status.st_ino)
        size = UInt64(bitPattern: Int64(status.st_size))
        blocks = UInt64(bitPattern: Int64(status.st_blocks))
        atime = clinux_fuse_sx_time(status.st_atim)
        btime = clinux_fuse_sx_time(birth ?? timespec())
        ctime = clinux_fuse_sx_time(status.st_ctim)
        mtime = clinux_fuse_sx_time(status.st_mtim)
        rdev_major = clinux_major(status.st_rdev)
        rdev_minor = clinux_minor(status.st_rdev)
    }
}

extension clinux_fuse_sx_time {
    fileprivate init(_ time: timespec) {
        self.init(seconds: Int64(time.tv_sec), nanoseconds: UInt32(truncatingIfNeeded: time.tv_nsec), reserved: 0)
    }
}

extension fuse_attr {
    fileprivate init(_ status: FileStatus) {
        self.init()
        ino = UInt64(status.st_ino)
        size = UInt64(bitPattern: Int64(status.st_size))
        blocks = UInt64(bitPattern: Int64(status.st_blocks))
        atime = UInt64(bitPattern: Int64(status.st_atim.tv_sec))
        mtime = UInt64(bitPattern: Int64(status.st_mtim.tv_sec))
        ctime = UInt64(bitPattern: Int64(status.st_ctim.tv_sec))
        atimensec = UInt32(truncatingIfNeeded: status.st_atim.tv_nsec)
        mtimensec = UInt32(truncatingIfNeeded: status.st_mtim.tv_nsec)
        ctimensec = UInt32(truncatingIfNeeded: status.st_ctim.tv_nsec)
        mode = UInt32(status.st_mode)
        nlink = UInt32(truncatingIfNeeded: status.st_nlink)
        uid = status.st_uid
        gid = status.st_gid
        rdev = UInt32(truncatingIfNeeded: status.st_rdev)
        blksize = UInt32(truncatingIfNeeded: status.st_blksize)
    }
}

extension fuse_open_out {
    init(_ opened: OpenReply) {
        self.init()
        fh = opened.handle.rawValue
        switch opened.ioMode {
        case .cached(let isKept): open_flags = isKept ? UInt32(FOPEN_KEEP_CACHE) : 0
        case .direct: open_flags = UInt32(FOPEN_DIRECT_IO)
        case .passthrough(let file, let directIO):
            open_flags = UInt32(clinux_fopen_passthrough) | (directIO ? UInt32(FOPEN_DIRECT_IO) : 0)
            // `backing_id`, since protocol 7.40.
            padding = UInt32(bitPattern: file.rawValue)
        }
        if !opened.needsFlush { open_flags |= UInt32(FOPEN_NOFLUSH) }
        if opened.isStream { open_flags |= UInt32(FOPEN_STREAM) }
    }

    init(_ opened: OpenDirectoryReply) {
        self.init()
        fh = opened.handle.rawValue
        if opened.isListingKept { open_flags = UInt32(FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE) }
    }
}

extension fuse_statfs_out {
    init(_ status: FileSystemStatus) {
        self.init()
        st.blocks = UInt64(status.f_blocks)
        st.bfree = UInt64(status.f_bfree)
        st.bavail = UInt64(status.f_bavail)
        st.files = UInt64(status.f_files)
        st.ffree = UInt64(status.f_ffree)
        st.bsize = UInt32(truncatingIfNeeded: status.f_bsize)
        st.namelen = UInt32(truncatingIfNeeded: status.f_namemax)
        st.frsize = UInt32(truncatingIfNeeded: status.f_frsize)
    }
}

extension StatusChanges {
    /// Reads the `FATTR_…` bits of `struct fuse_setattr_in`.
    ///
    /// - Returns: nil for a size beyond what `off_t` holds.
    init?(_ input: fuse_setattr_in) {
        self.init()
        func isSet(_ bit: CInt) -> Bool { input.valid & UInt32(bit) != 0 }
        func time(_ seconds: UInt64, _ nanoseconds: UInt32) -> Time {
            .at(timespec(tv_sec: Int(Int64(bitPattern: seconds)), tv_nsec: Int(nanoseconds)))
        }
        if isSet(FATTR_MODE) { mode = mode_t(input.mode) }
        if isSet(FATTR_UID) { user = input.uid }
        if isSet(FATTR_GID) { group = input.gid }
        if isSet(FATTR_SIZE) {
            guard let size = off_t(exactly: input.size) else { return nil }
            self.size = size
        }
        if isSet(FATTR_ATIME) { accessed = isSet(FATTR_ATIME_NOW) ? .now : time(input.atime, input.atimensec) }
        if isSet(FATTR_MTIME) { modified = isSet(FATTR_MTIME_NOW) ? .now : time(input.mtime, input.mtimensec) }
    }
}

/// A timeout, 0 or more, as the protocol has it: whole seconds, and nanoseconds.
private func kernelTime(_ seconds: Double) -> (UInt64, UInt32) {
    let whole = seconds.rounded(.down)
    return (UInt64(whole), UInt32((seconds - whole) * 1_000_000_000))
}

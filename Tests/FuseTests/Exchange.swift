import CLinux
import Fuse
import Glibc
import Testing

/// A request, the expected call of the file system, and the expected reply.
struct Exchange: Sendable, CustomTestStringConvertible {
    let name: String
    let opcode: fuse_opcode
    var node: UInt64 = 7
    let body: [UInt8]
    /// The line that `RecordingFileSystem` records.
    let call: String
    /// The body of a successful reply.
    var answer: [UInt8] = []
    /// Whether the request can fail: a release cannot.
    var canFail = true

    var testDescription: String { name }

    static let caller = "by 1000:100/4711"

    static let all = names + attributes + files + directories

    // MARK: Requests

    private static let names: [Exchange] = [
        Exchange(
            name: "lookup", opcode: FUSE_LOOKUP, body: cString("ab"), call: "lookup ab in 7 \(caller)", answer: entry),
        Exchange(
            name: "mknod", opcode: FUSE_MKNOD,
            body: wire(fuse_mknod_in()) {
                $0.mode = S_IFCHR | 0o640
                $0.rdev = 259
            } + cString("ab"),
            call: "mknod ab in 7 mode 20640 device 259 \(caller)", answer: entry),
        Exchange(
            name: "mkdir", opcode: FUSE_MKDIR, body: wire(fuse_mkdir_in()) { $0.mode = 0o2750 } + cString("ab"),
            call: "mkdir ab in 7 mode 2750 \(caller)", answer: entry),
        Exchange(
            name: "symlink", opcode: FUSE_SYMLINK, body: cString("ab") + cString("../to"),
            call: "symlink ab in 7 to ../to \(caller)", answer: entry),
        Exchange(
            name: "link", opcode: FUSE_LINK, body: wire(fuse_link_in()) { $0.oldnodeid = 9 } + cString("ab"),
            call: "link 9 to ab in 7 \(caller)", answer: entry),
        Exchange(name: "unlink", opcode: FUSE_UNLINK, body: cString("ab"), call: "unlink ab in 7 \(caller)"),
        Exchange(name: "rmdir", opcode: FUSE_RMDIR, body: cString("ab"), call: "rmdir ab in 7 \(caller)"),
        Exchange(
            name: "rename", opcode: FUSE_RENAME,
            body: wire(fuse_rename_in()) { $0.newdir = 8 } + cString("ab") + cString("cd"),
            call: "rename ab in 7 to cd in 8 flags 0 \(caller)"),
        Exchange(
            name: "rename2", opcode: FUSE_RENAME2,
            body: wire(fuse_rename2_in()) {
                $0.newdir = 8
                $0.flags = UInt32(RENAME_EXCHANGE)
            } + cString("ab") + cString("cd"),
            call: "rename ab in 7 to cd in 8 flags 2 \(caller)"),
        Exchange(
            name: "readlink", opcode: FUSE_READLINK, body: [], call: "readlink 7", answer: Array("the/target".utf8)),
    ]

    private static let attributes: [Exchange] = [
        Exchange(
            name: "getattr", opcode: FUSE_GETATTR, body: bytes(of: fuse_getattr_in()), call: "getattr 7 \(caller)",
            answer: attributesOut),
        Exchange(
            name: "setattr of everything", opcode: FUSE_SETATTR,
            body: wire(fuse_setattr_in()) {
                $0.valid = UInt32(
                    FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME | FATTR_FH)
                $0.fh = 6
                $0.size = 5_000_000_000
                $0.mode = S_IFREG | 0o751
                $0.uid = 3
                $0.gid = 4
                $0.atime = 100
                $0.atimensec = 200
                $0.mtime = UInt64(bitPattern: -100)
                $0.mtimensec = 999_999_999
            },
            call:
                "setattr 7 mode 100751 user 3 group 4 size 5000000000 accessed 100.200 modified -100.999999999 handle 6",
            answer: attributesOut),
        Exchange(
            name: "setattr of times to now", opcode: FUSE_SETATTR,
            body: wire(fuse_setattr_in()) {
                $0.valid = UInt32(FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW)
            }, call: "setattr 7 accessed now modified now", answer: attributesOut),
        Exchange(
            name: "setattr of one thing", opcode: FUSE_SETATTR,
            body: wire(fuse_setattr_in()) {
                $0.valid = UInt32(FATTR_SIZE)
                $0.fh = 6
            }, call: "setattr 7 size 0", answer: attributesOut),
        Exchange(
            name: "statfs", opcode: FUSE_STATFS, body: [], call: "statfs 7",
            answer: wire(fuse_statfs_out()) {
                ($0.st.bsize, $0.st.frsize, $0.st.blocks, $0.st.bfree) = (1, 2, 3, 4)
                ($0.st.bavail, $0.st.files, $0.st.ffree, $0.st.namelen) = (5, 6, 7, 8)
            }),
        Exchange(
            name: "ioctl", opcode: FUSE_IOCTL,
            body: wire(fuse_ioctl_in()) {
                ($0.fh, $0.cmd, $0.in_size, $0.out_size) = (6, clinux_set_flags, 4, 2)
            } + [1, 2, 3, 4],
            call: "ioctl 7 6 \(clinux_set_flags) [1 2 3 4]", answer: bytes(of: fuse_ioctl_out()) + [0xAB, 2]),
        Exchange(
            name: "ioctl of a directory", opcode: FUSE_IOCTL,
            body: wire(fuse_ioctl_in()) {
                ($0.fh, $0.flags, $0.cmd, $0.out_size) = (6, UInt32(FUSE_IOCTL_DIR), clinux_get_flags, 4)
            },
            call: "ioctl 7 6 directory \(clinux_get_flags) [0 0 0 0]",
            answer: bytes(of: fuse_ioctl_out()) + [0xAB, 0, 0, 0]),
        Exchange(
            name: "setxattr", opcode: FUSE_SETXATTR,
            body: wire(fuse_setxattr_in()) {
                $0.size = 5
                $0.flags = UInt32(XATTR_REPLACE)
            } + cString("user.x") + Array("value".utf8),
            call: "setxattr 7 user.x = value flags 2"),
        Exchange(
            name: "setxattr that clears set-id bits", opcode: FUSE_SETXATTR,
            body: wire(fuse_setxattr_in()) {
                $0.size = 5
                $0.setxattr_flags = UInt32(FUSE_SETXATTR_ACL_KILL_SGID)
            } + cString("user.x") + Array("value".utf8),
            call: "setxattr 7 user.x = value flags 0"),
        Exchange(
            name: "getxattr", opcode: FUSE_GETXATTR,
            body: wire(fuse_getxattr_in()) { $0.size = 64 } + cString("user.x"),
            call: "getxattr 7 user.x room 64", answer: Array("value".utf8)),
        Exchange(
            name: "getxattr of the size", opcode: FUSE_GETXATTR,
            body: bytes(of: fuse_getxattr_in()) + cString("user.x"),
            call: "getxattr 7 user.x room 0", answer: wire(fuse_getxattr_out()) { $0.size = 5 }),
        Exchange(
            name: "listxattr", opcode: FUSE_LISTXATTR, body: wire(fuse_getxattr_in()) { $0.size = 64 },
            call: "listxattr 7 room 64", answer: Array("user.a\0user.b\0".utf8)),
        Exchange(
            name: "listxattr of the size", opcode: FUSE_LISTXATTR, body: bytes(of: fuse_getxattr_in()),
            call: "listxattr 7 room 0", answer: wire(fuse_getxattr_out()) { $0.size = 14 }),
        Exchange(name: "removexattr", opcode: FUSE_REMOVEXATTR, body: cString("user.x"), call: "removexattr 7 user.x"),
    ]

    private static let files: [Exchange] = [
        Exchange(
            name: "open", opcode: FUSE_OPEN, body: wire(fuse_open_in()) { $0.flags = UInt32(O_RDWR | O_TRUNC) },
            call: "open 7 flags \(O_RDWR | O_TRUNC) \(caller)", answer: opened),
        Exchange(
            name: "create", opcode: FUSE_CREATE,
            body: wire(fuse_create_in()) {
                $0.flags = UInt32(O_WRONLY | O_EXCL)
                $0.mode = S_IFREG | 0o644
            } + cString("ab"),
            call: "create ab in 7 mode 100644 flags \(O_WRONLY | O_EXCL) \(caller)", answer: entry + opened),
        Exchange(
            name: "create of an unnamed file", opcode: FUSE_TMPFILE,
            body: wire(fuse_create_in()) {
                // overlayfs omits O_TMPFILE.
                $0.flags = UInt32(O_RDWR)
                $0.mode = S_IFREG | 0o644
            } + cString("/"),
            call: "create / in 7 mode 100644 flags \(O_RDWR | clinux_tmpfile) \(caller)", answer: entry + opened),
        Exchange(
            name: "open that clears set-id bits", opcode: FUSE_OPEN,
            body: wire(fuse_open_in()) {
                $0.flags = UInt32(O_RDWR | O_TRUNC)
                $0.open_flags = UInt32(FUSE_OPEN_KILL_SUIDGID)
            },
            call: "open 7 flags \(O_RDWR | O_TRUNC) \(caller)", answer: opened),
        Exchange(
            name: "setattr that clears set-id bits", opcode: FUSE_SETATTR,
            body: wire(fuse_setattr_in()) {
                $0.valid = UInt32(FATTR_MODE | FATTR_SIZE | FATTR_KILL_SUIDGID)
                $0.mode = 0o755
            }, call: "setattr 7 mode 755 size 0", answer: attributesOut),
        Exchange(
            name: "read", opcode: FUSE_READ,
            body: wire(fuse_read_in()) {
                $0.fh = 6
                $0.offset = 5_000_000_000
                $0.size = 4096
            }, call: "read 6 at 5000000000 room 4096", answer: Array("some bytes".utf8)),
        write("write", flags: O_WRONLY, at: "5000000000"),
        write("appending write", flags: O_WRONLY | O_APPEND, at: "the end"),
        // Write-back of a mapped page has an offset, even if the file was opened with O_APPEND.
        write("appending write of a mapped page", flags: O_WRONLY | O_APPEND, isPage: true, at: "5000000000"),
        Exchange(
            name: "flush", opcode: FUSE_FLUSH, body: wire(fuse_flush_in()) { $0.fh = 6 }, call: "flush 6 \(caller)"),
        Exchange(
            name: "release", opcode: FUSE_RELEASE, body: wire(fuse_release_in()) { $0.fh = 6 }, call: "release 6",
            canFail: false),
        Exchange(
            name: "fsync", opcode: FUSE_FSYNC, body: wire(fuse_fsync_in()) { $0.fh = 6 }, call: "fsync 6 all \(caller)"),
        Exchange(
            name: "fdatasync", opcode: FUSE_FSYNC,
            body: wire(fuse_fsync_in()) {
                $0.fh = 6
                $0.fsync_flags = 1
            }, call: "fsync 6 data \(caller)"),
        Exchange(
            name: "fallocate", opcode: FUSE_FALLOCATE,
            body: wire(fuse_fallocate_in()) {
                ($0.fh, $0.offset, $0.length, $0.mode) = (6, 5_000_000_000, 4096, UInt32(FALLOC_FL_KEEP_SIZE))
            }, call: "fallocate 6 mode 1 at 5000000000 length 4096"),
        Exchange(
            name: "lseek", opcode: FUSE_LSEEK,
            body: wire(fuse_lseek_in()) { ($0.fh, $0.offset, $0.whence) = (6, 5_000_000_000, 4) },
            call: "lseek 6 to 5000000000 whence 4", answer: wire(fuse_lseek_out()) { $0.offset = 5_000_000_001 }),
        Exchange(
            name: "copy_file_range", opcode: FUSE_COPY_FILE_RANGE,
            body: wire(fuse_copy_file_range_in()) {
                ($0.fh_in, $0.off_in, $0.nodeid_out, $0.fh_out, $0.off_out, $0.len) = (6, 10, 8, 9, 20, 30)
            }, call: "copy 30 from 6 at 10 to 9 at 20 flags 0", answer: wire(fuse_write_out()) { $0.size = 29 }),
        Exchange(
            name: "poll", opcode: FUSE_POLL, body: wire(fuse_poll_in()) { $0.fh = 6 }, call: "poll 6",
            answer: wire(fuse_poll_out()) { $0.revents = 0x45 }),
        Exchange(
            name: "poll with notification", opcode: FUSE_POLL,
            body: wire(fuse_poll_in()) { ($0.fh, $0.kh, $0.flags) = (6, 3, UInt32(FUSE_POLL_SCHEDULE_NOTIFY)) },
            call: "poll 6", answer: wire(fuse_poll_out()) { $0.revents = 0x45 }),
    ]

    private static let directories: [Exchange] = [
        Exchange(
            name: "opendir", opcode: FUSE_OPENDIR, body: bytes(of: fuse_open_in()), call: "opendir 7 \(caller)",
            answer: wire(fuse_open_out()) { $0.fh = RecordingFileSystem.opened.handle.rawValue }),
        list(FUSE_READDIR, "readdir", from: 0, room: 4096, answer: RecordingFileSystem.names.flatMap(listed)),
        list(
            FUSE_READDIR, "readdir", from: 70, room: 4096,
            answer: RecordingFileSystem.names.dropFirst(2).flatMap(listed)),
        // Two entries are 32 bytes each, and the third's name fills 8 bytes more exactly.
        list(
            FUSE_READDIR, "readdir", from: 0, room: 95, answer: RecordingFileSystem.names.prefix(2).flatMap(listed)),
        list(
            FUSE_READDIR, "readdir", from: 0, room: 96, answer: RecordingFileSystem.names.prefix(3).flatMap(listed)),
        list(FUSE_READDIR, "readdir", from: 9000, room: 4096, answer: Array(repeating: 0, count: 8)),
        list(
            FUSE_READDIRPLUS, "readdirplus", from: 0, room: 4096,
            answer: RecordingFileSystem.names.flatMap(listedPlus)),
        list(
            FUSE_READDIRPLUS, "readdirplus", from: 0, room: 319,
            answer: RecordingFileSystem.names.prefix(1).flatMap(listedPlus)),
        Exchange(
            name: "releasedir", opcode: FUSE_RELEASEDIR, body: wire(fuse_release_in()) { $0.fh = 6 },
            call: "releasedir 6", canFail: false),
        Exchange(
            name: "fsyncdir", opcode: FUSE_FSYNCDIR, body: wire(fuse_fsync_in()) { $0.fh = 6 }, call: "fsyncdir 7 6 all"
        ),
        Exchange(
            name: "fdatasync of a directory", opcode: FUSE_FSYNCDIR,
            body: wire(fuse_fsync_in()) { ($0.fh, $0.fsync_flags) = (6, 1) }, call: "fsyncdir 7 6 data"),
    ]

    private static func write(_ name: String, flags: CInt, isPage: Bool = false, at place: String) -> Exchange {
        Exchange(
            name: name, opcode: FUSE_WRITE,
            body: wire(fuse_write_in()) {
                $0.fh = 6
                $0.offset = 5_000_000_000
                $0.size = 3
                $0.flags = UInt32(flags)
                $0.write_flags = isPage ? UInt32(FUSE_WRITE_CACHE) : 0
            } + Array("abc".utf8),
            call: "write 6 abc at \(place) \(caller)", answer: wire(fuse_write_out()) { $0.size = 2 })
    }

    private static func list(
        _ opcode: fuse_opcode, _ name: String, from offset: UInt64, room: UInt32, answer: [UInt8]
    ) -> Exchange {
        Exchange(
            name: "\(name) from \(offset) into \(room) bytes", opcode: opcode,
            body: wire(fuse_read_in()) { ($0.fh, $0.offset, $0.size) = (6, offset, room) },
            call: "\(name) 7 6 from \(offset) \(caller)", answer: answer)
    }

    // MARK: Replies

    private static let attributeStructure: fuse_attr = {
        let status = RecordingFileSystem.status
        var attributes = fuse_attr()
        attributes.ino = UInt64(status.st_ino)
        attributes.size = UInt64(status.st_size)
        attributes.blocks = UInt64(status.st_blocks)
        attributes.atime = UInt64(bitPattern: Int64(status.st_atim.tv_sec))
        attributes.mtime = UInt64(bitPattern: Int64(status.st_mtim.tv_sec))
        attributes.ctime = UInt64(bitPattern: Int64(status.st_ctim.tv_sec))
        attributes.atimensec = UInt32(status.st_atim.tv_nsec)
        attributes.mtimensec = UInt32(status.st_mtim.tv_nsec)
        attributes.ctimensec = UInt32(status.st_ctim.tv_nsec)
        attributes.mode = status.st_mode
        attributes.nlink = UInt32(status.st_nlink)
        attributes.uid = status.st_uid
        attributes.gid = status.st_gid
        attributes.rdev = UInt32(status.st_rdev)
        attributes.blksize = UInt32(status.st_blksize)
        return attributes
    }()

    private static let attributesOut = wire(fuse_attr_out()) {
        $0.attr_valid = 2
        $0.attr_valid_nsec = 750_000_000
        $0.attr = attributeStructure
    }

    private static let entry = wire(fuse_entry_out()) {
        $0.nodeid = RecordingFileSystem.entry.inode.rawValue
        $0.generation = 0x8765_4321
        $0.entry_valid = 1
        $0.entry_valid_nsec = 500_000_000
        $0.attr_valid_nsec = 250_000_000
        $0.attr = attributeStructure
    }

    private static let opened = wire(fuse_open_out()) {
        $0.fh = RecordingFileSystem.opened.handle.rawValue
        $0.open_flags = UInt32(FOPEN_DIRECT_IO | FOPEN_NOFLUSH)
    }

    /// `struct fuse_dirent`: the name has no NUL and is padded to a multiple of 8 bytes.
    private static func listed(
        _ name: String, _ number: ino_t, _ mode: mode_t, _ nextOffset: off_t
    ) -> [UInt8] {
        let head =
            bytes(of: number) + bytes(of: UInt64(nextOffset)) + bytes(of: UInt32(name.utf8.count))
            + bytes(of: UInt32(mode >> 12))
        return head + Array(name.utf8) + Array(repeating: 0, count: (8 - name.utf8.count % 8) % 8)
    }

    /// `struct fuse_direntplus`: inode number and type are those of the attributes.
    private static func listedPlus(
        _ name: String, _ number: ino_t, _ mode: mode_t, _ nextOffset: off_t
    ) -> [UInt8] {
        entry + listed(name, RecordingFileSystem.status.st_ino, RecordingFileSystem.status.st_mode, nextOffset)
    }
}

import CLinux
import Fuse
import Glibc
import Linux
import Synchronization
import SystemPackage

/// The identity of a file, independent of its names: no two files have the same at one time.
///
/// A directory with a bind mount has two identities: the kernel does not rename or link between two mounts. Other files
/// have one identity in all mounts, and so one page cache.
struct FileIdentity: Hashable, Sendable {
    /// 12 bits of the major number and 20 of the minor, as in the kernel, to keep `Node` small.
    private let shortDevice: UInt32
    /// A directory's mount (`stx_mnt_id`); 0 for anything else, and before Linux 5.8.
    let mount: UInt32
    let number: ino_t

    init(device: dev_t, number: ino_t, mount: UInt32 = 0) {
        shortDevice = UInt32(truncatingIfNeeded: device)
        self.mount = mount
        self.number = number
    }

    var device: dev_t { dev_t(shortDevice) }
}

extension FileStatus {
    /// Not for directories: `ExtendedStatus` knows their mount.
    var identity: FileIdentity { FileIdentity(device: st_dev, number: st_ino) }

    var kind: mode_t { st_mode & S_IFMT }
    var isDirectory: Bool { kind == S_IFDIR }
    var isRegularFile: Bool { kind == S_IFREG }

    /// The status of an open file; `O_PATH` is enough (fstat(2)).
    init(of descriptor: CInt) throws(Errno) {
        self.init()
        _ = try retryingInterrupts { fstat(descriptor, &self) }
    }

    /// The status of a name in a directory, without following a symbolic link (fstatat(2)).
    init(of name: UnsafePointer<CChar>, in directory: CInt) throws(Errno) {
        self.init()
        _ = try retryingInterrupts { fstatat(directory, name, &self, AT_SYMLINK_NOFOLLOW) }
    }
}

/// Creation time of a file, which differs from that of a later file with the same inode number.
struct Birth: Hashable, Sendable {
    let nanosecondsSince1970: Int64

    init(nanosecondsSince1970: Int64) { self.nanosecondsSince1970 = nanosecondsSince1970 }

    /// Nil for times before 1678 and after 2261.
    init?(seconds: Int64, nanoseconds: UInt32) {
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, overflowToo) = whole.addingReportingOverflow(Int64(nanoseconds))
        guard !overflow, !overflowToo else { return nil }
        nanosecondsSince1970 = sum
    }

    var timespec: timespec {
        let (seconds, rest) = nanosecondsSince1970.quotientAndRemainder(dividingBy: 1_000_000_000)
        return rest < 0
            ? Glibc.timespec(tv_sec: Int(seconds) - 1, tv_nsec: Int(rest) + 1_000_000_000)
            : Glibc.timespec(tv_sec: Int(seconds), tv_nsec: Int(rest))
    }
}

/// A file's status and, if the backing file system has it, its creation time (statx(2)).
struct ExtendedStatus {
    let status: FileStatus
    let birth: Birth?
    /// Through which it was reached; 0 before Linux 5.8.
    let mount: UInt32

    var identity: FileIdentity {
        FileIdentity(device: status.st_dev, number: status.st_ino, mount: status.isDirectory ? mount : 0)
    }

    var isDirectory: Bool { status.isDirectory }
    var isRegularFile: Bool { status.isRegularFile }

    /// The status of an open file; `O_PATH` is enough.
    init(of descriptor: CInt) throws(Errno) {
        try self.init(of: "", in: descriptor, flags: AT_EMPTY_PATH)
    }

    /// The status of a name in a directory, without following a symbolic link.
    init(of name: UnsafePointer<CChar>, in directory: CInt) throws(Errno) {
        try self.init(of: name, in: directory, flags: AT_SYMLINK_NOFOLLOW)
    }

    /// Whether this is the recorded file; creation times are compared if both are known.
    func matches(_ identity: FileIdentity?, born birth: Birth?) -> Bool {
        self.identity == identity && (birth == nil || self.birth == nil || birth == self.birth)
    }

    private init(of name: UnsafePointer<CChar>, in directory: CInt, flags: CInt) throws(Errno) {
        var found = statx()
        let mask = UInt32(STATX_BASIC_STATS | STATX_BTIME) | UInt32(clinux_statx_mnt_id)
        _ = try retryingInterrupts { clinux_statx(directory, name, flags, mask, &found) }
        status = FileStatus(found)
        birth =
            found.stx_mask & UInt32(STATX_BTIME) == 0
            ? nil : Birth(seconds: found.stx_btime.tv_sec, nanoseconds: found.stx_btime.tv_nsec)
        mount =
            found.stx_mask & UInt32(clinux_statx_mnt_id) == 0 ? 0 : UInt32(truncatingIfNeeded: found.stx_mnt_id)
    }
}

extension FileStatus {
    /// The status that the kernel has in its caches, without asking the file system for a later one.
    init(cachedOf descriptor: CInt) throws(Errno) {
        var found = statx()
        let flags = AT_EMPTY_PATH | clinux_statx_dont_sync
        _ = try retryingInterrupts { clinux_statx(descriptor, "", flags, UInt32(STATX_BASIC_STATS), &found) }
        self.init(found)
    }

    fileprivate init(_ found: statx) {
        self.init()
        st_dev = clinux_device(found.stx_dev_major, found.stx_dev_minor)
        st_ino = ino_t(found.stx_ino)
        st_nlink = nlink_t(found.stx_nlink)
        st_mode = mode_t(found.stx_mode)
        st_uid = found.stx_uid
        st_gid = found.stx_gid
        st_rdev = clinux_device(found.stx_rdev_major, found.stx_rdev_minor)
        st_size = off_t(found.stx_size)
        st_blksize = blksize_t(found.stx_blksize)
        st_blocks = blkcnt_t(found.stx_blocks)
        st_atim = timespec(tv_sec: Int(found.stx_atime.tv_sec), tv_nsec: Int(found.stx_atime.tv_nsec))
        st_mtim = timespec(tv_sec: Int(found.stx_mtime.tv_sec), tv_nsec: Int(found.stx_mtime.tv_nsec))
        st_ctim = timespec(tv_sec: Int(found.stx_ctime.tv_sec), tv_nsec: Int(found.stx_ctime.tv_nsec))
    }
}

/// Inode numbers of files on other file systems that are mounted inside the backing tree.
///
/// The FUSE mount has one device number, and programs such as tar identify a file by device and inode number. Files
/// that are not on the root's device therefore get a device tag in the upper 16 bits of the inode number, which disk
/// file systems leave 0. Devices are tagged 1, 2, … as they are met.
final class DeviceInodeMap: Sendable {
    private let root: dev_t
    private let isRootLocal: Bool
    private let tags = Mutex<[dev_t: UInt16]>([:])

    init(rootDevice: dev_t, isRootLocal: Bool) {
        root = rootDevice
        self.isRootLocal = isRootLocal
    }

    /// Whether close(2) may report an error, as network file systems do; nil is an unknown device.
    func mayFailAtClose(on device: dev_t?) -> Bool { !isRootLocal || device != root }

    /// Whether a device is the root's.
    func isRoot(_ device: dev_t) -> Bool { device == root }

    /// The status as the mount shows it.
    func shown(_ status: FileStatus) -> FileStatus {
        guard status.st_dev != root else { return status }
        var shown = status
        shown.st_ino = number(status.st_ino, on: status.st_dev)
        return shown
    }

    /// The inode number as the mount shows it.
    func number(_ number: ino_t, on device: dev_t) -> ino_t {
        guard device != root else { return number }
        let tag = tags.withLock { tags in
            if let known = tags[device] { return known }
            // With more than 65,535 devices, numbers may coincide.
            let next = UInt16(truncatingIfNeeded: tags.count + 1)
            tags[device] = next
            return next
        }
        return number ^ ino_t(tag) << 48
    }
}

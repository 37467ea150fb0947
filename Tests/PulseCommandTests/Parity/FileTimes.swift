import CSystemCall
import Glibc
import SystemPackage

/// A file time.
struct FileTime: Comparable {
    var seconds: Int
    var nanoseconds: Int

    init(seconds: Int, nanoseconds: Int) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }

    init(_ time: timespec) { self.init(seconds: time.tv_sec, nanoseconds: time.tv_nsec) }

    /// The coarse clock of file timestamps, which advances in ticks.
    static var now: FileTime {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME_COARSE, &now)
        return FileTime(now)
    }

    func advanced(by seconds: Int) -> FileTime { FileTime(seconds: self.seconds + seconds, nanoseconds: nanoseconds) }

    static func < (one: FileTime, other: FileTime) -> Bool {
        one.seconds == other.seconds ? one.nanoseconds < other.nanoseconds : one.seconds < other.seconds
    }

    /// `now` for times since the start: they differ from run to run.
    func description(since start: FileTime) -> String {
        if start <= self, self <= FileTime.now.advanced(by: 1) { return "now" }
        let fraction = "\(nanoseconds + 1_000_000_000)".dropFirst()
        return nanoseconds == 0 ? "\(seconds)" : "\(seconds).\(fraction)"
    }
}

/// The times of stat(2).
struct FileTimes {
    let access: FileTime
    let modification: FileTime
    let change: FileTime

    init(_ status: FileStatus) {
        access = FileTime(status.st_atim)
        modification = FileTime(status.st_mtim)
        change = FileTime(status.st_ctim)
    }

    /// Waits until a new change gets a later time than all of these, unless they are in the
    /// future.
    func waitUntilPast() {
        let latest = [access, modification, change].filter { $0 <= FileTime.now.advanced(by: 1) }.max()
        guard let latest else { return }
        // A tick is 10 ms at most.
        while FileTime.now <= latest {}
    }

    /// The times that have changed.
    func changes(since earlier: FileTimes) -> String {
        let changed = [
            access != earlier.access ? "atime" : nil, modification != earlier.modification ? "mtime" : nil,
            change != earlier.change ? "ctime" : nil,
        ]
        let names = changed.compactMap { $0 }.joined(separator: " ")
        let isBackward = change < earlier.change
        return names.isEmpty ? "none" : names + (isBackward ? " (ctime back)" : "")
    }
}

extension FileStatus {
    /// newfstatat(2) of a place.
    init(_ place: FilePlace, flags: Int = 0) throws {
        self.init()
        try filling(&self) { room in
            try place.withAddress { path in
                try systemCall(SYS_newfstatat, place.directory, path, room, flags | place.emptyPathFlag)
            }
        }
    }

    var type: String {
        switch st_mode & S_IFMT {
        case S_IFREG: "file"
        case S_IFDIR: "directory"
        case S_IFLNK: "symlink"
        case S_IFIFO: "fifo"
        case S_IFSOCK: "socket"
        case S_IFCHR: "char"
        case S_IFBLK: "block"
        default: "type \(st_mode & S_IFMT)"
        }
    }

    /// Without fields that differ between any two files, and without sizes of directories.
    var words: String {
        let (mode, owner) = (String(permissions, radix: 8), "\(TestUser.name(of: st_uid)):\(TestUser.name(of: st_gid))")
        let words = "\(type) 0\(mode) \(owner) links \(st_nlink)"
        switch st_mode & S_IFMT {
        case S_IFDIR: return words
        case S_IFCHR, S_IFBLK: return "\(words) device \(st_rdev)"
        default: return "\(words) size \(st_size)"
        }
    }
}

import CLinux
import Glibc
import SystemPackage

typealias FileStatus = Glibc.stat

extension FileStatus {
    /// lstat(2).
    init(_ path: String) throws(Errno) {
        self.init()
        guard lstat(path, &self) == 0 else { throw Errno(rawValue: errno) }
    }

    init(_ file: FileDescriptor) throws(Errno) {
        self.init()
        guard fstat(file.rawValue, &self) == 0 else { throw Errno(rawValue: errno) }
    }

    var permissions: mode_t { st_mode & 0o7777 }
    var modified: Double { Double(st_mtim.tv_sec) + Double(st_mtim.tv_nsec) / 1e9 }
}

/// The system calls of the tools that use pulsefs, in the tools' order.
enum Client {
    // MARK: Go

    /// Go's `os.WriteFile`.
    ///
    /// - Throws: The error of close(2), too.
    static func write(_ text: String, to path: String, mode: mode_t = 0o644) throws(Errno) {
        let file = try openForWriting(path, mode: mode)
        do {
            try write(text, to: file)
        } catch {
            try? close(file)
            throw error
        }
        try close(file)
    }

    static func openForWriting(_ path: String, mode: mode_t = 0o644) throws(Errno) -> FileDescriptor {
        try open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: mode)
    }

    /// Go's `os.ReadFile`: the size is a hint; it reads to the end.
    static func read(_ path: String) throws(Errno) -> String {
        let file = try open(path, O_RDONLY)
        defer { try? close(file) }
        let size = Int(try FileStatus(file).st_size)
        return try read(file, piece: max(512, size + 1))
    }

    // MARK: bd

    /// Replaces a file as `bd` does: writes a temporary file with a fixed name and renames it.
    static func replace(_ path: String, with text: String) throws(Errno) {
        try write(text, to: path + ".tmp")
        try rename(path + ".tmp", to: path)
    }

    // MARK: Partial reads and writes

    static func open(_ path: String, _ flags: CInt, mode: mode_t = 0o644) throws(Errno) -> FileDescriptor {
        let descriptor = Glibc.open(path, flags | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        return FileDescriptor(rawValue: descriptor)
    }

    static func close(_ file: FileDescriptor) throws(Errno) {
        try check(Glibc.close(file.rawValue))
    }

    static func write(_ text: String, to file: FileDescriptor) throws(Errno) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(file.rawValue, $0.baseAddress, $0.count) }
            guard count >= 0 else { throw Errno(rawValue: errno) }
            rest = rest.dropFirst(count)
        }
    }

    static func pwrite(_ text: String, to file: FileDescriptor, at offset: Int) throws(Errno) {
        let bytes = Array(text.utf8)
        let count = bytes.withUnsafeBytes { Glibc.pwrite(file.rawValue, $0.baseAddress, $0.count, off_t(offset)) }
        guard count >= 0 else { throw Errno(rawValue: errno) }
        precondition(count == bytes.count, "a write of a few bytes came up short")
    }

    /// Reads from the current offset to the end, `piece` bytes at a time.
    static func read(_ file: FileDescriptor, piece: Int = 4096) throws(Errno) -> String {
        String(decoding: try readBytes(file, piece: piece), as: UTF8.self)
    }

    static func readBytes(_ file: FileDescriptor, piece: Int = 4096) throws(Errno) -> [UInt8] {
        var bytes: [UInt8] = []
        var room = [UInt8](repeating: 0, count: piece)
        while true {
            let count = room.withUnsafeMutableBytes { Glibc.read(file.rawValue, $0.baseAddress, $0.count) }
            guard count >= 0 else { throw Errno(rawValue: errno) }
            guard count > 0 else { return bytes }
            bytes += room.prefix(count)
        }
    }

    static func rename(_ path: String, to other: String) throws(Errno) {
        try check(Glibc.rename(path, other))
    }

    static func exchange(_ path: String, _ other: String, flags: UInt32) throws(Errno) {
        try check(clinux_renameat2(AT_FDCWD, path, AT_FDCWD, other, flags))
    }

    static func unlink(_ path: String) throws(Errno) { try check(Glibc.unlink(path)) }
    static func link(_ path: String, to other: String) throws(Errno) { try check(Glibc.link(path, other)) }
    static func makeDirectory(_ path: String) throws(Errno) { try check(Glibc.mkdir(path, 0o755)) }
    static func removeDirectory(_ path: String) throws(Errno) { try check(Glibc.rmdir(path)) }
    static func changeMode(_ path: String, _ mode: mode_t) throws(Errno) { try check(Glibc.chmod(path, mode)) }
    static func truncate(_ path: String, to size: Int) throws(Errno) { try check(Glibc.truncate(path, off_t(size))) }

    static func truncate(_ file: FileDescriptor, to size: Int) throws(Errno) {
        try check(Glibc.ftruncate(file.rawValue, off_t(size)))
    }

    static func synchronize(_ file: FileDescriptor) throws(Errno) { try check(Glibc.fsync(file.rawValue)) }

    /// Writes back the documents of a directory with fsync(2).
    static func synchronize(directory: String) throws(Errno) {
        let descriptor = try open(directory, O_RDONLY | O_DIRECTORY)
        defer { try? close(descriptor) }
        try synchronize(descriptor)
    }

    /// touch(1) of an existing file: utimensat(2) without times.
    static func touch(_ path: String) throws(Errno) { try check(utimensat(AT_FDCWD, path, nil, 0)) }

    static func setModified(_ path: String, seconds: Int) throws(Errno) {
        let times = [timespec(tv_sec: seconds, tv_nsec: 0), timespec(tv_sec: seconds, tv_nsec: 0)]
        try check(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW))
    }

    /// Seconds of CLOCK_REALTIME, behind which time(3) lags by some milliseconds.
    static var now: Int {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return now.tv_sec
    }

    /// Whether `directory` is the working directory of a process.
    static func isProcess(_ pid: pid_t, in directory: String) -> Bool { link("/proc/\(pid)/cwd") == directory }

    /// The target of a symbolic link; empty if there is none.
    static func link(_ path: String) -> String {
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink(path, &target, target.count)
        return String(decoding: target.prefix(max(0, count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// The names from readdir(3), in its order, without `.` and `..`.
    static func names(in directory: String) throws(Errno) -> [String] {
        guard let stream = opendir(directory) else { throw Errno(rawValue: errno) }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    private static func check(_ result: CInt) throws(Errno) {
        guard result == 0 else { throw Errno(rawValue: errno) }
    }
}

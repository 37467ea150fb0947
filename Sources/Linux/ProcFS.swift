import CLinux
import Glibc
import SystemPackage

/// Reads from `/proc` and other small kernel files (proc(5)).
///
/// These calls follow no link into a file system that might hang.
package enum ProcFS {
    /// The whole text of a file; bytes that are not UTF-8 are replaced.
    package static func text(_ path: String) throws(Errno) -> String {
        try OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDONLY).readToEnd()
    }

    /// The target of a symbolic link, as text.
    package static func link(_ path: String) throws(Errno) -> String {
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = try retryingInterrupts { readlink(path, &target, target.count) }
        return String(decoding: target.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// The names in a directory; empty if it cannot be read.
    package static func names(_ directory: String) -> [String] {
        directoryEntries(closing: opendir(directory)).map(\.name)
    }

    /// All processes that `/proc` shows, without this one.
    package static var processes: [pid_t] { names("/proc").compactMap { pid_t($0) }.filter { $0 != getpid() } }

    /// The name of a process's main thread, at most 15 bytes; nil if the process cannot be seen.
    package static func name(_ process: pid_t) -> String? {
        (try? text("/proc/\(process)/comm"))?.split(separator: "\n").first.map(String.init)
    }

    /// A process for a log.
    package static func description(of process: pid_t) -> String { "\(process) (\(name(process) ?? "?"))" }

    /// When a process was started, in clock ticks since boot; nil if the process cannot be seen.
    package static func startTime(_ process: pid_t) -> UInt64? {
        // Field 22. Field 2 is the name in parentheses, which may contain anything.
        guard let text = try? text("/proc/\(process)/stat"), let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[end...].split(separator: " ")
        return fields.count > 20 ? UInt64(fields[20]) : nil
    }

    /// The words after a key at the beginning of a line, as in `/proc/PID/status`; nil if there is no such line.
    package static func field(_ key: String, in path: String) -> [Substring]? {
        guard let text = try? text(path), let line = text.split(separator: "\n").first(where: { $0.hasPrefix(key) })
        else { return nil }
        return line.dropFirst(key.count).split(whereSeparator: \.isWhitespace)
    }

    /// The mount and the device of an open file or directory, by its link in `/proc/PID/fd`, `cwd`, `root` or `exe`.
    ///
    /// Does not ask the file's server: it works for a FUSE mount that hangs, and for one of another user.
    package static func location(ofLink path: String) -> (mount: UInt64, device: String)? {
        var status = statx()
        // FUSE refuses any requested field to users without access. Device and mount are always told.
        guard clinux_statx(AT_FDCWD, path, CInt(AT_STATX_DONT_SYNC), 0, &status) == 0,
            status.stx_mask & UInt32(STATX_MNT_ID) != 0
        else { return nil }
        return (status.stx_mnt_id, "\(status.stx_dev_major):\(status.stx_dev_minor)")
    }
}

/// The machine that this process runs on.
package enum Host {
    /// The machine id (machine-id(5)), which tells hosts of the same name apart; empty if there is none.
    package static var machineID: String {
        String(((try? ProcFS.text("/etc/machine-id")) ?? "").prefix { !$0.isWhitespace })
    }

    /// The host name (gethostname(2)).
    package static var name: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// The kernel that runs.
package enum Kernel {
    /// Major and minor version; (0, 0) if `uname` tells something else.
    package static var version: (Int, Int) {
        let release = (try? ProcFS.text("/proc/sys/kernel/osrelease")) ?? ""
        let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        return numbers.count == 2 ? (numbers[0], numbers[1]) : (0, 0)
    }
}

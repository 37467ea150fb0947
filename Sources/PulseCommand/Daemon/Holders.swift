import CLinux
import Glibc
import Linux
import SystemPackage

/// Who has something of a mount open.
///
/// Looks at links in `/proc` only, never at what they lead to: the mount might not answer.
enum Holders {
    /// Names the processes with a directory, a program or a file of the mount, as `vim (pid 123: its current
    /// directory)`.
    static func of(_ mount: MountEntry) -> [String] {
        processes().compactMap { pid in
            guard let use = use(of: mount, by: pid) else { return nil }
            return "\(name(pid)) (pid \(pid): \(use))"
        }
    }

    /// Whether nobody has anything of the mount open but `pulsefs watch` and its like, in `.pulse`: those close it as
    /// soon as the mount is gone.
    static func areWatchersOnly(of mount: MountEntry) -> Bool {
        let pulse = mount.town + "/.pulse"
        let users = processes().filter { use(of: mount, by: $0) != nil }
        return !users.isEmpty
            && users.allSatisfy { pid in
                guard name(pid).hasPrefix("pulsefs"),
                    !links.contains(where: { isOf(mount, link: "/proc/\(pid)/\($0.0)") })
                else { return false }
                return names("/proc/\(pid)/fd").allSatisfy { number in
                    !isOf(mount, info: "/proc/\(pid)/fdinfo/\(number)")
                        || isWithin([pulse], target("/proc/\(pid)/fd/\(number)") ?? "")
                }
            }
    }

    /// What was found out by looking at every process.
    struct Scan {
        var holders: [TownFacts.Holder] = []
        /// Processes that may not be looked into.
        var hidden = 0
        /// Who has the sockets, by their inode numbers.
        var owners: [String: pid_t] = [:]
    }

    /// Finds those who have something of a mount open that lies in one of some directories, but for keepers and workers; and
    /// the owners of some sockets.
    static func scan(on mount: MountEntry, within directories: [String], for sockets: Set<String>) -> Scan {
        var scan = Scan()
        for pid in processes() {
            if target("/proc/\(pid)/cwd") == nil {
                if Errno.current == .permissionDenied { scan.hidden += 1 }
                continue
            }
            let name = name(pid)
            if name == "pulsefs-keeper" || name == "pulsefs-worker" { continue }
            if let use = use(of: mount, within: directories, by: pid) {
                scan.holders.append(TownFacts.Holder(name: name, pid: pid, use: use))
            }
            guard !sockets.isEmpty else { continue }
            for number in names("/proc/\(pid)/fd") {
                guard let target = target("/proc/\(pid)/fd/\(number)"), target.hasPrefix("socket:[") else { continue }
                let inode = String(target.dropFirst("socket:[".count).dropLast())
                if sockets.contains(inode) { scan.owners[inode] = pid }
            }
        }
        return scan
    }

    private static func name(_ pid: pid_t) -> String {
        (try? text("/proc/\(pid)/comm"))?.split(separator: "\n").first.map(String.init) ?? "?"
    }

    private static let links = [("cwd", "its current directory"), ("root", "its root"), ("exe", "its program")]

    /// - Parameter directories: Only what lies in one of them counts; nil is everything of the mount.
    private static func use(of mount: MountEntry, within directories: [String]? = nil, by pid: pid_t) -> String? {
        for (link, use) in links {
            let link = "/proc/\(pid)/\(link)"
            if let target = target(link), isWithin(directories, target), isOf(mount, link: link) { return use }
        }
        for number in names("/proc/\(pid)/fd") where isOf(mount, info: "/proc/\(pid)/fdinfo/\(number)") {
            let target = target("/proc/\(pid)/fd/\(number)")
            if isWithin(directories, target ?? "") { return "file \(target ?? number)" }
        }
        // start-end perms offset major:minor inode path, with the device in hexadecimal of two digits at least
        let device = mount.device.split(separator: ":").compactMap { Int($0) }
        guard device.count == 2, let maps = try? text("/proc/\(pid)/maps") else { return nil }
        for line in maps.split(separator: "\n") {
            let fields = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
            guard fields.count == 6, isWithin(directories, String(fields[5])) else { continue }
            if fields[3].split(separator: ":").map({ Int($0, radix: 16) }) == device { return "mapped \(fields[5])" }
        }
        return nil
    }

    private static func isWithin(_ directories: [String]?, _ path: String) -> Bool {
        guard let directories else { return true }
        return directories.contains { path == $0 || path.hasPrefix($0 + "/") }
    }

    /// Whether what a link leads to is of the mount: the directory beneath has the same path.
    ///
    /// Without asking whoever serves it.
    private static func isOf(_ mount: MountEntry, link: String) -> Bool {
        var status = statx()
        guard clinux_statx(AT_FDCWD, link, CInt(AT_STATX_DONT_SYNC), UInt32(STATX_MNT_ID), &status) == 0,
            status.stx_mask & UInt32(STATX_MNT_ID) != 0
        else { return false }
        return status.stx_mnt_id == UInt64(mount.id)
    }

    /// `mnt_id` tells an open file of the mount from one of the directory beneath, which has the same path.
    private static func isOf(_ mount: MountEntry, info: String) -> Bool {
        guard let text = try? text(info) else { return false }
        return text.split(separator: "\n").contains { line in
            line.hasPrefix("mnt_id:") && line.split(whereSeparator: \.isWhitespace).last == "\(mount.id)"
        }
    }

    private static func processes() -> [pid_t] {
        names("/proc").compactMap { pid_t($0) }.filter { $0 != getpid() }
    }

    private static func text(_ path: String) throws(Errno) -> String {
        try OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDONLY).readToEnd()
    }

    /// What a link says; nil, with errno, where that may not be seen.
    static func target(_ link: String) -> String? {
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink(link, &target, target.count)
        return count < 0 ? nil : String(decoding: target.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// The names in a directory; none where there is none.
    static func names(_ directory: String) -> [String] {
        directoryEntries(closing: opendir(directory)).map(\.name)
    }
}

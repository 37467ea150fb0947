import Glibc
import SystemCalls
import SystemPackage

/// Who keeps a mount busy.
enum Holders {
    /// Names the processes with a directory, a program or a file of the mount, as `vim (pid 123: its current
    /// directory)`.
    ///
    /// Looks at links in `/proc` only, never at what they lead to: the mount might not answer.
    static func of(_ mount: MountEntry) -> [String] {
        processes().compactMap { pid in
            guard let use = use(of: mount, by: pid) else { return nil }
            let name = (try? text("/proc/\(pid)/comm"))?.split(separator: "\n").first.map(String.init) ?? "?"
            return "\(name) (pid \(pid): \(use))"
        }
    }

    private static func use(of mount: MountEntry, by pid: pid_t) -> String? {
        for (link, use) in [("cwd", "its current directory"), ("root", "its root"), ("exe", "its program")] {
            if isWithin(mount, link: "/proc/\(pid)/\(link)") { return use }
        }
        for number in names("/proc/\(pid)/fd") where isOf(mount, info: "/proc/\(pid)/fdinfo/\(number)") {
            return "file \(target("/proc/\(pid)/fd/\(number)") ?? number)"
        }
        // start-end perms offset major:minor inode path, with the device in hexadecimal of two digits at least
        let device = mount.device.split(separator: ":").compactMap { Int($0) }
        guard device.count == 2, let maps = try? text("/proc/\(pid)/maps") else { return nil }
        for line in maps.split(separator: "\n") {
            let fields = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
            guard fields.count == 6 else { continue }
            if fields[3].split(separator: ":").map({ Int($0, radix: 16) }) == device { return "mapped \(fields[5])" }
        }
        return nil
    }

    private static func isWithin(_ mount: MountEntry, link: String) -> Bool {
        guard let target = target(link) else { return false }
        return target == mount.path || target.hasPrefix(mount.path + "/")
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

    private static func target(_ link: String) -> String? {
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink(link, &target, target.count)
        return count < 0 ? nil : String(decoding: target.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func names(_ directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            names.append(name)
        }
        return names
    }
}

import CLinux
import Glibc
import Linux
import SystemPackage

/// Finds out what uses a mount, in all mount namespaces that `/proc` shows.
///
/// Reads `/proc` and `/sys` only. The server of the mount is never asked: it may hang.
///
/// A failed read is not an error. It means that the process has ended, that its file is on another file system (statx(2)
/// does not fail for a mount of ours), or that this user may not examine the process: `hiddenProcesses` counts those.
/// Without `/proc` there is no mount table, so no caller gets here.
package struct MountUsers {
    private let devices: Set<String>
    private let mounts: Set<UInt64>
    /// Only files in one of these directories count; nil means all.
    private let directories: [String]?

    /// A process that uses a mount.
    package struct User: Sendable, CustomStringConvertible {
        package let name: String
        package let pid: Int32
        /// For example `its current directory` or `file /gt/x`.
        package let use: String

        package var description: String { "\(name) (pid \(pid): \(use))" }
    }

    /// Searches for users of FUSE mounts of ours.
    package init(of mounts: [MountInfo]) {
        devices = Set(mounts.map(\.device))
        self.mounts = []
        directories = nil
    }

    /// Searches for users of directories on some other file system.
    package init(of mount: MountInfo, within directories: [String]) {
        // Files of some file systems (btrfs, overlayfs) have another device than the mount.
        devices = [mount.device]
        mounts = [UInt64(mount.id)]
        self.directories = directories
    }

    /// How many processes this user may not examine.
    package static var hiddenProcesses: Int {
        ProcFS.processes.count { pid in
            do throws(Errno) {
                _ = try ProcFS.link("/proc/\(pid)/cwd")
                return false
            } catch {
                return error == .permissionDenied
            }
        }
    }

    // MARK: What keeps a mount from being unmounted

    /// Everything that makes umount(2) fail with EBUSY, each described in a few words.
    package func describeAll(of mounts: [MountInfo]) -> [String] {
        processes().map(\.description) + sockets(in: mounts.map(\.path)).map(\.description)
            + Self.mounts(inside: mounts) + Self.loopDevices(in: mounts.map(\.path))
    }

    /// Whether only our own watchers (`pulsefs watch`) use the mounts: they close `.pulse` once its mount is gone.
    package func areOnlyWatchers(of town: String) -> Bool {
        let users = processes()
        return !users.isEmpty
            && users.allSatisfy { user in
                user.name.hasPrefix("pulsefs")
                    && uses(by: user.pid).allSatisfy { "\($0.path)/".hasPrefix("\(town)/\(PulseMountpoint.name)/") }
            }
    }

    /// Processes with a directory, program, open file or mapping in the mounts.
    package func processes() -> [User] {
        ProcFS.processes.compactMap { pid in
            uses(by: pid, most: 1).first.map { User(name: ProcFS.name(pid) ?? "?", pid: pid, use: $0.words) }
        }
    }

    private static let links = [("cwd", "its current directory"), ("root", "its root"), ("exe", "its program")]

    /// What one process uses: the first `most` of it.
    private func uses(by pid: pid_t, most: Int = .max) -> [(words: String, path: String)] {
        // A thread may have a directory of its own, by unshare(2) of CLONE_FS.
        let links = ProcFS.names("/proc/\(pid)/task").flatMap { task in
            Self.links.map { (path: "/proc/\(pid)/task/\(task)/\($0)", words: $1) }
        }
        let files = ProcFS.names("/proc/\(pid)/fd").map { (path: "/proc/\(pid)/fd/\($0)", words: "file") }
        var uses: [(words: String, path: String)] = []
        for (link, words) in links + files where uses.count < most {
            guard let target = target(ofLink: link) else { continue }
            uses.append((words == "file" ? "file \(target)" : words, target))
        }
        return uses.count < most ? uses + mappedFiles(of: pid).map { ("mapped \($0)", $0) } : uses
    }

    /// The target of a link in `/proc/PID`, if it is in the mounts.
    private func target(ofLink link: String) -> String? {
        guard let location = ProcFS.location(ofLink: link),
            devices.contains(location.device) || mounts.contains(location.mount)
        else { return nil }
        let target = (try? ProcFS.link(link)) ?? link
        return isWithin(target) ? target : nil
    }

    private func mappedFiles(of pid: pid_t) -> [String] {
        guard let maps = try? ProcFS.text("/proc/\(pid)/maps") else { return [] }
        // start-end perms offset major:minor inode path, the device in hexadecimal
        return maps.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ", maxSplits: 5)
            guard fields.count == 6 else { return nil }
            let device = fields[3].split(separator: ":").compactMap { Int($0, radix: 16) }.map(String.init)
            let path = String(fields[5])
            return devices.contains(device.joined(separator: ":")) && isWithin(path) ? path : nil
        }
    }

    private func isWithin(_ path: String) -> Bool {
        guard let directories else { return true }
        return directories.contains { path == $0 || path.hasPrefix($0 + "/") }
    }

    private static func mounts(inside mounts: [MountInfo]) -> [String] {
        let ids = Set(mounts.map(\.id))
        let entries = (try? MountTable())?.entries ?? []
        return entries.filter { ids.contains($0.parent) && !ids.contains($0.id) }
            .map { "the \($0.type) mount at \($0.path)" }
    }

    private static func loopDevices(in directories: [String]) -> [String] {
        ProcFS.names("/sys/block").filter { $0.hasPrefix("loop") }.compactMap { name in
            guard let text = try? ProcFS.text("/sys/block/\(name)/loop/backing_file"),
                let file = text.split(separator: "\n").first,
                directories.contains(where: { file.hasPrefix($0 + "/") })
            else { return nil }
            return "loop device /dev/\(name) (\(file))"
        }
    }

    // MARK: Sockets

    /// Processes with a Unix socket that is bound to a path in the directories, in all network namespaces.
    package func sockets(in directories: [String]) -> [User] {
        var tables: [String: [String: String]] = [:]
        return ProcFS.processes.compactMap { pid in
            guard let namespace = try? ProcFS.link("/proc/\(pid)/ns/net") else { return nil }
            let bound = tables[namespace] ?? Self.boundSockets(of: pid)
            tables[namespace] = bound
            guard !bound.isEmpty else { return nil }
            for number in ProcFS.names("/proc/\(pid)/fd") {
                guard let target = try? ProcFS.link("/proc/\(pid)/fd/\(number)"), target.hasPrefix("socket:["),
                    var path = bound[String(target.dropFirst("socket:[".count).dropLast())]
                else { continue }
                // A relative path was resolved in the directory that the process had then.
                if !path.hasPrefix("/"), let directory = try? ProcFS.link("/proc/\(pid)/cwd") {
                    path = "\(directory)/\(path)"
                }
                guard directories.contains(where: { path.hasPrefix($0 + "/") }) else { continue }
                return User(name: ProcFS.name(pid) ?? "?", pid: pid, use: "socket \(path)")
            }
            return nil
        }
    }

    /// Paths of bound Unix sockets by inode number (proc(5): `/proc/PID/net/unix`).
    private static func boundSockets(of pid: pid_t) -> [String: String] {
        guard let text = try? ProcFS.text("/proc/\(pid)/net/unix") else { return [:] }
        var sockets: [String: String] = [:]
        for line in text.split(separator: "\n").dropFirst() {
            let fields = line.split(separator: " ", maxSplits: 7)
            // A socket that was accepted has the path of its listener, which has the flag __SO_ACCEPTCON.
            guard fields.count == 8, !fields[7].hasPrefix("@"), fields[3] == "00010000" || fields[4] == "0002" else {
                continue
            }
            sockets[String(fields[6])] = String(fields[7])
        }
        return sockets
    }

    // MARK: What outlives an unmount

    /// Other mounts of the same file systems: bind mounts, and the copies that other mount namespaces have.
    package func otherMounts() -> [String] {
        var found = ((try? MountTable())?.entries ?? []).filter { devices.contains($0.device) }
            .map { "the bind mount \($0.path)" }
        var seen = Set([(try? ProcFS.link("/proc/self/ns/mnt")) ?? ""])
        for pid in ProcFS.processes {
            guard let namespace = try? ProcFS.link("/proc/\(pid)/ns/mnt"), seen.insert(namespace).inserted,
                let table = try? MountTable(of: pid), table.entries.contains(where: { devices.contains($0.device) })
            else { continue }
            found.append(User(name: ProcFS.name(pid) ?? "?", pid: pid, use: "its mount namespace").description)
        }
        return found
    }
}

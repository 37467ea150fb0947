import CLinux
import CSystemCall
import Glibc
import SystemPackage

extension Interpreter {
    /// Calls for mode, owner, times and access.
    func statusCall(_ verb: String) throws -> String? {
        switch verb {
        case "stat": return try FileStatus(place()).words
        case "lstat": return try FileStatus(place(), flags: Int(AT_SYMLINK_NOFOLLOW)).words
        case "blocks": return "\(try FileStatus(place()).st_blocks)"
        case "same":
            let (one, other) = (try status(), try status())
            return one.st_ino == other.st_ino && one.st_dev == other.st_dev ? "same" : "different"
        case "birth":
            let status = try statx()
            guard status.stx_mask & UInt32(STATX_BTIME) != 0 else { return "none" }
            let birth = FileTime(seconds: Int(status.stx_btime.tv_sec), nanoseconds: Int(status.stx_btime.tv_nsec))
            return birth.description(since: start)
        case "attributes":
            // Only attributes of the backing file system: compressed, immutable, append-only, no dump, encrypted.
            let status = try statx()
            return String(status.stx_attributes & 0x874, radix: 16)
        case "chmod":
            let (place, mode) = (try place(), try number())
            if place.isDescriptor { return ok(try systemCall(SYS_fchmod, place.directory, mode)) }
            return try call(SYS_fchmodat, at: place, mode)
        case "lchmod": return try call(452 /* fchmodat2 */, at: place(), number(), Int(AT_SYMLINK_NOFOLLOW))
        case "chown", "lchown":
            let (place, owner) = (try place(), try ids())
            if place.isDescriptor { return ok(try systemCall(SYS_fchown, place.directory, owner.user, owner.group)) }
            let flags = verb == "lchown" ? Int(AT_SYMLINK_NOFOLLOW) : 0
            return try call(SYS_fchownat, at: place, owner.user, owner.group, flags)
        case "utimens": return try setTimes()
        case "access": return try call(SYS_faccessat2, at: place(), number(), flags())
        case "statfs":
            var status = FileSystemStatus()
            let place = try place().withoutDirectory
            try filling(&status) { room in
                try place.withAddress { path in try systemCall(SYS_statfs, path, room) }
            }
            // Without its type and its free space, which other processes change.
            return "name \(status.f_namelen) block \(status.f_bsize) fragment \(status.f_frsize) of \(status.f_blocks)"
        case "times":
            let times = FileTimes(try status())
            let (access, modification) = (times.access, times.modification)
            return "atime \(access.description(since: start)) mtime \(modification.description(since: start))"
        case "note":
            let name = nextWord
            let times = FileTimes(try status())
            times.waitUntilPast()
            recordedTimes[name] = times
            return "ok"
        case "changes":
            let name = nextWord
            let times = FileTimes(try status())
            guard let earlier = recordedTimes[name] else { throw malformed("no times of \(name) are noted") }
            return times.changes(since: earlier)
        default: return nil
        }
    }

    typealias FileSystemStatus = CSystemCall.statfs

    /// lstat(2) of the next name.
    private func status() throws -> FileStatus {
        try FileStatus(place(), flags: Int(AT_SYMLINK_NOFOLLOW))
    }

    private func statx() throws -> CSystemCall.statx {
        let place = try place()
        var status = CSystemCall.statx()
        let flags = Int(AT_SYMLINK_NOFOLLOW) | place.emptyPathFlag
        try filling(&status) { room in
            try place.withAddress { path in
                try systemCall(SYS_statx, place.directory, path, flags, Int(STATX_BASIC_STATS | STATX_BTIME), room)
            }
        }
        return status
    }

    /// `alice:shared`, `alice:`, `:shared`.
    private func ids() throws -> (user: Int, group: Int) {
        let text = try word().text
        let names = text.split(separator: ":", omittingEmptySubsequences: false)
        guard names.count == 2 else { throw malformed("no owner: \(text)") }
        func id(_ name: Substring) throws -> Int {
            if name.isEmpty { return -1 }
            guard let id = TestUser.id(named: String(name)) else { throw malformed("no user is called \(name)") }
            return Int(id)
        }
        return (try id(names[0]), try id(names[1]))
    }

    /// `utimens PATH ATIME MTIME [AT_SYMLINK_NOFOLLOW]`: seconds with or without a fraction, `NOW` or `OMIT`; or
    /// `utimens PATH`, without times.
    private func setTimes() throws -> String {
        let place = try place()
        var times: [Int] = []
        if hasMoreWords { times = try time() + time() }
        let flags = try flags()
        let bytes = times.withUnsafeBytes { Array($0) }
        return try withAddress(of: bytes) { address in
            let times = bytes.isEmpty ? 0 : address
            if place.isDescriptor {
                return self.ok(try systemCall(SYS_utimensat, place.directory, 0, times, flags))
            }
            return try place.withAddress { path in
                self.ok(try systemCall(SYS_utimensat, place.directory, path, times, flags))
            }
        }
    }

    private func time() throws -> [Int] {
        let text = try word().text
        switch text {
        case "NOW": return [0, clinux_utime_now]
        case "OMIT": return [0, clinux_utime_omit]
        default:
            let parts = text.split(separator: ".")
            guard let seconds = Int(parts[0]) else { throw malformed("no time: \(text)") }
            guard parts.count > 1 else { return [seconds, 0] }
            let digits = parts[1] + String(repeating: "0", count: max(0, 9 - parts[1].count))
            guard let nanoseconds = Int(digits) else { throw malformed("no time: \(text)") }
            return [seconds, nanoseconds]
        }
    }
}

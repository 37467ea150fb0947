import CLinux
import Glibc
import Linux
import Liveness
import SystemPackage

/// Files of one thread or process in `/proc`, by its number at the time of reading.
///
/// Nothing of them is kept but what `IdentityClaims` takes: an environment holds secrets.
struct ProcessFiles {
    let number: pid_t

    /// More of an environment is not looked at; the kernel's own limit for arguments and environment together is 6 MiB
    /// (`MAX_ARG_STRINGS`, `_STK_LIM` in fs/exec.c).
    private static let longestEnvironment = 6 << 20
    /// Of a command line only the first words count.
    private static let commandLineRoom = 4096

    /// Whether `/proc` is that of our own pid namespace: in another's, the numbers that requests carry are other processes.
    static let areOfOurNumbers: Bool = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { room in
        let count = readlink("/proc/self", room.baseAddress!, room.count)
        return count > 0 && "\(getpid())".utf8.elementsEqual(room[..<count].lazy.map(UInt8.init(bitPattern:)))
    }

    /// Nil when there is no such process, or it cannot be seen.
    func stat() -> ProcessStat? {
        guard let file = try? open("stat") else { return nil }
        return Self.stat(file.rawValue)
    }

    /// Reads an open `stat` anew: nil once the process that it was opened for is gone, whoever has its number now.
    static func stat(_ file: CInt) -> ProcessStat? {
        withUnsafeTemporaryAllocation(byteCount: ProcessStat.room, alignment: 1) { room in
            let count = pread(file, room.baseAddress, room.count, 0)
            return count > 0 ? ProcessStat(UnsafeRawBufferPointer(rebasing: room[..<count])) : nil
        }
    }

    func open(_ name: String) throws(Errno) -> OwnedDescriptor {
        try OwnedDescriptor(opening: "/proc/\(number)/\(name)", in: AT_FDCWD, O_RDONLY)
    }

    /// The command line and what of the environment is of use; whatever cannot be read is empty.
    func writer() -> (writer: IdentityClaims, program: String) {
        let commandLine = bytes(of: "cmdline", atMost: Self.commandLineRoom)
        let path = commandLine.prefix { $0 != 0 }
        let name = path[(path.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0)...]
        return (
            IdentityClaims(cmdline: commandLine, environ: bytes(of: "environ", atMost: Self.longestEnvironment)),
            String(decoding: name, as: UTF8.self)
        )
    }

    func bytes(of name: String, atMost limit: Int) -> [UInt8] {
        guard let file = try? open(name) else { return [] }
        var bytes: [UInt8] = []
        var room = min(limit, 8192)
        while bytes.count < limit {
            let piece = [UInt8](unsafeUninitializedCapacity: room) { room, count in
                count = (try? retryingInterrupts { read(file.rawValue, room.baseAddress, room.count) }) ?? 0
            }
            if piece.isEmpty { break }
            if bytes.isEmpty { bytes = piece } else { bytes += piece }
            room = min(limit, 1 << 17)
        }
        return bytes
    }

    /// The process (`Tgid` in proc(5)) that a thread belongs to; nil when it has ended.
    func process() -> pid_t? {
        // Tgid is among the first few lines, well within this.
        let text = bytes(of: "status", atMost: 512)
        let line = text.split(separator: UInt8(ascii: "\n")).first { $0.starts(with: "Tgid:".utf8) }
        return line.flatMap { pid_t(String(decoding: $0.dropFirst(6), as: UTF8.self)) }
    }

    /// The supplementary groups (`Groups` in proc(5)), and whether CAP_FSETID is effective; nil when it has ended.
    func credentials() -> (groups: [gid_t], hasFSetID: Bool)? {
        let lines = bytes(of: "status", atMost: 1 << 20).split(separator: UInt8(ascii: "\n"))
        func field(_ name: String) -> String? {
            lines.first { $0.starts(with: name.utf8) }.map {
                String(decoding: $0.dropFirst(name.utf8.count), as: UTF8.self)
            }
        }
        guard let groups = field("Groups:\t"), let capabilities = field("CapEff:\t").flatMap({ UInt64($0, radix: 16) })
        else { return nil }
        return (groups.split(separator: " ").compactMap { gid_t($0) }, capabilities & 1 << CAP_FSETID != 0)
    }

    /// The working directory, relative to a town; nil if it is elsewhere or cannot be seen.
    ///
    /// One that has been removed ends in ` (deleted)`. Reading the link asks no file system, ours least of all.
    func workingDirectory(in town: [UInt8]) -> [UInt8]? {
        withUnsafeTemporaryAllocation(byteCount: Int(PATH_MAX), alignment: 1) { room in
            let count = room.withMemoryRebound(to: CChar.self) {
                readlink("/proc/\(number)/cwd", $0.baseAddress!, $0.count)
            }
            guard count > town.count, room[..<town.count].elementsEqual(town), room[town.count] == UInt8(ascii: "/")
            else { return nil }
            return Array(room[(town.count + 1)..<count])
        }
    }
}

/// Whether threads that ask are of one process.
enum ProcessIdentity {
    /// Threads of another pid namespace all carry the number 0 and are taken for one process.
    static func isSame(_ first: pid_t, _ second: pid_t) -> Bool {
        if first == second { return true }
        guard first != 0, second != 0, let process = ProcessFiles(number: first).process() else { return false }
        return process == ProcessFiles(number: second).process()
    }
}

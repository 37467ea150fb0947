import CLinux
import Glibc
import Linux
import Liveness
import SystemPackage

/// Files of one thread or process in `/proc`, addressed by its number.
///
/// Only `IdentityClaims` are kept of an environment, as it may hold secrets.
struct ProcessFiles {
    let number: pid_t

    /// The kernel's limit for arguments and environment together (`_STK_LIM` in fs/exec.c).
    private static let maximumEnvironmentSize = 6 << 20
    /// Enough for the first words of a command line.
    private static let maximumCommandLineSize = 4096

    /// Whether `/proc` belongs to this process's pid namespace.
    ///
    /// If not, its numbers are not those of requests.
    static let isOwnNamespace: Bool = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { room in
        let count = readlink("/proc/self", room.baseAddress!, room.count)
        return count > 0 && "\(getpid())".utf8.elementsEqual(room[..<count].lazy.map(UInt8.init(bitPattern:)))
    }

    /// Nil if there is no such process or it cannot be read.
    func stat() -> ProcessStat? {
        guard let file = try? open("stat") else { return nil }
        return Self.stat(file.rawValue)
    }

    /// Reads an open `stat` file; nil after the end of its process, even if the number was reused.
    static func stat(_ file: CInt) -> ProcessStat? {
        withUnsafeTemporaryAllocation(byteCount: ProcessStat.bufferSize, alignment: 1) { room in
            let count = pread(file, room.baseAddress, room.count, 0)
            return count > 0 ? ProcessStat(UnsafeRawBufferPointer(rebasing: room[..<count])) : nil
        }
    }

    func open(_ name: String) throws(Errno) -> OwnedDescriptor {
        try OwnedDescriptor(opening: "/proc/\(number)/\(name)", in: AT_FDCWD, O_RDONLY)
    }

    /// The identity claims of command line and environment, and the program's name.
    ///
    /// Unreadable files count as empty.
    func claims() -> (claims: IdentityClaims, program: String) {
        let commandLine = bytes(of: "cmdline", atMost: Self.maximumCommandLineSize)
        let path = commandLine.prefix { $0 != 0 }
        let name = path[(path.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0)...]
        return (
            IdentityClaims(cmdline: commandLine, environ: bytes(of: "environ", atMost: Self.maximumEnvironmentSize)),
            String(decoding: name, as: UTF8.self)
        )
    }

    func bytes(of name: String, atMost limit: Int) -> [UInt8] {
        guard let file = try? open(name) else { return [] }
        var bytes: [UInt8] = []
        var size = min(limit, 8192)
        while bytes.count < limit {
            let piece = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
                count = (try? retryingInterrupts { read(file.rawValue, buffer.baseAddress, buffer.count) }) ?? 0
            }
            if piece.isEmpty { break }
            if bytes.isEmpty { bytes = piece } else { bytes += piece }
            size = min(limit, 1 << 17)
        }
        return bytes
    }

    /// The process (`Tgid` in proc(5)) that a thread belongs to; nil after its end.
    func process() -> pid_t? {
        // Most callers are main threads, and reading `status` takes as long as a request.
        if clinux_is_main_thread(number) { return number }
        // Tgid is one of the first lines.
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

    /// The working directory relative to a town; nil if it is elsewhere or cannot be read.
    ///
    /// The link of a removed directory ends in ` (deleted)`. Reading it calls no file system.
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

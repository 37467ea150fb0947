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

    /// Whether `/proc` belongs to this process's pid namespace; if not, its numbers are not those of requests.
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

    /// The identity claims of command line and environment, and the program's name; unreadable files count as empty.
    func claims(_ rules: IdentityRules) -> (claims: IdentityClaims, program: String) {
        let commandLine = bytes(of: "cmdline", atMost: Self.maximumCommandLineSize)
        let path = commandLine.prefix { $0 != 0 }
        let name = path[(path.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0)...]
        return (
            IdentityClaims(
                cmdline: commandLine, environ: bytes(of: "environ", atMost: Self.maximumEnvironmentSize), rules: rules),
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
        return Self.field("Tgid", in: bytes(of: "status", atMost: 512)).flatMap { pid_t($0) }
    }

    /// The supplementary groups (`Groups` in proc(5)), and whether CAP_FSETID is effective; nil after its end.
    func credentials() -> (groups: [gid_t], hasFSetID: Bool)? {
        let status = bytes(of: "status", atMost: 1 << 20)
        guard let groups = Self.field("Groups", in: status),
            let capabilities = Self.field("CapEff", in: status).flatMap({ UInt64($0, radix: 16) })
        else { return nil }
        return (groups.split(separator: " ").compactMap { gid_t($0) }, capabilities & 1 << CAP_FSETID != 0)
    }

    private static func field(_ name: String, in status: [UInt8]) -> String? {
        let start = Array("\(name):\t".utf8)
        let line = status.split(separator: UInt8(ascii: "\n")).first { $0.starts(with: start) }
        return line.map { String(decoding: $0.dropFirst(start.count), as: UTF8.self) }
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

/// Clock ticks of `/proc/<pid>/stat`.
enum ClockTicks {
    private static let perSecond = max(1, sysconf(Int32(_SC_CLK_TCK)))

    static func duration(_ ticks: UInt64) -> Duration {
        .nanoseconds(
            Int64(clamping: ticks).multipliedReportingOverflow(by: Int64(1_000_000_000 / perSecond)).partialValue)
    }

    /// How long a process has run that started so many ticks after the boot.
    static func age(since startTime: UInt64) -> Duration {
        max(.zero, ContinuousClock.now.offset - duration(startTime))
    }
}

enum ProcessIdentity {
    /// Whether two threads are of one process.
    ///
    /// Threads of another pid namespace all have the number 0 and count as one process.
    static func isSame(_ first: pid_t, _ second: pid_t) -> Bool {
        if first == second { return true }
        guard first != 0, second != 0, let process = ProcessFiles(number: first).process() else { return false }
        return process == ProcessFiles(number: second).process()
    }
}

/// `/proc/<pid>/stat` of a thread; field numbers are those of proc(5).
struct ProcessStat: Hashable, Sendable {
    /// Identifies one program that a thread runs: execve(2) changes the memory layout.
    ///
    /// If addresses of another user's process are hidden, the name is used.
    struct Image: Hashable, Sendable {
        /// Field 22, in clock ticks since boot; distinguishes processes with the same number.
        let startTime: UInt64
        fileprivate let startCode: UInt64
        fileprivate let startStack: UInt64
        fileprivate let name: String

        /// Whether it is a kernel thread, a zombie, or ending.
        let isWithoutMemory: Bool

        /// Whether both may be of one memory: both show the same addresses, or one shows none.
        func mayShareMemory(with other: Image) -> Bool {
            startStack <= 1 || other.startStack <= 1
                || startStack == other.startStack && startCode == other.startCode
        }
    }

    let image: Image
    let parent: pid_t
    /// The program's name, at most 15 bytes.
    let program: String
    let isZombie: Bool
    /// Whether a signal has stopped it, as Ctrl-Z does.
    let isStopped: Bool
    /// User and system time, in clock ticks.
    let processorTime: UInt64
    /// Number of threads in the process.
    let threads: Int

    /// Buffer size for all fields and the longest name.
    static let bufferSize = 1024

    /// Parses the text; nil if it is malformed.
    ///
    /// A name may contain parentheses and spaces, so it ends at the last parenthesis.
    init?(_ text: UnsafeRawBufferPointer) {
        guard let open = text.firstIndex(of: UInt8(ascii: "(")), let close = text.lastIndex(of: UInt8(ascii: ")")),
            open < close
        else { return nil }
        program = String(decoding: UnsafeRawBufferPointer(rebasing: text[(open + 1)..<close]), as: UTF8.self)
        var field = 2
        var value: UInt64 = 0
        var parent: pid_t = 0
        var processorTime: UInt64 = 0
        var startTime: UInt64 = 0
        var startCode: UInt64 = 0
        var startStack: UInt64 = 0
        var state: UInt8 = 0
        var threads: UInt64 = 0
        for byte in text[(close + 1)...] {
            if byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") {
                switch field {
                case 14, 15: processorTime &+= value
                case 4: parent = pid_t(truncatingIfNeeded: value)
                case 20: threads = value
                case 22: startTime = value
                case 26: startCode = value
                case 28: startStack = value
                default: break
                }
                field += 1
                value = 0
                if field > 28 { break }
            } else if field == 3 {
                state = byte
            } else {
                value = value &* 10 &+ UInt64(byte &- UInt8(ascii: "0"))
            }
        }
        guard field > 28 else { return nil }
        self.parent = parent
        self.threads = Int(clamping: threads)
        self.processorTime = processorTime
        isZombie = "ZXx".utf8.contains(state)
        isStopped = state == UInt8(ascii: "T")
        image = Image(
            startTime: startTime, startCode: startCode, startStack: startStack,
            name: startStack <= 1 ? program : "", isWithoutMemory: startStack == 0)
    }
}

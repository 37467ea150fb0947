import CLinux
import Glibc
import SystemPackage

/// A file descriptor that its owner closes exactly once (close(2)).
package struct OwnedDescriptor: ~Copyable, Sendable {
    /// For system calls only: the owner closes it.
    package let rawValue: CInt

    package init(takingOwnershipOf rawValue: CInt) { self.rawValue = rawValue }

    /// Opens `path` relative to `directory`, close-on-exec (openat(2)).
    package init(
        opening path: UnsafePointer<CChar>, in directory: CInt, _ flags: CInt, mode: mode_t = 0
    ) throws(Errno) {
        rawValue = try retryingInterrupts { openat(directory, path, flags | O_CLOEXEC, mode) }
    }

    /// Duplicates a descriptor, close-on-exec (`F_DUPFD_CLOEXEC` of fcntl(2)).
    package init(duplicating descriptor: CInt, atLeast number: CInt = 0) throws(Errno) {
        rawValue = try retryingInterrupts { fcntl(descriptor, F_DUPFD_CLOEXEC, number) }
    }

    deinit { _ = close(rawValue) }

    /// Gives the descriptor to a new owner, who closes it.
    package consuming func release() -> CInt {
        let descriptor = rawValue
        discard self
        return descriptor
    }

    /// Reads to the end of the file, as text; bytes that are not UTF-8 are replaced.
    package func readToEnd() throws(Errno) -> String {
        var bytes: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = try retryingInterrupts {
                block.withUnsafeMutableBytes { read(rawValue, $0.baseAddress, $0.count) }
            }
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += block.prefix(count)
        }
    }
}

/// A descriptor with several owners; closed with the last of them.
package final class SharedDescriptor: Sendable {
    private let owned: OwnedDescriptor

    package init(_ owned: consuming OwnedDescriptor) { self.owned = owned }

    /// Valid while the object is referenced: bind the object to a constant, never read this off a temporary value.
    package var rawValue: CInt { owned.rawValue }
}

/// Makes two connected descriptors, both close-on-exec, for the caller to own.
package enum DescriptorPair {
    /// A pipe (pipe2(2)): its reading and its writing end.
    package static func pipe() throws(Errno) -> (reader: CInt, writer: CInt) {
        try make { pipe2($0, O_CLOEXEC) }
    }

    /// Two Unix stream sockets (socketpair(2)).
    package static func sockets() throws(Errno) -> (CInt, CInt) {
        try make { socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | O_CLOEXEC, 0, $0) }
    }

    /// Two Unix sockets that keep message boundaries (`SOCK_SEQPACKET`).
    package static func messages() throws(Errno) -> (CInt, CInt) {
        try make { socketpair(AF_UNIX, CInt(SOCK_SEQPACKET.rawValue) | O_CLOEXEC, 0, $0) }
    }

    private static func make(_ call: (UnsafeMutablePointer<CInt>) -> CInt) throws(Errno) -> (CInt, CInt) {
        var ends: [CInt] = [-1, -1]
        _ = try retryingInterrupts { call(&ends) }
        return (ends[0], ends[1])
    }
}

extension OwnedDescriptor {
    /// Blocks signals in this thread and those that it starts; a non-blocking signalfd(2) delivers them.
    package init(blocking signals: [CInt]) throws(Errno) {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        sigprocmask(SIG_BLOCK, &set, nil)
        self.init(takingOwnershipOf: try retryingInterrupts { signalfd(-1, &set, CInt(SFD_CLOEXEC | SFD_NONBLOCK)) })
    }

    /// The next signal of a signalfd; nil if none is pending.
    package func nextSignal() -> CInt? {
        var info = signalfd_siginfo()
        let count = read(rawValue, &info, MemoryLayout.size(ofValue: info))
        return count == MemoryLayout.size(ofValue: info) ? CInt(info.ssi_signo) : nil
    }
}

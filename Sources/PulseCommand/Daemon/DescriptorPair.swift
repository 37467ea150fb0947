import CLinux
import Glibc
import Linux
import SystemPackage

/// Two descriptors that are connected to each other, both close-on-exec.
struct DescriptorPair: ~Copyable {
    /// The reading end of a pipe.
    let first: OwnedDescriptor
    /// The writing end of a pipe.
    let second: OwnedDescriptor

    /// The corresponding C function is `pipe2`.
    static func pipe() throws(Errno) -> DescriptorPair {
        try make { pipe2($0, O_CLOEXEC) }
    }

    /// Unix stream sockets, of which each reads what the other writes.
    ///
    /// The corresponding C function is `socketpair`.
    static func sockets() throws(Errno) -> DescriptorPair {
        try make { socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | O_CLOEXEC, 0, $0) }
    }

    /// Unix sockets that keep messages apart.
    static func messages() throws(Errno) -> DescriptorPair {
        try make { socketpair(AF_UNIX, CInt(SOCK_SEQPACKET.rawValue) | O_CLOEXEC, 0, $0) }
    }

    private static func make(_ call: (UnsafeMutablePointer<CInt>) -> CInt) throws(Errno) -> DescriptorPair {
        var ends: [CInt] = [-1, -1]
        _ = try retryingInterrupts { call(&ends) }
        return DescriptorPair(
            first: OwnedDescriptor(takingOwnershipOf: ends[0]), second: OwnedDescriptor(takingOwnershipOf: ends[1]))
    }
}

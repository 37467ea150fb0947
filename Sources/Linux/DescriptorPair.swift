import CLinux
import Glibc
import SystemPackage

/// Makes two connected descriptors, both close-on-exec.
///
/// The caller owns them.
package enum DescriptorPair {
    /// A pipe: its reading and its writing end.
    ///
    /// The corresponding C function is `pipe2`.
    package static func pipe() throws(Errno) -> (reader: CInt, writer: CInt) {
        try make { pipe2($0, O_CLOEXEC) }
    }

    /// Two Unix stream sockets.
    ///
    /// The corresponding C function is `socketpair`.
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

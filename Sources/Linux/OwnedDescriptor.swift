import Glibc
import SystemPackage

/// A file descriptor that its owner closes exactly once.
///
/// The corresponding C function is `close`.
package struct OwnedDescriptor: ~Copyable, Sendable {
    /// For system calls only.
    ///
    /// The owner closes it.
    package let rawValue: CInt

    package init(takingOwnershipOf rawValue: CInt) {
        self.rawValue = rawValue
    }

    /// Opens `path` relative to `directory`.
    ///
    /// Always close-on-exec.
    ///
    /// The corresponding C function is `openat`.
    package init(
        opening path: UnsafePointer<CChar>, in directory: CInt, _ flags: CInt, mode: mode_t = 0
    ) throws(Errno) {
        rawValue = try retryingInterrupts { openat(directory, path, flags | O_CLOEXEC, mode) }
    }

    /// Duplicates a descriptor; the copy is close-on-exec.
    ///
    /// The corresponding C function is `fcntl` with `F_DUPFD_CLOEXEC`.
    package init(duplicating descriptor: CInt, atLeast number: CInt = 0) throws(Errno) {
        rawValue = try retryingInterrupts { fcntl(descriptor, F_DUPFD_CLOEXEC, number) }
    }

    deinit {
        _ = close(rawValue)
    }

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

    package init(_ owned: consuming OwnedDescriptor) {
        self.owned = owned
    }

    package convenience init(_ rawValue: CInt) {
        self.init(OwnedDescriptor(takingOwnershipOf: rawValue))
    }

    /// For system calls only.
    package var rawValue: CInt { owned.rawValue }
}

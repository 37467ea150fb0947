import Glibc
import SystemPackage

/// A file descriptor that is closed exactly once, when its owner lets go of it.
///
/// The corresponding C function is `close`.
package struct OwnedDescriptor: ~Copyable, Sendable {
    /// Borrowed for a system call; closing it is the owner's business.
    package let rawValue: CInt

    package init(takingOwnershipOf rawValue: CInt) {
        self.rawValue = rawValue
    }

    /// Opens `path` relative to `directory`, close-on-exec whatever `flags` say.
    ///
    /// The corresponding C function is `openat`.
    package init(
        opening path: UnsafePointer<CChar>, in directory: CInt, _ flags: CInt, mode: mode_t = 0
    ) throws(Errno) {
        rawValue = try retryingInterrupts { openat(directory, path, flags | O_CLOEXEC, mode) }
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
}

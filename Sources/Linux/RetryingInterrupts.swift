import Glibc
import SystemPackage

/// Calls `body` until it is not interrupted, and throws what it left in `errno` when it answers -1.
///
/// For every system call but close(2), after which the descriptor's state is unknown and a second call may close
/// somebody else's.
@inlinable
package func retryingInterrupts<Result: FixedWidthInteger & SignedInteger>(
    _ body: () -> Result
) throws(Errno) -> Result {
    while true {
        let result = body()
        if result != -1 { return result }
        let failure = Errno.current
        if failure != .interrupted { throw failure }
    }
}

extension Errno {
    /// The calling thread's `errno`: read it on the line after the call that set it.
    @inlinable
    package static var current: Errno { Errno(rawValue: errno) }
}

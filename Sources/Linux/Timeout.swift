import Synchronization
import SystemPackage

/// Calls `body` on its own thread and waits at most `limit`: a hung mount or name server must not hang the caller.
///
/// - Returns: nil after `limit`; the thread is then abandoned.
package func within<Value: Sendable>(
    _ limit: Duration, _ body: @escaping @Sendable () -> Value
) throws(Errno) -> Value? {
    let box = Box<Value>()
    let done = try EventFD()
    _ = try Thread(named: "bounded") {
        box.value.withLock { $0 = body() }
        done.signal()
    }
    return done.wait(until: .now + limit) ? box.value.withLock { $0 } : nil
}

private final class Box<Value: Sendable>: Sendable {
    let value = Mutex<Value?>(nil)
}

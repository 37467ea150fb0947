import Synchronization
import SystemPackage

/// Calls `body` on a thread of its own and waits for it, but not for ever: a mount whose server is stuck, or
/// a name server, would hold us.
///
/// - Returns: nil when it took longer than `limit`; the thread is left to itself then.
package func within<Value: Sendable>(
    _ limit: Duration, _ body: @escaping @Sendable () -> Value
) throws(Errno) -> Value? {
    let box = Box<Value>()
    let done = try EventFD()
    _ = try Thread(named: "bounded") {
        box.value.withLock { $0 = body() }
        done.raise()
    }
    return done.wait(until: .now + limit) ? box.value.withLock { $0 } : nil
}

private final class Box<Value: Sendable>: Sendable {
    let value = Mutex<Value?>(nil)
}

import Fuse
import Glibc
import Synchronization
import SystemPackage

/// The town that a command is about, and what is mounted there.
struct TownPath {
    /// Absolute, without symbolic links.
    let path: String
    let mount: MountEntry?

    /// Resolves what a person typed.
    ///
    /// Works for a town whose mount is dead, too.
    init(_ typed: String) throws {
        guard let resolved = realpath(typed, nil) else {
            let error = Errno.current
            // A dead mount answers nothing, not even what is a link: then the words have to do.
            if error == .socketNotConnected || error == .connectionAbort, typed.hasPrefix("/") {
                path = typed.count > 1 && typed.hasSuffix("/") ? String(typed.dropLast()) : typed
                mount = try MountTable().town(at: path)
                return
            }
            throw Failure("there is no town at \(typed): \(error)")
        }
        defer { free(resolved) }
        path = String(cString: resolved)
        mount = try MountTable().town(at: path)
    }
}

/// Calls `body` on a thread of its own and waits for it, but not for ever: a mount whose server is stuck would hold us.
///
/// - Returns: nil when it took longer than `limit`; the thread is left to itself then.
func within<Value: Sendable>(_ limit: Duration, _ body: @escaping @Sendable () -> Value) throws(Errno) -> Value? {
    let box = Box<Value>()
    let done = try Wakeup()
    _ = try Thread(named: "bounded") {
        box.value.withLock { $0 = body() }
        done.raise()
    }
    return done.wait(until: .now + limit) ? box.value.withLock { $0 } : nil
}

private final class Box<Value: Sendable>: Sendable {
    let value = Mutex<Value?>(nil)
}

import CLinux
import Glibc
import SystemPackage

/// A POSIX thread that runs one closure, and is waited for or left to itself.
///
/// The corresponding C functions are `pthread_create`, `pthread_join` and, when the value goes unjoined,
/// `pthread_detach`.
package struct Thread: ~Copyable, Sendable {
    private let thread: pthread_t

    /// Starts a thread; `name` (up to 15 bytes) is what ps(1) shows for it.
    package init(named name: String, _ body: @escaping @Sendable () -> Void) throws(Errno) {
        let start = Unmanaged.passRetained(
            Body {
                clinux_name_this_thread(name)
                body()
            })
        var thread = pthread_t()
        let failure = pthread_create(
            &thread, nil,
            { start in
                // because the retain above is handed to the new thread.
                Unmanaged<Body>.fromOpaque(start!).takeRetainedValue().run()
                return nil
            }, start.toOpaque())
        guard failure == 0 else {
            start.release()
            throw Errno(rawValue: failure)
        }
        self.thread = thread
    }

    /// Waits until the thread has ended.
    package consuming func join() {
        pthread_join(thread, nil)
        discard self
    }

    deinit {
        pthread_detach(thread)
    }

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}

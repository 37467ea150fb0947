import CLinux
import Glibc
import SystemPackage

/// A POSIX thread that runs one closure.
///
/// A value that is not joined detaches its thread.
///
/// The corresponding C functions are `pthread_create`, `pthread_join` and `pthread_detach`.
package struct Thread: ~Copyable, Sendable {
    private let thread: pthread_t

    /// Starts a thread with the rights of the process.
    ///
    /// Credentials belong to threads, and a new one inherits them from its creator, who may act for another user at that
    /// moment. So the new thread restores its file system ids to the effective ids, and its effective capabilities to the
    /// permitted ones.
    ///
    /// - Parameter name: For ps(1), at most 15 bytes.
    package init(named name: String, _ body: @escaping @Sendable () -> Void) throws(Errno) {
        let start = Unmanaged.passRetained(
            Body {
                clinux_name_this_thread(name)
                Self.restoreCredentials()
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

    private static func restoreCredentials() {
        setfsuid(geteuid())
        setfsgid(getegid())
        var words: [2 of __user_cap_data_struct] = .init(repeating: __user_cap_data_struct())
        var span = words.mutableSpan
        span.withUnsafeMutableBufferPointer { words in
            // because the array is not empty.
            let start = words.baseAddress!
            guard clinux_capabilities(start) == 0 else { return }
            for index in words.indices { words[index].effective = words[index].permitted }
            _ = clinux_set_capabilities(start)
        }
    }

    /// Waits for the end of the thread.
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

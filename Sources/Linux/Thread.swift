import CLinux
import Glibc
import SystemPackage

/// A POSIX thread that runs one closure (pthread_create(3)), detached unless it is joined.
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
        guard var capabilities = try? Capabilities() else { return }
        capabilities.raiseAll()
        try? capabilities.apply()
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

/// The capabilities of one thread (capabilities(7)).
package struct Capabilities {
    private var words: [2 of __user_cap_data_struct] = .init(repeating: __user_cap_data_struct())

    /// Those of the calling thread.
    package init() throws(Errno) {
        try call(clinux_capabilities)
    }

    /// Gives them to the calling thread.
    package mutating func apply() throws(Errno) {
        try call { clinux_set_capabilities($0) }
    }

    /// Whether a capability is effective.
    ///
    /// - Parameter capability: One of the first 32: `CAP_SYS_ADMIN` and so on.
    package subscript(_ capability: CInt) -> Bool {
        get { words[0].effective & 1 << capability != 0 }
        set { words[0].effective = words[0].effective & ~(1 << capability) | (newValue ? 1 << capability : 0) }
    }

    /// Removes a capability from the permitted ones, too: the thread cannot get it back.
    package mutating func drop(_ capability: CInt) {
        self[capability] = false
        words[0].permitted &= ~(1 << capability)
    }

    /// Makes all permitted capabilities effective.
    package mutating func raiseAll() {
        for index in words.indices { words[index].effective = words[index].permitted }
    }

    private mutating func call(
        _ function: (UnsafeMutablePointer<__user_cap_data_struct>) -> CInt
    ) throws(Errno) {
        var span = words.mutableSpan
        _ = try span.withUnsafeMutableBufferPointer { (words) throws(Errno) in
            // because the array is not empty.
            try retryingInterrupts { function(words.baseAddress!) }
        }
    }
}

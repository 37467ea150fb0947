import CLinux
import Glibc
import Synchronization
import SystemPackage

/// Wakes one waiting thread, once, now or when it next waits (eventfd(2)).
package final class EventFD: Sendable {
    private let event: OwnedDescriptor

    /// Readable once raised: for a poll(2) together with other descriptors.
    package var descriptor: CInt { event.rawValue }

    package init() throws(Errno) {
        event = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts { eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK)) })
    }

    /// Does not block, and may be called under a lock: the eventfd's counter is far from full.
    package func signal() { _ = eventfd_write(event.rawValue, 1) }

    /// Waits to be raised, or for an instant; nil is for ever.
    ///
    /// - Returns: Whether it was raised.
    @discardableResult
    package func wait(until limit: ContinuousClock.Instant? = nil) -> Bool {
        var question = [pollfd(fd: event.rawValue, events: Int16(POLLIN), revents: 0)]
        poll(&question, until: limit)
        var count: eventfd_t = 0
        return eventfd_read(event.rawValue, &count) == 0
    }
}

/// Waits until a descriptor is ready for what `questions` ask, or for an instant; nil is for ever.
///
/// Their `revents` tell which. An interrupted wait goes on, and a limit in the past means one look.
///
/// - Returns: Whether any is ready.
///
/// The corresponding C function is `poll`.
@discardableResult
package func poll(_ questions: inout [pollfd], until limit: ContinuousClock.Instant?) -> Bool {
    while true {
        var timeout: CInt = -1
        if let limit {
            let left = limit - .now
            // A little late rather than a little early, which would mean a second round.
            if left > .seconds(CInt.max / 1000 - 1) {
                timeout = .max
            } else {
                let (seconds, attoseconds) = left.components
                timeout = left > .zero ? CInt(seconds * 1000 + attoseconds / 1_000_000_000_000_000 + 1) : 0
            }
        }
        let answered = poll(&questions, nfds_t(questions.count), timeout)
        if answered == -1, Errno.current == .interrupted { continue }
        return answered > 0
    }
}

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

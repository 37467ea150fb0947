import CLinux
import Glibc
import SystemPackage

/// Wakes one waiting thread, now or when it next waits.
///
/// Raised several times before that, it wakes once.
///
/// The corresponding C function is `eventfd`.
package final class EventFD: Sendable {
    private let event: OwnedDescriptor

    /// Readable once raised: for a poll(2) together with other descriptors.
    package var descriptor: CInt { event.rawValue }

    package init() throws(Errno) {
        event = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts { eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK)) })
    }

    /// Does not block, and may be called under a lock: the eventfd's counter is far from full.
    package func signal() {
        _ = eventfd_write(event.rawValue, 1)
    }

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

import Linux
import Liveness
import Synchronization
import SystemPackage

/// Wakes the threads that wait for what happens to the liveness table, and nobody where none does.
final class TableNotifier: LivenessWatcher {
    /// Raised when there are events that somebody has waited for.
    let events: EventFD
    /// Raised when a runtime will expire earlier than was last looked for.
    let deadlines: EventFD
    private let isAwaited = Atomic(false)

    init() throws(Errno) {
        events = try EventFD()
        deadlines = try EventFD()
    }

    /// Has the next event raise `events`, once.
    ///
    /// Whoever waits looks once more after this: an event that came before is found then, and for one that comes later
    /// the table's lock, which both take, sees to it that this is seen.
    func awaitEvent() { isAwaited.store(true, ordering: .relaxed) }

    func eventsChanged() {
        guard isAwaited.load(ordering: .relaxed), isAwaited.exchange(false, ordering: .relaxed) else { return }
        events.raise()
    }

    func deadlineMovedEarlier() { deadlines.raise() }
}

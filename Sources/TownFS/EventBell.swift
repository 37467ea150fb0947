import Liveness
import Synchronization
import SystemCalls
import SystemPackage

/// Wakes the threads that wait for what happens to the liveness table, and nobody where none does.
final class EventBell: LivenessWatcher {
    /// Raised when there are events that somebody has waited for.
    let events: Wakeup
    /// Raised when a runtime will expire earlier than was last looked for.
    let deadlines: Wakeup
    private let isAwaited = Atomic(false)

    init() throws(Errno) {
        events = try Wakeup()
        deadlines = try Wakeup()
    }

    /// Has the next event raise `events`, once.
    ///
    /// Whoever waits looks once more after this: an event that came before is found then, and for one that comes later
    /// the table's lock, which both take, sees to it that this is seen.
    func awaitEvent() { isAwaited.store(true, ordering: .relaxed) }

    func noteEvent() {
        guard isAwaited.load(ordering: .relaxed), isAwaited.exchange(false, ordering: .relaxed) else { return }
        events.raise()
    }

    func noteEarlierDeadline() { deadlines.raise() }
}

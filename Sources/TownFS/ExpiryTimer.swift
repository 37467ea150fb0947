import CLinux
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

/// The thread that expires runtimes.
///
/// While runtimes are alive it also shows the store, every few seconds, that it is served: a longer gap is a suspend or a
/// stall. Without any it sleeps without a limit. Its clock (CLOCK_BOOTTIME) counts through suspend.
final class ExpiryTimer: Sendable {
    /// How many records are expired under one lock: some tens of microseconds.
    private static let batch = 64
    /// The pause after that, in which touches get the lock.
    private static let pause: Duration = .microseconds(20)
    /// The longest sleep while runtimes are alive.
    private static let tick: Duration = .seconds(2)

    private let liveness: InMemoryLivenessStore
    private let event: EventFD
    private let ended: EventFD
    private let timer: OwnedDescriptor
    private let now: @Sendable () -> ContinuousClock.Instant
    private let isRunning: @Sendable (RuntimeID) -> Bool
    private let isClosing = Atomic(false)

    /// - Parameters:
    ///   - event: Signalled when the next deadline is earlier than before.
    ///   - isRunning: Whether the process runs that a runtime is held by.
    init(
        over liveness: InMemoryLivenessStore, event: EventFD, now: @escaping @Sendable () -> ContinuousClock.Instant,
        isRunning: @escaping @Sendable (RuntimeID) -> Bool
    ) throws(Errno) {
        self.liveness = liveness
        self.isRunning = isRunning
        self.event = event
        self.now = now
        ended = try EventFD()
        timer = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts {
                timerfd_create(CLOCK_BOOTTIME, CInt(TFD_CLOEXEC | TFD_NONBLOCK))
            })
        // Not joined: `close` waits for `ended`.
        _ = try Thread(named: "expiry") { self.run() }
    }

    func close() {
        isClosing.store(true, ordering: .releasing)
        event.signal()
        ended.wait()
        // For a second call.
        ended.signal()
    }

    private func run() {
        while !isClosing.load(ordering: .acquiring) {
            let next = liveness.expire(limit: Self.batch, isRunning: isRunning)
            // More may have expired already.
            sleep(for: next.map { min(max($0 - now(), Self.pause), Self.tick) })
        }
        ended.signal()
    }

    /// - Parameter limit: Nil is no limit.
    private func sleep(for limit: Duration?) {
        var setting = itimerspec()
        if let limit {
            // Round up: too early would mean a second round.
            let (seconds, attoseconds) = (limit + .nanoseconds(1)).components
            setting.it_value = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
        }
        timerfd_settime(timer.rawValue, 0, &setting, nil)
        var questions = [event.descriptor, timer.rawValue].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        poll(&questions, until: nil)
        event.wait(until: .now)
    }
}

/// Wakes the threads that wait for changes of the liveness table.
final class TableNotifier: LivenessWatcher {
    /// Signalled by the next event after `awaitEvent`.
    let events: EventFD
    /// Signalled when a runtime will expire earlier than the last known deadline.
    let deadlines: EventFD
    private let isAwaited = Atomic(false)

    init() throws(Errno) {
        events = try EventFD()
        deadlines = try EventFD()
    }

    /// Makes the next event signal `events`, once.
    ///
    /// The caller then checks for events once more. The table's lock orders this store and later events.
    func awaitEvent() { isAwaited.store(true, ordering: .relaxed) }

    func eventsChanged() {
        guard isAwaited.load(ordering: .relaxed), isAwaited.exchange(false, ordering: .relaxed) else { return }
        events.signal()
    }

    func deadlineMovedEarlier() { deadlines.signal() }
}

import CLinux
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

/// The thread that says when runtimes have expired.
///
/// It sleeps until the next deadline, and without a limit when nobody is alive. Its clock is that of deadlines, which
/// counts through suspend: who has expired in the meantime is named when the machine wakes up.
final class ExpiryTimer: Sendable {
    /// How many runtimes are looked at while touches have to wait: some tens of microseconds.
    private static let batch = 64
    /// How long touches go first after that: a bit more than it took, so that hardly any has to wait.
    private static let pause: Duration = .microseconds(20)

    private let liveness: InMemoryLivenessStore
    private let event: EventFD
    private let ended: EventFD
    private let timer: OwnedDescriptor
    private let now: @Sendable () -> ContinuousClock.Instant
    private let isClosing = Atomic(false)

    /// - Parameter wakeup: Raised by whoever moves the next deadline up.
    init(
        over liveness: InMemoryLivenessStore, event: EventFD, now: @escaping @Sendable () -> ContinuousClock.Instant
    ) throws(Errno) {
        self.liveness = liveness
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
        event.raise()
        ended.wait()
        // For whoever asks again.
        ended.raise()
    }

    private func run() {
        while !isClosing.load(ordering: .acquiring) {
            let next = liveness.expire(limit: Self.batch)
            let left = next.map { $0 - now() }
            if let left, left <= .zero {
                // There are more; whoever touches comes in between.
                sleep(for: Self.pause)
                continue
            }
            sleep(for: left)
        }
        ended.raise()
    }

    /// - Parameter limit: Nil is for ever.
    private func sleep(for limit: Duration?) {
        var setting = itimerspec()
        if let limit {
            let (seconds, attoseconds) = limit.components
            // A little late rather than a little early, which would mean a second round.
            setting.it_value = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000) + 1)
            if setting.it_value.tv_nsec == 1_000_000_000 {
                setting.it_value = timespec(tv_sec: Int(seconds) + 1, tv_nsec: 0)
            }
        }
        timerfd_settime(timer.rawValue, 0, &setting, nil)
        var questions = [event.descriptor, timer.rawValue].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        poll(&questions, until: nil)
        event.wait(until: .now)
    }
}

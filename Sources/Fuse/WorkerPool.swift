import CLinux
import Glibc
import Linux
import Synchronization
import SystemPackage

/// The threads that serve one connection: as few of them wait for requests as keep up, and the others are parked.
///
/// For every request the kernel wakes one of the threads that sleep in read(2), though another may be awake and take
/// it first: a wake-up in vain costs more than most answers. So one thread reads and answers, in turn. Others join in
/// when several clients are found waiting more often than not: as many as half of the cores have room for, since the clients
/// need the others, and more where requests take long, as they do not run then but wait for a disk. And one joins in
/// when nobody has read for a while.
///
///     parked ──▶ waiting for a request ──▶ answering it ──▶ waiting again, or parked
package final class WorkerPool: Sendable {
    private struct State {
        var hasBegun = false
        /// Threads that are not parked.
        var active: Int
        /// Those of them that wait for a request.
        var waiting = 0
        /// How many requests have been taken: to tell one that lasts from several short ones.
        var taken: UInt64 = 0
        /// How often, of late, requests were found waiting, less how often they were waited for.
        var pressure = 0
        /// Threads to be had, the one parked last at the end: its memory is the warmest.
        var parked: [EventFD] = []
        var isWatched = false
        var hasEnded = false
        var failure: Errno?

        /// The client that was answered last.
        var lastClient: pid_t?
        /// How often, of late, requests have taken long.
        var slowness = 0

        /// How many threads the pressure asks for.
        var wanted: Int { 1 + pressure / WorkerPool.pressurePerThread }

        /// Whether the timer is to be started, as nobody waits for the next request and somebody could.
        mutating func mustBeWatched() -> Bool {
            guard waiting == 0, !isWatched, !parked.isEmpty else { return false }
            isWatched = true
            return true
        }

        /// Takes the thread parked last, for the caller to raise.
        mutating func unpark() -> EventFD? {
            guard let thread = parked.popLast() else { return nil }
            active += 1
            return thread
        }
    }

    private let state: Mutex<State>
    /// How many threads there are.
    private let limit: Int
    /// How many can run at a time, beside the clients that they run for.
    private let running: Int
    /// A request that takes longer than one to two of these is not waited for.
    private let patience: Duration
    private let timer: OwnedDescriptor

    /// How much pressure asks for one more thread.
    private static let pressurePerThread = 8
    /// A request that takes longer than this many nanoseconds has not been running all the time.
    private static let slowAnswer: UInt64 = 100_000
    /// How much one such counts for; the others count for less by one.
    ///
    /// Now and then a thread is only made to wait for a core.
    private static let slownessPerAnswer = 8
    /// How much slowness makes room for one more thread.
    private static let slownessPerThread = 16

    /// - Parameters:
    ///   - threads: How many there will be, at least one.
    ///   - cores: How many of them can run at a time.
    ///   - patience: For how long nobody needs to read before one more thread does.
    package init(
        threads: Int, cores: Int = sysconf(CInt(_SC_NPROCESSORS_ONLN)), patience: Duration = .milliseconds(1)
    ) throws(Errno) {
        self.patience = patience
        limit = threads
        running = max(1, cores / 2)
        state = Mutex(State(active: threads))
        timer = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts { timerfd_create(CLOCK_MONOTONIC, CInt(TFD_CLOEXEC)) })
    }

    /// How many threads are parked.
    package var parkedThreads: Int { state.withLock { $0.parked.count } }

    /// Lets threads read: all that were to be had are there.
    package func begin() {
        state.withLock { $0.hasBegun = true }
    }

    /// Waits until the calling thread is to read a request, which may be at once.
    ///
    /// - Parameters:
    ///   - parking: The thread's own, used for nothing else.
    ///   - willPark: Called when the thread seems to be of no use, before it can be counted on again.
    /// - Returns: False when the connection has ended.
    package func awaitTurn(parking: EventFD, willPark: () -> Void = {}) -> Bool {
        enum Turn { case ended, reading, spare, parked }
        var isReadyToPark = false
        while true {
            let turn: Turn = state.withLock { state in
                if state.hasEnded { return .ended }
                guard !state.hasBegun || (state.waiting > 0 && state.active > state.wanted) else {
                    state.waiting += 1
                    return .reading
                }
                guard isReadyToPark else { return .spare }
                state.active -= 1
                state.parked.append(parking)
                return .parked
            }
            switch turn {
            case .ended: return false
            case .reading: return true
            case .spare:
                willPark()
                isReadyToPark = true
            case .parked:
                parking.wait()
                isReadyToPark = false
            }
        }
    }

    /// Does something that nobody waits for, on a thread that would be waiting for a request: if it lasts, another does.
    package func meanwhile(_ duty: () -> Void) {
        let mustWatch = state.withLock { state in
            state.waiting -= 1
            return state.mustBeWatched()
        }
        if mustWatch { wakeWatch(after: patience) }
        duty()
        state.withLock { $0.waiting += 1 }
    }

    /// Notes that the calling thread has a request, and is about to answer it.
    ///
    /// - Parameters:
    ///   - client: The thread that waits for the answer: nil if nobody does, 0 if it is of another pid namespace.
    ///   - wasThere: Whether it was there already when the thread looked. That says nothing if whoever was answered last has
    ///     made it: they may have run on this very core meanwhile, and nobody else could have been faster.
    ///   - lastAnswer: How many nanoseconds the thread's last answer has taken.
    package func took(from client: pid_t?, wasThere: Bool, lastAnswer: UInt64 = 0) {
        let (helper, mustWatch): (EventFD?, Bool) = state.withLock { state in
            state.waiting -= 1
            state.taken += 1
            let isPressing = wasThere && client.map { $0 == 0 || $0 != state.lastClient } ?? false
            state.lastClient = client ?? state.lastClient
            state.slowness =
                lastAnswer > Self.slowAnswer
                ? min(state.slowness + Self.slownessPerAnswer, limit * Self.slownessPerThread)
                : max(state.slowness - 1, 0)
            let most = (min(limit, running + state.slowness / Self.slownessPerThread) - 1) * Self.pressurePerThread
            state.pressure = min(isPressing ? state.pressure + 1 : max(state.pressure - 1, 0), most)
            let helper = isPressing && state.active < state.wanted ? state.unpark() : nil
            return (helper, state.mustBeWatched())
        }
        helper?.raise()
        if mustWatch { wakeWatch(after: patience) }
    }

    /// What kept a thread from serving.
    package var failure: Errno? { state.withLock { $0.failure } }

    /// Notes that the connection has ended, or cannot be served, and lets all threads know.
    package func end(for failure: Errno? = nil) {
        let parked = state.withLock { state in
            state.hasEnded = true
            if let failure { state.failure = failure }
            defer { state.parked = [] }
            return state.parked
        }
        for thread in parked { thread.raise() }
        wakeWatch(after: .zero)
    }

    /// Looks, while requests are being answered, whether somebody waits for the next one; returns when all has ended.
    ///
    /// For a thread of its own. While nothing happens it sleeps.
    package func watch() {
        var takenBefore: UInt64 = 0
        while true {
            var expirations: UInt64 = 0
            _ = try? retryingInterrupts { read(timer.rawValue, &expirations, MemoryLayout.size(ofValue: expirations)) }
            let (hasEnded, helper): (Bool, EventFD?) = state.withLock { state in
                defer { takenBefore = state.taken }
                state.isWatched = state.waiting == 0 && !state.parked.isEmpty
                let isHeldUp = state.isWatched && state.taken == takenBefore
                return (state.hasEnded, isHeldUp ? state.unpark() : nil)
            }
            if hasEnded { return }
            helper?.raise()
            if state.withLock({ $0.isWatched }) { wakeWatch(after: patience) }
        }
    }

    /// Wakes the watch once.
    private func wakeWatch(after delay: Duration) {
        let (seconds, attoseconds) = delay.components
        var setting = itimerspec()
        // After nothing at all would be never.
        setting.it_value = timespec(tv_sec: Int(seconds), tv_nsec: max(1, Int(attoseconds / 1_000_000_000)))
        timerfd_settime(timer.rawValue, 0, &setting, nil)
    }
}

import CLinux
import Glibc
import Synchronization
import SystemCalls
import SystemPackage

/// The threads that serve one connection: as few of them wait for requests as keep up, and the others are parked.
///
/// For every request the kernel wakes one of the threads that sleep in read(2), though another may be awake and take
/// it first: a wake-up in vain costs more than most answers. So one thread reads and answers, in turn. Others join in
/// when requests are found waiting more often than not, and when nobody has read for a while, as the one that would
/// is held up by a slow disk.
///
///     parked ──▶ waiting for a request ──▶ answering it ──▶ waiting again, or parked
package final class Crew: Sendable {
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
        var parked: [Wakeup] = []
        var isWatched = false
        var hasEnded = false
        var failure: Errno?

        /// How many threads the pressure asks for.
        var wanted: Int { 1 + pressure / Crew.pressurePerThread }

        /// Takes the thread parked last, for the caller to raise.
        mutating func unpark() -> Wakeup? {
            guard let thread = parked.popLast() else { return nil }
            active += 1
            return thread
        }
    }

    private let state: Mutex<State>
    private let limit: Int
    private let timer: OwnedDescriptor

    /// How much pressure asks for one more thread.
    private static let pressurePerThread = 8
    /// A request that takes longer than one to two of these is not waited for.
    private static let patience: Duration = .milliseconds(1)

    /// - Parameter threads: How many there will be, at least one.
    package init(threads: Int) throws(Errno) {
        limit = threads
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
    /// - Parameter parking: The thread's own, used for nothing else.
    /// - Returns: False when the connection has ended.
    package func awaitTurn(parking: Wakeup) -> Bool {
        while true {
            let isParked: Bool? = state.withLock { state in
                if state.hasEnded { return nil }
                if !state.hasBegun || (state.waiting > 0 && state.active > state.wanted) {
                    state.active -= 1
                    state.parked.append(parking)
                    return true
                }
                state.waiting += 1
                return false
            }
            guard let isParked else { return false }
            guard isParked else { return true }
            parking.wait()
        }
    }

    /// Notes that the calling thread has a request, and is about to answer it.
    ///
    /// - Parameter wasThere: Whether it was there already when the thread looked.
    package func took(wasThere: Bool) {
        let (helper, mustWatch): (Wakeup?, Bool) = state.withLock { state in
            state.waiting -= 1
            state.taken += 1
            let most = (limit - 1) * Self.pressurePerThread
            state.pressure = wasThere ? min(state.pressure + 1, most) : max(state.pressure - 1, 0)
            let helper = wasThere && state.active < state.wanted ? state.unpark() : nil
            let mustWatch = state.waiting == 0 && !state.isWatched && !state.parked.isEmpty
            if mustWatch { state.isWatched = true }
            return (helper, mustWatch)
        }
        helper?.raise()
        if mustWatch { startTimer() }
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
        startTimer()
    }

    /// Looks, while requests are being answered, whether somebody waits for the next one; returns when all has ended.
    ///
    /// For a thread of its own. While nothing happens it sleeps.
    package func watch() {
        var takenBefore: UInt64 = 0
        while true {
            var expirations: UInt64 = 0
            _ = try? retryingInterrupts { read(timer.rawValue, &expirations, MemoryLayout.size(ofValue: expirations)) }
            let (hasEnded, helper): (Bool, Wakeup?) = state.withLock { state in
                defer { takenBefore = state.taken }
                state.isWatched = state.waiting == 0 && !state.parked.isEmpty
                let isHeldUp = state.isWatched && state.taken == takenBefore
                return (state.hasEnded, isHeldUp ? state.unpark() : nil)
            }
            if hasEnded { return }
            helper?.raise()
            if state.withLock({ $0.isWatched }) { startTimer() }
        }
    }

    /// Wakes the watch once, after its patience.
    private func startTimer() {
        var setting = itimerspec()
        setting.it_value.tv_nsec = Int(Self.patience / .nanoseconds(1))
        timerfd_settime(timer.rawValue, 0, &setting, nil)
    }
}

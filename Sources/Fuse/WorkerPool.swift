import CLinux
import DequeModule
import Glibc
import Linux
import Synchronization
import SystemPackage

/// The threads that serve one connection: as few wait for requests as keep up, and the others are parked.
///
/// For each request the kernel wakes a thread that sleeps in read(2), though another may be awake and read it first, and
/// a wasted wake-up costs more than most replies. So one thread reads and serves in turn. Others join when
///
/// - several clients are found waiting more often than not: up to half as many as cores, since the clients need the
///   others, and more where requests take long, as they wait for a disk rather than run;
/// - no thread has read for a while: all are held up.
///
/// Threads are started on demand up to `limit`, and park and end after `idleTime` without work. Requests for other devices than the
/// root's are queued while half of the threads serve requests, and those that may block at all while all but one do. So
/// a hung mount inside the tree holds up no other directory, and signal files stay available whatever hangs.
///
///     parked ──▶ waiting for a request ──▶ serving it ──▶ waiting again, or parked
package final class WorkerPool: Sendable {
    /// One thread of a pool.
    package struct Worker: Sendable {
        fileprivate let parking: EventFD
    }

    /// What a thread does next.
    package enum Turn {
        /// Read a request.
        case receive
        /// Serve a request that was queued.
        case queued([UInt8])
        /// End: the pool has ended, or has no use for the thread.
        case exit
    }

    /// What a thread may do with the request that it has received.
    ///
    /// The others are to be queued.
    package enum Admission {
        case anyRequest
        case rootDeviceOnly
        case memoryOnly
    }

    private struct State {
        /// Threads that exist.
        var threads = 0
        /// Those that are not parked.
        var active = 0
        /// Active threads that wait for a request.
        ///
        /// The other active ones serve one.
        var waiting = 0
        /// Requests received, to tell one long request from several short ones.
        var received: UInt64 = 0
        /// How often, lately, requests were found waiting, less how often they were waited for.
        var pressure = 0
        /// How often, lately, requests have taken long.
        var slowness = 0
        /// The client served last.
        var lastClient: pid_t?
        /// Parked threads, the one parked last at the end: its memory is the warmest.
        var parked: [EventFD] = []
        /// Requests that may block, received when no other thread was free.
        var backlog = Deque<[UInt8]>()
        /// Requests for other devices, received when half of the threads were serving.
        var otherDevicesBacklog = Deque<[UInt8]>()
        var isTimerArmed = false
        var wantsThread = false
        var hasEnded = false
        var failure: Errno?

        /// How many active threads the pressure asks for.
        var wanted: Int { 1 + pressure / WorkerPool.pressurePerThread }
        var serving: Int { active - waiting }

        /// Removes the thread parked last, for the caller to signal.
        mutating func unpark() -> EventFD? {
            guard let thread = parked.popLast() else { return nil }
            active += 1
            return thread
        }
    }

    private let state = Mutex(State())
    private let limit: Int
    /// How many threads can run at a time, beside the clients that they run for.
    private let running: Int
    private let heldUpAfter: Duration
    private let idleTime: Duration
    private let timer: OwnedDescriptor
    private let allEnded: EventFD

    /// Pressure that asks for one more thread.
    private static let pressurePerThread = 8
    /// A request that takes longer, in nanoseconds, was not running all the time.
    private static let slowService: UInt64 = 100_000
    /// What a slow request adds to the slowness; others subtract 1.
    ///
    /// Now and then a thread only waits for a core.
    private static let slownessPerService = 8
    /// Slowness that makes room for one more thread.
    private static let slownessPerThread = 16
    /// Parked threads that never end for lack of work.
    private static let sparePark = 1

    /// - Parameters:
    ///   - limit: Maximum number of threads, at least 1.
    ///   - cores: How many of them can run at a time.
    ///   - heldUpAfter: How long no thread reads before another one does; it may take twice as long.
    ///   - idleTime: How long a thread stays parked before it ends.
    package init(
        limit: Int, cores: Int = sysconf(CInt(_SC_NPROCESSORS_ONLN)), heldUpAfter: Duration = .milliseconds(1),
        idleTime: Duration = .seconds(10)
    ) throws(Errno) {
        self.limit = limit
        self.heldUpAfter = heldUpAfter
        self.idleTime = idleTime
        running = max(1, cores / 2)
        timer = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts { timerfd_create(CLOCK_MONOTONIC, CInt(TFD_CLOEXEC)) })
        allEnded = try EventFD()
    }

    /// Threads that exist, and threads that are parked.
    package var counts: (threads: Int, parked: Int) { state.withLock { ($0.threads, $0.parked.count) } }

    /// Runs `serve` on the calling thread and on those that are started later, until all have returned.
    ///
    /// Further threads are started by a thread of the pool's own, which never acts with a caller's credentials.
    ///
    /// - Throws: Why the pool ended, if not by the end of the connection.
    package func run(_ serve: @escaping @Sendable (Worker) -> Void) throws(Errno) {
        let own = Worker(parking: try EventFD())
        state.withLock {
            $0.threads = 1; $0.active = 1
        }
        let watch = try Thread(named: "fuse watch") { self.watch(serve) }
        serve(own)
        exit()
        watch.join()
        while state.withLock({ $0.threads > 0 }) { allEnded.wait() }
        if let failure = state.withLock({ $0.failure }) { throw failure }
    }

    /// Counts the end of a thread.
    private func exit() {
        let isLast = state.withLock { state in
            state.threads -= 1
            return state.threads == 0
        }
        if isLast { allEnded.signal() }
    }

    /// Ends the pool: all threads are told to exit.
    package func end(because failure: Errno? = nil) {
        let parked = state.withLock { state in
            state.hasEnded = true
            state.failure = state.failure ?? failure
            defer { state.parked = [] }
            return state.parked
        }
        for thread in parked { thread.signal() }
        armTimer(after: .zero)
    }

    // MARK: Turns

    /// Ends the thread's last turn, and waits for the next one.
    ///
    /// - Parameter willPark: Called before the thread parks: it must leave nothing undone.
    package func next(_ worker: Worker, willPark: () -> Void = {}) -> Turn {
        enum Step { case turn(Turn), spare, park(until: ContinuousClock.Instant?) }
        var isReadyToPark = false
        while true {
            let step: Step = state.withLock { state in
                if state.hasEnded { return .turn(.exit) }
                // This thread counts as serving until now.
                switch admission(state) {
                case .anyRequest:
                    if let queued = state.backlog.popFirst() ?? state.otherDevicesBacklog.popFirst() {
                        return .turn(.queued(queued))
                    }
                case .rootDeviceOnly:
                    if let queued = state.backlog.popFirst() { return .turn(.queued(queued)) }
                case .memoryOnly: break
                }
                guard state.waiting > 0, state.active > state.wanted else {
                    state.waiting += 1
                    return .turn(.receive)
                }
                guard isReadyToPark else { return .spare }
                state.active -= 1
                state.parked.append(worker.parking)
                return .park(until: state.parked.count > Self.sparePark ? .now + idleTime : nil)
            }
            switch step {
            case .turn(let turn): return turn
            case .spare:
                willPark()
                isReadyToPark = true
            case .park(let limit):
                if park(worker, until: limit) { return .exit }
                isReadyToPark = false
            }
        }
    }

    /// Waits to be unparked.
    ///
    /// - Returns: Whether the thread is to end instead, because it was idle for so long.
    private func park(_ worker: Worker, until limit: ContinuousClock.Instant?) -> Bool {
        var limit = limit
        while !worker.parking.wait(until: limit) {
            let isSurplus: Bool? = state.withLock { state in
                guard let index = state.parked.firstIndex(where: { $0 === worker.parking }) else { return nil }
                guard state.parked.count > Self.sparePark else { return false }
                state.parked.remove(at: index)
                return true
            }
            switch isSurplus {
            case true?: return true
            // It is the spare one now.
            case false?: limit = nil
            // It was just unparked, and the signal follows.
            case nil: limit = nil
            }
        }
        return false
    }

    /// How long a thread waits for a request before it calls `waitedInVain()`: nil, for ever, if no other waits.
    package var idleLimit: ContinuousClock.Instant? {
        state.withLock { $0.waiting > 1 ? .now + idleTime : nil }
    }

    /// Ends a turn without a request: there are more threads than the clients need by now.
    package func waitedInVain() {
        state.withLock { state in
            state.waiting -= 1
            state.pressure = 0
            state.slowness = 0
        }
    }

    /// Does something for no client on a thread that waits for a request; if it lasts, another thread reads.
    ///
    /// - Returns: False, and nothing is done, if this is the last thread that is free.
    package func whileIdle(_ body: () -> Void) -> Bool {
        let (isAllowed, mustArm): (Bool, Bool) = state.withLock { state in
            guard limit == 1 || state.serving + 1 < limit else { return (false, false) }
            state.waiting -= 1
            return (true, mustArmTimer(&state))
        }
        guard isAllowed else { return false }
        if mustArm { armTimer(after: heldUpAfter) }
        body()
        state.withLock { $0.waiting += 1 }
        return true
    }

    /// Counts a request that the calling thread has received and is about to serve.
    ///
    /// - Parameters:
    ///   - client: The thread that waits for the reply: nil if none does, 0 if it is in another pid namespace.
    ///   - wasWaiting: Whether the request was there already when the thread looked. That says nothing about a request of
    ///     the client served last: it may have run on this core meanwhile, and no other thread would have been faster.
    ///   - previousServiceTime: Nanoseconds that the thread's last request took.
    /// - Returns: Which requests the thread may serve, so that others remain for the rest.
    package func received(from client: pid_t?, wasWaiting: Bool, previousServiceTime: UInt64 = 0) -> Admission {
        let (helper, mustArm, mustStart, admission): (EventFD?, Bool, Bool, Admission) = state.withLock { state in
            state.waiting -= 1
            state.received += 1
            let isPressing = wasWaiting && client.map { $0 == 0 || $0 != state.lastClient } ?? false
            state.lastClient = client ?? state.lastClient
            state.slowness =
                previousServiceTime > Self.slowService
                ? min(state.slowness + Self.slownessPerService, limit * Self.slownessPerThread)
                : max(state.slowness - 1, 0)
            let most = (min(limit, running + state.slowness / Self.slownessPerThread) - 1) * Self.pressurePerThread
            state.pressure = min(isPressing ? state.pressure + 1 : max(state.pressure - 1, 0), most)
            let needsHelper = isPressing && state.active < state.wanted
            let helper = needsHelper ? state.unpark() : nil
            let mustStart = needsHelper && helper == nil && state.threads < limit && !state.wantsThread
            if mustStart { state.wantsThread = true }
            return (helper, mustArmTimer(&state), mustStart, self.admission(state))
        }
        helper?.signal()
        if mustStart {
            armTimer(after: .zero)
        } else if mustArm {
            armTimer(after: heldUpAfter)
        }
        return admission
    }

    /// Which requests a thread may serve that counts as serving already.
    private func admission(_ state: State) -> Admission {
        guard limit > 1 else { return .anyRequest }
        if state.serving >= limit { return .memoryOnly }
        return state.serving > max(1, limit / 2) ? .rootDeviceOnly : .anyRequest
    }

    // MARK: The backlog

    /// Queues a request.
    ///
    /// A thread serves it when it has finished its own.
    package func enqueue(_ request: [UInt8], isForRootDevice: Bool) {
        state.withLock { state in
            if isForRootDevice {
                state.backlog.append(request)
            } else {
                state.otherDevicesBacklog.append(request)
            }
        }
    }

    /// Removes a queued request.
    ///
    /// - Returns: Whether there was one.
    func cancel(_ unique: UInt64) -> Bool {
        func remove(from backlog: inout Deque<[UInt8]>) -> Bool {
            let index = backlog.firstIndex { request in
                request.withUnsafeBytes { Message.header(of: $0)?.unique == unique }
            }
            guard let index else { return false }
            backlog.remove(at: index)
            return true
        }
        return state.withLock { state in
            remove(from: &state.backlog) || remove(from: &state.otherDevicesBacklog)
        }
    }

    // MARK: The watch

    /// Whether to arm the timer: no thread waits for the next request, and one more could.
    private func mustArmTimer(_ state: inout State) -> Bool {
        guard state.waiting == 0, !state.isTimerArmed, !state.parked.isEmpty || state.threads < limit else {
            return false
        }
        state.isTimerArmed = true
        return true
    }

    /// Unparks or starts a thread when none has read for a while.
    ///
    /// Sleeps while nothing happens.
    private func watch(_ serve: @escaping @Sendable (Worker) -> Void) {
        var receivedBefore: UInt64 = 0
        while true {
            var expirations: UInt64 = 0
            // Fails only for a wrong descriptor; then this would spin, which `state.hasEnded` ends.
            _ = try? retryingInterrupts { read(timer.rawValue, &expirations, MemoryLayout.size(ofValue: expirations)) }
            let (hasEnded, helper, mustStart, isArmed): (Bool, EventFD?, Bool, Bool) = state.withLock { state in
                defer { receivedBefore = state.received }
                let isHeldUp = state.waiting == 0 && (state.isTimerArmed && state.received == receivedBefore)
                let isWanted = state.wantsThread && state.active < state.wanted
                state.wantsThread = false
                let helper = isHeldUp || isWanted ? state.unpark() : nil
                let mustStart = (isHeldUp || isWanted) && helper == nil && state.threads < limit && !state.hasEnded
                if mustStart {
                    state.threads += 1
                    state.active += 1
                }
                state.isTimerArmed = state.waiting == 0 && (!state.parked.isEmpty || state.threads < limit)
                return (state.hasEnded, helper, mustStart, state.isTimerArmed)
            }
            if hasEnded { return }
            helper?.signal()
            if mustStart { start(serve) }
            if isArmed { armTimer(after: heldUpAfter) }
        }
    }

    /// Starts a thread that is counted already.
    private func start(_ serve: @escaping @Sendable (Worker) -> Void) {
        do throws(Errno) {
            let worker = Worker(parking: try EventFD())
            _ = try Thread(named: "fuse") {
                serve(worker)
                self.exit()
            }
        } catch {
            // No descriptor, memory or thread is left. The pool serves with what it has, and tries again later.
            state.withLock { state in
                state.threads -= 1
                state.active -= 1
            }
        }
    }

    private func armTimer(after delay: Duration) {
        func arm(_ delay: Duration) {
            let (seconds, attoseconds) = delay.components
            var setting = itimerspec()
            // Zero would disarm it.
            setting.it_value = timespec(tv_sec: Int(seconds), tv_nsec: max(1, Int(attoseconds / 1_000_000_000)))
            timerfd_settime(timer.rawValue, 0, &setting, nil)
        }
        arm(delay)
        // A setting that just came from another thread and was more urgent must not be lost.
        if delay > .zero, state.withLock({ $0.hasEnded || $0.wantsThread }) { arm(.zero) }
    }
}

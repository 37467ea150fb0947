import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// The thread that attributes activity to runtimes after requests were answered, and watches their root processes.
///
///     request ──▶ ActivityFilter ──once a second──▶ queue ──▶ /proc ──▶ activity touch
///                                                               └────▶ the runtime's root process ──▶ pidfd
///                                                                        its end ──▶ exited, or another process
///
/// It starts with the first event and sleeps while the queue is empty. Events beyond the queue's capacity are dropped
/// and counted: activity proves life, its absence proves nothing.
final class ProcessWatch: Sendable {
    private enum Event {
        /// A thread changed ordinary files. If it has ended, its parent counts as active.
        case activity(pid_t, parent: pid_t)
        /// A process touched a runtime.
        case touch(ProcessInfo, RuntimeID)
    }

    private struct State {
        var queue: [Event] = []
        var hasStarted = false
        var isClosing = false
        var roots = RootProcesses()
    }

    private static let queueCapacity = 4096
    /// Maximum number of watched processes, each with a descriptor.
    ///
    /// Other runtimes only expire.
    private static let maximumRoots = 4096
    /// Minimum time between activity touches of one runtime.
    private static let interval: Duration = .seconds(1)
    /// Number of processes read together.
    private static let searchBatch = 128
    /// The epoll tag of `event`.
    ///
    /// Other tags are pids, which are positive.
    private static let wakeupTag: UInt64 = 0

    private let callers: CallerTable
    private let liveness: InMemoryLivenessStore
    private let counters: Counters
    private let mode: Town.Activity
    private let ttl: Duration
    private let clock: @Sendable () -> Town.Timestamps
    private let log: Logger
    private let activity = ActivityFilter()
    private let state = Mutex(State())
    private let event: EventFD
    private let hasEnded: EventFD
    private let epoll: OwnedDescriptor

    init(
        _ callers: CallerTable, liveness: InMemoryLivenessStore, counters: Counters, configuration: Town.Configuration,
        log: Logger, clock: @escaping @Sendable () -> Town.Timestamps
    ) throws(Errno) {
        self.callers = callers
        self.liveness = liveness
        self.counters = counters
        self.clock = clock
        self.log = log
        mode = configuration.looksAtCallers ? configuration.activity : .off
        ttl = configuration.ttl
        event = try EventFD()
        hasEnded = try EventFD()
        epoll = OwnedDescriptor(takingOwnershipOf: try retryingInterrupts { epoll_create1(CInt(EPOLL_CLOEXEC)) })
        _ = try retryingInterrupts { clinux_epoll_add(epoll.rawValue, event.descriptor, Self.wakeupTag) }
    }

    // MARK: Any thread

    /// Records that the caller works on the town's files.
    func recordActivity(_ request: Request) {
        guard mode != .off, request.thread > 0, activity.isFirst(of: request.thread) else {
            return
        }
        // Read now, as most tools end before the thread gets to them.
        let stat = ProcessFiles(number: request.thread).stat()
        let counts = stat.map { !callers.ignores($0.program) } ?? false
        enqueue(.activity(request.thread, parent: counts ? stat?.parent ?? 0 : 0))
    }

    /// Records which process touched a runtime, so that its end is watched.
    func recordTouch(of runtime: RuntimeID, by caller: ProcessInfo) {
        if caller.isFirstTouch(of: runtime) { enqueue(.touch(caller, runtime)) }
    }

    private func enqueue(_ queued: Event) {
        let (isFirst, mustStart) = state.withLock { state in
            guard !state.isClosing, state.queue.count < Self.queueCapacity else {
                counters.countDroppedActivity()
                return (false, false)
            }
            state.queue.append(queued)
            defer { state.hasStarted = true }
            return (state.queue.count == 1, !state.hasStarted)
        }
        if mustStart { start() }
        if isFirst { event.signal() }
    }

    /// A root process of a runtime, if one is watched.
    func root(of runtime: RuntimeID) -> pid_t? {
        state.withLock { $0.roots.root(of: runtime) }
    }

    var rootCount: Int { state.withLock { $0.roots.count } }

    private func start() {
        do throws(Errno) {
            _ = try Thread(named: "processes") { self.run() }
        } catch {
            log.error("cannot watch processes: \(error)")
            state.withLock { $0.isClosing = true }
            hasEnded.signal()
        }
    }

    /// Ends the thread and waits for its end.
    func close() {
        let isRunning = state.withLock { state in
            state.isClosing = true
            return state.hasStarted
        }
        guard isRunning else { return }
        event.signal()
        hasEnded.wait()
        // For a second call.
        hasEnded.signal()
    }

    // MARK: The thread

    /// State of the thread.
    private struct Work {
        /// The last activity touch of each runtime.
        var touched: [RuntimeID: ContinuousClock.Instant] = [:]
        /// Runtimes whose last root process has ended, with that process.
        var runtimesWithoutRoot: [RuntimeID: RootProcesses.Process] = [:]
        var pace = SearchPace()

        /// Whether a runtime's next activity touch is due; records it as done.
        mutating func beginTouch(_ runtime: RuntimeID, at now: ContinuousClock.Instant) -> Bool {
            if let last = touched[runtime], now - last < ProcessWatch.interval { return false }
            if touched.count >= ProcessWatch.queueCapacity {
                touched = touched.filter { now - $0.value < ProcessWatch.interval }
            }
            touched[runtime] = now
            return true
        }
    }

    private func run() {
        var work = Work()
        var tags = [UInt64](repeating: 0, count: 64)
        while !state.withLock({ $0.isClosing }) {
            // While the state of a runtime is open, waits until the next search may begin.
            let limit: CInt = work.runtimesWithoutRoot.isEmpty ? -1 : Self.milliseconds(until: work.pace.next)
            let isUndecided = !work.runtimesWithoutRoot.isEmpty
            let count = clinux_epoll_wait(epoll.rawValue, &tags, CInt(tags.count), limit)
            for tag in tags.prefix(Int(max(0, count))) {
                if tag == Self.wakeupTag { _ = event.wait(until: .now) } else { end(pid_t(tag), &work) }
            }
            let queue = state.withLock { state in
                defer { state.queue.removeAll(keepingCapacity: true) }
                return state.queue
            }
            for queued in queue { handle(queued, &work) }
            if !isUndecided, !work.runtimesWithoutRoot.isEmpty { work.pace.requested(at: .now) }
            if !work.runtimesWithoutRoot.isEmpty, ContinuousClock.now >= work.pace.next { decide(&work) }
        }
        hasEnded.signal()
    }

    private static func milliseconds(until instant: ContinuousClock.Instant) -> CInt {
        CInt(clamping: max(0, (instant - .now).milliseconds + 1))
    }

    private func handle(_ queued: Event, _ work: inout Work) {
        switch queued {
        case .touch(let caller, let runtime): watchRoot(of: runtime, from: caller, &work)
        case .activity(let thread, let parent):
            guard let caller = activeProcess(thread, parent: parent), !caller.isIgnored,
                case .runtime(let runtime, let evidence) = identity(of: caller)
            else { return }
            let now = clock()
            if work.beginTouch(runtime, at: now.instant) {
                counters.countTouch(.activity)
                liveness.touch(
                    Touch(
                        runtime: runtime, receivedAt: now.wall, at: now.instant, ttl: ttl,
                        document: nil, source: .activity, evidence: evidence, process: caller.process))
            }
            watchRoot(of: runtime, from: caller, &work)
        }
    }

    /// The process of a thread or, if it has ended, its parent, which was alive then.
    private func activeProcess(_ thread: pid_t, parent: pid_t) -> ProcessInfo? {
        let caller = callers.caller(thread, isWaiting: false)
        if let caller, !caller.image.isWithoutMemory { return caller }
        return parent > 1 ? callers.caller(parent, isWaiting: false) : nil
    }

    /// The runtime that a process claims to be.
    private func identity(of caller: ProcessInfo) -> Attribution {
        callers.attribution(of: caller)
    }

    // MARK: Root processes

    /// Watches the topmost ancestor of a caller, or the caller, that claims to be the runtime.
    ///
    /// Does nothing if the caller does not claim it, as when a person writes a runtime's heartbeat.
    private func watchRoot(of runtime: RuntimeID, from caller: ProcessInfo, _ work: inout Work) {
        guard root(of: runtime) == nil, identity(of: caller).runtime == runtime else { return }
        var root = caller
        var parent = caller.parent
        for _ in 0..<CallerTable.maximumAncestors where parent > 1 {
            guard let ancestor = callers.caller(parent, isWaiting: false) else { break }
            if !ancestor.isIgnored, identity(of: ancestor).runtime == runtime { root = ancestor }
            parent = ancestor.parent
        }
        watch(root, for: runtime, &work)
    }

    private func watch(_ root: ProcessInfo, for runtime: RuntimeID, _ work: inout Work) {
        let pid = root.process.pid
        // If the number was reused before it is opened, the process has ended.
        let opened = try? retryingInterrupts { clinux_pidfd_open(pid) }
        let descriptor = opened.map { Descriptor(OwnedDescriptor(takingOwnershipOf: $0)) }
        let stat = ProcessFiles(number: pid).stat()
        // A zombie may have other threads: only its pidfd tells the end of the process.
        let isOver = descriptor.map { Self.hasEnded($0) } ?? false
        guard let stat, !isOver, root.thread != pid || stat.image.startTime == root.image.startTime else {
            work.runtimesWithoutRoot[runtime] = .init(pid: pid, startTime: 0, program: root.process.program)
            return
        }
        guard let descriptor else { return }
        let process = RootProcesses.Process(
            pid: pid, startTime: stat.image.startTime, program: root.process.program)
        if let known = state.withLock({ $0.roots.process(pid) }), known != process { end(pid, &work) }
        let isWatched = state.withLock { state in
            if state.roots.process(pid) == nil {
                guard state.roots.count < Self.maximumRoots else { return true }
                state.roots.watch(process, descriptor)
                state.roots.add(runtime, to: pid)
                return false
            }
            state.roots.add(runtime, to: pid)
            return true
        }
        if !isWatched { _ = clinux_epoll_add(epoll.rawValue, descriptor.rawValue, UInt64(pid)) }
    }

    private static func hasEnded(_ process: Descriptor) -> Bool {
        var question = [pollfd(fd: process.rawValue, events: Int16(POLLIN), revents: 0)]
        return poll(&question, until: .now)
    }

    /// Handles the end of a watched process.
    private func end(_ pid: pid_t, _ work: inout Work) {
        guard let ended = state.withLock({ $0.roots.end(pid) }) else { return }
        for runtime in ended.runtimes { work.runtimesWithoutRoot[runtime] = ended.process }
    }

    /// Decides whether runtimes whose root process has ended have another process or have exited.
    private func decide(_ work: inout Work) {
        // A request may have found another root process since.
        var runtimesWithoutRoot = work.runtimesWithoutRoot.filter { root(of: $0.key) == nil }
        work.runtimesWithoutRoot = [:]
        for caller in callers.remembered(claiming: { runtimesWithoutRoot[$0] != nil }) {
            watchRoot(of: caller, &work, in: &runtimesWithoutRoot)
        }
        guard !runtimesWithoutRoot.isEmpty else { return }
        // Read before the search, so that a later touch counts as life.
        let now = clock()
        let start = ContinuousClock.now
        guard search(for: &runtimesWithoutRoot, &work) else {
            // Without a view of `/proc`, nothing is decided.
            work.runtimesWithoutRoot = runtimesWithoutRoot
            work.pace.failed(at: .now)
            return
        }
        work.pace.ended(from: start, to: .now)
        for (runtime, process) in runtimesWithoutRoot {
            let exit = Record.Exit(of: process.described, noticedAt: now.wall, at: now.instant)
            if liveness.exit(runtime, exit) { counters.countExit() }
        }
    }

    /// Watches the root process above a process that was found, if it is of a runtime without one.
    private func watchRoot(
        of caller: ProcessInfo, _ work: inout Work,
        in runtimesWithoutRoot: inout [RuntimeID: RootProcesses.Process]
    ) {
        guard !caller.isIgnored, let runtime = identity(of: caller).runtime, runtimesWithoutRoot[runtime] != nil else {
            return
        }
        watchRoot(of: runtime, from: caller, &work)
        if root(of: runtime) != nil { runtimesWithoutRoot[runtime] = nil }
    }

    /// Searches `/proc` for other processes of runtimes, watches them, and removes those runtimes.
    ///
    /// - Returns: False if `/proc` cannot be read, for example without free descriptors.
    private func search(for runtimesWithoutRoot: inout [RuntimeID: RootProcesses.Process], _ work: inout Work) -> Bool {
        let processes = Self.processes()
        callers.forgetSearched(except: processes)
        var rest = processes[...]
        while !rest.isEmpty, !runtimesWithoutRoot.isEmpty {
            // In batches, as each reading has a descriptor.
            for caller in callers.processes(
                Array(rest.prefix(Self.searchBatch)), claiming: { runtimesWithoutRoot[$0] != nil })
            {
                watchRoot(of: caller, &work, in: &runtimesWithoutRoot)
            }
            rest = rest.dropFirst(Self.searchBatch)
        }
        // If this process cannot be read, neither could others.
        return runtimesWithoutRoot.isEmpty || ProcessFiles(number: getpid()).stat() != nil
    }

    /// All process numbers.
    private static func processes() -> [pid_t] {
        directoryEntries(closing: opendir("/proc")).compactMap { pid_t($0.name) }
    }
}

/// When `/proc` may be searched next.
///
/// A search waits 50 ms after its reason, so that a runtime's next process has time to appear. Searches that follow one
/// another become rarer, down to two a second, so that an exit is reported within a second; and they take at most a
/// twentieth of the time.
struct SearchPace {
    private static let shortest: Duration = .milliseconds(50)
    private static let longest: Duration = .milliseconds(500)
    private static let afterFailure: Duration = .seconds(1)

    private(set) var next = ContinuousClock.now
    private var pause = Self.shortest
    private var lastEnd: ContinuousClock.Instant?

    mutating func ended(from start: ContinuousClock.Instant, to end: ContinuousClock.Instant) {
        let isFrequent = lastEnd.map { start - $0 < Self.longest * 8 } ?? false
        pause = isFrequent ? min(pause * 2, Self.longest) : Self.shortest
        next = end + max(pause, (end - start) * 19)
        lastEnd = end
    }

    /// A root process has ended, and no search was due.
    mutating func requested(at now: ContinuousClock.Instant) {
        next = max(next, now + Self.shortest)
    }

    /// After a search that could not read `/proc`.
    mutating func failed(at now: ContinuousClock.Instant) {
        next = now + Self.afterFailure
    }
}

import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

/// The thread that attributes activity to runtimes after requests were answered, and watches their root processes.
///
///     request ──▶ ActivityFilter ──once a second──▶ queue ──▶ /proc ──▶ activity touch
///                                                               └────▶ the runtime's root process ──▶ pidfd
///                                                                        its end ──▶ exited, or another process
///
/// It sleeps while the queue is empty. Events beyond the queue's capacity are dropped and counted: activity proves life,
/// its absence proves nothing.
final class ProcessWatch: Sendable {
    private enum Event {
        /// A thread changed ordinary files. If it has ended, its parent counts as active.
        case activity(pid_t, parent: pid_t)
        /// A process touched a runtime.
        case touch(ProcessInfo, RuntimeID)
    }

    private struct State {
        var queue: [Event] = []
        var isClosing = false
        var roots = RootProcesses()
    }

    private static let queueCapacity = 4096
    /// Maximum number of watched processes, each with a descriptor; other runtimes only expire.
    private static let maximumRoots = 4096
    /// Minimum time between activity touches of one runtime.
    private static let interval: Duration = .seconds(1)
    /// Number of processes read together.
    private static let searchBatch = 128
    /// The epoll tag of `event`; other tags are pids, which are positive.
    private static let wakeupTag: UInt64 = 0

    private let callers: CallerTable
    private let liveness: InMemoryLivenessStore
    private let journal: Journal
    private var counters: Counters { journal.counters }
    private let mode: Town.Activity
    private let ttl: Duration
    private let clock: @Sendable () -> Town.Timestamps
    private let activity = ActivityFilter()
    private let state = Mutex(State())
    private let event: EventFD
    private let hasEnded: EventFD
    private let epoll: OwnedDescriptor

    init(
        _ callers: CallerTable, liveness: InMemoryLivenessStore, journal: Journal, configuration: Town.Configuration,
        clock: @escaping @Sendable () -> Town.Timestamps
    ) throws(Errno) {
        self.callers = callers
        self.liveness = liveness
        self.journal = journal
        self.clock = clock
        mode = configuration.looksAtCallers ? configuration.activity : .off
        ttl = configuration.ttl
        event = try EventFD()
        hasEnded = try EventFD()
        epoll = OwnedDescriptor(takingOwnershipOf: try retryingInterrupts { epoll_create1(CInt(EPOLL_CLOEXEC)) })
        _ = try retryingInterrupts { clinux_epoll_add(epoll.rawValue, event.descriptor, Self.wakeupTag) }
        // Not joined: `close` waits for `hasEnded`.
        let ended = restoreRoots()
        _ = try Thread(named: "processes") { self.run(deciding: ended) }
    }

    // MARK: Any thread

    /// Records that the caller works on the town's files.
    func recordActivity(_ request: Request) {
        guard mode != .off, request.thread > 0, activity.isFirst(of: request.thread) else { return }
        // Read now, as most tools end before the thread gets to them.
        let stat = ProcessFiles(number: request.thread).stat()
        let counts = stat.map { !callers.ignores($0.program) } ?? false
        enqueue(.activity(request.thread, parent: counts ? stat?.parent ?? 0 : 0))
    }

    /// Records which process touched a runtime, so that its end is watched.
    func recordTouch(of runtime: RuntimeID, by caller: ProcessInfo) {
        if caller.isFirstTouch(of: runtime) { enqueue(.touch(caller, runtime)) }
    }

    private func enqueue(_ new: Event) {
        let isFirst = state.withLock { state in
            guard !state.isClosing, state.queue.count < Self.queueCapacity else {
                counters.countDroppedActivity()
                return false
            }
            state.queue.append(new)
            return state.queue.count == 1
        }
        if isFirst { event.signal() }
    }

    /// A root process of a runtime, if one is watched.
    func root(of runtime: RuntimeID) -> pid_t? {
        state.withLock { $0.roots.root(of: runtime) }
    }

    var rootCount: Int { state.withLock { $0.roots.count } }

    /// Ends the thread and waits for its end.
    func close() {
        state.withLock { $0.isClosing = true }
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
        var withoutRoot: [RuntimeID: RootProcesses.Process] = [:]
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

    /// - Parameter ended: Runtimes whose root process has ended while no worker ran.
    private func run(deciding ended: [RuntimeID: RootProcesses.Process]) {
        var work = Work(withoutRoot: ended)
        var tags = [UInt64](repeating: 0, count: 64)
        while !state.withLock({ $0.isClosing }) {
            // While the state of a runtime is open, waits until the next search may begin.
            let isUndecided = !work.withoutRoot.isEmpty
            let milliseconds = max(0, (work.pace.next - .now).milliseconds + 1)
            let limit = isUndecided ? CInt(clamping: milliseconds) : -1
            let count = clinux_epoll_wait(epoll.rawValue, &tags, CInt(tags.count), limit)
            for tag in tags.prefix(Int(max(0, count))) {
                if tag == Self.wakeupTag { _ = event.wait(until: .now) } else { end(pid_t(tag), &work) }
            }
            let queue = state.withLock { state in
                defer { state.queue.removeAll(keepingCapacity: true) }
                return state.queue
            }
            for event in queue { apply(event, &work) }
            if !isUndecided, !work.withoutRoot.isEmpty { work.pace.requested(at: .now) }
            if !work.withoutRoot.isEmpty, ContinuousClock.now >= work.pace.next { decide(&work) }
        }
        hasEnded.signal()
    }

    private func apply(_ event: Event, _ work: inout Work) {
        switch event {
        case .touch(let caller, let runtime): watchRoot(of: runtime, from: caller, &work)
        case .activity(let thread, let parent):
            guard let caller = activeProcess(thread, parent: parent), !caller.isIgnored,
                case .runtime(let runtime, let evidence) = callers.attribution(of: caller)
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

    // MARK: Root processes

    /// Watches the topmost ancestor of a caller, or the caller, that claims to be the runtime.
    ///
    /// Does nothing if the caller does not claim it, as when a person writes a runtime's heartbeat.
    private func watchRoot(of runtime: RuntimeID, from caller: ProcessInfo, _ work: inout Work) {
        guard root(of: runtime) == nil, callers.attribution(of: caller).runtime == runtime else { return }
        var root = caller
        var parent = caller.parent
        for _ in 0..<CallerTable.maximumAncestors where parent > 1 {
            guard let ancestor = callers.caller(parent, isWaiting: false) else { break }
            if !ancestor.isIgnored, callers.attribution(of: ancestor).runtime == runtime { root = ancestor }
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
            let ended = RootProcesses.Process(pid: pid, startTime: 0, program: root.process.program)
            work.withoutRoot[runtime] = ended
            journal.saveRoot(ended, of: runtime)
            return
        }
        guard let descriptor else { return }
        let process = RootProcesses.Process(
            pid: pid, startTime: stat.image.startTime, program: root.process.program)
        if let known = state.withLock({ $0.roots.process(pid) }), known != process { end(pid, &work) }
        watch(process, descriptor, for: runtime)
        journal.saveRoot(process, of: runtime)
    }

    private func watch(_ process: RootProcesses.Process, _ descriptor: Descriptor, for runtime: RuntimeID) {
        let pid = process.pid
        let isNew = state.withLock { state in
            let isNew = state.roots.process(pid) == nil
            guard !isNew || state.roots.count < Self.maximumRoots else { return false }
            if isNew { state.roots.watch(process, descriptor) }
            state.roots.add(runtime, to: pid)
            return isNew
        }
        if isNew { _ = clinux_epoll_add(epoll.rawValue, descriptor.rawValue, UInt64(pid)) }
    }

    /// Watches the root processes that an earlier worker has watched.
    ///
    /// - Returns: Those that have ended since.
    private func restoreRoots() -> [RuntimeID: RootProcesses.Process] {
        var ended: [RuntimeID: RootProcesses.Process] = [:]
        for (runtime, process) in journal.roots {
            let opened = try? retryingInterrupts { clinux_pidfd_open(process.pid) }
            let descriptor = opened.map { Descriptor(OwnedDescriptor(takingOwnershipOf: $0)) }
            let stat = ProcessFiles(number: process.pid).stat()
            if let descriptor, !Self.hasEnded(descriptor), stat?.image.startTime == process.startTime {
                watch(process, descriptor, for: runtime)
            } else {
                ended[runtime] = process
            }
        }
        return ended
    }

    private static func hasEnded(_ process: Descriptor) -> Bool {
        var question = [pollfd(fd: process.rawValue, events: Int16(POLLIN), revents: 0)]
        return poll(&question, until: .now)
    }

    /// Handles the end of a watched process.
    private func end(_ pid: pid_t, _ work: inout Work) {
        guard let ended = state.withLock({ $0.roots.end(pid) }) else { return }
        for runtime in ended.runtimes { work.withoutRoot[runtime] = ended.process }
    }

    /// Decides whether runtimes whose root process has ended have another process or have exited.
    private func decide(_ work: inout Work) {
        // A request may have found another root process since.
        var withoutRoot = work.withoutRoot.filter { root(of: $0.key) == nil }
        work.withoutRoot = [:]
        for caller in callers.cached(claiming: { withoutRoot[$0] != nil }) {
            watchRoot(of: caller, &work, in: &withoutRoot)
        }
        guard !withoutRoot.isEmpty else { return }
        // Read before the search, so that a later touch counts as life.
        let now = clock()
        let start = ContinuousClock.now
        guard search(for: &withoutRoot, &work) else {
            // Without a view of `/proc`, nothing is decided.
            work.withoutRoot = withoutRoot
            work.pace.failed(at: .now)
            return
        }
        work.pace.ended(from: start, to: .now)
        for (runtime, process) in withoutRoot {
            let exit = Record.Exit(of: process.described, noticedAt: now.wall, at: now.instant)
            if liveness.exit(runtime, exit) { counters.countExit() }
            journal.removeRoot(of: runtime)
        }
    }

    /// Watches the root process above a process that was found, if it is of a runtime without one.
    private func watchRoot(
        of caller: ProcessInfo, _ work: inout Work, in withoutRoot: inout [RuntimeID: RootProcesses.Process]
    ) {
        guard !caller.isIgnored, let runtime = callers.attribution(of: caller).runtime, withoutRoot[runtime] != nil
        else { return }
        watchRoot(of: runtime, from: caller, &work)
        if root(of: runtime) != nil { withoutRoot[runtime] = nil }
    }

    /// Searches `/proc` for other processes of runtimes, watches them, and removes those runtimes.
    ///
    /// - Returns: False if `/proc` cannot be read, for example without free descriptors.
    private func search(for withoutRoot: inout [RuntimeID: RootProcesses.Process], _ work: inout Work) -> Bool {
        let processes = directoryEntries(closing: opendir("/proc")).compactMap { pid_t($0.name) }
        callers.forgetSearched(except: processes)
        var rest = processes[...]
        while !rest.isEmpty, !withoutRoot.isEmpty {
            // In batches, as each reading has a descriptor.
            for caller in callers.processes(
                Array(rest.prefix(Self.searchBatch)), claiming: { withoutRoot[$0] != nil })
            {
                watchRoot(of: caller, &work, in: &withoutRoot)
            }
            rest = rest.dropFirst(Self.searchBatch)
        }
        // If this process cannot be read, neither could others.
        return withoutRoot.isEmpty || ProcessFiles(number: getpid()).stat() != nil
    }
}

/// Selects the first request of each thread in each second.
///
/// The cost is one atomic load from a small table of (thread, second), indexed by thread.
final class ActivityFilter: Sendable {
    /// Thread in the upper half, second in the lower; their number is a power of two.
    private let seen: InlineArray<4096, Atomic<UInt64>> = InlineArray { _ in Atomic(0) }

    /// Whether this is the thread's first request in this second.
    func isFirst(of thread: pid_t) -> Bool {
        let mark = UInt64(UInt32(bitPattern: thread)) << 32 | UInt64(Self.second)
        let slot = Int(thread) & (seen.count - 1)
        guard seen[slot].load(ordering: .relaxed) != mark else { return false }
        seen[slot].store(mark, ordering: .relaxed)
        return true
    }

    /// The current second of the monotonic clock.
    static var second: UInt32 {
        var now = timespec()
        // Has the resolution of a scheduler tick and costs a tenth of CLOCK_MONOTONIC.
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now)
        return UInt32(truncatingIfNeeded: now.tv_sec)
    }
}

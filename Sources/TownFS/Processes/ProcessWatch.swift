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
        /// A process of a silent runtime was found.
        case found(ProcessInfo, RuntimeID)
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
    private let looksAtCallers: Bool
    private let ttl: Duration
    private let minimumAgentAge: Duration
    private let clock: @Sendable () -> Town.Timestamps
    private let activity = ActivityFilter()
    private let search: ProcessSearch
    private let state = Mutex(State())
    private let event: EventFD
    private let hasEnded: EventFD
    private let epoll: OwnedDescriptor

    init(
        _ callers: CallerTable, liveness: InMemoryLivenessStore, journal: Journal, configuration: Town.Configuration,
        clock: @escaping @Sendable () -> Town.Timestamps
    ) throws(Errno) {
        self.callers = callers
        search = ProcessSearch(callers)
        self.liveness = liveness
        self.journal = journal
        self.clock = clock
        mode = configuration.looksAtCallers ? configuration.activity : .off
        looksAtCallers = configuration.looksAtCallers
        ttl = configuration.ttl
        minimumAgentAge = configuration.minimumAgentAge
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

    /// The root process of a runtime, as it is now.
    struct RootState: Sendable {
        let pid: pid_t
        /// Whether it is stopped, or a zombie with threads.
        let isStopped: Bool
        /// Processor time since the runtime's last beat or work; nil if that is not known.
        let processorTime: Duration?
    }

    /// Nil if none is watched.
    func rootState(of runtime: RuntimeID) -> RootState? {
        guard let pid = root(of: runtime), let stat = ProcessFiles(number: pid).stat() else { return nil }
        return state.withLock { state in
            RootState(
                pid: pid, isStopped: stat.isStopped || stat.isZombie,
                processorTime: state.roots.processorTime(stat.processorTime, of: pid, for: runtime))
        }
    }

    func processorTime(of runtime: RuntimeID) -> Duration? { rootState(of: runtime)?.processorTime }

    /// A process of a runtime that is not alive: its root process, or one that a search in `/proc` finds.
    ///
    /// Searches at most once a second. Asking is no sign of life.
    func process(of runtime: RuntimeID) -> (state: RootState, age: Duration)? {
        if root(of: runtime) == nil {
            guard looksAtCallers, let found = search.process(of: runtime),
                let stat = ProcessFiles(number: found.process.pid).stat()
            else { return nil }
            enqueue(.found(found, runtime))
            let root = RootState(
                pid: found.process.pid, isStopped: stat.isStopped, processorTime: nil)
            return (root, ClockTicks.age(since: stat.image.startTime))
        }
        guard let root = rootState(of: runtime), let stat = ProcessFiles(number: root.pid).stat() else { return nil }
        return (root, ClockTicks.age(since: stat.image.startTime))
    }

    /// Whether the process runs that a runtime is held by: it is there and not stopped.
    func isRunning(_ runtime: RuntimeID) -> Bool { rootState(of: runtime).map { !$0.isStopped } ?? false }

    // MARK: Processes named in documents

    /// - Parameters:
    ///   - request: Of the writer of the document; nil at the mount.
    ///   - time: When the document was written.
    func examine(
        _ named: SignalFormat.NamedProcess, writtenBy request: Request?, at time: WallTime
    ) -> NamedProcessState {
        // A writer of another pid namespace has no number here, and writes numbers of its own.
        guard looksAtCallers, ProcessFiles.isOwnNamespace, request?.thread != 0 else { return .unknown }
        return NamedProcessState(of: named, at: time, now: clock().wall)
    }

    /// Makes a named process the runtime's root process, or ends a runtime whose process has ended.
    func watch(_ named: NamedProcessState, for runtime: RuntimeID) {
        switch named {
        case .unknown: return
        case .ended(let process): exit(runtime, process, at: clock())
        case .running(let process, let descriptor):
            let former = watch(process, descriptor, for: runtime, isNamed: true)
            journal.saveRoot(process, of: runtime, isNamed: true)
            withExtendedLifetime(former) {}
        }
    }

    private func exit(_ runtime: RuntimeID, _ process: Touch.Process, at now: Town.Timestamps) {
        let exit = Record.Exit(of: process, noticedAt: now.wall, at: now.instant)
        if liveness.exit(runtime, exit) { counters.countExit() }
        journal.removeRoot(of: runtime)
    }

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
        var touched: [Activity: ContinuousClock.Instant] = [:]
        /// Runtimes whose last root process has ended, with that process.
        var withoutRoot: [RuntimeID: RootProcesses.Process] = [:]
        /// The last root process, old enough to be an agent, of runtimes that had another process when it ended.
        var formerAgents: [RuntimeID: RootProcesses.Process] = [:]
        /// The root process of each runtime's last beat.
        var beats: [RuntimeID: Beat] = [:]
        var pace = SearchPace()

        struct Beat {
            let root: pid_t
            let process: Touch.Process
            let at: ContinuousClock.Instant
        }

        /// Whether a runtime's next activity touch is due; records it as done.
        mutating func beginTouch(
            _ runtime: RuntimeID, isBackground: Bool, at now: ContinuousClock.Instant
        ) -> Bool {
            let key = Activity(runtime: runtime, isBackground: isBackground)
            if let last = touched[key], now - last < ProcessWatch.interval { return false }
            if touched.count >= ProcessWatch.queueCapacity {
                touched = touched.filter { now - $0.value < ProcessWatch.interval }
            }
            touched[key] = now
            return true
        }

        struct Activity: Hashable {
            let runtime: RuntimeID
            let isBackground: Bool
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
        case .touch(let caller, let runtime):
            noteBeat(of: runtime, by: caller, &work)
            watchRoot(of: runtime, from: caller, &work)
            noteProcessorTime(of: runtime)
        case .found(let process, let runtime): watchRoot(of: runtime, from: process, &work)
        case .activity(let thread, let parent):
            guard let caller = activeProcess(thread, parent: parent), !caller.isIgnored,
                case .runtime(let runtime, let evidence) = callers.attribution(of: caller)
            else { return }
            watchRoot(of: runtime, from: caller, &work)
            let now = clock()
            let root = rootState(of: runtime)
            let isBackground = isBackground(caller, root)
            // An agent that is stopped does not live on in its dev server, nor in what that starts.
            if let root, root.isStopped, root.pid != caller.process.pid { return }
            if work.beginTouch(runtime, isBackground: isBackground, at: now.instant) {
                counters.countTouch(isBackground ? .background : .activity)
                liveness.touch(
                    Touch(
                        runtime: runtime, receivedAt: now.wall, at: now.instant, ttl: ttl,
                        document: nil, source: isBackground ? .background : .activity, evidence: evidence,
                        process: caller.process))
                if !isBackground { noteProcessorTime(of: runtime) }
            }
        }
    }

    /// Whether a caller is neither the agent nor younger than the ttl.
    ///
    /// An agent that a shell has started is a child of the root process.
    private func isBackground(_ caller: ProcessInfo, _ root: RootState?) -> Bool {
        guard let root, caller.process.pid != root.pid, caller.age > ttl else { return false }
        guard caller.parent == root.pid, !root.isStopped else { return true }
        return !(ProcessFiles(number: root.pid).stat().map { Self.shells.contains($0.program) } ?? false)
    }

    private static let shells: Set<String> = ["sh", "bash", "dash", "zsh", "fish", "ksh", "timeout"]

    private func noteProcessorTime(of runtime: RuntimeID) {
        guard let pid = root(of: runtime), let stat = ProcessFiles(number: pid).stat() else { return }
        state.withLock { $0.roots.noteProcessorTime(stat.processorTime, of: pid, for: runtime) }
    }

    /// Notices that two agents beat under one id: both run, and both are too old to be tools.
    private func noteBeat(of runtime: RuntimeID, by caller: ProcessInfo, _ work: inout Work) {
        guard let root = topmost(of: runtime, above: caller), root.age >= minimumAgentAge else { return }
        let now = clock().instant
        let last = work.beats.updateValue(
            Work.Beat(root: root.process.pid, process: root.process, at: now), forKey: runtime)
        if work.beats.count > Self.queueCapacity { work.beats = work.beats.filter { now - $0.value.at < ttl } }
        guard let last, last.root != root.process.pid, now - last.at < ttl,
            state.withLock({ $0.roots.process(last.root) }) != nil
        else { return }
        liveness.contest(runtime, by: last.process, at: now)
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
        // A young root may be a tool that was seen before its agent.
        let isSettled = state.withLock { state in
            guard let pid = state.roots.root(of: runtime), let known = state.roots.process(pid) else { return false }
            return known.age >= minimumAgentAge || state.roots.named.contains(runtime)
        }
        guard !isSettled, let root = topmost(of: runtime, above: caller) else { return }
        watch(root, for: runtime, &work)
    }

    /// The topmost ancestor of a caller, or the caller, that claims to be the runtime; nil if the caller does not.
    private func topmost(of runtime: RuntimeID, above caller: ProcessInfo) -> ProcessInfo? {
        guard callers.attribution(of: caller).runtime == runtime else { return nil }
        var root = caller
        var parent = caller.parent
        for _ in 0..<CallerTable.maximumAncestors where parent > 1 {
            guard let ancestor = callers.caller(parent, isWaiting: false) else { break }
            if !ancestor.isIgnored, callers.attribution(of: ancestor).runtime == runtime { root = ancestor }
            parent = ancestor.parent
        }
        return root
    }

    private func watch(_ root: ProcessInfo, for runtime: RuntimeID, _ work: inout Work) {
        let pid = root.process.pid
        // If the number was reused before it is opened, the process has ended.
        let opened = try? retryingInterrupts { clinux_pidfd_open(pid) }
        let descriptor = opened.map { Descriptor(OwnedDescriptor(takingOwnershipOf: $0)) }
        let stat = ProcessFiles(number: pid).stat()
        // A zombie may have other threads: only its pidfd tells the end of the process.
        let isOver = descriptor?.hasEnded ?? false
        guard let stat, !isOver, root.thread != pid || stat.image.startTime == root.image.startTime else {
            let ended = RootProcesses.Process(
                pid: pid, startTime: root.image.startTime, program: root.process.program)
            if endRoot(ended, of: runtime, &work) { journal.saveRoot(ended, of: runtime, isNamed: false) }
            return
        }
        guard let descriptor else { return }
        let process = RootProcesses.Process(
            pid: pid, startTime: stat.image.startTime, program: root.process.program)
        if let known = state.withLock({ $0.roots.process(pid) }), known != process { end(pid, &work) }
        watch(process, descriptor, for: runtime)
        journal.saveRoot(process, of: runtime, isNamed: false)
    }

    /// - Parameter isNamed: Whether the runtime's document names it; then it is the only root.
    /// - Returns: Descriptors to close: of processes that are watched no more.
    @discardableResult
    private func watch(
        _ process: RootProcesses.Process, _ descriptor: Descriptor, for runtime: RuntimeID, isNamed: Bool = false
    ) -> [Descriptor] {
        let pid = process.pid
        let (isNew, former) = state.withLock { state -> (Bool, [Descriptor]) in
            // A process that was watched under this number has ended, and the thread has not seen it yet.
            let isNew = state.roots.process(pid) == nil
            guard !isNew || state.roots.count < Self.maximumRoots else { return (false, []) }
            if isNew { state.roots.watch(process, descriptor) }
            guard isNamed else {
                state.roots.add(runtime, to: pid)
                return (isNew, [])
            }
            return (isNew, state.roots.name(runtime, pid).compactMap { state.roots.remove($0) })
        }
        if isNew { _ = clinux_epoll_add(epoll.rawValue, descriptor.rawValue, UInt64(pid)) }
        return former
    }

    /// Watches the root processes that an earlier worker has watched.
    ///
    /// - Returns: Those that have ended since.
    private func restoreRoots() -> [RuntimeID: RootProcesses.Process] {
        var ended: [RuntimeID: RootProcesses.Process] = [:]
        for (runtime, process, isNamed) in journal.roots {
            let opened = try? retryingInterrupts { clinux_pidfd_open(process.pid) }
            let descriptor = opened.map { Descriptor(OwnedDescriptor(takingOwnershipOf: $0)) }
            let stat = ProcessFiles(number: process.pid).stat()
            if let descriptor, !descriptor.hasEnded, stat?.image.startTime == process.startTime {
                watch(process, descriptor, for: runtime, isNamed: isNamed)
            } else if isNamed {
                exit(runtime, process.described, at: clock())
            } else if process.age >= minimumAgentAge {
                ended[runtime] = process
            } else {
                // A tool: see `endRoot`.
                journal.removeRoot(of: runtime)
            }
        }
        return ended
    }

    /// Handles the end of a watched process.
    private func end(_ pid: pid_t, _ work: inout Work) {
        guard let ended = state.withLock({ $0.roots.end(pid) }) else { return }
        for runtime in ended.runtimes {
            if ended.naming.contains(runtime) {
                // Whatever the file says.
                exit(runtime, ended.process.described, at: clock())
            } else if !endRoot(ended.process, of: runtime, &work) {
                journal.removeRoot(of: runtime)
            }
        }
    }

    /// Handles the end of a runtime's last root process.
    ///
    /// A young process is a tool, such as a heartbeat from cron: its end proves nothing, unless an agent has ended before.
    ///
    /// - Returns: Whether the state of the runtime is to be decided.
    private func endRoot(_ process: RootProcesses.Process, of runtime: RuntimeID, _ work: inout Work) -> Bool {
        let isAgent = process.age >= minimumAgentAge
        guard let agent = isAgent ? process : work.formerAgents[runtime] else { return false }
        work.withoutRoot[runtime] = agent
        return true
    }

    /// Decides whether runtimes whose root process has ended have another process or have exited.
    private func decide(_ work: inout Work) {
        let undecided = work.withoutRoot
        defer {
            // Tools may outlive their agent: when the last of them ends, the runtime has exited.
            for (runtime, agent) in undecided where work.withoutRoot[runtime] == nil {
                work.formerAgents[runtime] = root(of: runtime) == nil ? nil : agent
            }
        }
        // A request may have found another root process since.
        var withoutRoot = undecided.filter { root(of: $0.key) == nil }
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
        for (runtime, process) in withoutRoot { exit(runtime, process.described, at: now) }
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

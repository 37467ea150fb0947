import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// The thread that finds out, when requests have been answered, who was at work, and notices when they end.
///
///     request ──▶ ActivityFilter ──once a second──▶ notes ──▶ /proc ──▶ an activity touch
///                                                               └────▶ the runtime's root process ──▶ pidfd
///                                                                        its end ──▶ exited, or another process
///
/// It starts with the first note and sleeps without a limit when there is nothing to do. What does not fit in the notes is
/// dropped, and counted: activity proves life, its absence proves nothing.
final class ProcessWatch: Sendable {
    private enum Note {
        /// A thread was at work on ordinary files; of one that has ended since, whoever started it is left to ask.
        case activity(pid_t, parent: pid_t)
        /// A process has touched a runtime.
        case touch(ProcessInfo, RuntimeID)
    }

    private struct State {
        var notes: [Note] = []
        var hasStarted = false
        var isClosing = false
        var roots = RootProcesses()
    }

    private static let mostNotes = 4096
    /// Processes that are watched, each with a descriptor; the runtimes of others are left to their ttl.
    private static let mostRoots = 4096
    /// No runtime is touched more often by activity.
    private static let interval: Duration = .seconds(1)
    /// Processes that are read together.
    private static let searchBatch = 128
    /// The tag of `event`; pids are positive.
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

    /// Notes that whoever asks is at work on the town's files.
    func noteActivity(_ request: Request) {
        guard mode != .off, request.thread > 0, activity.isNews(of: request.thread) else {
            return
        }
        // Most tools are gone before they can be looked into.
        let stat = ProcessFiles(number: request.thread).stat()
        let counts = stat.map { !callers.ignores($0.program) } ?? false
        note(.activity(request.thread, parent: counts ? stat?.parent ?? 0 : 0))
    }

    /// Notes which process has touched a runtime, so that its end will be noticed.
    func noteTouch(of runtime: RuntimeID, by caller: ProcessInfo) {
        if caller.isNews(of: runtime) { note(.touch(caller, runtime)) }
    }

    private func note(_ note: Note) {
        let (isFirst, mustStart) = state.withLock { state in
            guard !state.isClosing, state.notes.count < Self.mostNotes else {
                counters.countDroppedActivity()
                return (false, false)
            }
            state.notes.append(note)
            defer { state.hasStarted = true }
            return (state.notes.count == 1, !state.hasStarted)
        }
        if mustStart { start() }
        if isFirst { event.raise() }
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
            hasEnded.raise()
        }
    }

    /// Ends the thread, and waits for that.
    func close() {
        let isRunning = state.withLock { state in
            state.isClosing = true
            return state.hasStarted
        }
        guard isRunning else { return }
        event.raise()
        hasEnded.wait()
        // For whoever closes a second time.
        hasEnded.raise()
    }

    // MARK: The thread

    /// What only the thread knows.
    private struct Work {
        /// When runtimes were last touched by activity.
        var touched: [RuntimeID: ContinuousClock.Instant] = [:]
        /// Runtimes whose last known root process has ended, with it.
        var runtimesWithoutRoot: [RuntimeID: RootProcesses.Process] = [:]
        var pace = SearchPace()

        /// Whether a runtime has not been touched for as long as it should be; then it is about to be.
        mutating func isDue(_ runtime: RuntimeID, at now: ContinuousClock.Instant) -> Bool {
            if let last = touched[runtime], now - last < ProcessWatch.interval { return false }
            if touched.count >= ProcessWatch.mostNotes {
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
            // While somebody's fate is open, only until it may be looked into.
            let limit: CInt = work.runtimesWithoutRoot.isEmpty ? -1 : Self.milliseconds(until: work.pace.next)
            let count = clinux_epoll_wait(epoll.rawValue, &tags, CInt(tags.count), limit)
            for tag in tags.prefix(Int(max(0, count))) {
                if tag == Self.wakeupTag { _ = event.wait(until: .now) } else { end(pid_t(tag), &work) }
            }
            let notes = state.withLock { state in
                defer { state.notes.removeAll(keepingCapacity: true) }
                return state.notes
            }
            for note in notes { take(note, &work) }
            if !work.runtimesWithoutRoot.isEmpty, ContinuousClock.now >= work.pace.next { settle(&work) }
        }
        hasEnded.raise()
    }

    private static func milliseconds(until instant: ContinuousClock.Instant) -> CInt {
        CInt(clamping: max(0, (instant - .now).milliseconds + 1))
    }

    private func take(_ note: Note, _ work: inout Work) {
        switch note {
        case .touch(let caller, let runtime): watchRoot(of: runtime, from: caller, &work)
        case .activity(let thread, let parent):
            guard let caller = worker(thread, parent: parent), !caller.isIgnored,
                case .runtime(let runtime, let evidence) = identity(of: caller)
            else { return }
            let now = clock()
            if work.isDue(runtime, at: now.instant) {
                counters.countTouch(.activity)
                liveness.touch(
                    Touch(
                        runtime: runtime, receivedAt: now.wall, at: now.instant, ttl: ttl,
                        document: nil, source: .activity, evidence: evidence, process: caller.process))
            }
            watchRoot(of: runtime, from: caller, &work)
        }
    }

    /// Who was at work: a thread or, if it has ended meanwhile, whoever started it, and must have been alive for that.
    private func worker(_ thread: pid_t, parent: pid_t) -> ProcessInfo? {
        let caller = callers.caller(thread, isAsking: false)
        if let caller, !caller.image.isWithoutMemory { return caller }
        return parent > 1 ? callers.caller(parent, isAsking: false) : nil
    }

    /// Who a process says it is, by itself.
    private func identity(of caller: ProcessInfo) -> Attribution {
        callers.attribution(of: caller)
    }

    // MARK: Root processes

    /// Watches the topmost process above a caller, or the caller's own, that carries the runtime's identity.
    ///
    /// A caller that carries it not itself, as a person who writes somebody's heartbeat, says nothing of processes.
    private func watchRoot(of runtime: RuntimeID, from caller: ProcessInfo, _ work: inout Work) {
        guard root(of: runtime) == nil, identity(of: caller).runtime == runtime else { return }
        var root = caller
        var parent = caller.parent
        for _ in 0..<CallerTable.mostAncestors where parent > 1 {
            guard let ancestor = callers.caller(parent, isAsking: false) else { break }
            if !ancestor.isIgnored, identity(of: ancestor).runtime == runtime { root = ancestor }
            parent = ancestor.parent
        }
        watch(root, for: runtime, &work)
    }

    private func watch(_ root: ProcessInfo, for runtime: RuntimeID, _ work: inout Work) {
        let pid = root.process.pid
        // Its number may be another's by the time it is opened; then it has ended.
        let opened = try? retryingInterrupts { clinux_pidfd_open(pid) }
        let descriptor = opened.map { Descriptor(OwnedDescriptor(takingOwnershipOf: $0)) }
        let stat = ProcessFiles(number: pid).stat()
        // Not by being a zombie: that is what its first thread is when it has ended before the others.
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
                guard state.roots.count < Self.mostRoots else { return true }
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

    /// Notes the end of a process that was watched.
    private func end(_ pid: pid_t, _ work: inout Work) {
        guard let ended = state.withLock({ $0.roots.end(pid) }) else { return }
        for runtime in ended.runtimes { work.runtimesWithoutRoot[runtime] = ended.process }
    }

    /// Decides what has become of runtimes whose root process has ended: another process of theirs lives, or they have
    /// exited.
    private func settle(_ work: inout Work) {
        // Some have been found by a request meanwhile.
        var runtimesWithoutRoot = work.runtimesWithoutRoot.filter { root(of: $0.key) == nil }
        work.runtimesWithoutRoot = [:]
        for caller in callers.remembered(claiming: { runtimesWithoutRoot[$0] != nil }) {
            watchRoot(of: caller, &work, in: &runtimesWithoutRoot)
        }
        guard !runtimesWithoutRoot.isEmpty else { return }
        // Before the search: who begins during it lives.
        let now = clock()
        let start = ContinuousClock.now
        guard search(for: &runtimesWithoutRoot, &work) else {
            // Nobody has exited who could not be looked for.
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

    /// Takes those out of which another process is found, which is watched from then on.
    ///
    /// - Returns: Whether there was anything to be seen: without a descriptor to spare, there is not.
    private func search(for runtimesWithoutRoot: inout [RuntimeID: RootProcesses.Process], _ work: inout Work) -> Bool {
        let processes = Self.processes()
        callers.forgetSearched(except: processes)
        var rest = processes[...]
        while !rest.isEmpty, !runtimesWithoutRoot.isEmpty {
            // Each comes with a descriptor.
            for caller in callers.processes(
                Array(rest.prefix(Self.searchBatch)), claiming: { runtimesWithoutRoot[$0] != nil })
            {
                watchRoot(of: caller, &work, in: &runtimesWithoutRoot)
            }
            rest = rest.dropFirst(Self.searchBatch)
        }
        // Whoever cannot read of itself has not read of others.
        return runtimesWithoutRoot.isEmpty || ProcessFiles(number: getpid()).stat() != nil
    }

    /// The processes there are, for whoever wants to look at them.
    private static func processes() -> [pid_t] {
        directoryEntries(closing: opendir("/proc")).compactMap { pid_t($0.name) }
    }
}

/// When `/proc` may be searched next.
///
/// The first search after a quiet time may begin at once. Searches that follow one another become rarer, down to one in
/// two seconds, and take at most a twentieth of the time.
struct SearchPace {
    private static let shortest: Duration = .milliseconds(50)
    private static let longest: Duration = .seconds(2)
    private static let afterFailure: Duration = .seconds(1)

    private(set) var next = ContinuousClock.now
    private var pause = Self.shortest
    private var lastEnd: ContinuousClock.Instant?

    mutating func ended(from start: ContinuousClock.Instant, to end: ContinuousClock.Instant) {
        let isFrequent = lastEnd.map { start - $0 < Self.longest * 2 } ?? false
        pause = isFrequent ? min(pause * 2, Self.longest) : Self.shortest
        next = end + max(pause, (end - start) * 19)
        lastEnd = end
    }

    /// After a search that could not read `/proc`.
    mutating func failed(at now: ContinuousClock.Instant) {
        next = now + Self.afterFailure
    }
}

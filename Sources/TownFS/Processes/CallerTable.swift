import Glibc
import Liveness
import Synchronization

/// Who the threads are that ask: read from `/proc` once for each program that a thread runs.
///
/// A look-up costs one read of a file that is kept open, by which a number that has been given to another thread is
/// noticed, and a thread that has called execve(2).
final class CallerTable: Sendable {
    /// Of a chain of parents, how many are looked at.
    static let mostAncestors = 64

    private let callers = Mutex<[pid_t: ProcessInfo]>([:])
    private let town: [UInt8]
    private let sessions: TownSessions
    private let capacity: Int
    private let ignored: Set<String>
    private let isBlind: Bool
    private let reader = ProcessReader()

    /// - Parameters:
    ///   - town: The town root's path, as working directories begin.
    ///   - capacity: How many are remembered, each with an open descriptor.
    ///   - ignored: Names of programs whose work on files is no sign of life.
    ///   - isBlind: Whether nobody is to be looked at.
    init(
        in town: String, sessions: TownSessions, capacity: Int, ignoring ignored: Set<String>, isBlind: Bool = false
    ) {
        self.isBlind = isBlind || !ProcessFiles.areOfOurNumbers
        self.town = Array(town.utf8)
        self.sessions = sessions
        self.capacity = capacity
        self.ignored = ignored
    }

    /// Nil for a thread of another pid namespace, one that has ended, and one that cannot be seen, or not in time.
    ///
    /// - Parameter isAsking: Whether it waits for our answer.
    func caller(_ thread: pid_t, isAsking: Bool = true) -> ProcessInfo? {
        guard thread > 0, !isBlind else { return nil }
        return caller(thread, generation: 0, isAsking: isAsking)
    }

    private func caller(_ thread: pid_t, generation: Int, isAsking: Bool) -> ProcessInfo? {
        if let known = callers.withLock({ $0[thread] }), case .same = known.condition { return known }
        guard let reading = reader.read(thread, isAsking: isAsking) else { return nil }
        let caller = caller(reading, generation: generation)
        // Let go of outside the lock: with them go descriptors.
        let dropped = callers.withLock { callers in
            var dropped: [ProcessInfo?] = []
            if callers.count >= capacity, callers[thread] == nil {
                for other in callers.keys.prefix(capacity / 2 + 1) {
                    dropped.append(callers.removeValue(forKey: other))
                }
            }
            return dropped + [callers.updateValue(caller, forKey: thread)]
        }
        withExtendedLifetime(dropped) {}
        return caller
    }

    /// Whether work of a program of this name counts for nothing; of a long name the kernel tells only the beginning.
    func ignores(_ program: String) -> Bool {
        ignored.contains { $0 == program || program.utf8.count == 15 && $0.hasPrefix(program) }
    }

    /// Processes that have asked for nothing, and are not remembered: those that by themselves claim to be somebody who is
    /// looked for.
    func otherProcesses(_ processes: [pid_t], claiming isLookedFor: (RuntimeID) -> Bool) -> [ProcessInfo] {
        reader.read(processes).compactMap { reading in
            guard !reading.stat.image.isWithoutMemory,
                let claimed = attribution(of: ProcessInfo(reading, startedBy: nil, ignoring: ignored)).runtime,
                isLookedFor(claimed)
            else { return nil }
            // Whoever has started them may make them nobody.
            return caller(reading, generation: 0)
        }
    }

    private func caller(_ reading: ProcessInfo.Snapshot, generation: Int) -> ProcessInfo {
        // Whoever started it is usually known already: an agent, or its shell.
        let hasParent = reading.stat.parent > 1 && generation < Self.mostAncestors
        let parent = hasParent ? caller(reading.stat.parent, generation: generation + 1, isAsking: false) : nil
        return ProcessInfo(reading, startedBy: parent, ignoring: ignored)
    }

    // MARK: Whose they are

    /// Whose a touch of a signal file is, as far as that can be said without its document; or, without a file, who
    /// somebody says they are by themselves.
    func attribution(of caller: ProcessInfo?, signal: [UInt8]? = nil) -> Attribution {
        Attribution(
            of: caller?.writer ?? IdentityClaims(), signal: signal,
            workingDirectory: caller.flatMap { ProcessFiles(number: $0.thread).workingDirectory(in: town) },
            sessions: sessions.names)
    }

    /// Whoever asks for something of a signal file, and whose touch that would be; nil as for `caller`.
    ///
    /// - Parameter former: Who did so last, by the same opening. If they are still at it, they are who they were then.
    func attributedCaller(_ thread: pid_t, of signal: [UInt8], after former: AttributedCaller? = nil)
        -> AttributedCaller?
    {
        guard let caller = caller(thread) else { return nil }
        if let former, former.caller === caller { return former }
        return AttributedCaller(caller: caller, attribution: attribution(of: caller, signal: signal))
    }

    var sessionNames: SessionNames { sessions.names }

    /// The runtime that a signal file belongs to, whoever writes it.
    func owner(of signal: [UInt8]) -> RuntimeID? {
        SessionNames.owner(of: signal, sessions.names)
    }
}

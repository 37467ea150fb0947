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
    private let read: @Sendable ([pid_t]) -> [ProcessInfo.Snapshot]

    private struct Searched {
        let image: ProcessStat.Image
        let claims: IdentityClaims
    }

    /// What searches have read, by pid.
    private let searched = Mutex<[pid_t: Searched]>([:])

    /// - Parameters:
    ///   - town: The town root's path, as working directories begin.
    ///   - capacity: How many are remembered, each with an open descriptor.
    ///   - ignored: Names of programs whose work on files is no sign of life.
    ///   - isBlind: Whether nobody is to be looked at.
    ///   - read: Reads processes for a search; nil for a `ProcessReader`.
    init(
        in town: String, sessions: TownSessions, capacity: Int, ignoring ignored: Set<String>, isBlind: Bool = false,
        read: (@Sendable ([pid_t]) -> [ProcessInfo.Snapshot])? = nil
    ) {
        self.read = read ?? { [reader] in reader.read($0) }
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

    // MARK: Searching

    /// Remembered callers that still run and claim one of the runtimes that are looked for.
    func remembered(claiming isLookedFor: (RuntimeID) -> Bool) -> [ProcessInfo] {
        callers.withLock { Array($0.values) }.filter { caller in
            guard let claimed = attribution(of: caller).runtime, isLookedFor(claimed) else { return false }
            return caller.condition == .same
        }
    }

    /// Processes, callers or not, that claim one of the runtimes that are looked for.
    ///
    /// Reads command line and environment only of those that run another program than at the last search.
    func processes(_ numbers: [pid_t], claiming isLookedFor: (RuntimeID) -> Bool) -> [ProcessInfo] {
        let known = searched.withLock { $0 }
        var unread: [pid_t] = []
        var claiming: [pid_t] = []
        for number in numbers {
            guard let image = ProcessFiles(number: number).stat()?.image else { continue }
            if let known = known[number], known.image == image {
                if claims(known.claims, number, isLookedFor) { claiming.append(number) }
            } else if !image.isWithoutMemory {
                unread.append(number)
            }
        }
        let readings = (unread.isEmpty ? [] : read(unread)) + (claiming.isEmpty ? [] : read(claiming))
        searched.withLock { searched in
            for reading in readings {
                searched[reading.thread] = Searched(image: reading.stat.image, claims: reading.writer)
            }
        }
        return readings.compactMap { reading in
            guard !reading.stat.image.isWithoutMemory, claims(reading.writer, reading.thread, isLookedFor) else {
                return nil
            }
            // The claims of its ancestors may void its own.
            return caller(reading, generation: 0)
        }
    }

    private func claims(_ claims: IdentityClaims, _ number: pid_t, _ isLookedFor: (RuntimeID) -> Bool) -> Bool {
        attribution(of: claims, thread: number).runtime.map(isLookedFor) ?? false
    }

    /// Forgets what searches have read of processes that have ended.
    func forgetSearched(except numbers: [pid_t]) {
        let alive = Set(numbers)
        searched.withLock { $0 = $0.filter { alive.contains($0.key) } }
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
        attribution(of: caller?.writer ?? IdentityClaims(), thread: caller?.thread, signal: signal)
    }

    private func attribution(of claims: IdentityClaims, thread: pid_t?, signal: [UInt8]? = nil) -> Attribution {
        Attribution(
            of: claims, signal: signal,
            workingDirectory: thread.flatMap { ProcessFiles(number: $0).workingDirectory(in: town) },
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

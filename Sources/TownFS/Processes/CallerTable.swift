import Glibc
import Liveness
import Synchronization

/// Processes that send requests, read from `/proc` once for each program that a thread runs.
///
/// Each lookup reads `/proc/<thread>/stat`, which is kept open. That detects a reused number and an execve(2).
final class CallerTable: Sendable {
    /// Maximum number of ancestors inspected.
    static let maximumAncestors = 64

    private let callers = Mutex<[pid_t: ProcessInfo]>([:])
    private let town: [UInt8]
    private let sessions: TownSessions
    private let rules: IdentityRules
    private let capacity: Int
    private let ignored: Set<String>
    private let isBlind: Bool
    private let reader: ProcessReader
    private let read: @Sendable ([pid_t]) -> [ProcessInfo.Snapshot]

    private struct Searched {
        let image: ProcessStat.Image
        let claims: IdentityClaims
    }

    /// What searches have read, by pid.
    private let searched = Mutex<[pid_t: Searched]>([:])

    /// - Parameters:
    ///   - town: The town root's path, as working directories begin.
    ///   - rules: How processes name their runtime.
    ///   - capacity: Maximum number of cached callers, each with an open descriptor.
    ///   - ignored: Names of programs whose file operations are no sign of life.
    ///   - isBlind: Disables all reads of `/proc`.
    ///   - read: Reads processes for a search; nil for a `ProcessReader`.
    init(
        in town: String, sessions: TownSessions, rules: IdentityRules = .gasTown, capacity: Int,
        ignoring ignored: Set<String>, isBlind: Bool = false,
        read: (@Sendable ([pid_t]) -> [ProcessInfo.Snapshot])? = nil
    ) {
        let reader = ProcessReader(rules: rules)
        self.reader = reader
        self.rules = rules
        self.read = read ?? { reader.read($0) }
        self.isBlind = isBlind || !ProcessFiles.isOwnNamespace
        self.town = Array(town.utf8)
        self.sessions = sessions
        self.capacity = capacity
        self.ignored = ignored
    }

    /// The caller's process; nil if the thread is in another pid namespace, has ended, or cannot be read in time.
    ///
    /// - Parameter isWaiting: Whether the thread waits for the reply to its request.
    func caller(_ thread: pid_t, isWaiting: Bool = true) -> ProcessInfo? {
        guard thread > 0, !isBlind else { return nil }
        return caller(thread, generation: 0, isWaiting: isWaiting)
    }

    private func caller(_ thread: pid_t, generation: Int, isWaiting: Bool) -> ProcessInfo? {
        if let known = callers.withLock({ $0[thread] }), case .same = known.condition { return known }
        guard let reading = reader.read(thread, isWaiting: isWaiting) else { return nil }
        let caller = caller(reading, generation: generation)
        // Released outside the lock, as that closes descriptors.
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

    /// Whether a program is ignored; the kernel truncates names to 15 bytes.
    func ignores(_ program: String) -> Bool {
        ignored.contains { $0 == program || program.utf8.count == 15 && $0.hasPrefix(program) }
    }

    // MARK: Searching

    /// Cached callers that still run and claim one of the runtimes.
    func cached(claiming isLookedFor: (RuntimeID) -> Bool) -> [ProcessInfo] {
        callers.withLock { Array($0.values) }.filter { caller in
            attribution(of: caller).runtime.map(isLookedFor) == true && caller.condition == .same
        }
    }

    /// Processes, callers or not, that claim one of the runtimes.
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
                searched[reading.thread] = Searched(image: reading.stat.image, claims: reading.claims)
            }
        }
        return readings.compactMap { reading in
            guard !reading.stat.image.isWithoutMemory, claims(reading.claims, reading.thread, isLookedFor) else {
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
        // The parent, an agent or its shell, is usually cached.
        let hasParent = reading.stat.parent > 1 && generation < Self.maximumAncestors
        let parent = hasParent ? caller(reading.stat.parent, generation: generation + 1, isWaiting: false) : nil
        return ProcessInfo(reading, startedBy: parent, ignoring: ignored)
    }

    // MARK: Attribution

    /// The runtime of a touch, without considering the document; without an owner, the runtime that a process claims to
    /// be.
    ///
    /// - Parameter owner: The runtime that the signal file belongs to by its path.
    func attribution(of caller: ProcessInfo?, owner: RuntimeID? = nil) -> Attribution {
        attribution(of: caller?.claims ?? IdentityClaims(), thread: caller?.thread, owner: owner)
    }

    private func attribution(of claims: IdentityClaims, thread: pid_t?, owner: RuntimeID? = nil) -> Attribution {
        Attribution(
            of: claims, owner: owner,
            // Only Gas Town has a directory for each agent.
            workingDirectory: rules.isGasTown
                ? thread.flatMap { ProcessFiles(number: $0).workingDirectory(in: town) } : nil,
            sessions: sessions.names)
    }

    /// The caller of a request on a signal file, with the runtime of its touch; nil as for `caller`.
    ///
    /// - Parameters:
    ///   - owner: The runtime that the signal file belongs to by its path.
    ///   - former: The last one for the same open file. The same caller keeps its attribution.
    func attributedCaller(
        _ thread: pid_t, owner: @autoclosure () -> RuntimeID?, after former: AttributedCaller? = nil,
        isWaiting: Bool = true
    ) -> AttributedCaller? {
        guard let caller = caller(thread, isWaiting: isWaiting) else { return nil }
        if let former, former.caller === caller { return former }
        return AttributedCaller(caller: caller, attribution: attribution(of: caller, owner: owner()))
    }

    var sessionNames: SessionNames { sessions.names }

    /// The runtime that a signal file's path names, whichever process writes it.
    func owner(of signal: [UInt8]) -> RuntimeID? {
        SessionNames.owner(of: signal, sessions.names)
    }
}

import Glibc
import Linux
import Liveness
import Synchronization

/// Finds processes of runtimes that are silent, so that an old file is not taken for the state of a new process.
///
/// Searches `/proc` at most once a second, for all runtimes at once.
final class ProcessSearch: Sendable {
    private static let interval: Duration = .seconds(1)
    /// Number of processes read together, as each reading has a descriptor.
    private static let batch = 128

    private struct State {
        var found: [RuntimeID: ProcessInfo] = [:]
        var begun: ContinuousClock.Instant?
    }

    private let callers: CallerTable
    private let state = Mutex(State())

    init(_ callers: CallerTable) {
        self.callers = callers
    }

    /// The oldest process of a runtime; nil if there was none at the last search.
    func process(of runtime: RuntimeID) -> ProcessInfo? {
        let now = ContinuousClock.now
        let isDue = state.withLock { state in
            if let begun = state.begun, now - begun < Self.interval { return false }
            state.begun = now
            return true
        }
        if isDue {
            let found = search()
            // Released outside the lock, as that closes descriptors.
            let former = state.withLock { state in
                defer { state.found = found }
                return state.found
            }
            withExtendedLifetime(former) {}
        }
        let process = state.withLock { $0.found[runtime] }
        return process?.condition == .same ? process : nil
    }

    private func search() -> [RuntimeID: ProcessInfo] {
        let processes = directoryEntries(closing: opendir("/proc")).compactMap { pid_t($0.name) }
        callers.forgetSearched(except: processes)
        var rest = processes[...]
        var found: [RuntimeID: ProcessInfo] = [:]
        while !rest.isEmpty {
            for process in callers.processes(Array(rest.prefix(Self.batch)), claiming: { _ in true })
            where !process.isIgnored {
                guard let runtime = callers.attribution(of: process).runtime else { continue }
                if let other = found[runtime], other.image.startTime <= process.image.startTime { continue }
                found[runtime] = process
            }
            rest = rest.dropFirst(Self.batch)
        }
        return found
    }
}

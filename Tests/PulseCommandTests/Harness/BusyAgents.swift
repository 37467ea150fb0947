import Dispatch
import Glibc
import Synchronization
import TestSupport

/// Agents that keep writing heartbeats and plain files and record errors and delays.
final class BusyAgents: Sendable {
    struct Findings: Sendable {
        var writes = 0
        var slowest: Duration = .zero
        /// The time in which the agents' calls must return.
        let promise = Promise(.seconds(1))

        /// Whether no call took longer.
        var areInTime: Bool { promise.isKept(by: slowest) }
        var failures: [String] = []
    }

    private let town: MountedTown
    private let isOver = Atomic(false)
    private let findings = Mutex(Findings())
    private let group = DispatchGroup()

    /// Runs agents while `body` runs, each as a runtime of its own.
    static func work(in town: MountedTown, as ids: [String], during body: () throws -> Void) throws -> Findings {
        let agents = BusyAgents(town, ids)
        defer { agents.end() }
        try body()
        agents.end()
        return agents.findings.withLock { $0 }
    }

    private init(_ town: MountedTown, _ ids: [String]) {
        self.town = town
        for id in ids { DispatchQueue(label: "agent").async(group: group) { self.work(as: id) } }
    }

    private func end() {
        isOver.store(true, ordering: .relaxed)
        group.wait()
    }

    private func work(as id: String) {
        var round = 0
        while !isOver.load(ordering: .relaxed) {
            round += 1
            let start = ContinuousClock.now
            do {
                try town.touch(id, "round \(round)")
                try Client.write("\(round)", to: "\(town.path)/\(id)")
                _ = try Client.names(in: "\(town.path)/.runtime/heartbeats")
            } catch {
                findings.withLock { $0.failures.append("\(id), round \(round): \(error)") }
            }
            let taken = ContinuousClock.now - start
            findings.withLock {
                $0.writes += 1
                $0.slowest = max($0.slowest, taken)
            }
            // Agents pause between touches.
            usleep(10_000)
        }
    }
}

import Glibc
import Synchronization
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Random sequences of calls, on a plain directory and on a mount.
    ///
    /// A difference is reported with its seed and reduced to a minimal scenario. With
    /// `PULSEFS_PARITY_SECONDS`, several threads try random seeds for that long; with
    /// `PULSEFS_PARITY_SEED`, only that seed.
    @Suite(.needsRoot, .needs("fusermount3", "setpriv")) struct RandomParityTests {
        /// All arrangements except the one that differs only in its callers.
        private static let arrangements = Arrangement.allCases.filter { $0 != .ofRoot }

        @Test(arguments: arrangements) func randomCallsGoAsOnAPlainDirectory(_ arrangement: Arrangement) throws {
            let seconds = Self.number("PULSEFS_PARITY_SECONDS").map { Int($0) / Self.arrangements.count }
            let limit = Duration.seconds((seconds ?? 0) + 120)
            try Comparison.registerBackingFile(arrangement, limit: limit) { comparison in
                let search: Search
                if let seed = Self.number("PULSEFS_PARITY_SEED") {
                    search = Search(comparison, threadCount: 1, seeds: [seed])
                } else if let seconds {
                    search = Search(comparison, threadCount: 3, duration: .seconds(seconds))
                } else {
                    search = Search(comparison, threadCount: 1, seeds: Array(1...12))
                }
                for finding in try search.findings() { Issue.record("\(finding)") }
                print("\(arrangement.rawValue): \(search.count) sequences of \(Search.callCount) calls")
            }
        }

        private static func number(_ variable: String) -> UInt64? {
            getenv(variable).flatMap { UInt64(String(cString: $0)) }
        }
    }
}

/// Tries seeds on a mount until one shows a difference.
private final class Search: Sendable {
    static let callCount = 150
    /// The number of calls between comparisons of the trees.
    private static let interval = 25

    private struct State {
        var seeds: [UInt64]
        var count = 0
        var isOver = false
    }

    private let comparison: Comparison
    private let threadCount: Int
    private let end: ContinuousClock.Instant?
    private let state: Mutex<State>

    init(_ comparison: Comparison, threadCount: Int, seeds: [UInt64]) {
        self.comparison = comparison
        self.threadCount = threadCount
        end = nil
        state = Mutex(State(seeds: seeds.reversed()))
    }

    /// Tries random seeds.
    init(_ comparison: Comparison, threadCount: Int, duration: Duration) {
        self.comparison = comparison
        self.threadCount = threadCount
        end = .now + duration
        state = Mutex(State(seeds: []))
    }

    /// The number of sequences so far.
    var count: Int { state.withLock { $0.count } }

    func findings() throws -> [String] {
        let threads = try (0..<threadCount).map { thread in
            try CallerThread.start { [self] in
                var stages = Stages(thread: thread)
                while let seed = nextSeed() {
                    if let finding = try finding(seed: seed, &stages) {
                        state.withLock { $0.isOver = true }
                        return finding as String?
                    }
                }
                return nil
            }
        }
        return try threads.compactMap { try $0.result() }
    }

    private func nextSeed() -> UInt64? {
        state.withLock { state in
            if state.isOver { return nil }
            let seed = end == nil ? state.seeds.popLast() : UInt64.random(in: 0...UInt64(UInt32.max))
            guard let seed, end.map({ .now < $0 }) ?? true else { return nil }
            state.count += 1
            return seed
        }
    }

    /// Numbers of stages that no other thread uses.
    private struct Stages {
        private var number: Int

        /// - Parameter thread: 0, 1 or 2; skips the stage of signal files that contains another stage.
        init(thread: Int) { number = thread + 1 }

        mutating func next() -> Int {
            number += 4
            return number
        }
    }

    // MARK: One seed

    private func finding(seed: UInt64, _ stages: inout Stages) throws -> String? {
        let lines = try RandomCalls.lines(seed: seed, count: Self.callCount, comparison.arrangement)
        guard let difference = try difference(in: lines, &stages) else { return nil }
        let (shortest, description) = try shrink(Array(lines.prefix(difference.lineCount)), &stages)
        guard let description else {
            return "seed \(seed), not seen again when repeated:\n\(difference.description)"
        }
        return "seed \(seed), in \(shortest.count) calls:\n\(description)"
    }

    private func difference(in lines: [Scenario.Line], _ stages: inout Stages) throws -> Comparison.Difference? {
        try comparison.difference(in: lines, number: stages.next(), every: Self.interval)
    }

    /// Removes lines, first many at once, finally one by one, as long as the difference remains.
    private func shrink(
        _ lines: [Scenario.Line], _ stages: inout Stages
    ) throws -> (lines: [Scenario.Line], description: String?) {
        var lines = lines
        var description = try difference(in: lines, &stages)?.description
        var length = max(1, lines.count / 2)
        while description != nil {
            let before = lines.count
            var end = lines.count
            while end > 0, lines.count > 1 {
                var fewer = lines
                fewer.removeSubrange(max(0, end - length)..<end)
                if !fewer.isEmpty, let difference = try difference(in: fewer, &stages) {
                    lines = fewer
                    description = difference.description
                }
                end = min(end - length, lines.count)
            }
            if length == 1, lines.count == before { break }
            length = max(1, length / 2)
        }
        return (lines, description)
    }
}

import Glibc
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// The same system calls have the same outcomes on a plain directory and on the mount, and make the same tree.
    ///
    /// The plain directory gives the expected outcome.
    @Suite(.needsRoot, .needs("fusermount3", "setpriv")) struct ParityTests {
        @Test(arguments: Arrangement.allCases)
        func scenariosGoAsOnAPlainDirectory(_ arrangement: Arrangement) throws {
            let scenarios = try Scenario.all().filter { arrangement.admits($0) && Self.isWanted($0) }
            try Comparison.registerBackingFile(arrangement, limit: .seconds(300)) { comparison in
                let findings = try CallerThread.run {
                    try scenarios.enumerated().compactMap { number, scenario in
                        try Self.finding(in: scenario, number: number, by: comparison)
                    }
                }
                for finding in findings { Issue.record("\(finding)") }
            }
        }

        /// A part of the titles of scenarios to run, for work on them.
        private static let wanted = getenv("PULSEFS_PARITY").map { String(cString: $0) }

        private static func isWanted(_ scenario: Scenario) -> Bool {
            wanted.map { scenario.title.contains($0) } ?? true
        }

        @Test func listedDifferencesNameScenarios() throws {
            let scenarios = try Scenario.all()
            for difference in KnownDifference.exclusions + KnownDifference.failures {
                #expect(scenarios.contains { difference.names($0) }, "there is no scenario '\(difference.title)'")
            }
            let titles = scenarios.map(\.title)
            #expect(Set(titles).count == titles.count, "titles are taken twice")
        }

        /// The differences, as text.
        private static func finding(
            in scenario: Scenario, number: Int, by comparison: Comparison
        ) throws -> String? {
            do {
                let difference = try comparison.difference(in: scenario.lines, number: number)
                let known = KnownDifference.of(scenario, in: comparison.arrangement)
                switch (difference, known) {
                case (let difference?, nil): return "\(scenario.title)\n\(difference.description)"
                case (let difference?, let known?):
                    if wanted != nil {
                        print("\(scenario.title)\n\(difference.description)\n  is known: \(known.reason)")
                    }
                    return nil
                case (nil, let known?) where known.isSteady:
                    return "\(scenario.title)\n  agrees, though it is listed: \(known.reason)"
                case (nil, _): return nil
                }
            } catch {
                return "\(scenario.title)\n  cannot be played: \(error)"
            }
        }
    }
}

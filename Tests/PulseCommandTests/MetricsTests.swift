import Testing

extension ParallelEndToEnd {
    @Suite struct MetricsTests {
        /// The metrics used by alert rules and dashboard exist.
        @Test func metricsOfAlertsAndDashboardExist() throws {
            try withMountedTown { town in
                // Some exist only with a runtime or with a mirror.
                try town.touch("max")
                let lines = try Client.read("\(town.path)/.pulse/metrics").split(separator: "\n")
                let values = lines.filter { !$0.hasPrefix("#") }
                let names = Set(values.map { line in String(line.prefix { $0 != " " && $0 != "{" }) })
                let used = try ObservabilityTests.metricsUsed()
                #expect(used.count > 20)
                // Without work, a root process or a contest.
                let rare: Set = [
                    "pulsefs_runtime_work_age_seconds", "pulsefs_runtime_background_work_age_seconds",
                    "pulsefs_runtime_cpu_seconds", "pulsefs_runtime_contested_age_seconds",
                ]
                #expect(used.subtracting(names).subtracting(rare).filter { !$0.hasPrefix("pulsefs_mirror_") } == [])
                #expect(names.subtracting(ObservabilityTests.metrics) == [])
            }
        }
    }
}

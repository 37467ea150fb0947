import Testing

extension EndToEnd {
    @Suite struct MetricsTests {
        /// Alert rules and dashboard, which nobody else compares with what there is.
        @Test func whatAlertsAndDashboardAskForIsThere() throws {
            try withMountedTown { town in
                // Some are there for a runtime only, and those of a mirror with one.
                try town.touch("max")
                let lines = try Client.read("\(town.path)/.pulse/metrics").split(separator: "\n")
                let values = lines.filter { !$0.hasPrefix("#") }
                let names = Set(values.map { line in String(line.prefix { $0 != " " && $0 != "{" }) })
                let used = try ObservabilityTests.metricsUsed()
                #expect(used.count > 20)
                #expect(used.subtracting(names).filter { !$0.hasPrefix("pulsefs_mirror_") } == [])
                #expect(names.subtracting(ObservabilityTests.metrics) == [])
            }
        }
    }
}

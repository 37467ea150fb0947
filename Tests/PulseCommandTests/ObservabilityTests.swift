import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

/// Alert rules and dashboard: Prometheus accepts them, and the metrics they use exist.
@Suite(.onOwnThread) struct ObservabilityTests {
    private static let alerts = "docs/prometheus-alerts.yml"
    private static let dashboard = "docs/grafana-dashboard.json"
    private static let alertTests = "Tests/Observability/prometheus-alerts.test.yml"

    /// The metric families of `.pulse/metrics`, with those of a mirror.
    static let metrics: Set = [
        "pulsefs_activity_dropped_total", "pulsefs_activity_observed_total", "pulsefs_attributions_total",
        "pulsefs_build_info", "pulsefs_documents_pending", "pulsefs_event_readers", "pulsefs_events_lost_total",
        "pulsefs_events_total", "pulsefs_expiry_lag_seconds", "pulsefs_forgotten_total",
        "pulsefs_future_timestamps_total", "pulsefs_inodes", "pulsefs_mirror_coalesced_total",
        "pulsefs_mirror_dropped_total", "pulsefs_mirror_malformed_total", "pulsefs_mirror_queue_length",
        "pulsefs_mirror_received_total", "pulsefs_mirror_round_trip_seconds", "pulsefs_mirror_sent_total",
        "pulsefs_mirror_up", "pulsefs_open_files", "pulsefs_refused_writes_total", "pulsefs_root_processes",
        "pulsefs_runtime_age_seconds", "pulsefs_runtime_alive", "pulsefs_runtime_background_work_age_seconds",
        "pulsefs_runtime_beat_age_seconds", "pulsefs_runtime_contested_age_seconds", "pulsefs_runtime_cpu_seconds",
        "pulsefs_runtime_exited", "pulsefs_runtime_exits_total", "pulsefs_runtime_expirations_total",
        "pulsefs_runtime_work_age_seconds", "pulsefs_runtimes", "pulsefs_runtimes_listed", "pulsefs_signal_files",
        "pulsefs_touches_total", "pulsefs_ttl_seconds", "pulsefs_uptime_seconds",
    ]

    @Test func onlyMetricsThatThereAreAreAskedFor() throws {
        let used = try Self.metricsUsed()
        #expect(used.subtracting(Self.metrics).sorted() == [])
        // The dashboard shows every metric.
        #expect(Self.metrics.subtracting(used).sorted() == [])
    }

    @Test func eachAlertLeadsToAPlaceInTheDocuments() throws {
        let operations = try Self.text(of: "docs/OPERATIONS.md")
        let rules = try Self.text(of: Self.alerts)
        let places = rules.matches(of: #/runbook: docs\/OPERATIONS\.md#([a-z-]+)\n/#).map(\.1)
        for place in places {
            #expect(operations.contains(#"<a id="\#(place)"></a>"#), "\(place)")
        }
        #expect(places.count == rules.matches(of: #/- alert: /#).count)
    }

    @Test(.needs("promtool")) func alertsFireWhenTheyShould() throws {
        let root = Self.root.string
        try Command("promtool", "check", "rules", Self.alerts, in: root).output()
        try Command("promtool", "test", "rules", Self.alertTests, in: root, limit: .seconds(120)).output()
    }

    /// Each expression becomes a rule: promtool checks only rules.
    @Test(.needs("promtool")) func dashboardExpressionsAreValidForPrometheus() throws {
        let expressions = try Self.expressions()
        #expect(expressions.count > 20)
        let rules = expressions.enumerated().map { number, expression in
            ["record": "dashboard:\(number)", "expr": expression.replacing("$__rate_interval", with: "1m")]
        }
        try TemporaryDirectory.with { scratch in
            let file = scratch.path + "/rules.yml"
            // JSON is YAML.
            let text = try JSONSerialization.data(withJSONObject: ["groups": [["name": "dashboard", "rules": rules]]])
            try Client.write(String(decoding: text, as: UTF8.self), to: file)
            try Command("promtool", "check", "rules", file).output()
        }
    }

    /// The metric names in alert rules and dashboard.
    static func metricsUsed() throws -> Set<String> {
        let text = try text(of: alerts) + text(of: dashboard)
        return Set(text.matches(of: #/\bpulsefs_[a-z_]+/#).map { String($0.0) })
    }

    // MARK: The files

    private static var root: FilePath {
        var path = FilePath(#filePath)
        for _ in 1...3 { path.removeLastComponent() }
        return path
    }

    private static func text(of file: String) throws -> String {
        try Client.read(root.appending(file).string)
    }

    /// Every `expr` in the dashboard, of panels and annotations.
    private static func expressions() throws -> [String] {
        func expressions(in value: Any) -> [String] {
            switch value {
            case let object as [String: Any]:
                object.flatMap { key, value in
                    if key == "expr", let expression = value as? String { [expression] } else { expressions(in: value) }
                }
            case let array as [Any]: array.flatMap(expressions)
            default: []
            }
        }
        return expressions(in: try JSONSerialization.jsonObject(with: Data(text(of: dashboard).utf8)))
    }
}

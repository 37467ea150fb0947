extension Preset {
    /// The signal files and identities of Gas Town: what a town without options has.
    public static let gasTown = Preset(
        name: "gastown", summary: "Gas Town and beads: heartbeats, keepalives and the deacon's files.",
        signals: [
            ".runtime/keepalive.json", "daemon/activity.json", ".runtime/heartbeats/*.json", "deacon/heartbeat.json",
            "deacon/.deacon-heartbeat",
        ].map { Signal(document: $0) },
        isGasTown: true,
        variables: ["GC_ALIAS", "GC_AGENT", "GC_SESSION_NAME"],
        helpers: [
            HelperProgram(
                "gt", orNamedBy: "GT_COMMAND", subcommands: ["status-line", "nudge-poller", "agent-log"])
        ])
}

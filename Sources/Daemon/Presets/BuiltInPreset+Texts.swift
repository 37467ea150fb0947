extension BuiltInPreset {
    static let gasTown = """
        // Gas Town and beads. A town that is mounted without --preset uses this one.
        {
            name: "gastown",
            summary: "Gas Town and beads: heartbeats, keepalives and the deacon's files.",

            // GT_ROLE, BEADS_ACTOR, BD_ACTOR, GT_SESSION, BEADS_AGENT_NAME, directories of rigs, and the names of
            // sessions in mayor/rigs.json name runtimes.
            identities: "gastown",

            // The kind is "document": a JSON object with a timestamp, which pulsefs adds if it is missing.
            signals: [
                { path: ".runtime/keepalive.json" },
                { path: "daemon/activity.json" },
                { path: ".runtime/heartbeats/*.json" },
                { path: "deacon/heartbeat.json" },
                { path: "deacon/.deacon-heartbeat" },
            ],

            // Agents of Gas City in a town.
            variables: ["GC_ALIAS", "GC_AGENT", "GC_SESSION_NAME"],

            // Agents leave these behind with their environment. They say nothing about the agent.
            helpers: [
                {
                    program: "gt",
                    variable: "GT_COMMAND", // may hold another name of the program
                    subcommands: ["status-line", "nudge-poller", "agent-log"],
                },
            ],
        }

        """

    static let gasCity = """
        // Gas City (gc). Its agents write no heartbeat files. Their work on files of the city proves life, and the end
        // of an agent's process proves its exit.
        //
        // pulsefs mount --preset gascity CITY
        {
            name: "gascity",
            summary: "Gas City: agents by their environment, alive by their work.",

            // The first one that is set names the runtime, as it is spelled.
            variables: ["GC_ALIAS", "GC_AGENT", "GC_SESSION_NAME", "BEADS_ACTOR"],
        }

        """

    static let claudeCode = """
        // Claude Code. Mount over its configuration directory: ~/.claude, or what CLAUDE_CONFIG_DIR names.
        //
        // pulsefs mount --preset claude-code --scope=signals ~/.claude
        {
            name: "claude-code",
            summary: "Claude Code: its sessions, alive as long as their processes.",

            signals: [
                {
                    // The name of the file is the number of the process, and so is the runtime's id. The sessionId in
                    // the file is not used: it may be an old one after /clear.
                    path: "sessions/{id}.json",
                    // Files of older versions, which have neither a process nor a status.
                    exclude: ["pid-*.json"],
                    kind: "json",
                    // idle, busy, waiting, shell
                    state: "status",
                    // Claude Code does not write the file during a turn, so its age says nothing. While the process
                    // runs, the runtime is alive. A crash leaves the file, and the number may be used again: the start
                    // of the process tells.
                    pid: "pid",
                    start: "procStart",
                },
            ],
        }

        """

    static let agentDeck = """
        // agent-deck. Mount over its data directory.
        //
        // pulsefs mount --preset agent-deck --scope=signals ~/.agent-deck
        {
            name: "agent-deck",
            summary: "agent-deck: the status files of its hooks.",

            signals: [
                {
                    // The id is that of agent-deck's session.
                    path: "hooks/{id}.json",
                    exclude: ["*.generation.json"],
                    kind: "json",
                    // running, waiting, dead
                    state: "status",
                    // Seconds since 1970.
                    timestamp: "ts",
                    // After this time, agent-deck itself does not trust the file.
                    ttl: "2m",
                },
            ],

            // The id again, in the environment of a session and its hooks.
            variables: ["AGENTDECK_INSTANCE_ID"],
        }

        """

    static let nanoClaw = """
        // NanoClaw. Mount over its installation, before it starts containers.
        //
        // pulsefs mount --preset nanoclaw --scope=signals --allow-other NANOCLAW
        {
            name: "nanoclaw",
            summary: "NanoClaw: the heartbeats of its containers.",

            signals: [
                {
                    // data/v2-sessions/<group>/<session>/.heartbeat
                    path: "data/v2-sessions/*/{id}/.heartbeat",
                    // An empty file: its modification time is the sign of life.
                    kind: "mtime",
                    // NanoClaw kills a container after this time.
                    ttl: "30m",
                },
            ],
        }

        """

    static let cortextOS = """
        // cortextos. Mount over the directory of an instance.
        //
        // pulsefs mount --preset cortextos --scope=signals ~/.cortextos/default
        {
            name: "cortextos",
            summary: "cortextos: the heartbeats of its agents.",

            signals: [
                {
                    path: "state/{id}/heartbeat.json",
                    kind: "json",
                    state: "status",
                    timestamp: "last_heartbeat",
                    // cortextos reports an agent as stale after 5 hours, and as unresponsive after 8.
                    ttl: "5h",
                },
            ],

            // In the environment of an agent.
            variables: ["CTX_AGENT_NAME"],
        }

        """

    static let touchFiles = """
        // Files that programs touch or write to show that they are alive: touch, date +%s >, a number, a line, nothing.
        // Copy this preset and keep what fits: pulsefs preset show touch-files > mine.json5
        {
            name: "touch-files",
            summary: "Heartbeat files of scripts and services: any content, or none.",

            // Any bytes up to 64 KiB are kept as they are. Paths are relative to the mounted directory.
            signals: [
                { path: "heartbeat", kind: "raw", ttl: "2m" },
                { path: "{id}.heartbeat", kind: "raw", ttl: "2m" },
                { path: "{id}_heartbeat", kind: "raw", ttl: "2m" },
                {
                    path: "heartbeats/{id}",
                    // Temporary files on the way to their name.
                    exclude: ["*.tmp", "*.tmp.*", "*.tmp-*", "*.new", "tmp*", "*~"],
                    kind: "raw",
                    ttl: "2m",
                },
                // key=value lines, one file for each agent. The ttl is that of the mount.
                { path: ".status/{id}.txt", kind: "raw" },
                // Metrics for node_exporter, judged by their modification time. Remove this line if a file has more
                // than 64 KiB: it could not be written.
                { path: "{id}.prom", kind: "mtime", ttl: "10m" },
            ],
        }

        """
}

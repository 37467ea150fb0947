import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// Ten agents of each tool for which a preset is built in.
    ///
    /// One is killed, one stopped, one silent, one restarted under the same id. Each reads back what it wrote.
    @Suite(.needs("python3"), .timeLimit(.minutes(5))) struct PresetAgentsTests {
        /// How a tool writes, as the tables of its authors say, and what pulsefs then sees.
        struct Tool: Sendable, CustomTestStringConvertible {
            let preset: String
            /// Variables of an agent; `ID` stands for its id.
            var environment: [String: String] = [:]
            /// Python: writes one heartbeat of the agent `id`.
            let beat: String
            /// The id of an agent in pulsefs, by its name and its process.
            var id: @Sendable (_ name: String, _ pid: pid_t) -> String = { name, _ in name }
            /// The state of an agent that was killed.
            var killed = "exited"
            /// The state of an agent that runs and does not beat.
            var silent = "expired"
            var isInOwnNamespace = false

            var testDescription: String { preset }
        }

        static let tools = [
            Tool(
                preset: "gastown", environment: ["GT_ROLE": "rig/polecats/ID"],
                beat: """
                    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                    put(f".runtime/heartbeats/gt-{id}.json", f'{{"timestamp":"{at}","state":"working"}}')
                    """,
                id: { name, _ in "rig/polecats/\(name)" }),
            Tool(
                preset: "gascity", environment: ["GC_ALIAS": "ID", "BEADS_ACTOR": "session-ID"],
                beat: "put(f'notes-{id}', str(time.time()))"),
            Tool(
                preset: "claude-code",
                beat: """
                    start = open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19]
                    put(f"sessions/{os.getpid()}.json", json.dumps({"pid": os.getpid(), "procStart": start,
                        "sessionId": id, "status": "some new word", "updatedAt": int(time.time() * 1000)}))
                    put(f"sessions/pid-{os.getpid()}.json", "{}")
                    """,
                id: { _, pid in "\(pid)" }, silent: "alive"),
            Tool(
                preset: "agent-deck", environment: ["AGENTDECK_INSTANCE_ID": "ID"],
                beat: """
                    put(f"hooks/{id}.json", json.dumps({"status": "running", "session_id": id, "event": "Stop",
                        "ts": int(time.time())}), rename=True)
                    """),
            Tool(
                preset: "nanoclaw",
                beat: """
                    path = f"data/v2-sessions/group/{id}/.heartbeat"
                    if os.path.exists(path): os.utime(path)
                    else: put(path, "")
                    """,
                killed: "expired", isInOwnNamespace: true),
            Tool(
                preset: "cortextos", environment: ["CTX_AGENT_NAME": "ID"],
                beat: """
                    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                    put(f"state/{id}/heartbeat.json", json.dumps({"agent": id, "last_heartbeat": at}), rename=True)
                    """),
            Tool(
                preset: "touch-files", beat: "put(f'heartbeats/{id}', f'{time.time()}\\n')", killed: "expired"),
        ]

        /// An agent beats until the file `quiet-<id>` exists; a heartbeat that is read back otherwise ends it.
        private static func program(_ tool: Tool, scratch: String) -> String {
            let beat = tool.beat.split(separator: "\n").map { "    \($0)" }.joined(separator: "\n")
            return """
                import json, os, sys, time
                id = sys.argv[1]

                def put(path, text, rename=False):
                    if os.path.dirname(path): os.makedirs(os.path.dirname(path), exist_ok=True)
                    with open(path + ".tmp" if rename else path, "w") as file: file.write(text)
                    if rename: os.rename(path + ".tmp", path)
                    assert open(path).read() == text, path
                    assert os.stat(path).st_size == len(text), path

                def beat():
                \(beat)

                while True:
                    if not os.path.exists(f"\(scratch)/quiet-{id}"): beat()
                    time.sleep(0.2)
                """
        }

        private struct Agent {
            let name: String
            let running: RunningCommand
            let id: String
        }

        private func start(_ name: String, _ tool: Tool, in town: MountedTown) throws -> Agent {
            let program = Self.program(tool, scratch: town.scratch.path)
            let words = ["python3", "-c", program, name]
            var command = Command(
                tool.isInOwnNamespace ? ["unshare", "--pid", "--fork", "--kill-child"] + words : words, in: town.path,
                limit: .seconds(280))
            command.environment = tool.environment.mapValues { $0.replacing("ID", with: name) }
            let running = try command.start()
            return Agent(name: name, running: running, id: tool.id(name, running.pid))
        }

        /// Sends a signal to the agent, or, in a namespace of its own, to all of its group.
        private func send(_ signal: CInt, to agent: Agent) { kill(-agent.running.pid, signal) }

        @Test(arguments: tools) func stateOfEachAgentIsTrue(_ tool: Tool) throws {
            // The preset's own ttl is minutes or hours; all else is as built in.
            try withTown(limit: .seconds(240)) { town in
                for directory in ["mayor", ".runtime/heartbeats", "sessions", "hooks", "data", "state", "heartbeats"] {
                    _ = try town.scratch.directory("town/\(directory)")
                }
                try Client.write(
                    #"{"rigs":{"rig":{"beads":{"prefix":"gt"}}}}"#, to: "\(town.path)/mayor/rigs.json")
                let shown = try town.pulsefsCommand(["preset", "show", tool.preset]).output()
                let file = "\(town.scratch.path)/preset.json5"
                try Client.write(shown.replacing(#/ttl: *"[^"]*"/#, with: #"ttl: "3s""#), to: file)
                try town.mount(["--preset", file, "--ttl", "3s"])

                let names = (0..<10).map { "agent-\($0)" }
                var agents = try names.map { try start($0, tool, in: town) }
                defer { for agent in agents { send(SIGKILL, to: agent) } }
                func expect(_ state: String, _ agent: Agent) throws {
                    let isSo = try town.becomes(state, agent.id, within: .seconds(30))
                    #expect(isSo, "\(agent.name) is not \(state): \(agent.running.printedErrors)")
                }
                for agent in agents { try expect("alive", agent) }

                send(SIGKILL, to: agents[0])
                send(SIGSTOP, to: agents[1])
                try Client.write("", to: "\(town.scratch.path)/quiet-\(agents[2].name)")
                try expect(tool.killed, agents[0])
                try expect("expired", agents[1])
                try expect(tool.silent, agents[2])
                for agent in agents[3...] { try expect("alive", agent) }

                send(SIGKILL, to: agents[3])
                try expect(tool.killed, agents[3])
                agents.append(try start(agents[3].name, tool, in: town))
                try expect("alive", agents[10])
                send(SIGCONT, to: agents[1])
                try expect("alive", agents[1])
                for agent in agents[4...] {
                    #expect(agent.running.isRunning, "\(agent.name): \(agent.running.printedErrors)")
                    try expect("alive", agent)
                }
                // Silence, stop and exit are told apart for good.
                try expect(tool.killed, agents[0])
                try expect(tool.silent, agents[2])
                for agent in agents { send(SIGKILL, to: agent) }
                for agent in agents { _ = try agent.running.wait() }
                for agent in agents[4...] { try expect(tool.killed, agent) }
                try town.unmount()
            }
        }
    }
}

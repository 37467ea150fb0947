import Glibc
import SystemPackage
import TestSupport
import Testing

extension EndToEnd {
    /// Bug reports of tools other than Gas Town that report liveness through files.
    @Suite(.inEachScope, .needs("python3", "cc")) struct ToolReportTests {
        /// Calls `body` with a town that has some directories at the mount, and its agents.
        private func withTown(
            _ options: String..., directories: String..., body: (MountedTown, Agents) throws -> Void
        ) throws {
            try withMountedTown(
                options: options,
                prepare: { path in
                    for directory in directories { try Command("mkdir", "-p", "\(path)/\(directory)").output() }
                }
            ) { town in try Agents.with(in: town) { try body(town, $0) } }
        }

        // MARK: Gas City

        /// gascity#5121, #1653, #6298: a probe that failed meant dead, and a dead pane was active for days.
        ///
        /// pulsefs did not know these names: the agent was nobody.
        @Test(arguments: ["GC_ALIAS", "GC_AGENT", "GC_SESSION_NAME"])
        func agentOfGasCityIsKnownByItsEnvironmentAndExitsAtOnce(variable: String) throws {
            try withAgents { town, agents in
                let agent = try agents.start(environment: [variable: "reviewer-3", "GC_RIG": "gastown"])
                try agent.perform("touch('gc work')")
                let view = try #require(try town.runtime("reviewer-3"))
                #expect(view.state == "alive" && view.evidence.by == variable && view.evidence.pid == agent.pid)
                #expect(try eventually { try town.runtime("reviewer-3")?.rootPid == agent.pid })
                let promise = Promise(.seconds(1))
                try agent.kill()
                #expect(try town.becomes("exited", "reviewer-3", within: promise))
            }
        }

        /// gascity-packs#399: each question refreshed the sign of life that it asked for.
        @Test func askingIsNoSignOfLife() throws {
            try withAgents("--ttl", "3s") { town, agents in
                let events = try EventReader(town)
                // The agent itself asks.
                let agent = try agents.start(environment: ["GC_ALIAS": "reviewer-3"], in: "gastown/crew/max")
                try agent.perform("touch('gc work'); os.chdir('/')")
                try agent.begin(
                    """
                    pulse = town + "/.pulse/"
                    devnull = os.open(os.devnull, os.O_RDWR)
                    def quiet(): os.dup2(devnull, 1); os.dup2(devnull, 2)
                    def ask():
                        for name in ["runtimes/reviewer-3.json", "alive/reviewer-3", "status.json", "metrics"]:
                            try: open(pulse + name).read()
                            except FileNotFoundError: pass
                        os.listdir(pulse + "runtimes")
                        os.listdir(pulse + "alive")
                        os.path.exists(pulse + "alive/reviewer-3")
                        events = os.open(pulse + "events", os.O_RDONLY | os.O_NONBLOCK)
                        try: os.read(events, 4096)
                        except BlockingIOError: pass
                        finally: os.close(events)
                        for words in [["alive", town, "reviewer-3"], ["status", town, "--json"], ["doctor", town]]:
                            os.waitpid(start("\(BuiltProgram.path)", *words, before=quiet), 0)
                    result = work(ask)
                    """)
                #expect(try town.becomes("expired", "reviewer-3"))
                #expect(try agent.endWork() > 1)
                #expect(try eventually { try events.kinds(of: "reviewer-3") == ["touched", "expired"] })
                #expect(try #require(try town.runtime("reviewer-3")?.ageSeconds) > 3)
            }
        }

        // MARK: cortextos

        /// cortextos#929, #962: a daemon beat on behalf of agents that were not there.
        ///
        /// pulsefs put its own timestamp into the document, and took the file for nobody's.
        @Test func beatOnBehalfOfAnAgentIsNoLifeOfTheAgent() throws {
            let signal = "state/{id}/heartbeat.json;kind=json;timestamp=last_heartbeat"
            try withTown("--signal", signal, directories: "state/alice") { town, agents in
                let events = try EventReader(town)
                let file = "\(town.path)/state/alice/heartbeat.json"
                let beat = """
                    def beat_for(id):
                        text = json.dumps({"agent": id, "last_heartbeat": now()[:19] + "Z", "status": "online"})
                        replace(town + "/state/" + id + "/heartbeat.json", text)
                        return text
                    """
                let daemon = try agents.start(environment: ["GC_ALIAS": "fleet-daemon"], program: "node")
                let agent = try agents.start(environment: ["GC_ALIAS": "alice"])
                for process in [daemon, agent] { try process.perform(beat) }

                // The file says what the daemon wrote.
                let written = try daemon.perform("result = beat_for('alice')")
                #expect(try Client.read(file) == written)
                let absent = try #require(try town.runtime("alice"))
                #expect(absent.state == "never" && absent.evidence.writtenBy == "fleet-daemon")
                #expect(absent.onBehalf?.writtenBy == "fleet-daemon")
                #expect(absent.onBehalf?.pid == daemon.pid && absent.onBehalf?.program == "node")
                #expect(absent.clocks.beat == nil)
                #expect(!Client.exists("\(town.path)/.pulse/alive/alice"))
                #expect(try eventually { try events.events(of: "alice").count == 1 })
                let event = try #require(try events.events(of: "alice").first)
                #expect(event.event == "touched" && event.runtime == nil)
                #expect(event.onBehalfOf == "alice" && event.writtenBy == "fleet-daemon")

                try agent.perform("beat_for('alice')")
                let alive = try #require(try town.runtime("alice"))
                #expect(alive.state == "alive" && alive.evidence.writtenBy == nil)
                #expect(try eventually { try town.runtime("alice")?.rootPid == agent.pid })
                try daemon.perform("beat_for('alice')")
                #expect(try town.runtime("alice")?.evidence.pid == agent.pid)

                let promise = Promise(.seconds(1))
                try agent.kill()
                #expect(try town.becomes("exited", "alice", within: promise))
                let last = try daemon.perform("for i in range(20): result = beat_for('alice')")
                #expect(try Client.read(file) == last)
                let exited = try #require(try town.runtime("alice"))
                #expect(exited.state == "exited" && exited.evidence.pid == agent.pid)
                #expect(exited.onBehalf?.pid == daemon.pid)
            }
        }

        // MARK: Multica

        /// multica#8275: two daemons with one id kept each other's runtimes online.
        ///
        /// pulsefs showed whichever had touched last.
        @Test func twoAgentsWithOneIdAreBothNamed() throws {
            try withAgents { town, agents in
                let events = try EventReader(town)
                let pair = try (0..<2).map { _ in try agents.start(environment: ["GC_ALIAS": "runtime-7"]) }
                let pids = Set(pair.map(\.pid))
                for agent in pair { try agent.perform("touch('multica daemon')") }
                #expect(try eventually { try events.kinds(of: "runtime-7").contains("contested") })
                let event = try #require(try events.events(of: "runtime-7").first { $0.event == "contested" })
                #expect(Set([event.pid, event.otherPid].compactMap { $0 }) == pids)
                let view = try #require(try town.runtime("runtime-7"))
                #expect(view.state == "alive" && view.contestedBy?.program == "claude")
                #expect(Set([view.evidence.pid, view.contestedBy?.pid].compactMap { $0 }) == pids)
                // The end of one is not the end of the other.
                try pair[0].kill()
                #expect(try eventually { try town.runtime("runtime-7")?.rootPid == pair[1].pid })
                #expect(try town.state(of: "runtime-7") == "alive")
                let promise = Promise(.seconds(1))
                try pair[1].kill()
                #expect(try town.becomes("exited", "runtime-7", within: promise))
                // It is reported once, not with each touch.
                #expect(try events.kinds(of: "runtime-7").count { $0 == "contested" } == 1)
            }
        }

        /// The same with two daemons on two hosts, which share a town name and a Redis.
        @Test(.needsRedis) func twoHostsWithOneIdAreBothNamed() throws {
            let redis = try RedisServer.onSocket()
            let options = ["--redis", redis.url, "--town-name", "gt"]
            try withAgents(options: options) { here, agents in
                try withAgents(options: options) { there, others in
                    #expect(try eventually { try here.mirror.isUp && there.mirror.isUp })
                    let events = try EventReader(here)
                    let near = try agents.start(environment: ["GC_ALIAS": "runtime-7"])
                    let far = try others.start(environment: ["GC_ALIAS": "runtime-7"])
                    // In turns, each after the other's touch has arrived.
                    try Self.touch(by: near, seenIn: [here, there])
                    try Self.touch(by: far, seenIn: [here, there])
                    try Self.touch(by: near, seenIn: [here, there])
                    #expect(try eventually { try events.kinds(of: "runtime-7").contains("contested") })
                    let host = try Command("uname", "-n").output()
                    let event = try #require(try events.events(of: "runtime-7").first { $0.event == "contested" })
                    #expect(event.pid == near.pid && event.otherPid == far.pid)
                    #expect(event.otherHost.map { host.hasPrefix($0) } == true)
                    let rival = try #require(try here.runtime("runtime-7")?.contestedBy)
                    #expect(rival.pid == far.pid && host.hasPrefix(rival.host))
                }
            }
        }

        private static func touch(by agent: Agent, seenIn towns: [MountedTown]) throws {
            try agent.perform("touch('multica daemon')")
            let isSeen = try eventually {
                try towns.allSatisfy { try $0.runtime("runtime-7")?.evidence.pid == agent.pid }
            }
            #expect(isSeen)
        }

        /// multica#7801: an agent ended its own daemon, which nobody noticed for 6 to 25 hours.
        ///
        /// The alert is `PulsefsAgentsExited` of docs/prometheus-alerts.yml.
        @Test func endOfADaemonIsReportedAndCounted() throws {
            try withAgents { town, agents in
                let events = try EventReader(town)
                let daemon = try agents.start(environment: ["GC_ALIAS": "multica-daemon"])
                try daemon.perform("touch('multica daemon start')")
                let agent = try agents.start(environment: ["GC_ALIAS": "reviewer-3"])
                try agent.perform("touch('multica task')")
                #expect(try eventually { try town.runtime("multica-daemon")?.rootPid == daemon.pid })
                #expect(try town.metric(#"pulsefs_runtime_exited{runtime="multica-daemon"}"#) == 0)
                let exits = try town.metric("pulsefs_runtime_exits_total")
                let promise = Promise(.seconds(1))
                try agent.perform("os.kill(\(daemon.pid), 9)")
                #expect(
                    try eventually(within: promise) { try events.kinds(of: "multica-daemon").last == "exited" })
                #expect(try events.events(of: "multica-daemon").last?.pid == daemon.pid)
                #expect(try town.metric("pulsefs_runtime_exits_total") == exits + 1)
                #expect(try town.metric(#"pulsefs_runtime_exited{runtime="multica-daemon"}"#) == 1)
                #expect(try town.metric(#"pulsefs_runtimes{state="exited"}"#) == 1)
                #expect(try town.state(of: "reviewer-3") == "alive")
            }
        }

        /// multica#8473: behind a half-open socket, the last sign of life was an old one.
        ///
        /// Here Redis accepts what is sent and answers nothing.
        @Test(.needsRedis) func halfOpenConnectionChangesNoLocalAnswer() throws {
            let redis = try RedisServer.onSocket()
            try withAgents("--redis", redis.url) { town, agents in
                #expect(try eventually { try town.mirror.isUp })
                let agent = try agents.start(environment: ["GC_ALIAS": "reviewer-3"])
                try agent.perform("touch('gc work')")
                #expect(try eventually { try redis.isAlive("reviewer-3") })
                #expect(try eventually { try town.runtime("reviewer-3")?.rootPid == agent.pid })
                redis.pause()
                defer { redis.resume() }
                for number in 0..<20 {
                    let start = HeartbeatReading.now
                    try agent.perform("touch('gc \(number)')")
                    let view = try #require(try town.runtime("reviewer-3"))
                    #expect(view.state == "alive" && view.lastCommand == "gc \(number)")
                    #expect(try #require(view.ageSeconds) <= HeartbeatReading.now - start + 0.002)
                }
                let promise = Promise(.seconds(1))
                try agent.kill()
                #expect(try town.becomes("exited", "reviewer-3", within: promise))
                // When it answers again, the server is told of the end.
                redis.resume()
                #expect(try eventually { try !redis.isAlive("reviewer-3") })
            }
        }

        // MARK: Claude Code

        private static let sessions =
            "sessions/{id}.json;kind=json;pid=pid;start=procStart;state=status;exclude=pid-*.json"

        /// Writes the session file of its own process.
        private static let session = """
            def start_of(pid): return open("/proc/%s/stat" % pid).read().rsplit(")", 1)[1].split()[19]
            path = "%s/sessions/%d.json" % (town, os.getpid())
            def session(status, **fields):
                fields = {"pid": os.getpid(), "procStart": start_of("self"), "status": status,
                          "updatedAt": int(time.time() * 1000), **fields}
                text = json.dumps(fields)
                write(path, text, 0o600)
                return text
            """

        /// tuiboard#22, herdr#3414, nimbalyst#1246: a session was stale after 5 minutes of work, and a new status was
        /// refused.
        ///
        /// pulsefs added a timestamp to the document and knew no runtime of it.
        @Test func busySessionIsAliveByItsProcess() throws {
            try withTown("--ttl", "500ms", "--signal", Self.sessions, directories: "sessions") { town, agents in
                let events = try EventReader(town)
                let busy = try agents.start()
                let written = try busy.perform(Self.session + "\nresult = session('pondering', sessionId='8a')")
                let (id, file) = ("\(busy.pid)", "\(town.path)/sessions/\(busy.pid).json")
                // Its neighbours are ordinary files.
                try busy.perform("write(town + '/sessions/pid-%d.json' % os.getpid(), 'no JSON')")
                #expect(try eventually { try town.runtime(id)?.ageSeconds ?? 0 > 2 })
                let view = try #require(try town.runtime(id))
                #expect(view.state == "alive" && view.rootPid == busy.pid && view.ttlLeftSeconds == nil)
                #expect(view.reportedState == "pondering")
                #expect(try Client.read(file) == written)
                #expect(try town.runtimes() == [id])
                #expect(try events.kinds(of: id) == ["touched"])

                // A clean exit removes the file first.
                try busy.perform("os.unlink(path)")
                #expect(try town.state(of: id) == "never")
                try busy.kill()
                let crashed = try agents.start()
                try crashed.perform(Self.session + "\nsession('busy')")
                #expect(try town.becomes("alive", "\(crashed.pid)"))
                let promise = Promise(.seconds(1))
                try crashed.kill()
                #expect(try town.becomes("exited", "\(crashed.pid)", within: promise))
                #expect(Client.exists("\(town.path)/sessions/\(crashed.pid).json"))
                #expect(try town.state(of: id) == "never")
                #expect(try eventually { try events.kinds(of: id) == ["touched", "forgotten"] })
            }
        }

        /// A process that a document names.
        struct Named: Sendable, CustomTestStringConvertible {
            let testDescription: String
            let state: String
            /// The members of its document, by the pid and the start of this process.
            let fields: @Sendable (pid_t, String) -> String
            /// How much older than this process the file is, in seconds.
            var age = 0
        }

        private static let named = [
            Named(testDescription: "gone", state: "exited") { _, _ in #""pid":\#(pid_t.max),"procStart":"1""# },
            Named(testDescription: "reused", state: "exited") { pid, _ in #""pid":\#(pid),"procStart":"7""# },
            Named(testDescription: "old", state: "exited", fields: { pid, _ in #""pid":\#(pid)"# }, age: 86400),
            Named(testDescription: "runs", state: "alive") { pid, start in #""pid":\#(pid),"procStart":\#(start)"# },
        ]

        /// claude-code#72898, openclaw#60258: a lock of a process that was gone held, as its pid was another one's.
        @Test func staleFileOfAReusedPidHasExitedFromTheFirstLook() throws {
            try withMountedTown(
                "--ttl", "60s", "--signal", Self.sessions,
                prepare: { path in
                    try Client.makeDirectory("\(path)/sessions")
                    try Self.writeNamed(to: path, as: "before")
                }
            ) { town in
                for named in Self.named {
                    let view = try #require(try town.runtime("before-\(named.testDescription)"))
                    #expect(view.state == named.state, "\(named.testDescription)")
                }
                try Self.writeNamed(to: town.path, as: "after")
                // A file that was just written is not older than its process.
                for named in Self.named where named.age == 0 {
                    let view = try #require(try town.runtime("after-\(named.testDescription)"))
                    #expect(view.state == named.state, "\(named.testDescription)")
                    #expect((view.exitedAt == nil) == (named.state == "alive"))
                }
            }
        }

        private static func writeNamed(to town: String, as prefix: String) throws {
            let start = try #require(
                try Client.read("/proc/self/stat").split(separator: ")").last?.split(separator: " ")[19])
            for named in named {
                let file = "\(town)/sessions/\(prefix)-\(named.testDescription).json"
                try Client.write("{\(named.fields(getpid(), String(start)))}", to: file)
                if named.age != 0 { try Client.setModified(file, seconds: Client.now - named.age) }
            }
        }

        // MARK: NanoClaw

        /// nanoclaw#3251, #3455: an agent that was rate-limited or resumed a session touched nothing, and was killed.
        ///
        /// A file of this kind named nobody to pulsefs.
        @Test func silentAgentHasExpiredAndItsProcessIsNamed() throws {
            try withTown(
                "--ttl", "1s", "--signal", "data/v2-sessions/*/{id}/.heartbeat;kind=mtime",
                directories: "data/v2-sessions/group/s1"
            ) { town, agents in
                let events = try EventReader(town)
                let agent = try agents.start(environment: ["GC_ALIAS": "s1"])
                let file = "\(town.path)/data/v2-sessions/group/s1/.heartbeat"
                try agent.perform("write('\(file)', '')")
                try agent.perform("os.utime('\(file)')")
                #expect(try Client.read(file) == "")
                let areTold = try eventually {
                    let sources = try events.events(of: "s1").filter { $0.by == "path" }.compactMap(\.source)
                    return Set(sources) == ["written", "attributes"]
                }
                #expect(areTold)
                #expect(try eventually { try town.runtime("s1")?.rootPid == agent.pid })
                #expect(try town.becomes("expired", "s1"))
                let view = try #require(try town.runtime("s1"))
                #expect(view.state == "expired" && view.rootPid == agent.pid && view.rootStopped == false)
                #expect(view.exitedAt == nil)
                #expect(try !events.kinds(of: "s1").contains("exited"))
                // The limit is over.
                try agent.perform("os.utime('\(file)')")
                #expect(try town.becomes("expired", "s1"))
                let promise = Promise(.seconds(1))
                try agent.kill()
                #expect(try town.becomes("exited", "s1", within: promise))
            }
        }

        // MARK: Short-lived writers

        /// A way to send a heartbeat from a process that ends at once.
        struct Way: Sendable, CustomTestStringConvertible {
            let testDescription: String
            /// Shell code that runs the function `beat`.
            let script: String
        }

        private static let ways = [
            Way(testDescription: "cron", script: "setsid -w sh -c 'cd / && sh $BEAT'"),
            Way(testDescription: "ssh", script: "env -i PATH=$PATH GT_ROLE=$GT_ROLE FILE=$FILE sh $BEAT"),
            // Its pid is another one in there.
            Way(testDescription: "docker exec", script: "unshare --pid --fork --mount-proc sh $BEAT"),
            Way(testDescription: "wrapper loop", script: "for i in 1 2 3 4 5; do sh $BEAT; sleep 0.1; done"),
        ]

        /// cron, ssh, `docker exec`, a wrapper loop: the process that sends the heartbeat ends at once.
        ///
        /// pulsefs answered `exited` right after each beat, and deleted the key in Redis.
        @Test(.needsRedis, .needsRoot, .needs("unshare", "setsid"), arguments: ways)
        func heartbeatOfAShortLivedProcessCountsForItsTTL(way: Way) throws {
            let redis = try RedisServer.onSocket()
            let nux = "gastown/polecats/nux"
            try withAgents("--redis", redis.url, "--ttl", "5s", "--min-agent-age", "30s") { town, _ in
                #expect(try eventually { try town.mirror.isUp })
                let monitor = try Monitor(redis)
                let events = try EventReader(town)
                let script = "\(town.scratch.path)/beat.sh"
                try Client.write(
                    #"printf '{"timestamp":"%s"}' "$(date -u +%FT%TZ)" > "$FILE""#, to: script)
                let environment = ["GT_ROLE": nux, "FILE": town.heartbeat("gt-nux"), "BEAT": script]
                let sent = ContinuousClock.now
                let outcome = try Command("sh", "-ec", way.script, environment: environment).run()
                #expect(outcome.status == 0, "\(outcome)")
                #expect(try town.state(of: nux) == "alive")
                #expect(try eventually { try redis.isAlive(nux) })
                #expect(try town.runtime(nux)?.evidence.by == "path")
                // All its processes have ended, and pulsefs has noticed.
                #expect(try eventually { try town.runtime(nux)?.rootPid == nil })
                #expect(try town.becomes("expired", nux))
                #expect(ContinuousClock.now - sent >= .seconds(5))
                #expect(try eventually { try events.kinds(of: nux).contains("expired") })
                #expect(try !events.kinds(of: nux).contains("exited"))
                #expect(try redis.isSilent(about: nux, from: .now + .seconds(1)))
                #expect(monitor.words(with: #""DEL" "mul:runtime:hb:gastown"#) == [])
            }
        }
    }
}

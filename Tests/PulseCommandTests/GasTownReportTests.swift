import FoundationEssentials
import Glibc
import SystemPackage
import TestSupport
import Testing

extension EndToEnd {
    /// Newer bug reports of Gas Town: helpers that are left behind, frozen agents, beats that prove no progress.
    @Suite(.inEachScope, .needs("python3", "cc")) struct GasTownReportTests {
        private static let nux = "gastown/polecats/nux"

        /// A helper that an agent leaves behind.
        struct Helper: Sendable, CustomTestStringConvertible {
            let subcommand: String
            /// The name of `gt`, if the agent's `GT_COMMAND` names another one.
            var name: String?
            var testDescription: String { "\(name ?? "gt") \(subcommand)" }
        }

        /// gastown (from its source): `gt nudge` starts a poller that lives on with its starter's environment.
        ///
        /// pulsefs answered `alive` for as long as the poller lived.
        @Test(arguments: [
            Helper(subcommand: "nudge-poller"), Helper(subcommand: "agent-log"),
            Helper(subcommand: "nudge-poller", name: "gastown"),
        ]) func killedAgentHasExitedAlthoughItsHelperWorksOn(helper: Helper) throws {
            try withAgents { town, agents in
                var environment = ["GT_ROLE": Self.nux]
                if let name = helper.name {
                    environment["GT_COMMAND"] = try agents.name(name, for: "\(agents.programs)/gt")
                }
                let agent = try agents.start(environment: environment, in: Self.nux)
                try agent.perform(
                    """
                    def leave():
                        os.setsid()
                        os.chdir(town)
                    beat('gt-nux')
                    start('\(helper.name ?? "gt")', '\(helper.subcommand)', 'gt-nux', before=leave)
                    """)
                /// The number of files that the helper has renamed.
                func steps() -> Int {
                    (try? Client.names(in: "\(town.path)/.runtime/queue").first).flatMap { Int($0) } ?? 0
                }
                #expect(eventually { steps() > 0 })
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                let promise = Promise(.seconds(1))
                try agent.kill()
                #expect(try town.becomes("exited", Self.nux, within: promise))
                // More than a second of work, so that it was looked at.
                let former = steps()
                #expect(eventually { steps() > former + 120 })
                #expect(try town.state(of: Self.nux) == "exited")
            }
        }

        /// gastown#4813: a frozen witness passed 1,887 checks in three days.
        ///
        /// Its dev server kept it `alive` in pulsefs's answers too.
        ///
        /// - Parameter startsOthers: Whether each change is made by a new process, as by a compiler.
        @Test(arguments: [false, true]) func stoppedAgentExpiresWhileItsDevServerWorksOn(startsOthers: Bool) throws {
            let ttl = 2.0
            try withAgents("--ttl", "2s", "--activity", "beat") { town, agents in
                let agent = try agents.start(Self.nux)
                let file = "\(town.path)/.runtime/bundle.js"
                try agent.perform(
                    """
                    beat('gt-nux')
                    def change():
                        edit('\(file)')
                        # Seen while it runs, not as work of its parent.
                        if \(startsOthers ? "True" : "False"): time.sleep(0.2)
                    def serve():
                        while True:
                            \(startsOthers ? "wait(fork(change))" : "change()")
                            time.sleep(0.02)
                    fork(serve)
                    """)
                // As long as the agent runs, a server older than the ttl is background work, which is life. The
                // processes that it starts are young, as are an agent's tools.
                var states: Set<String> = []
                let isTold = try eventually {
                    guard let view = try town.runtime(Self.nux) else { return false }
                    states.insert(view.state)
                    let (beat, work) = (view.clocks.beat?.ageSeconds ?? 0, view.clocks.work?.ageSeconds ?? 0)
                    if startsOthers { return beat > 2 * ttl && work < ttl }
                    return beat > ttl && work > ttl && view.clocks.backgroundWork?.ageSeconds ?? 9 < ttl
                }
                #expect(isTold)
                #expect(states == ["alive"])

                agent.send(SIGSTOP)
                #expect(try town.becomes("expired", Self.nux))
                // The server works on, for longer than pulsefs waits between two looks at it.
                let modified = try FileStatus(file).modified
                #expect(try eventually { try FileStatus(file).modified > modified + 1.5 })
                let view = try #require(try town.runtime(Self.nux))
                #expect(view.state == "expired" && view.rootPid == agent.pid && view.rootStopped == true)
                // Nor do tools that know only the file take it for alive.
                #expect(try HeartbeatReading(town.heartbeat("gt-nux")).age > ttl)

                agent.send(SIGCONT)
                #expect(try town.becomes("alive", Self.nux))
                #expect(try town.runtime(Self.nux)?.rootStopped == false)
            }
        }

        /// gastown#4613, #3956: a loop that refreshes the heartbeat hid that the agent did nothing.
        ///
        /// pulsefs showed the last touch only, whatever had made it.
        @Test func fourClocksTellARefresherFromWork() throws {
            try withAgents("--ttl", "1s") { town, agents in
                let agent = try agents.start(Self.nux)
                let directory = "\(town.path)/.runtime"
                try agent.perform("edit('\(directory)/main.c')")
                #expect(try eventually { try town.runtime(Self.nux)?.clocks.work != nil })
                try agent.perform(
                    """
                    def refresh():
                        while True:
                            beat('gt-nux')
                            time.sleep(0.02)
                    refresher = fork(refresh)
                    """)
                // Alive by its beats, and without any progress for longer than the ttl.
                let isIdle = try eventually {
                    guard let view = try town.runtime(Self.nux) else { return false }
                    let (beat, work) = (view.clocks.beat?.ageSeconds ?? 9, view.clocks.work?.ageSeconds ?? 0)
                    return view.state == "alive" && work > 3 && beat < 1
                }
                #expect(isIdle)
                let idle = try #require(try town.runtime(Self.nux))
                #expect(idle.clocks.backgroundWork == nil)
                #expect(try #require(idle.clocks.cpuSeconds) < 0.5)

                // Without the refresher, the processor time since the last beat shows that the agent computes.
                try agent.perform("os.kill(refresher, 9); os.waitpid(refresher, 0)")
                try agent.begin("result = work(lambda: None)")
                let computes = try eventually { try town.runtime(Self.nux)?.clocks.cpuSeconds ?? 0 > 1 }
                #expect(computes)
                #expect(try #require(try town.runtime(Self.nux)?.clocks.work?.ageSeconds) > 3)
                #expect(try agent.endWork() > 0)

                // Work is work, and beats stay as old as they are.
                try agent.perform("edit('\(directory)/main.c')")
                let works = try eventually {
                    guard let clocks = try town.runtime(Self.nux)?.clocks, let work = clocks.work,
                        let beat = clocks.beat
                    else { return false }
                    return work.ageSeconds < beat.ageSeconds
                }
                #expect(works)
            }
        }

        /// What `pulsefs alive --json` prints.
        private struct Answer: Decodable {
            let runtimes: [RuntimeView]
        }

        /// gastown#4436, #4441: a look-up that failed was read as "dead", and two programs had two thresholds.
        @Test func questionWithoutAnAnswerIsNotAnsweredWithDeath() throws {
            try withAgents { town, agents in
                let agent = try agents.start(Self.nux)
                try agent.perform("beat('gt-nux')")
                let start = HeartbeatReading.now
                let written = try HeartbeatReading(town.heartbeat("gt-nux")).timestamp
                // One answer with one age, whoever asks.
                let printed = try town.pulsefs("alive", "--json", town.path, Self.nux)
                #expect(printed.status == 0)
                let decoder = JSONDecoder()
                decoder.keyDecodingStrategy = .convertFromSnakeCase
                let told = try decoder.decode(Answer.self, from: Data(printed.output.utf8)).runtimes
                for view in told + [try #require(try town.runtime(Self.nux))] {
                    let age = try #require(view.ageSeconds)
                    #expect(view.state == "alive" && told.count == 1)
                    #expect((start - written - 0.01...HeartbeatReading.now - written + 0.01).contains(age), "\(age)")
                }

                func expectNoAnswer(_ why: Comment) throws {
                    let outcome = try town.pulsefs("alive", town.path, Self.nux)
                    #expect(outcome.status == 2, why)
                    #expect(outcome.output == "" && outcome.errors != "", why)
                }
                // Nobody answers.
                let processes = town.processes
                for pid in processes { kill(pid, SIGSTOP) }
                defer { for pid in processes { kill(pid, SIGCONT) } }
                try expectNoAnswer("stopped")
                for pid in processes { kill(pid, SIGCONT) }
                #expect(try town.pulsefs("alive", town.path, Self.nux).status == 0)
                try agent.perform("os.chdir('/')")
                town.killAll()
                #expect(eventually { town.processes.isEmpty })
                try expectNoAnswer("killed")
                try town.mount()
                try agent.perform("beat('gt-nux')")
                #expect(try town.pulsefs("alive", town.path, Self.nux).status == 0)
                try town.unmount()
                try expectNoAnswer("not mounted")
            }
        }

        /// gastown#2086: a file from before killed a new process within its grace.
        ///
        /// pulsefs called the new process `expired`, with the age of the file.
        @Test func newProcessIsNotJudgedByAnOldFile() throws {
            try withTown { town in
                try writeRigs(to: town.path)
                let file = town.heartbeat("gt-nux")
                let old = #"{"timestamp":"\#(KeepaliveDocument.timestamp(age: 3600))","state":"working"}"#
                try Client.write(old, to: file)
                try Client.setModified(file, seconds: Client.now - 3600)
                try town.mount()
                try Agents.with(in: town) { agents in
                    let former = try #require(try town.runtime(Self.nux))
                    #expect(try former.state == "expired" && #require(former.ageSeconds) > 3500)
                    let start = HeartbeatReading.now
                    let agent = try agents.start(Self.nux)
                    #expect(try town.becomes("never", Self.nux))
                    let view = try #require(try town.runtime(Self.nux))
                    // Since its process has started, which the kernel tells in hundredths of a second.
                    let age = try #require(view.ageSeconds)
                    #expect(view.state == "never" && age <= HeartbeatReading.now - start + 0.02, "\(age)")
                    #expect(view.rootPid == agent.pid)
                    #expect(view.document == old)
                    let answer = try town.pulsefs("alive", town.path, Self.nux)
                    #expect(answer.status == 1 && answer.output.hasPrefix("never"))
                    // Asking was no sign of life.
                    #expect(try town.state(of: Self.nux) == "never")
                    #expect(try Client.read(file) == old)

                    try agent.perform("beat('gt-nux')")
                    let alive = try #require(try town.runtime(Self.nux))
                    #expect(try alive.state == "alive" && #require(alive.ageSeconds) < 60)
                    try agent.perform("os.chdir('/')")
                    let promise = Promise(.seconds(1))
                    try agent.kill()
                    #expect(try town.becomes("exited", Self.nux, within: promise))
                }
                try town.unmount()
            }
        }

        /// gastown#1265, #3460: an agent that had announced to wait for long was taken for stopped.
        ///
        /// pulsefs answered `expired` after the ttl.
        @Test func announcedSilenceIsHonouredForUpToAnHour() throws {
            try withAgents("--ttl", "1s") { town, agents in
                let announcing = try agents.start(Self.nux)
                let other = try agents.start("gastown/crew/max")
                try announcing.perform(
                    """
                    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 7200))
                    write(heartbeat('gt-nux'), document(state='exiting', expected_idle_until=until))
                    result = until
                    """)
                // Go's zero time announces nothing.
                try other.perform(
                    "write(heartbeat('gt-crew-max'), document(expected_idle_until='0001-01-01T00:00:00Z'))")
                #expect(try town.becomes("expired", "gastown/crew/max"))
                #expect(try town.runtime("gastown/crew/max")?.expectedIdleUntil == nil)
                let isOld = try eventually { try town.runtime(Self.nux)?.ageSeconds ?? 0 > 2 }
                #expect(isOld)
                let view = try #require(try town.runtime(Self.nux))
                #expect(view.state == "alive" && view.reportedState == "exiting")
                let (age, left) = (try #require(view.ageSeconds), try #require(view.ttlLeftSeconds))
                #expect(abs(age + left - 3600) < 0.01)
                let until = try HeartbeatReading.seconds(try #require(view.expectedIdleUntil))
                #expect((7100...7200).contains(until - HeartbeatReading.now))

                // Back at work, its silence counts again.
                try announcing.perform("beat('gt-nux')")
                #expect(try town.runtime(Self.nux)?.expectedIdleUntil == nil)
                #expect(try town.becomes("expired", Self.nux))
            }
        }
    }
}

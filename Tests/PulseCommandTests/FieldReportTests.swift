import Glibc
import SystemPackage
import TestSupport
import Testing

extension EndToEnd {
    /// Scenarios from bug reports of other projects, with the answers that pulsefs gives.
    ///
    /// The readers of heartbeat files are tools that do not know pulsefs and kill agents they consider dead.
    @Suite(.inEachScope, .needs("python3", "cc", "make")) struct FieldReportTests {
        private static let nux = "gastown/polecats/nux"
        private static let max = "gastown/crew/max"

        /// gastown 379f7b055: concurrent readers got partial JSON from truncating writers.
        ///
        /// `ConcurrencyTests` has more.
        @Test(.needs("node")) func readersNextToTruncatingWritersNeverGetPartialJSON() throws {
            try withAgents { town, agents in
                let writers = try (1...3).map { try agents.start("gastown/polecats/p\($0)") }
                try writers[0].perform("touch('gt 0')")
                for writer in writers {
                    try writer.begin("result = work(lambda: touch('gt ' + 'x' * (time.time_ns() % 5000)))")
                }
                let node = """
                    const fs = require('fs');
                    for (let i = 0; i < 500; i++) JSON.parse(fs.readFileSync(process.argv[1])).timestamp.length;
                    """
                let reader = try Command("node", "-e", node, town.keepalive).start()
                for _ in 0..<1000 { _ = try KeepaliveDocument(Client.read(town.keepalive)) }
                let outcome = try reader.wait()
                #expect(outcome.status == 0, "\(outcome)")
                for writer in writers { #expect(try writer.endWork() > 20) }
            }
        }

        /// gastown#4468, #4681: a healthy agent in one long tool call ran no `gt` command for longer than the timeout
        /// and was killed; so was its successor.
        @Test(.townScopeOnly("activity is seen only in mounted directories"))
        func agentInOneLongToolCallIsAliveAndItsHeartbeatIsFresh() throws {
            let ttl = 2.5
            try withAgents("--ttl", "2500ms", "--activity", "beat") { town, agents in
                let busy = try agents.start(Self.nux)
                let idle = try agents.start(Self.max)
                for (agent, session) in [(busy, "gt-nux"), (idle, "gt-crew-max")] {
                    try agent.perform("beat('\(session)')")
                }
                let start = ContinuousClock.now
                // The agent waits while its tool works.
                try busy.perform(
                    """
                    open("Makefile", "w").write("all:\\n\\twhile test ! -e enough; do echo 'int a;' > a.c && cc -c a.c; date +%s.%N >> steps; done\\n")
                    """)
                try busy.begin("run('make', '-s')")
                var lapses: [String] = []
                let isOver = try eventually(within: .seconds(20)) {
                    let (state, age) = (
                        try town.state(of: Self.nux), try HeartbeatReading(town.heartbeat("gt-nux")).age
                    )
                    if state != "alive" || age >= ttl { lapses.append("\(state), \(age) s old") }
                    let ended = try town.state(of: Self.max) == "expired"
                    return ended && ContinuousClock.now - start > .seconds(2 * ttl)
                }
                // The idle agent's heartbeat shows its true age.
                #expect(isOver)
                #expect(try HeartbeatReading(town.heartbeat("gt-crew-max")).age > ttl)
                try idle.perform("open('../../polecats/nux/enough', 'w').close()")
                try busy.answer()
                // A busy machine may stop the tool for longer than the ttl.
                let steps = try Client.read("\(town.path)/\(Self.nux)/steps").split(separator: "\n").compactMap {
                    Double($0)
                }
                let pauses = zip(steps, steps.dropFirst()).map { $1 - $0 }
                #expect(steps.count > 3)
                #expect(lapses == [] || pauses.contains { $0 > ttl - 1 }, "\(lapses), \(pauses.max() ?? 0)")
            }
        }

        /// gastown#4793: writers updated one place, the killer read another; six healthy agents died in a day.
        @Test(.needsRedis) func fileTimePulseAndRedisAgree() throws {
            let redis = try RedisServer.onSocket()
            try withAgents("--ttl", "3s", "--redis", redis.url) { town, agents in
                #expect(try eventually { try town.mirror.isUp })
                let agent = try agents.start(Self.nux)
                /// The wall-clock time of the touch, and the time at which the server had it.
                func beat(_ words: String) throws -> (ClosedRange<Double>, Bracket) {
                    let start = HeartbeatReading.now
                    let (_, touched) = try Bracket.around { try agent.perform("beat('gt-nux'\(words))") }
                    let end = HeartbeatReading.now
                    let (isAlive, seen) = try Bracket.around { try eventually { try redis.isAlive(Self.nux) } }
                    #expect(isAlive)
                    return (start...end, touched.through(seen))
                }
                func expectAgreement(on time: ClosedRange<Double>, _ state: String) throws {
                    let reading = try HeartbeatReading(town.heartbeat("gt-nux"))
                    let asked = HeartbeatReading.now
                    let view = try #require(try town.runtime(Self.nux))
                    let answered = HeartbeatReading.now
                    #expect(time.contains(reading.timestamp) && time.contains(reading.modified))
                    let age = asked - reading.modified - 0.002...answered - reading.modified + 0.002
                    let told = try #require(view.ageSeconds)
                    #expect(age.contains(told), "\(told), \(age)")
                    #expect(view.document == reading.text)
                    #expect(view.state == state)
                }
                let (time, sent) = try beat("")
                try expectAgreement(on: time, "alive")
                // All change at the deadline, none earlier.
                #expect(try town.becomes("expired", Self.nux))
                #expect(ContinuousClock.now - sent.start >= .seconds(3))
                #expect(try redis.isSilent(about: Self.nux, from: sent.end + .seconds(3)))
                try expectAgreement(on: time, "expired")
                let (later, _) = try beat(", 'idle'")
                #expect(try town.runtime(Self.nux)?.reportedState == "idle")
                try expectAgreement(on: later, "alive")
            }
        }

        /// gastown#3877: a second store showed an agent's last sign of life as 18 days old.
        @Test func noOtherStoreMakesAnAgentOlderThanItsLastTouch() throws {
            let days = 18 * 86400
            try withTown { town in
                try writeRigs(to: town.path)
                let file = town.heartbeat("gt-nux")
                let old = #"{"timestamp":"\#(KeepaliveDocument.timestamp(age: days))","state":"working"}"#
                try Client.write(old, to: file)
                try Client.setModified(file, seconds: Client.now - days)
                try town.mount()
                try Agents.with(in: town) { agents in
                    #expect(try Client.read(file) == old)
                    #expect(try town.state(of: Self.nux) != "alive")
                    let agent = try agents.start(Self.nux)
                    try agent.perform("beat('gt-nux'); touch('gt prime')")
                    for _ in 0..<2 {
                        let view = try #require(try town.runtime(Self.nux))
                        #expect(try view.state == "alive" && #require(view.ageSeconds) < 60)
                        let reading = try HeartbeatReading(file)
                        #expect(reading.age < 60 && HeartbeatReading.now - reading.modified < 60)
                        // Also on disk, for the next mount.
                        try Client.synchronize(directory: "\(town.path)/.runtime/heartbeats")
                        #expect(try HeartbeatReading("\(town.backing)/.runtime/heartbeats/gt-nux.json").age < 60)
                        try agent.perform("os.chdir('/')")
                        try town.remount()
                        try agent.perform("touch('gt prime')")
                    }
                }
                try town.unmount()
            }
        }

        /// gastown#3846: agents that had never written a heartbeat counted as dead.
        @Test func neverExpiredAndExitedAreThreeThings() throws {
            try withAgents("--ttl", "500ms") { town, agents in
                let silent = try agents.start(Self.max)
                let quiet = try agents.start("gastown/witness")
                let dead = try agents.start(Self.nux)
                try quiet.perform("touch('gt prime')")
                try dead.perform("touch('gt prime')")
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == dead.pid })
                try dead.kill()
                #expect(try town.becomes("exited", Self.nux))
                #expect(try town.becomes("expired", "gastown/witness"))
                #expect(try town.state(of: Self.max) == "never")
                #expect(try town.state(of: "gastown/polecats/unheard") == "never")
                // It stays exited and does not become expired.
                #expect(try town.state(of: Self.nux) == "exited")
                #expect(try town.runtimes() == [Self.nux, "gastown/witness"])
                let answer = try town.pulsefs("alive", town.path, Self.max, "gastown/witness", Self.nux)
                #expect(answer.status == 1)
                let words = answer.output.split(separator: "\n").map { $0.prefix { $0 != " " } }
                #expect(words == ["never", "expired", "exited"])
                withExtendedLifetime(silent) {}
            }
        }

        /// gastown#4704: a fresh file hid a dead agent.
        @Test(.needsRedis) func deadAgentHasExitedHoweverFreshItsFileIs() throws {
            let redis = try RedisServer.onSocket()
            try withAgents("--redis", redis.url) { town, agents in
                #expect(try eventually { try town.mirror.isUp })
                let agent = try agents.start(Self.nux)
                try agent.perform("beat('gt-nux')")
                #expect(try eventually { try redis.isAlive(Self.nux) })
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                #expect(Client.exists("\(town.path)/.pulse/alive/\(Self.nux)"))
                let promise = Promise(.seconds(1))
                try agent.kill()
                #expect(try town.becomes("exited", Self.nux, within: promise))
                #expect(!Client.exists("\(town.path)/.pulse/alive/\(Self.nux)"))
                #expect(try HeartbeatReading(town.heartbeat("gt-nux")).age < 60)
                #expect(try town.runtime(Self.nux)?.ttlLeftSeconds == 0)
                #expect(try town.status().runtimes.alive == 0)
                #expect(try eventually(within: Promise(.seconds(2))) { try !redis.isAlive(Self.nux) })
            }
        }

        /// gastown f3bbc27db, b3c6e5a17: a pid was trusted after another process had got it.
        ///
        /// - Parameter unseen: Whether the worker is stopped while one process replaces the other.
        @Test(.needsRoot, arguments: [false, true]) func reusedPidIsNotMistaken(unseen: Bool) throws {
            try withAgents { town, agents in
                let mother = try agents.start(environment: [:])
                let recycled = pid_t(
                    try mother.number(
                        """
                        started = Signal()
                        def become(role, command):
                            os.dup2(started.reading, 0)
                            environment = {**os.environ, "READY": "\(town.scratch.path)/ready-" + str(role).replace("/", "-")}
                            if role: environment["GT_ROLE"] = role
                            os.execvpe("sh", ["sh", "-c", command + "; : > $READY; read line"], environment)
                        child = fork(lambda: become("\(Self.nux)", "gt prime; touch $GT_ROOT/a.c"))
                        # One like it, who gets the same number.
                        def again(number, role, command):
                            while True:
                                try: open("/proc/sys/kernel/ns_last_pid", "w").write(str(number - 1))
                                except OSError: pass
                                heard = os.pipe()
                                def begin():
                                    os.close(heard[1])
                                    if os.getpid() == number and os.read(heard[0], 1): become(role, command)
                                other = fork(begin)
                                os.close(heard[0])
                                if other == number:
                                    os.write(heard[1], b"!")
                                    os.close(heard[1])
                                    return other
                                os.close(heard[1])
                                os.waitpid(other, 0)
                        result = child
                        """))
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == recycled })
                // Only one is left.
                func isReady(_ role: String) -> Bool { Client.exists("\(town.scratch.path)/ready-\(role)") }
                let worker = try town.status().workerPid
                #expect(eventually { isReady("gastown-polecats-nux") })
                if unseen { kill(worker, SIGSTOP) }
                defer { kill(worker, SIGCONT) }
                try mother.perform(
                    """
                    os.kill(child, 9)
                    os.waitpid(child, 0)
                    again(child, "\(Self.max)", "gt mail; touch $GT_ROOT/a.c")
                    """)
                if unseen { kill(worker, SIGCONT) }
                #expect(try town.becomes("exited", Self.nux))
                #expect(try eventually { try town.runtime(Self.max)?.rootPid == recycled })
                let first = try #require(try town.runtime(Self.nux))
                #expect(first.lastCommand == "gt prime" && first.rootPid == recycled)
                let second = try #require(try town.runtime(Self.max))
                #expect(second.state == "alive" && second.evidence.by == "GT_ROLE")
                #expect(second.lastCommand == "gt mail")
                #expect(eventually { isReady("gastown-crew-max") })
                // And once more, by a process without an identity.
                try mother.perform("os.kill(child, 9); os.waitpid(child, 0); again(child, None, 'gt nobody')")
                #expect(
                    try eventually { try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt nobody" })
                #expect(try town.becomes("exited", Self.max))
                #expect(try town.state(of: Self.nux) == "exited")
                #expect(try town.runtime(Self.max)?.lastCommand == "gt mail")
                #expect(try town.runtimes() == [Self.nux, Self.max])
                try mother.perform("os.kill(child, 9); os.waitpid(child, 0)")
            }
        }

        /// gastown 2d16602cc: processes that an agent started passed on its identity to other agents.
        @Test(.needs("tmux")) func identityDoesNotLeakFromTheProcessThatStartedTheServer() throws {
            try withAgents { town, agents in
                let mayor = try agents.start("mayor")
                try mayor.perform(
                    """
                    tmux = ["tmux", "-f", "/dev/null", "-S", "\(town.scratch.path)/tmux.sock"]
                    run(*tmux, "new-session", "-d", "-s", "gt-nux", "-c", "/", "-e", "GT_ROLE=\(Self.nux)",
                        "gt mail inbox; sleep 1000")
                    """)
                // In its session, an agent's environment names it,
                #expect(try town.becomes("alive", Self.nux))
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid != nil })
                #expect(try town.runtime(Self.nux)?.lastCommand == "gt mail inbox")
                // the path of a heartbeat outranks its writer's environment, and so does the author that a document
                // names. Neither is a sign of life of the agent that did not write it,
                try mayor.perform("beat('gt-crew-max'); bd(actor='gastown/crew/joe')")
                for (id, by) in [(Self.max, "path"), ("gastown/crew/joe", "document")] {
                    let view = try #require(try town.runtime(id))
                    #expect(view.state == "never" && view.ageSeconds == nil)
                    #expect(view.evidence.by == by && view.evidence.writtenBy == "mayor")
                    #expect(view.onBehalf?.pid == mayor.pid)
                }
                // the daemon is the daemon,
                try mayor.perform("start('gt', 'daemon', 'run', before=os.setsid)")
                #expect(try town.becomes("alive", "daemon"))
                #expect(try town.runtime("daemon")?.evidence.by == "command")
                // and the commands of the status line have no identity.
                try mayor.perform(
                    "run(*tmux, 'run-shell', 'cd $GT_ROOT/mayor && gt status-line && touch $GT_ROOT/seen')")
                #expect(eventually { Client.exists("\(town.path)/seen") })
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt status-line")
                for id in ["mayor", Self.max, Self.nux, "daemon"] {
                    #expect(try town.runtime(id)?.lastCommand != "gt status-line")
                }
                // Nor do they keep alive the runtime that started them.
                try mayor.perform("touch('gt prime')")
                #expect(try eventually { try town.runtime("mayor")?.rootPid == mayor.pid })
                try mayor.kill()
                #expect(try town.becomes("exited", "mayor", within: Promise(.seconds(1))))
                #expect(try town.state(of: Self.nux) == "alive")
                #expect(try town.state(of: "daemon") == "alive")
            }
        }

        /// gastown "restart loop": a document with its time under another key counted as 292 years old, and the town
        /// restarted.
        @Test(arguments: [
            #"{"ts":"2026-01-02T03:04:05Z","state":"working"}"#, "{}", #"{"timestamp":"0001-01-01T00:00:00Z"}"#,
        ])
        func documentWithoutATimeGetsThatOfItsReceipt(text: String) throws {
            try withAgents { town, agents in
                let agent = try agents.start(Self.nux)
                try agent.perform("write(heartbeat('gt-nux'), '\(text)')")
                let reading = try HeartbeatReading(town.heartbeat("gt-nux"))
                #expect(abs(reading.timestamp - reading.modified) < 0.001)
                #expect(reading.age < 10)
                #expect(try town.state(of: Self.nux) == "alive")
                #expect(!text.contains("working") || reading.text.contains(#""state":"working""#))
                try agent.perform("os.chdir('/')")
                try town.unmount()
                #expect(try HeartbeatReading(town.heartbeat("gt-nux")).timestamp == reading.timestamp)
            }
        }

        /// gastown#3584: no process polled the heartbeats.
        @Test func eventReadersLearnOfExpiryAndExitWithoutPolling() throws {
            try withAgents("--ttl", "1s") { town, agents in
                let reader = try Command("cat", "\(town.path)/.pulse/events").start()
                #expect(try eventually { try town.status().events?.readers == 1 })
                let nux = try agents.start(Self.nux)
                let max = try agents.start(Self.max)
                try nux.perform("beat('gt-nux')")
                try max.perform("beat('gt-crew-max')")
                // No state is queried in between.
                #expect(eventually { reader.printed.contains(#""event":"expired","runtime":"\#(Self.max)""#) })
                try nux.perform("beat('gt-nux')")
                try nux.kill()
                #expect(
                    eventually(within: Promise(.seconds(2))) {
                        reader.printed.contains(#""event":"exited","runtime":"\#(Self.nux)""#)
                    })
                let events = reader.printed.split(separator: "\n").filter { $0.contains(Self.nux) }
                #expect(events.first?.contains(#""event":"touched""#) == true)
                reader.send(SIGTERM)
                _ = try reader.wait()
            }
        }

        /// gastown#589, #590: a file from before a crash got each later agent killed.
        @Test func heartbeatExpiredBeforeACrashKeepsItsAge() throws {
            try withAgents("--ttl", "1s") { town, agents in
                let agent = try agents.start(Self.nux)
                try agent.perform("beat('gt-nux'); os.chdir('/')")
                let file = town.heartbeat("gt-nux")
                let written = try HeartbeatReading(file)
                try Client.synchronize(directory: "\(town.path)/.runtime/heartbeats")
                let processes = town.processes
                for pid in processes { kill(pid, SIGSTOP) }
                try agent.kill()
                for pid in processes { kill(pid, SIGKILL) }
                #expect(eventually { town.processes.isEmpty })
                #expect(eventually { HeartbeatReading.now - written.modified > 1.2 })
                // A new mount cleans up after the crash.
                try town.mount(["--ttl", "1s"])
                let reading = try HeartbeatReading(file)
                #expect(reading.text == written.text && abs(reading.modified - written.modified) < 0.001)
                let asked = HeartbeatReading.now
                let view = try #require(try town.runtime(Self.nux))
                let age = asked - written.timestamp - 0.002...HeartbeatReading.now - written.timestamp + 0.002
                #expect(view.state == "expired")
                let told = try #require(view.ageSeconds)
                #expect(age.contains(told), "\(told), \(age)")
                // Its successor is alive with its first touch.
                let next = try agents.start(Self.nux)
                let start = HeartbeatReading.now
                try next.perform("beat('gt-nux')")
                let end = HeartbeatReading.now
                let state = try town.state(of: Self.nux)
                #expect(state == "alive" || HeartbeatReading.now - start > 1)
                #expect((start...end).contains(try HeartbeatReading(file).modified))
            }
        }

        /// multica#164: after the daemon crashed, its runtimes were online for ever.
        ///
        /// `MirrorEndTests` checks the exact times.
        @Test(.needsRedis) func keysExpireByThemselves() throws {
            let redis = try RedisServer.onSocket()
            try withAgents("--redis", redis.url, "--ttl", "2s") { town, agents in
                #expect(try eventually { try town.mirror.isUp })
                let monitor = try Monitor(redis)
                let agent = try agents.start(environment: ["GT_ROLE": Self.nux])
                try agent.perform("os.chdir('/'); beat('gt-nux')")
                #expect(try eventually { try redis.isAlive(Self.nux) })
                // A living process alone refreshes nothing.
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                #expect(try eventually { try !redis.isAlive(Self.nux) })
                #expect(monitor.lines(with: #""SET" "mul:runtime:hb:\#(Self.nux)""#).count == 1)
                try agent.perform("beat('gt-nux')")
                #expect(try eventually { try redis.isAlive(Self.nux) })
                town.killAll()
                let end = ContinuousClock.now
                #expect(eventually { town.processes.isEmpty })
                #expect(try redis.isSilent(about: Self.nux, from: end + .seconds(2)))
                try town.unmount()
            }
        }

        /// multica#825: heartbeats waited for the store, so healthy runtimes went offline.
        @Test(.needsRedis) func touchWaitsForNoRedis() throws {
            let redis = try RedisServer.onSocket()
            try withAgents("--redis", redis.url) { town, agents in
                #expect(try eventually { try town.mirror.isUp })
                let agent = try agents.start(Self.nux)
                redis.pause()
                defer { redis.resume() }
                let promise = Promise(.milliseconds(250))
                let slowest = try Self.slowest(of: 300, by: agent)
                #expect(promise.isKept(by: slowest))
                #expect(try town.state(of: Self.nux) == "alive")
                redis.resume()
                #expect(try eventually { try redis.isAlive(Self.nux) })
            }
        }

        /// The same for the disk: the town is on a frozen file system.
        @Test(.needsRoot, .needs("mkfs.ext4", "fsfreeze", "losetup")) func touchWaitsForNoDisk() throws {
            try withTown { town in
                let image = "\(town.scratch.path)/disk"
                try Command("sh", "-euc", "truncate -s 32M \(image); mkfs.ext4 -q \(image)").output()
                let disk = "\(town.path)/disk"
                try Command("sh", "-euc", "mkdir \(disk); mount -o loop \(image) \(disk)").output()
                var isFrozen = false
                defer {
                    if isFrozen { _ = try? Command("fsfreeze", "-u", disk).run() }
                    _ = try? Command("umount", disk).run()
                }
                try Command("mkdir", "-p", "\(disk)/.runtime").output()
                try town.mount(["--signal", "disk/.runtime/*.json"])
                try Agents.with(in: town) { agents in
                    let agent = try agents.start(Self.nux)
                    let file = "\(disk)/.runtime/keepalive.json"
                    try agent.perform("keepalive = '\(file)'; touch('gt 0')")
                    let frozen = try Client.open("\(town.backing)/disk", O_RDONLY)
                    defer { try? Client.close(frozen) }
                    try Command("fsfreeze", "-f", "/proc/\(getpid())/fd/\(frozen.rawValue)").output()
                    isFrozen = true
                    defer {
                        _ = try? Command("fsfreeze", "-u", "/proc/\(getpid())/fd/\(frozen.rawValue)").run()
                        isFrozen = false
                    }
                    let promise = Promise(.milliseconds(250))
                    let slowest = try Self.slowest(of: 300, by: agent)
                    #expect(promise.isKept(by: slowest))
                    #expect(try town.state(of: Self.nux) == "alive")
                    #expect(try KeepaliveDocument(Client.read(file)).lastCommand == "gt 299")
                }
                try town.unmount()
            }
        }

        /// The longest touch, measured by the agent.
        private static func slowest(of count: Int, by agent: Agent) throws -> Duration {
            let milliseconds = try agent.number(
                """
                slowest = 0
                for i in range(\(count)):
                    begin = time.monotonic()
                    touch("gt %d" % i)
                    slowest = max(slowest, time.monotonic() - begin)
                result = int(slowest * 1000)
                """)
            return .milliseconds(milliseconds)
        }

        /// multica#2121: each heartbeat wrote a database row.
        @Test(.townScopeOnly("reads the backing tree by a path that leads into the mounts"), .needsRedis)
        func touchesCostNoDiskWriteAndOneSetASecond() throws {
            let redis = try RedisServer.onSocket()
            try withAgents("--redis", redis.url) { town, agents in
                #expect(try eventually { try town.mirror.isUp })
                let agent = try agents.start(Self.nux)
                try agent.perform("beat('gt-nux'); touch('gt prime')")
                // Everything dirty is written.
                try town.synchronize()
                let monitor = try Monitor(redis)
                let worker = try town.status().workerPid
                let files = [
                    "\(town.backing)/.runtime/heartbeats/gt-nux.json", "\(town.backing)/.runtime/keepalive.json",
                ]
                let former = try files.map { try FileStatus($0) }
                let written = try Self.written(by: worker)
                let start = ContinuousClock.now
                // A touch reaches the server this late at most.
                let delay = Promise(.milliseconds(300))
                try agent.begin("result = work(lambda: (beat('gt-nux'), touch('gt prime')))")
                let isOver = eventually { ContinuousClock.now - start > .milliseconds(2300) }
                #expect(isOver)
                let touches = 2 * (try agent.endWork())
                let taken = ContinuousClock.now - start
                #expect(touches > 100)
                #expect(try Self.written(by: worker) == written, "\(touches) touches")
                for (file, former) in zip(files, former) {
                    let now = try FileStatus(file)
                    #expect(now.st_ino == former.st_ino && now.modified == former.modified)
                }
                #expect(monitor.waitForSilence())
                let times = monitor.lines(with: #""SET" "mul:runtime:hb:\#(Self.nux)""#).map(\.time)
                #expect(times.count <= Int(taken / .seconds(1)) + 2 && times.count >= 2, "\(times)")
                // The times at which the server received it.
                #expect(
                    zip(times, times.dropFirst()).allSatisfy { delay.isKept(by: .seconds(1 - ($1 - $0))) }, "\(times)")
            }
        }

        /// Bytes that a process has written to disk.
        private static func written(by pid: pid_t) throws -> Int {
            let line = try Client.read("/proc/\(pid)/io").split(separator: "\n").first { $0.hasPrefix("write_bytes:") }
            return try #require(line.flatMap { Int($0.split(separator: " ")[1]) })
        }
    }
}

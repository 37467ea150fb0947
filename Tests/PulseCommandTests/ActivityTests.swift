import Glibc
import SystemPackage
import TestSupport
import Testing

extension EndToEnd {
    /// Runtimes that are alive by their activity, and runtimes that have exited despite fresh files.
    @Suite(.needs("python3", "cc", "make")) struct ActivityTests {
        private static let nux = "gastown/polecats/nux"
        private static let max = "gastown/crew/max"

        // MARK: Activity

        /// For three ttls the agent edits files and builds, and touches no signal file.
        @Test func agentThatWorksInSilenceIsAlive() throws {
            let ttl = 2.5
            try withAgents("--ttl", "2500ms") { observing, agents in
                try withAgents("--ttl", "2500ms", "--activity", "beat") { beating, others in
                    let workers = [try agents.start(Self.nux), try others.start(Self.nux)]
                    for worker in workers {
                        try worker.perform(
                            "beat('gt-nux'); open('Makefile', 'w').write('main: main.c; cc -o main main.c\\n')")
                    }
                    let file = beating.heartbeat("gt-nux")
                    let written = try Client.read(file)
                    let former = try HeartbeatReading(observing.heartbeat("gt-nux"))
                    let start = ContinuousClock.now
                    for worker in workers {
                        try worker.begin("result = work(lambda: (edit('main.c'), run('make', '-s')))")
                    }
                    var lapses: [String] = []
                    let isOver = try eventually(within: .seconds(30)) {
                        for town in [observing, beating] {
                            let state = try town.state(of: Self.nux)
                            if state != "alive" { lapses.append(state) }
                        }
                        let reading = try HeartbeatReading(file)
                        if reading.age >= ttl { lapses.append("\(reading.age) s old") }
                        // The agent may have worked once more between open and fstat.
                        #expect(reading.modified > reading.timestamp - 0.001 || reading.text == written)
                        #expect(reading.size == reading.text.utf8.count)
                        return ContinuousClock.now - start > .seconds(3 * ttl)
                    }
                    #expect(isOver)
                    for worker in workers { #expect(try worker.endWork() > 3) }
                    // Activity counts once a second, so a pause of less than a ttl minus a second never expires.
                    let pauses = try workers.map { try $0.longestPause() }
                    #expect(lapses == [] || pauses.contains { $0 > .seconds(ttl - 1) }, "\(lapses), \(pauses)")
                    for town in [observing, beating] {
                        let view = try #require(try town.runtime(Self.nux))
                        #expect(view.evidence.source == "activity" && view.evidence.by == "GT_ROLE")
                        #expect(view.reportedState == "working")
                    }
                    // The file itself shows the difference.
                    #expect(try HeartbeatReading(observing.heartbeat("gt-nux")).text == former.text)
                    #expect(try HeartbeatReading(observing.heartbeat("gt-nux")).age > 3 * ttl)
                    // And so does the backing file.
                    let last = try HeartbeatReading(file)
                    try Client.synchronize(directory: "\(beating.path)/.runtime/heartbeats")
                    let backing = try HeartbeatReading("\(beating.backing)/.runtime/heartbeats/gt-nux.json")
                    #expect(backing.timestamp >= last.timestamp && backing.text.contains(#""state":"working""#))
                    #expect(abs(backing.modified - backing.timestamp) < 0.001)
                    // Without work it expires.
                    for town in [observing, beating] { #expect(try town.becomes("expired", Self.nux)) }
                }
            }
        }

        /// An operation by an agent's process that is not a sign of life.
        struct Noise: Sendable, CustomTestStringConvertible {
            let testDescription: String
            var options: [String] = []
            var program = "claude"
            /// A Python expression.
            let code: String
        }

        static let noises = [
            Noise(
                testDescription: "an ignored watcher", options: ["--ignore-command", "watcher"], program: "watcher",
                code: "(edit('a.c'), os.unlink('a.c'))"),
            Noise(
                testDescription: "reading attributes",
                code: "(os.stat('.'), run('sh', '-euc', 'ls -lR; find . -type f; stat *; test -e file.c; du -s .'))"),
            Noise(testDescription: "gt status-line", code: "run('gt', 'status-line')"),
            Noise(
                testDescription: "work, where it does not count", options: ["--activity", "off"],
                code: "(edit('a.c'), os.unlink('a.c'))"),
            Noise(
                testDescription: "work and touches without attribution", options: ["--no-attribution"],
                code: "(edit('a.c'), touch('gt prime'))"),
        ]

        @Test(arguments: noises) func noiseKeepsNoRuntimeAlive(_ noise: Noise) throws {
            let ttl = Duration.milliseconds(1200)
            try withAgents(options: ["--ttl", "1200ms"] + noise.options) { town, agents in
                let agent = try agents.start(Self.nux)
                let noisy = try agents.start(Self.nux, program: noise.program)
                let other = try agents.start(Self.max)
                try noisy.perform("open('file.c', 'w').close()")
                try other.perform("beat('gt-crew-max')")
                let before = ContinuousClock.now
                try agent.perform("beat('gt-nux')")
                try noisy.begin("result = work(lambda: \(noise.code))")
                let isExpired = try town.becomes("expired", Self.nux)
                #expect(isExpired)
                #expect(ContinuousClock.now - before >= ttl, "a ttl is a lower bound")
                // It stays expired.
                #expect(try noisy.endWork() > 0)
                try noisy.perform("for _ in range(20):\n  \(noise.code)")
                let isAlive = try eventually {
                    try other.perform("edit('b.c'); beat('gt-crew-max')")
                    return try town.state(of: Self.max) == "alive"
                }
                #expect(isAlive)
                let view = try #require(try town.runtime(Self.nux))
                #expect(view.state == "expired")
                #expect(view.evidence.source == "written" && view.evidence.by == "path")
            }
        }

        @Test func runtimeIsTouchedByActivityOnceASecondAtMost() throws {
            try withAgents { town, agents in
                let workers = try (0..<4).map { _ in try agents.start(Self.nux) }
                for worker in workers { try worker.begin("result = work(lambda: edit('%d.c' % os.getpid()))") }
                var times: [Double] = []
                // The longest time between two looks.
                var (looked, blind) = (ContinuousClock.now, Duration.zero)
                let isSeen = try eventually {
                    let now = ContinuousClock.now
                    (looked, blind) = (now, Swift.max(blind, now - looked))
                    guard let view = try town.runtime(Self.nux), view.evidence.source == "activity" else {
                        return false
                    }
                    let time = try HeartbeatReading.seconds(view.evidence.receivedAt)
                    if times.last != time { times.append(time) }
                    return times.count >= 4
                }
                #expect(isSeen)
                for worker in workers { #expect(try worker.endWork() > 20) }
                let pause = try workers.map { try $0.longestPause() }.reduce(.zero) { Swift.max($0, $1) }
                let limit = .milliseconds(2500) + pause + blind
                #expect(zip(times, times.dropFirst()).allSatisfy { $1 - $0 >= 0.999 }, "\(times)")
                // Nor much less often while it works all the time.
                #expect(zip(times, times.dropFirst()).allSatisfy { .seconds($1 - $0) < limit }, "\(times)")
            }
        }

        // MARK: Exit

        @Test func killedAgentHasExitedWithinASecond() throws {
            try withAgents { town, agents in
                for number in 1...8 {
                    let id = "gastown/polecats/p\(number)"
                    let agent = try agents.start(id)
                    // Known by its own touch, by a tool's, or by activity alone.
                    try agent.perform(["beat('gt-p\(number)')", "run('gt', 'prime')", "edit('a.c')"][number % 3])
                    let isWatched = try eventually { try town.runtime(id)?.rootPid == agent.pid }
                    #expect(isWatched)
                    let promise = Promise(.seconds(1))
                    try agent.kill()
                    #expect(try town.becomes("exited", id, within: promise))
                    let view = try #require(try town.runtime(id))
                    #expect(view.rootPid == agent.pid && view.exitedAt != nil && view.ttlLeftSeconds == 0)
                }
            }
        }

        /// However it ends, and whatever its parent is.
        @Test(arguments: ["os._exit(0)", "sys.exit('an error')", "os.abort()", "os.kill(os.getpid(), 15)", "1 / 0"])
        func agentThatEndsHasExited(way: String) throws {
            try withAgents { town, agents in
                let parent = try agents.start(environment: [:])
                try parent.perform(
                    """
                    def body():
                        os.environ["GT_ROLE"] = "\(Self.nux)"
                        os.execvp("claude", ["claude", "-ISc", '''
                    import os, sys
                    open("\(town.keepalive)", "w").write("gt prime")
                    sys.stdin.readline()
                    \(way)
                    '''])
                    released = Signal()
                    def start_():
                        os.dup2(released.reading, 0)
                        body()
                    child = fork(start_)
                    """)
                #expect(try town.becomes("alive", Self.nux))
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid != nil })
                try parent.perform("os.write(released.writing, b'\\n'); os.waitpid(child, 0)")
                #expect(try town.becomes("exited", Self.nux, within: Promise(.seconds(1))))
                // A runtime that comes back is alive.
                try parent.perform("run('gt', 'prime', env={**os.environ, 'GT_ROLE': '\(Self.nux)'})")
                let view = try #require(try town.runtime(Self.nux))
                #expect(view.evidence.source == "written")
            }
        }

        /// Its first process is not its only one.
        @Test func runtimeHasExitedWhenTheLastOfItsProcessesHas() throws {
            try withAgents { town, agents in
                let agent = try agents.start(Self.nux)
                let bystander = try agents.start(Self.max)
                try agent.perform("beat('gt-nux')")
                // An idle process of the same identity in a session of its own, and one of another identity.
                let pids = try agent.perform(
                    """
                    left = start("sleep", "1000", before=os.setsid)
                    other = start("sleep", "1000", before=os.setsid, env={**os.environ, "GT_ROLE": "\(Self.max)"})
                    result = "%d %d" % (left, other)
                    """)
                let (left, other) = try Self.pair(pids)
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                try agent.kill()
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == left })
                #expect(try town.state(of: Self.nux) == "alive")
                #expect(try town.runtime(Self.nux)?.exitedAt == nil)
                let promise = Promise(.seconds(1))
                kill(left, SIGKILL)
                #expect(try town.becomes("exited", Self.nux, within: promise))
                #expect(try town.runtime(Self.nux)?.rootPid == left)
                #expect(kill(other, 0) == 0)
                withExtendedLifetime(bystander) {}
            }
        }

        /// Without a free descriptor the remaining processes cannot be found.
        @Test func runtimeThatCannotBeSearchedIsNotReportedAsExited() throws {
            try withAgents { town, agents in
                let agent = try agents.start(Self.nux)
                try agent.perform("beat('gt-nux')")
                let left = pid_t(try agent.number("result = start('sleep', '1000', before=os.setsid)"))
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                let worker = try town.status().workerPid
                func limitDescriptors(_ most: Int) throws {
                    try #require(try Command("prlimit", "--pid", "\(worker)", "--nofile=\(most):").run().status == 0)
                }
                try limitDescriptors(3)
                try agent.kill()
                #expect(try !town.becomes("exited", Self.nux, within: .milliseconds(500)))
                try limitDescriptors(1024)
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == left })
                #expect(try town.runtime(Self.nux)?.exitedAt == nil)
                kill(left, SIGKILL)
                #expect(try town.becomes("exited", Self.nux))
            }
        }

        /// A program that is meant to outlive agents is not an agent, whichever process started it.
        @Test func ignoredProcessThatIsLeftIsNotItsAgent() throws {
            try withAgents("--ignore-command", "watcher") { town, agents in
                let agent = try agents.start(Self.nux)
                try agents.name("watcher", for: "/bin/sleep")
                try agent.perform("beat('gt-nux'); left = start('watcher', '1000', before=os.setsid)")
                let left = pid_t(try agent.number("result = left"))
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                try agent.kill()
                #expect(try town.becomes("exited", Self.nux, within: Promise(.seconds(1))))
                #expect(kill(left, 0) == 0)
            }
        }

        private static func pair(_ text: String) throws -> (pid_t, pid_t) {
            let numbers = text.split(separator: " ").compactMap { pid_t($0) }
            try #require(numbers.count == 2)
            return (numbers[0], numbers[1])
        }

        @Test func manyAgentsEndAtOnce() throws {
            try withAgents { town, agents in
                let ids = (1...20).map { "gastown/polecats/p\($0)" }
                let mother = try agents.start(environment: [:])
                try mother.perform(
                    """
                    released = Signal()
                    children = []
                    for i in range(1, 21):
                        def stay():
                            os.dup2(released.reading, 0)
                            os.environ["GT_ROLE"] = "gastown/polecats/p%d" % i
                            os.execvp("sh", ["sh", "-c", "gt prime; read line; exit 0"])
                        children.append(fork(stay))
                    """)
                let areAlive = try eventually { try ids.allSatisfy { try town.runtime($0)?.rootPid != nil } }
                #expect(areAlive)
                let roots = Set(try ids.compactMap { try town.runtime($0)?.rootPid })
                #expect(roots.count == 20)
                try mother.perform(
                    "os.write(released.writing, b'\\n' * 20)\nfor child in children: os.waitpid(child, 0)")
                let haveExited = try eventually(within: Promise(.seconds(1))) {
                    try ids.allSatisfy { try town.state(of: $0) == "exited" }
                }
                #expect(haveExited)
            }
        }

        // MARK: Mounts

        @Test(arguments: [false, true]) func processesAreFoundAnewAfterARemount(workerDies: Bool) throws {
            try withAgents { town, agents in
                // An agent that stays must not make the town busy.
                let agent = try agents.start(environment: ["GT_ROLE": Self.nux])
                try agent.perform("os.chdir('/'); beat('gt-nux')")
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                if workerDies {
                    try town.killWorkers()
                    #expect(eventually { town.processes.isEmpty })
                    try town.mount()
                } else {
                    try town.remount()
                }
                try agent.perform("touch('gt prime')")
                #expect(try town.state(of: Self.nux) == "alive")
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                try agent.kill()
                #expect(try town.becomes("exited", Self.nux, within: Promise(.seconds(1))))
            }
        }
    }
}

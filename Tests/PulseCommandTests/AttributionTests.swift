import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// Attribution of touches by real processes.
    @Suite(.inEachScope, .needs("python3", "cc")) struct AttributionTests {
        private static let nux = "gastown/polecats/nux"
        private static let max = "gastown/crew/max"

        /// - Parameter hasEnded: Whether the only process of the runtime has ended: it may have exited by now.
        private func expect(
            _ id: String, by: String, of pid: pid_t? = nil, shows command: String, in town: MountedTown,
            hasEnded: Bool = false, _ location: SourceLocation = #_sourceLocation
        ) throws {
            let view = try #require(try town.runtime(id), "\(id) is never", sourceLocation: location)
            #expect(view.state == "alive" || hasEnded && view.state == "exited", sourceLocation: location)
            #expect(view.evidence.by == by, sourceLocation: location)
            if let pid { #expect(view.evidence.pid == pid, sourceLocation: location) }
            #expect(view.lastCommand == command, sourceLocation: location)
            #expect(try town.runtimes() == [id], sourceLocation: location)
        }

        /// One way to be identified.
        struct Method: Sendable, CustomTestStringConvertible {
            let by: String
            let runtime: String
            var environment: [String: String] = [:]
            var directory: String?
            var testDescription: String { "\(runtime) by \(by): \(environment), \(directory ?? "")" }
        }

        static let ways = [
            Method(by: "GT_ROLE", runtime: nux, environment: ["GT_ROLE": "gastown/polecats/nux"], directory: "mayor"),
            Method(by: "GT_ROLE", runtime: nux, environment: ["GT_ROLE": " gastown//nux/ ", "BD_ACTOR": "mayor"]),
            Method(
                by: "GT_ROLE", runtime: nux,
                environment: ["GT_ROLE": "polecat", "GT_RIG": "gastown", "GT_POLECAT": "nux"]),
            Method(by: "GT_ROLE", runtime: "deacon/dogs/rex", environment: ["GT_ROLE": "dog", "GT_DOG_NAME": "rex"]),
            Method(by: "BD_ACTOR", runtime: "gastown/witness", environment: ["BD_ACTOR": "gastown-witness"]),
            Method(
                by: "BD_ACTOR", runtime: nux, environment: ["GT_ROLE": "polecat", "BD_ACTOR": "gastown/polecats/nux"]),
            Method(by: "directory", runtime: max, directory: "gastown/crew/max/src"),
            Method(by: "directory", runtime: "deacon", environment: ["GT_SESSION": "gt-nux"], directory: "deacon"),
            Method(
                by: "GT_SESSION", runtime: nux, environment: ["GT_SESSION": "gt-nux"], directory: "gastown/mayor/rig"),
            Method(by: "GT_SESSION", runtime: max, environment: ["GT_SESSION": "gt-crew-max"]),
            Method(by: "BEADS_AGENT_NAME", runtime: nux, environment: ["BEADS_AGENT_NAME": "gastown/nux"]),
        ]

        @Test(arguments: ways) func runtimeIsIdentifiedByItsProcess(_ way: Method) throws {
            try withAgents { town, agents in
                let agent = try agents.start(environment: way.environment, in: way.directory)
                try agent.perform("touch('gt prime')")
                try expect(way.runtime, by: way.by, of: agent.pid, shows: "gt prime", in: town)
                let view = try #require(try town.runtime(way.runtime))
                #expect(view.evidence.program == "claude")
                #expect(view.evidence.signal == ".runtime/keepalive.json")
                #expect(try eventually { try town.runtime(way.runtime)?.rootPid == agent.pid })
            }
        }

        @Test func actorInTheDocumentOutranksTheDirectory() throws {
            try withAgents { town, agents in
                let agent = try agents.start(in: "mayor")
                try agent.perform("bd(actor='gastown/crew/max')")
                let view = try #require(try town.runtime(Self.max))
                #expect(view.evidence.by == "document" && view.evidence.pid == agent.pid)
                // It works in the mayor's directory and is the mayor's process.
                #expect(view.rootPid == nil)
                #expect(try town.runtimes().subtracting(["mayor"]) == [Self.max])
            }
        }

        @Test func processWithoutIdentityTouchesOnlyTheFile() throws {
            try withAgents { town, agents in
                let agent = try agents.start(environment: ["GT_ROLE": "polecat", "USER": "gastown/polecats/nux"])
                try agent.perform("touch('gt prime')")
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt prime")
                #expect(try town.runtimes() == [])
            }
        }

        // MARK: Threads, forks, programs

        @Test func threadIsItsProcess() throws {
            try withAgents { town, agents in
                let agent = try agents.start(Self.nux)
                let thread = try agent.number(
                    """
                    import threading
                    def other():
                        global thread
                        thread = threading.get_native_id()
                        touch("gt of a thread")
                    t = threading.Thread(target=other)
                    t.start()
                    t.join()
                    result = thread
                    """)
                #expect(thread != Int(agent.pid))
                try expect(Self.nux, by: "GT_ROLE", of: agent.pid, shows: "gt of a thread", in: town)
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                let promise = Promise(.seconds(1))
                try agent.kill()
                #expect(try town.becomes("exited", Self.nux, within: promise))
            }
        }

        /// The main thread may end before the others.
        @Test(.townScopeOnly("activity is seen only in mounted directories"))
        func processWhoseMainThreadHasEndedIsAlive() throws {
            let source = #"""
                #include <fcntl.h>
                #include <pthread.h>
                #include <stdlib.h>
                #include <stdio.h>
                #include <string.h>
                #include <unistd.h>
                static void *other(void *first)
                {
                    pthread_join(*(pthread_t *)first, NULL);
                    char path[4096];
                    snprintf(path, sizeof path, "%s/.runtime/keepalive.json", getenv("GT_ROOT"));
                    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
                    if (write(file, "gt alone", 8) != 8) abort();
                    close(file);
                    for (;;) pause();
                }
                int main(void)
                {
                    static pthread_t first, second;
                    first = pthread_self();
                    pthread_create(&second, NULL, other, &first);
                    pthread_exit(NULL);
                }
                """#
            try withAgents { town, agents in
                let agent = try agents.start(environment: [:])
                let program = try agents.compile(source, as: "leaderless")
                let child = try agent.number(
                    "child = start('\(program)', env={**os.environ, 'GT_ROLE': '\(Self.nux)'}); result = child")
                #expect(try town.becomes("alive", Self.nux))
                try expect(Self.nux, by: "GT_ROLE", of: pid_t(child), shows: "gt alone", in: town)
                try town.touch("other")
                // Earlier changes have been applied by then.
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == pid_t(child) })
                #expect(try town.state(of: Self.nux) == "alive")
                try agent.perform("os.kill(child, 9); os.waitpid(child, 0)")
                #expect(try town.becomes("exited", Self.nux))
            }
        }

        @Test func forkedProcessHasItsParentsIdentity() throws {
            try withAgents { town, agents in
                let agent = try agents.start(Self.nux)
                let child = try agent.number("result = wait(fork(lambda: touch('gt of a fork')))")
                try expect(Self.nux, by: "GT_ROLE", of: pid_t(child), shows: "gt of a fork", in: town)
                // The child has ended; its parent is the runtime.
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                #expect(try town.state(of: Self.nux) == "alive")
            }
        }

        @Test func executedProgramHasTheIdentityOfItsEnvironment() throws {
            try withAgents { town, agents in
                let agent = try agents.start(environment: ["GT_ROLE": Self.nux], in: "gastown")
                let child = pid_t(
                    try agent.number(
                        """
                        orders_, done = Signal(), Signal()
                        def body():
                            touch("gt as nux")
                            done.raise_()
                            orders_.wait()
                            os.execvpe("env", ["env", "GT_ROLE=\(Self.max)", "sh", "-c",
                                "gt as max; echo done >&%d; read line <&%d" % (done.writing, orders_.reading)], os.environ)
                        for s in (orders_, done):
                            os.set_inheritable(s.reading, True)
                            os.set_inheritable(s.writing, True)
                        child = fork(body)
                        done.wait()
                        result = child
                        """))
                try expect(Self.nux, by: "GT_ROLE", of: child, shows: "gt as nux", in: town)
                try agent.perform("orders_.raise_(); done.wait()")
                // By a child of the shell.
                let view = try #require(try town.runtime(Self.max))
                #expect(view.evidence.by == "GT_ROLE" && view.lastCommand == "gt as max")
                #expect(try eventually { try town.runtime(Self.max)?.rootPid == child })
                #expect(try town.runtime(Self.nux)?.lastCommand == "gt as nux")
                try agent.perform("os.write(orders_.writing, b'\\n'); wait(child)")
                #expect(try town.becomes("exited", Self.max))
                #expect(try town.state(of: Self.nux) == "alive")
            }
        }

        /// execve(2) keeps the pid and the start time.
        @Test func oneProcessIsEachOfThePrograms() throws {
            try withAgents { town, agents in
                let agent = try agents.start(environment: [:])
                // Each program writes under its own identity, then executes the next.
                let script = "printf 'gt %s' $GT_ROLE > $GT_ROOT/.runtime/keepalive.json"
                let child = try agent.number(
                    """
                    script = "\(script)"
                    open("\(agents.programs)/steps", "w").write(script + "; GT_ROLE=mayor exec sh $0.2")
                    open("\(agents.programs)/steps.2", "w").write(script + "; GT_ROLE=deacon exec sh $0.3")
                    open("\(agents.programs)/steps.2.3", "w").write(script)
                    result = run("sh", "\(agents.programs)/steps", env={**os.environ, "GT_ROLE": "\(Self.nux)"})
                    """)
                for id in [Self.nux, "mayor", "deacon"] {
                    let view = try #require(try town.runtime(id))
                    #expect(view.evidence.pid == pid_t(child))
                    #expect(view.lastCommand == "gt \(id)")
                }
                #expect(try town.runtimes() == [Self.nux, "mayor", "deacon"])
            }
        }

        // MARK: Namespaces and users

        @Test(.needsRoot) func processInAChildNamespaceIsSeen() throws {
            try withAgents { town, agents in
                let agent = try agents.start(environment: [:])
                try agent.perform(
                    """
                    run("unshare", "-pf", "--mount-proc", "gt", "mail", "inbox", env={**os.environ, "GT_ROLE": "\(Self.nux)"})
                    """)
                try expect(Self.nux, by: "GT_ROLE", shows: "gt mail inbox", in: town, hasEnded: true)
            }
        }

        /// A town mounted in a pid namespace sees no pids of processes outside.
        ///
        /// Processes inside with the same pids must not be used instead.
        @Test(.needsRoot) func processOutsideTheNamespaceIsNamedByPathAndDocumentAlone() throws {
            try withTown { town in
                try writeRigs(to: town.path)
                try Agents.with(in: town) { agents in
                    let agent = try agents.start(in: "gastown/crew/max")
                    let holder = try agent.number(
                        """
                        script = "'\(BuiltProgram.path)' mount --log '\(town.scratch.path)/home/log' '\(town.path)' && exec sleep 1000"
                        result = holder = start("unshare", "-pf", "--mount-proc", "--kill-child", "sh", "-c", script)
                        """)
                    let view = ["nsenter", "-m", "-t", "\(holder)"]
                    func outside(_ script: String, environment: [String: String] = [:]) throws -> String {
                        try Command(
                            view + ["sh", "-euc", script],
                            environment: agents.environment.merging(environment) { $1 }
                        ).output()
                    }
                    let isMounted = try eventually {
                        try Command(view + ["test", "-e", "\(town.path)/.pulse/status.json"]).run().status == 0
                    }
                    try #require(isMounted)
                    let list = "cd $GT_ROOT/.pulse/runtimes && find * -name '*.json'"
                    let role = ["GT_ROLE": "gastown/witness"]
                    _ = try outside("gt mail; cd $GT_ROOT/mayor; gt mail", environment: role)
                    #expect(try outside("cat $GT_ROOT/.runtime/keepalive.json").contains("gt mail"))
                    #expect(try outside("ls -A $GT_ROOT/.pulse/runtimes") == "")

                    let beat = #"echo '{"state":"working"}' > $GT_ROOT/.runtime/heartbeats/gt-nux.json"#
                    _ = try outside(beat, environment: ["GT_ROLE": Self.max])
                    let document =
                        #"echo '{"last_command":"bd","actor":"gastown/crew/max"}' > $GT_ROOT/daemon/activity.json"#
                    _ = try outside(document, environment: role)
                    #expect(try Set(outside(list).split(separator: "\n")) == ["\(Self.nux).json", "\(Self.max).json"])
                    let nux = try outside("cat $GT_ROOT/.pulse/runtimes/\(Self.nux).json")
                    #expect(nux.contains(#""path""#) && nux.contains("working") && !nux.contains(#""pid""#), "\(nux)")

                    // Processes inside are seen as usual and can unmount.
                    let inside = ["nsenter", "-m", "-p", "-t", "\(try Self.child(of: pid_t(holder)))"]
                    try Command(
                        inside + ["gt", "prime"], environment: agents.environment.merging(["GT_ROLE": "mayor"]) { $1 }
                    )
                    .output()
                    #expect(try outside("cat $GT_ROOT/.pulse/runtimes/mayor.json").contains("GT_ROLE"))
                    try Command(inside + [BuiltProgram.path, "unmount", town.path]).output()
                    try agent.perform("os.kill(holder, 9); os.waitpid(holder, 0)")
                }
            }
        }

        /// In a namespace with the `/proc` of another, a pid means another process.
        @Test(.needsRoot) func processesOfAnotherNamespacesProcHaveNoIdentity() throws {
            try withTown { town in
                try writeRigs(to: town.path)
                try Agents.with(in: town) { agents in
                    let duplicateOrigin = try agents.start(Self.nux)
                    let script = """
                        '\(BuiltProgram.path)' mount --log '\(town.scratch.path)/home/log' $GT_ROOT
                        # The next process gets the pid that the agent has outside.
                        echo \(duplicateOrigin.pid - 1) > /proc/sys/kernel/ns_last_pid
                        sh -c 'echo $$; echo "gt inside" > $GT_ROOT/.runtime/keepalive.json; :'
                        find $GT_ROOT/.pulse/runtimes -name '*.json'
                        '\(BuiltProgram.path)' unmount $GT_ROOT
                        """
                    let printed = try Command(
                        ["unshare", "-pf", "--kill-child", "sh", "-euc", script], environment: agents.environment
                    ).output()
                    #expect(printed == "\(duplicateOrigin.pid)\n")
                    #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt inside")
                    withExtendedLifetime(duplicateOrigin) {}
                }
            }
        }

        private static func child(of pid: pid_t) throws -> pid_t {
            let children = try Client.read("/proc/\(pid)/task/\(pid)/children")
            return try #require(children.split(separator: " ").first.flatMap { pid_t($0) })
        }

        @Test(.needsRoot) func processOfAnotherUserIsSeenByASharedMount() throws {
            try withAgents("--allow-other") { town, agents in
                chmod("\(town.path)/.runtime", 0o777)
                let agent = try agents.start(Self.nux, as: .nobody)
                try agent.perform("touch('gt of a stranger')")
                try expect(Self.nux, by: "GT_ROLE", of: agent.pid, shows: "gt of a stranger", in: town)
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                try agent.kill()
                #expect(try town.becomes("exited", Self.nux))
            }
        }

        @Test(.needsRoot) func processInAUsersOwnMountIsSeen() throws {
            try withAgents(as: .nobody) { town, agents in
                let agent = try agents.start(Self.nux)
                try agent.perform("touch('gt of a stranger')")
                try expect(Self.nux, by: "GT_ROLE", of: agent.pid, shows: "gt of a stranger", in: town)
                #expect(try eventually { try town.runtime(Self.nux)?.rootPid == agent.pid })
                try agent.kill()
                #expect(try town.becomes("exited", Self.nux))
            }
        }

        private static let hide = "import ctypes; ctypes.CDLL(None).prctl(4, 0)"

        @Test(.needsRoot) func processThatHidesIsSeenByRootsMount() throws {
            try withAgents { town, agents in
                let agent = try agents.start(Self.nux)
                try agent.perform("\(Self.hide); touch('gt hidden')")
                try expect(Self.nux, by: "GT_ROLE", of: agent.pid, shows: "gt hidden", in: town)
            }
        }

        /// The kernel hides the environment and the working directory even from its own user.
        @Test(.needsRoot) func hiddenProcessIsIdentifiedByPathAndDocumentOnly() throws {
            try withAgents(as: .nobody) { town, agents in
                let agent = try agents.start("gastown/crew/max")
                try agent.perform("\(Self.hide); touch('gt hidden')")
                #expect(try town.runtimes() == [])
                try agent.perform("beat('gt-nux')")
                #expect(try town.runtimes() == [Self.nux])
                #expect(try town.runtime(Self.nux)?.evidence.by == "path")
                #expect(try town.runtime(Self.nux)?.evidence.pid == agent.pid)
            }
        }

        // MARK: Directories and environments

        @Test func removedWorkingDirectoryStillIdentifies() throws {
            try withAgents { town, agents in
                let agent = try agents.start(in: "\(Self.nux)/gone")
                try agent.perform("os.rmdir(os.getcwd()); touch('gt')")
                try expect(Self.nux, by: "directory", of: agent.pid, shows: "gt", in: town)
            }
        }

        @Test func renamedWorkingDirectoryIdentifiesByItsCurrentName() throws {
            try withAgents { town, agents in
                let agent = try agents.start(in: Self.nux)
                try agent.perform("touch('gt 1')")
                try Client.rename("\(town.path)/\(Self.nux)", to: "\(town.path)/gastown/polecats/ace")
                try agent.perform("touch('gt 2')")
                #expect(try town.runtime(Self.nux)?.lastCommand == "gt 1")
                #expect(try town.runtime("gastown/polecats/ace")?.lastCommand == "gt 2")
            }
        }

        /// The kernel reports no path longer than 4,096 bytes.
        @Test(arguments: [(15, true), (40, false)]) func deepWorkingDirectoryIdentifiesUpToPathMax(
            depth: Int, isNamed: Bool
        ) throws {
            try withAgents { town, agents in
                let agent = try agents.start(in: Self.nux)
                try agent.perform(
                    "for _ in range(\(depth)): os.mkdir('d' * 200); os.chdir('d' * 200)\ntouch('gt deep')")
                if isNamed {
                    try expect(Self.nux, by: "directory", of: agent.pid, shows: "gt deep", in: town)
                } else {
                    // On its way there it counted as activity of a runtime.
                    #expect(try town.runtime(Self.nux)?.lastCommand == nil)
                }
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt deep")
            }
        }

        @Test func hugeEnvironmentIsReadToItsEnd() throws {
            try withAgents { town, agents in
                let agent = try agents.start(environment: [:])
                let child = try agent.number(
                    """
                    filler = {"A%d" % i: "x" * 100_000 for i in range(10)}
                    result = run("gt", "prime", env={**filler, **os.environ, "GT_ROLE": "\(Self.nux)"})
                    """)
                try expect(
                    Self.nux, by: "GT_ROLE", of: pid_t(child), shows: "gt prime", in: town, hasEnded: true)
            }
        }

        // MARK: Conflicting evidence

        @Test func writerThatIsKilledWithItsFileOpenHasWritten() throws {
            try withAgents { town, agents in
                let agent = try agents.start(Self.nux)
                try agent.perform(
                    """
                    file = os.open(keepalive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                    os.write(file, document(last_command="gt last words").encode())
                    """)
                #expect(try town.state(of: Self.nux) == "never")
                try agent.kill()
                #expect(try eventually { try town.runtime(Self.nux)?.lastCommand == "gt last words" })
                let view = try #require(try town.runtime(Self.nux))
                #expect(view.evidence.by == "GT_ROLE" && view.evidence.pid == agent.pid)
                #expect(try town.becomes("exited", Self.nux, within: Promise(.seconds(2))))
            }
        }

        @Test func renameIsATouchByTheRenamingProcess() throws {
            try withAgents { town, agents in
                let nux = try agents.start(Self.nux)
                let max = try agents.start(Self.max)
                try nux.perform("write(activity + '.tmp', document(last_command='bd of nux'))")
                try max.perform("os.rename(activity + '.tmp', activity)")
                let view = try #require(try town.runtime(Self.max))
                #expect(view.evidence.source == "renamed" && view.evidence.by == "GT_ROLE")
                #expect(view.evidence.pid == max.pid && view.lastCommand == "bd of nux")
                // Writing a plain file is only activity.
                let writer = try town.runtime(Self.nux)
                #expect(writer == nil || writer?.evidence.source == "activity")
            }
        }

        @Test func writeToAnInheritedDescriptorIsAttributedToTheWriter() throws {
            try withAgents { town, agents in
                let nux = try agents.start(Self.nux)
                let child = try nux.number(
                    """
                    file = os.open(keepalive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                    os.set_inheritable(file, True)
                    child = run("sh", "-c", "printf 'gt of max' >&%d" % file, env={**os.environ, "GT_ROLE": "\(Self.max)"})
                    os.close(file)
                    result = child
                    """)
                try expect(Self.max, by: "GT_ROLE", of: pid_t(child), shows: "gt of max", in: town)
            }
        }

        @Test func agentThatLeavesItsSessionTwiceKeepsItsIdentity() throws {
            try withAgents { town, agents in
                let nux = try agents.start(Self.nux)
                let grandchild = try nux.number(
                    """
                    reported = Signal()
                    def leave():
                        os.setsid()
                        def stay():
                            touch("gt from afar")
                            os.write(reported.writing, str(os.getpid()).encode())
                            signal.pause()
                        fork(stay)
                    wait(fork(leave))
                    result = os.read(reported.reading, 20).decode()
                    """)
                try expect(Self.nux, by: "GT_ROLE", of: pid_t(grandchild), shows: "gt from afar", in: town)
            }
        }
    }
}

import CLinux
import Dispatch
import Glibc
import Synchronization
import SystemPackage
import TestSupport
import Testing

extension EndToEnd {
    /// How a mount starts and ends, also when its processes are killed.
    @Suite(.inEachScope) struct MountLifeTests {
        /// An agent that writes a counter until it is stopped or a call fails.
        ///
        /// It prints each number after close(2) has returned.
        private static let agent = """
            import json, os, sys
            path = sys.argv[1]
            n = 0
            while True:
                n += 1
                try:
                    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                    try: os.write(fd, json.dumps({'timestamp': '2026-01-01T00:00:00Z', 'n': n}).encode())
                    finally: os.close(fd)
                except OSError as e:
                    print('failed', e.errno, flush=True)
                    break
                print(n, flush=True)
            """

        private func lastCommitted(_ agent: RunningCommand) -> Int {
            agent.printed.split(separator: "\n").last { !$0.hasPrefix("failed") }.flatMap { Int($0) } ?? 0
        }

        private func number(in path: String) throws -> Int {
            Int(try Client.read(path).split(separator: ":").last?.filter(\.isNumber) ?? "") ?? 0
        }

        // MARK: Killed

        /// After the fifth death of a worker in a minute; with --scope=signals after the first.
        @Test(.needs("python3"), arguments: 1...3)
        func townIsPlainFilesWithinASecondOfTheLastDeathAndNothingIsLost(round: Int) throws {
            try withMountedTown { town in
                try Client.write("plain", to: "\(town.path)/file")
                let paths = (1...4).map { "\(town.path)/.runtime/heartbeats/agent-\($0).json" }
                let agents = try paths.map { try Command("python3", "-c", Self.agent, $0).start() }
                #expect(eventually { agents.allSatisfy { lastCommitted($0) > 50 } })
                try town.killWorkers()
                let isBack = eventually(within: Promise(.seconds(1))) {
                    (try? Client.read("\(town.path)/file")) == "plain"
                }
                #expect(isBack)
                #expect(eventually { town.processes.isEmpty })

                for (path, agent) in zip(paths, agents) {
                    // An agent whose call failed has stopped. Others continue on the plain file.
                    agent.send(SIGSTOP)
                    let committed = lastCommitted(agent)
                    agent.send(SIGKILL)
                    _ = try agent.wait()
                    #expect(committed > 0)
                    // A truncating writer that was stopped on the plain file may have left it empty.
                    let text = try Client.read(path)
                    if !text.isEmpty { #expect(try number(in: path) >= committed, "\(path)") }
                }
                #expect(eventually { town.processes.isEmpty })
            }
        }

        @Test func documentsCommittedBeforeTheWorkersDeathAreInTheRealFiles() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt last")
                try Client.write(text, to: town.keepalive, mode: 0o600)
                try Client.replace(town.activity, with: KeepaliveDocument.text("bd last"))
                try Client.write(KeepaliveDocument.text("ended"), to: "\(town.path)/.runtime/heartbeats/ended.json")
                try town.synchronize()
                try Client.unlink("\(town.path)/.runtime/heartbeats/ended.json")
                let modified = try FileStatus(town.keepalive).modified
                try town.killWorkers()
                #expect(try Client.read(town.keepalive) == text)
                #expect(try FileStatus(town.keepalive).permissions == 0o600)
                #expect(try FileStatus(town.keepalive).modified == modified)
                #expect(try KeepaliveDocument(Client.read(town.activity)).lastCommand == "bd last")
                #expect(try Client.names(in: "\(town.path)/.runtime/heartbeats") == [])
                #expect(eventually { town.processes.isEmpty })
                // The next mount continues from there.
                try town.mount()
                #expect(try Client.read(town.keepalive) == text)
                #expect(try FileStatus(town.keepalive).modified == modified)
            }
        }

        @Test func mountReplacesADeadMount() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt old", age: 600)
                try Client.write(text, to: town.keepalive)
                try town.synchronize()
                let modified = try FileStatus(town.keepalive).modified
                let worker = try town.status().workerPid
                town.killAll()
                #expect(eventually { town.processes.isEmpty })
                #expect(town.isMounted)
                #expect(throws: Errno.self) { try Client.read(town.keepalive) }
                #expect(try town.pulsefs("status", town.path).status == 2)

                try town.mount()
                #expect(try Client.read(town.keepalive) == text)
                #expect(try FileStatus(town.keepalive).modified == modified)
                #expect(try town.status().workerPid != worker)
            }
        }

        @Test func deadMountIsUnmounted() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                try town.synchronize()
                town.killAll()
                #expect(eventually { town.processes.isEmpty })
                #expect(try town.pulsefs("unmount", town.path).status == 0)
                #expect(!town.isMounted)
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt")
            }
        }

        // MARK: Terminated

        @Test(arguments: [SIGTERM, SIGINT, SIGHUP]) func keeperUnmountsOnTerminationSignals(signal: CInt) throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: town.keepalive)
                kill(try town.status().keeperPid, signal)
                #expect(eventually { !town.isMounted && town.processes.isEmpty })
                #expect(try Client.read(town.keepalive) == text)
            }
        }

        @Test func keeperDetachesABusyMountOnATerminationSignal() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: town.keepalive)
                let directory = try Client.open("\(town.path)/daemon", O_RDONLY | O_DIRECTORY)
                defer { try? Client.close(directory) }
                kill(try town.status().keeperPid, SIGTERM)
                #expect(eventually { !town.isMounted && town.processes.isEmpty })
                #expect(try Client.read(town.keepalive) == text)
            }
        }

        @Test(.townScopeOnly("reads the backing tree by a path that leads into the mounts"))
        func unmountWritesBackDocumentsWithTimeAndMode() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt down", age: 30)
                try Client.write(text, to: town.keepalive, mode: 0o600)
                try Client.write("", to: "\(town.path)/deacon/.deacon-heartbeat")
                #expect(!Client.exists("\(town.backing)/.runtime/keepalive.json"), "no disk is touched by a touch")
                let above = try FileStatus(town.keepalive)
                try town.unmount()
                let backing = try FileStatus(town.keepalive)
                #expect(try Client.read(town.keepalive) == text)
                #expect(backing.permissions == 0o600)
                #expect(backing.modified == above.modified)
                #expect(try Client.names(in: "\(town.path)/.runtime").sorted() == ["heartbeats", "keepalive.json"])
                #expect(try Client.names(in: "\(town.path)/deacon") == [".deacon-heartbeat"])
                #expect(try FileStatus("\(town.path)/deacon/.deacon-heartbeat").st_size == 0)
            }
        }

        @Test(.needsRoot, .townScopeOnly("it is not the town that is mounted"))
        func plainUmountWritesBackDocuments() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: town.keepalive)
                try Command("umount", town.path).output()
                #expect(eventually { town.processes.isEmpty })
                #expect(try Client.read(town.keepalive) == text)
            }
        }

        @Test func fsyncOfTheRootWritesBackDocuments() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: town.keepalive)
                try Client.write(text, to: town.activity)
                #expect(try town.status().documents.notWrittenDown == 2)
                try town.synchronize()
                #expect(try Client.read("\(town.backing)/.runtime/keepalive.json") == text)
                #expect(try Client.read("\(town.backing)/daemon/activity.json") == text)
                #expect(try town.status().documents.notWrittenDown == 0)
            }
        }

        @Test(.townScopeOnly("reads the backing tree by a path that leads into the mounts"))
        func newerRealFileIsNotOverwrittenByAnOlderDocument() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt old"), to: town.keepalive)
                let newer = KeepaliveDocument.text("gt newer")
                let backing = "\(town.backing)/.runtime/keepalive.json"
                #expect(
                    try eventually {
                        try Client.write(newer, to: backing)
                        return try FileStatus(backing).modified > FileStatus(town.keepalive).modified
                    })
                try town.unmount()
                #expect(try Client.read(town.keepalive) == newer)
            }
        }

        // MARK: Mounted twice, and busy

        @Test func secondMountIsRejectedAndNamesTheFirst() throws {
            try withMountedTown { town in
                let keeper = try town.status().keeperPid
                let outcome = try town.pulsefs("mount", town.path)
                #expect(outcome.status == 4)
                #expect(outcome.errors.contains("\(keeper)"))
                #expect(outcome.errors.contains(town.path))
                #expect(outcome.errors.split(separator: "\n").count == 1)
                #expect(try town.status().keeperPid == keeper)
            }
        }

        @Test func busyTownStaysMountedAndItsUsersAreNamed() throws {
            try withMountedTown { town in
                let user = try Command("sleep", "60", in: "\(town.path)/daemon").start()
                #expect(eventually { Client.isProcess(user.pid, in: "\(town.path)/daemon") })
                let outcome = try town.pulsefs("unmount", town.path)
                #expect(outcome.status == 5)
                #expect(outcome.errors.contains("sleep") && outcome.errors.contains("\(user.pid)"))
                try Client.write(KeepaliveDocument.text("still here"), to: town.keepalive)

                let file = try Client.open(town.keepalive, O_RDONLY)
                user.send(SIGKILL)
                _ = try user.wait()
                let second = try town.pulsefs("unmount", town.path)
                #expect(second.status == 5)
                #expect(second.errors.contains("\(getpid())"))
                #expect(try town.status().workerPid > 0)
                try Client.close(file)
                try town.unmount()
            }
        }

        /// A process that has just ended, or a path lookup, uses the mount for a moment longer.
        @Test(.needsRoot, .needs("strace", "python3")) func unmountWaitsForAUseThatNothingShows() throws {
            try withMountedTown { town in
                try Command(
                    "strace", "-f", "-o", "/dev/null", "-e", "inject=umount2:error=EBUSY:when=1", BuiltProgram.path,
                    "unmount", town.path
                ).run().expectSuccess()
                #expect(!town.isMounted)
                #expect(eventually { town.processes.isEmpty })

                // A file that is on its way from one process to another belongs to none.
                try town.mount()
                let holder = try Command(
                    "python3", "-c",
                    """
                    import os, signal, socket, sys
                    ours, theirs = socket.socketpair()
                    file = os.open(sys.argv[1], os.O_RDONLY)
                    socket.send_fds(ours, [b"x"], [file])
                    os.close(file)
                    print("sent", flush=True)
                    signal.pause()
                    """, "\(town.path)/daemon"
                ).start()
                #expect(eventually { holder.printed == "sent\n" })
                let outcome = try town.pulsefs("unmount", town.path)
                #expect(outcome.status == 5)
                #expect(outcome.errors.contains("something that this user cannot see"))
                holder.send(SIGKILL)
                _ = try holder.wait()
                try town.unmount()
            }
        }

        @Test func lazyUnmountDetachesABusyTown() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: town.keepalive)
                let file = try Client.open(town.keepalive, O_RDONLY)
                let outcome = try town.pulsefs("unmount", "--lazy", town.path)
                #expect(outcome.status == 0)
                #expect(!town.isMounted)
                #expect(try Client.read(town.keepalive) == text, "plain files hold what was touched")
                #expect(try Client.read(file) == text, "what is open goes on working")
                try Client.close(file)
                #expect(eventually { town.processes.isEmpty })
            }
        }

        /// The kernel gives the id of a mount that is gone to the next one.
        @Test(.needsRoot, .townScopeOnly("unmounts the town with umount(8)"))
        func keeperOfAnUnmountedTownLeavesOtherMountsAlone() throws {
            try withMountedTown { other in
                try other.unmount()
                for _ in 0..<20 {
                    var isReused = false
                    try withMountedTown { town in
                        let id = try #require(town.mounts.first?.first)
                        let keeper = try town.status().keeperPid
                        kill(keeper, SIGSTOP)
                        try Command("umount", town.path).output()
                        try other.mount()
                        isReused = other.mounts.first?.first == id
                        kill(keeper, SIGCONT)
                        #expect(eventually { town.processes.isEmpty })
                        #expect(other.isMounted)
                        try other.unmount()
                    }
                    if isReused { return }
                }
                Issue.record("the kernel gave out other ids")
            }
        }

        /// Each town has its own directory; only the kernel's numbers are shared.
        @Test func townsMountedAndUnmountedAtOnceDoNotDisturbEachOther() throws {
            let errors = Mutex<[String]>([])
            let scope = TownScope.current
            DispatchQueue.concurrentPerform(iterations: 4) { number in
                for round in 0..<8 {
                    do {
                        try TownScope.$current.withValue(scope) {
                            try withMountedTown { town in
                                let text = KeepaliveDocument.text("gt \(round)")
                                try Client.write(text, to: town.keepalive)
                                try town.remount()
                                if try Client.read(town.keepalive) != text || !town.isMounted {
                                    errors.withLock { $0.append("town \(number), round \(round): not mounted") }
                                }
                            }
                        }
                    } catch {
                        errors.withLock { $0.append("town \(number), round \(round): \(error)") }
                    }
                }
            }
            #expect(errors.withLock { $0 } == [])
        }

        /// In a mount namespace, a copy of a town's mount ends with the namespace.
        @Test(.needsRoot, .needs("unshare")) func townsInOtherNamespacesEndNoMount() throws {
            try withTown(limit: .seconds(120)) { town in
                try town.mount(environment: Killer.environment)
                let crowd = try NamespaceCrowd(beside: town)
                let killer = Killer(of: town, nil, seed: 2)
                var touches = 0
                let hasMet = try eventually(within: .seconds(60)) {
                    try Client.write(#"{"touch":\#(touches)}"#, to: town.heartbeat("max"))
                    touches += 1
                    return crowd.count >= 10
                }
                #expect(hasMet)
                killer.end()
                try crowd.end()
                #expect(town.isMounted)
                #expect(try town.status().documents.touches == touches)
                #expect(!town.loggedText.contains("the connection has ended"), "\(town.loggedText)")
                try town.unmount()
            }
        }

        /// What no file in the town tells.
        @Test(arguments: [true, false]) func nextMountKnowsTheRuntimes(_ isOrderly: Bool) throws {
            try withAgents { town, agents in
                let nux = "gastown/polecats/nux"
                let agent = try agents.start(nux)
                try agent.perform("run('gt', 'prime')")
                #expect(try eventually { try town.runtime(nux)?.rootPid == agent.pid })
                try town.pulsefs("touch", town.path, "mayor", "--ttl", "1h").expectSuccess()
                try Client.write("{}", to: "\(town.path)/.runtime/heartbeats/gone.json")
                try town.pulsefs("forget", town.path, "gone").expectSuccess()
                try agent.kill()
                #expect(try town.becomes("exited", nux))
                if isOrderly {
                    try town.unmount()
                } else {
                    try town.killWorkers()
                    #expect(eventually { town.processes.isEmpty })
                }
                try town.mount()
                #expect(try town.state(of: nux) == "exited")
                #expect(try town.state(of: "mayor") == "alive")
                #expect(try #require(try town.runtime("mayor")?.ttlLeftSeconds) > 600)
                #expect(try town.runtimes() == [nux, "mayor"])
                let doctor = try town.pulsefs("doctor", town.path).output
                #expect(doctor.contains("2 runtimes known from the mount before"), "\(doctor)")
            }
        }

        // MARK: Foreground

        @Test(.needs("python3")) func foregroundNotifiesTheServiceManagerWhenReady() throws {
            try withTown { town in
                let socket = "\(town.scratch.path)/notify"
                let listener = try Command(
                    "python3", "-c",
                    """
                    import socket, sys
                    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])
                    while True: print(s.recv(4096).decode(), flush=True)
                    """, socket
                ).start()
                #expect(eventually { Client.exists(socket) })
                let keeper = try town.pulsefsCommand(
                    ["mount", "--foreground", town.path], environment: ["NOTIFY_SOCKET": socket]
                ).start()
                #expect(eventually { listener.printed.contains("READY=1") })
                #expect(try town.status().keeperPid == keeper.pid)
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                keeper.send(SIGTERM)
                #expect(try keeper.wait().status == 0)
                #expect(eventually { listener.printed.contains("STOPPING=1") })
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt")
                listener.send(SIGKILL)
                _ = try listener.wait()
            }
        }

        @Test func foregroundKeepersExitStatusShowsAWorkerFailure() throws {
            try withTown { town in
                let keeper = try town.pulsefsCommand(["mount", "--foreground", town.path]).start()
                #expect(eventually { (try? town.status()) != nil })
                try town.killWorkers()
                #expect(try keeper.wait().status == 1)
            }
        }
    }
}

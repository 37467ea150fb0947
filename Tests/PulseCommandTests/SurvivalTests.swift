import CLinux
import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Worker and keeper are killed while processes work in the town.
    ///
    /// No call fails.
    ///
    /// A sixth death in a minute ends the mount, so no test kills more than four workers.
    @Suite(.inEachScope, .needs("python3"), .timeLimit(.minutes(5))) struct SurvivalTests {
        enum Victim: String, CaseIterable, Sendable {
            case worker, keeper
            /// Keeper and worker in turn.
            case both
            /// Keeper and worker at once: the standby goes on.
            case pair
        }

        /// Works in a directory of its own until a file appears; prints a dot for every 50 calls, and what has failed.
        ///
        /// Each operation that is not idempotent is among them, so that running one twice fails.
        private static let client = """
            import errno, os, random, sys
            number, stop = int(sys.argv[1]), sys.argv[2]
            os.mkdir(f"client-{number}")
            os.chdir(f"client-{number}")
            choice = random.Random(number)
            calls, failed = 0, []
            def call(name, function, *arguments):
                global calls
                calls += 1
                if calls % 50 == 0: print(".", flush=True)
                try:
                    return function(*arguments)
                except OSError as error:
                    failed.append(f"failed: {name}: {errno.errorcode.get(error.errno)}")
            def check(name, holds):
                if not holds: failed.append(f"failed: {name}")
            for file in range(200): open(f"f{file}", "w").close()
            held = os.open("held", os.O_RDWR | os.O_CREAT)
            unlinked = os.open("unlinked", os.O_RDWR | os.O_CREAT)
            os.write(unlinked, b"still here")
            os.unlink("unlinked")
            log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            lines = 0
            print("works", flush=True)
            while calls < 500 or not os.path.exists(stop):
                name = f"f{choice.randrange(200)}"
                kind = choice.randrange(11)
                if kind == 0:
                    call("stat", os.stat, name)
                elif kind == 1:
                    file = call("open", os.open, name, os.O_RDWR)
                    call("pwrite", os.pwrite, file, b"data", 0)
                    check("content", call("pread", os.pread, file, 10, 0) == b"data")
                    call("close", os.close, file)
                elif kind == 2:
                    file = call("create", os.open, "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                    call("write", os.write, file, b"abc")
                    call("close", os.close, file)
                    call("unlink", os.unlink, "new")
                elif kind == 3:
                    call("mkdir", os.mkdir, "directory")
                    call("rmdir", os.rmdir, "directory")
                elif kind == 4:
                    call("symlink", os.symlink, "target", "link")
                    check("target", call("readlink", os.readlink, "link") == "target")
                    call("unlink", os.unlink, "link")
                elif kind == 5:
                    call("rename", os.rename, name, "other")
                    call("link", os.link, "other", "second")
                    call("unlink", os.unlink, "second")
                    call("rename", os.rename, "other", name)
                elif kind == 6:
                    check("listing", len(call("listdir", os.listdir, ".") or []) >= 202)
                elif kind == 7:
                    call("pwrite", os.pwrite, held, b"held", 0)
                    check("held", call("pread", os.pread, held, 10, 0) == b"held")
                elif kind == 8:
                    check("unlinked", call("pread", os.pread, unlinked, 20, 0) == b"still here")
                    check("links", call("fstat", os.fstat, unlinked).st_nlink == 0)
                elif kind == 9:
                    lines += 1
                    call("append", os.write, log, b"line\\n")
                elif kind == 10:
                    call("setxattr", os.setxattr, "held", "user.x", b"1", os.XATTR_CREATE)
                    call("removexattr", os.removexattr, "held", "user.x")
            check("lines", os.path.getsize("log") == 5 * lines)
            print(*failed, "done", sep="\\n")
            """

        @Test(arguments: Victim.allCases) func noCallFails(victim: Victim) throws {
            try withMountedTown { town in try work(in: town, killing: victim) }
        }

        @Test(.needsRoot, .needs("setpriv")) func noCallFailsInAnOrdinaryUsersTown() throws {
            try withMountedTown(as: .nobody) { town in try work(in: town, killing: .both) }
        }

        /// Git makes its objects with such a mode.
        @Test(.needsRoot, .needs("setpriv")) func fileWhoseModeForbidsToOpenItGoesOn() throws {
            try withMountedTown(as: .nobody) { town in
                let client = try Command(
                    "python3", "-c",
                    """
                    import os, signal
                    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
                    made = os.open("object", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o444)
                    locked = os.open("locked", os.O_RDWR | os.O_CREAT)
                    os.fchmod(locked, 0)
                    for number in range(4):
                        for file in made, locked: os.pwrite(file, b"%d" % number, 0)
                        print(number, flush=True)
                        signal.sigwait([signal.SIGUSR1])
                        for file in made, locked: assert os.pread(file, 9, 0) == b"%d" % number
                    """, in: workplace(in: town), as: town.user
                ).start()
                for round in 0..<4 {
                    #expect(eventually { client.printed.hasSuffix("\(round)\n") })
                    let before = try town.status()
                    kill(round % 2 == 0 ? before.workerPid : before.keeperPid, SIGKILL)
                    let isReplaced = try eventually {
                        let now = try town.status()
                        return now.workerPid != before.workerPid || now.keeperPid != before.keeperPid
                    }
                    #expect(isReplaced)
                    client.send(SIGUSR1)
                }
                let outcome = try client.wait()
                #expect(outcome.status == 0, "\(outcome)")
            }
        }

        /// A directory in a mount.
        private func workplace(in town: MountedTown) -> String {
            TownScope.current == .town ? town.path : "\(town.path)/.runtime"
        }

        private func work(in town: MountedTown, killing victim: Victim) throws {
            let stop = "\(town.scratch.path)/stop"
            let clients = try (1...3).map { number in
                try Command("python3", "-c", Self.client, "\(number)", stop, in: workplace(in: town), as: town.user)
                    .start()
            }
            #expect(eventually { clients.allSatisfy { $0.printed.hasPrefix("works\n") } })
            for round in 0..<4 {
                // A call that two workers in a row die of fails, so each worker has to serve something.
                let printed = clients.map(\.printed.count)
                #expect(eventually { zip(clients, printed).allSatisfy { $0.printed.count > $1 + 4 } })
                let status = try town.status()
                let hitsWorker = victim == .worker || victim == .pair || victim == .both && round % 2 == 0
                let hitsKeeper = victim == .pair || !hitsWorker
                if victim == .pair { #expect(eventually { unlinkedFilesOfStandby(of: town) == clients.count }) }
                if hitsKeeper { kill(status.keeperPid, SIGKILL) }
                if hitsWorker { kill(status.workerPid, SIGKILL) }
                let isReplaced = try eventually {
                    let now = try town.status()
                    return (!hitsWorker || now.workerPid != status.workerPid)
                        && (!hitsKeeper || now.keeperPid != status.keeperPid)
                }
                #expect(isReplaced)
            }
            try Client.write("", to: stop)
            for client in clients {
                let outcome = try client.wait()
                #expect(outcome.status == 0 && outcome.output.hasSuffix("done\n"), "\(outcome)")
                #expect(!outcome.output.contains("failed"), "\(outcome)")
            }
        }

        /// How many of the clients' unlinked files the standby can go on with.
        private func unlinkedFilesOfStandby(of town: MountedTown) -> Int {
            let standby = town.processes.first { pid in
                (try? Client.read("/proc/\(pid)/comm")) == "pulsefs-standby\n"
            }
            guard let standby, let files = try? Client.names(in: "/proc/\(standby)/fd") else { return 0 }
            return files.count { Client.link("/proc/\(standby)/fd/\($0)").contains("/unlinked") }
        }

        /// Each write is one touch and one event, and a reader of events gets each once.
        @Test func touchesTakeEffectOnce() throws {
            try withMountedTown { town in
                let reader = try Command(
                    "python3", "-c",
                    """
                    import json, sys
                    events, numbers, counts = open(sys.argv[1] + "/.pulse/events", "rb", 0), [], {}
                    print("reads", flush=True)
                    rest = b""
                    while "last" not in counts:
                        *lines, rest = (rest + events.read(65536)).split(b"\\n")
                        for event in map(json.loads, lines):
                            numbers.append(event["seq"])
                            name = event["signal"].split("/")[-1].split(".")[0]
                            counts[name] = counts.get(name, 0) + 1
                    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
                    print(counts["written"], counts["renamed"], counts["touched"])
                    """, town.path
                ).start()
                #expect(eventually { reader.printed == "reads\n" })
                let stop = "\(town.scratch.path)/stop"
                let writer = try Command(
                    "python3", "-c",
                    """
                    import os, sys
                    town, stop = sys.argv[1:]
                    path = lambda name: f"{town}/.runtime/heartbeats/{name}.json"
                    def write(path, text):
                        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                        os.write(file, text.encode())
                        os.close(file)
                    write(path("touched"), "{}")
                    print("writes", flush=True)
                    n = 0
                    while n < 200 or not os.path.exists(stop):
                        n += 1
                        write(path("written"), '{"n":%d}' % n)
                        assert '"n":%d,' % n in open(path("written")).read()
                        write(path("renamed") + ".tmp", '{"n":%d}' % n)
                        os.rename(path("renamed") + ".tmp", path("renamed"))
                        os.utime(path("touched"))
                    write(path("last"), "{}")
                    print(n, n, n + 1)
                    """, town.path, stop
                ).start()
                #expect(eventually { writer.printed == "writes\n" })
                for _ in 0..<4 {
                    let status = try town.status()
                    let last = status.events?.lastSeq ?? 0
                    #expect(try eventually { try town.status().events?.lastSeq ?? 0 > last + 20 })
                    kill(status.workerPid, SIGKILL)
                    #expect(try eventually { try town.status().workerPid != status.workerPid })
                }
                try Client.write("", to: stop)
                let written = try writer.wait()
                try #require(written.status == 0, "\(written)")
                let read = try reader.wait()
                #expect(read.status == 0, "\(read)")
                #expect(written.output.split(separator: "\n").last == read.output.split(separator: "\n").last)
            }
        }

        /// The kernel compares the generation of an inode that it has open with that of a later lookup.
        @Test func openFilesOfPulseOutliveLookups() throws {
            try withMountedTown { town in
                let pulse = "\(town.path)/.pulse"
                let events = try Client.open("\(pulse)/events", O_RDONLY)
                defer { try? events.close() }
                let directory = try Client.open(pulse, O_RDONLY | O_DIRECTORY)
                defer { try? directory.close() }
                let worker = try town.status().workerPid
                kill(worker, SIGKILL)
                #expect(try eventually { try town.status().workerPid != worker })
                for name in ["events", "alive", "runtimes"] { _ = try FileStatus("\(pulse)/\(name)") }
                try town.touch("max")
                var bytes = [UInt8](repeating: 0, count: 4096)
                let count = try bytes.withUnsafeMutableBytes { try events.read(into: $0) }
                #expect(String(decoding: bytes.prefix(count), as: UTF8.self).contains("touched"))
                #expect(faccessat(directory.rawValue, "alive/max", F_OK, 0) == 0)
            }
        }

        /// The close of a file that was renamed onto a signal file is no second touch, for a successor either.
        @Test func renamedFileThatIsStillOpenTouchesOnce() throws {
            try withMountedTown { town in
                let stop = "\(town.scratch.path)/stop"
                let writer = try Command(
                    "python3", "-c",
                    """
                    import os, sys, time
                    os.chdir(sys.argv[1])
                    file = os.open("anna.tmp", os.O_WRONLY | os.O_CREAT)
                    os.write(file, b"{}")
                    os.rename("anna.tmp", "anna.json")
                    print("renamed", flush=True)
                    while not os.path.exists(sys.argv[2]): time.sleep(0.01)
                    os.close(file)
                    with open("last.json", "w") as last: last.write("{}")
                    """, "\(town.path)/.runtime/heartbeats", stop
                ).start()
                #expect(eventually { writer.printed == "renamed\n" })
                let status = try town.status()
                kill(status.workerPid, SIGKILL)
                #expect(try eventually { try town.status().workerPid != status.workerPid })
                try Client.write("", to: stop)
                #expect(try writer.wait().status == 0)
                // RELEASE comes some time after close(2).
                #expect(try eventually { try town.status().fileSystem.openFiles < status.fileSystem.openFiles })
                #expect(try town.status().documents.touches == 2)
            }
        }

        /// All processes of pulsefs stand still for several ttls: the agents' silence is not theirs.
        @Test func stoppedTownTakesNobodyForDead() throws {
            try withAgents("--ttl", "4s") { town, ending in
                let nux = "gastown/polecats/nux"
                let ended = try ending.start(nux)
                try ended.perform("beat('gt-nux')")
                #expect(try eventually { try town.runtime(nux)?.rootPid == ended.pid })
                let agents = try (1...2).map { number in
                    try Command(
                        "sh", "-c", "while echo '{}' > .runtime/heartbeats/agent$1.json; do sleep 0.1; done", "sh",
                        "\(number)", in: town.path
                    ).start()
                }
                let events = try Command("cat", "\(town.path)/.pulse/events").start()
                #expect(eventually { (1...2).allSatisfy { events.printed.contains("agent\($0)") } })
                let processes = town.processes
                for process in processes { kill(process, SIGSTOP) }
                try ended.kill()
                // The stop has to last for more than the ttl, and for more than the limit of a stall.
                let end = ContinuousClock.now + .seconds(10)
                while end > .now { usleep(100_000) }
                let promise = Promise(.seconds(1))
                for process in processes { kill(process, SIGCONT) }
                #expect(try town.becomes("exited", nux, within: promise))
                #expect(eventually { events.printed.contains(#""event":"resumed""#) })
                let resumed = try #require(events.printed.split(separator: "\n").first { $0.contains("resumed") })
                #expect(resumed.contains(#""seconds":1"#), "\(resumed)")
                let lines = events.printed.split(separator: "\n")
                #expect(!lines.contains { $0.contains("expired") && $0.contains("agent") }, "\(lines)")
                for agent in agents { agent.send(SIGKILL) }
                // Afterwards, silence counts again.
                #expect(try eventually { try town.status().runtimes.expired == 2 })
                events.send(SIGKILL)
            }
        }

        /// Each new keeper and worker inherits the Redis URL, which is in no argument.
        @Test(.needsRedis) func mirrorGoesOnWithAPassword() throws {
            let redis = try RedisServer {
                $0.listensOnLoopback = false
                $0.password = "secret"
            }
            try withTown { town in
                try town.mount(environment: ["PULSEFS_REDIS_URL": "unix://default:secret@\(redis.socketPath)"])
                for (round, name) in ["anna", "bert", "carl"].enumerated() {
                    #expect(try eventually { try town.mirror.isUp })
                    try town.touch(name)
                    #expect(try eventually { try redis.isAlive(name) })
                    let before = try town.status()
                    switch round {
                    case 0:
                        kill(before.keeperPid, SIGKILL)
                        #expect(try eventually { try town.status().keeperPid != before.keeperPid })
                    case 1:
                        kill(before.workerPid, SIGKILL)
                        #expect(try eventually { try town.status().workerPid != before.workerPid })
                    default:
                        try town.pulsefsCommand(["upgrade", town.path]).output()
                        #expect(try town.status().workerPid != before.workerPid)
                    }
                }
                #expect(try eventually { try town.mirror.isUp })
                try town.touch("dora")
                #expect(try eventually { try redis.isAlive("dora") })
                try town.unmount()
            }
        }

        /// The mount is gone before its keeper has told the worker, which ends then.
        @Test(.needsRoot, .townScopeOnly("unmounts the town")) func keeperOfAnUnmountedTownIsNotReplaced() throws {
            try withMountedTown { town in
                try Client.write("text", to: "\(town.path)/file")
                let file = try Client.open("\(town.path)/file", O_RDONLY)
                defer { try? file.close() }
                try town.touch("max")
                let keeper = try town.status().keeperPid
                kill(keeper, SIGSTOP)
                #expect(umount2(town.path, CInt(MNT_DETACH)) == 0)
                kill(keeper, SIGKILL)
                #expect(eventually { town.processes.isEmpty })
                // Written back.
                #expect(try Client.read(town.heartbeat("max")).contains("gt prime"))
                #expect(!town.loggedText.contains("cannot"))
            }
        }

        /// `pulsefs unmount` waits for the worker as well.
        @Test func townIsUnmountedAfterTheKeepersDeath() throws {
            try withTown { town in
                for _ in 0..<5 {
                    try town.mount()
                    try town.touch("max")
                    kill(try town.status().keeperPid, SIGKILL)
                    try town.unmount()
                    #expect(try Client.read(town.heartbeat("max")).contains("gt prime"))
                }
            }
        }

        /// Another file of the program takes over keeper and worker, while a process works in the town.
        @Test func anotherProgramTakesOver() throws {
            try withMountedTown { town in
                let other = "\(town.scratch.path)/other-pulsefs"
                try Command("install", "-m", "755", BuiltProgram.path, other).output()
                let stop = "\(town.scratch.path)/stop"
                let client = try Command("python3", "-c", Self.client, "1", stop, in: workplace(in: town)).start()
                #expect(eventually { client.printed.hasPrefix("works\n") })
                let status = try town.status()
                let upgrade = try Command(other, "upgrade", town.path).run()
                #expect(upgrade.status == 0 && upgrade.output.contains("is served by"), "\(upgrade)")
                let now = try town.status()
                #expect(now.workerPid != status.workerPid && now.keeperPid == status.keeperPid)
                for pid in [now.workerPid, now.keeperPid] {
                    #expect(try eventually { try Command("readlink", "/proc/\(pid)/exe").output() == "\(other)\n" })
                }
                try Client.write("", to: stop)
                let outcome = try client.wait()
                #expect(outcome.status == 0 && outcome.output.hasSuffix("done\n"), "\(outcome)")
                #expect(!outcome.output.contains("failed"), "\(outcome)")
            }
        }

        @Test func directoryThatIsNotMountedIsNotUpgraded() throws {
            try withTown { town in
                let outcome = try town.pulsefs("upgrade", town.path)
                #expect(outcome.status == 3 && outcome.errors.contains("is not mounted"), "\(outcome)")
            }
        }
    }
}

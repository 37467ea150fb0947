import CLinux
import Glibc
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// A file system inside the town hangs: its server is stopped.
    @Suite(.needs("python3")) struct HungMountTests {
        /// A worker that takes over opens no file of the hung mount before that is needed.
        @Test(.townScopeOnly("the mounts of signal directories do not cover the hung one"))
        func takeoverWaitsForNoHungMount() throws {
            try withTown { town in
                let hung = try town.scratch.directory("town/hung")
                for name in ["a", "b"] { try Client.write("content", to: "\(hung)/\(name)") }
                try Command(BuiltProgram.path, "mount", "--no-default-signals", hung).run().expectSuccess()
                defer { umount2("\(town.backing)/hung", CInt(MNT_DETACH)) }
                let inner = try MountedTown.Status(Client.read("\(hung)/.pulse/status.json"))
                let servers = [inner.keeperPid, inner.workerPid]
                defer { for pid in servers { kill(pid, SIGCONT) } }
                try town.mount()
                let reader = try Command(
                    "python3", "-c",
                    """
                    import os, signal, sys
                    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
                    os.chdir(sys.argv[1])
                    read, written = os.open("a", os.O_RDONLY), os.open("b", os.O_RDWR | os.O_APPEND)
                    listing = os.scandir(".")
                    first = next(listing).name
                    print("open", flush=True)
                    signal.sigwait([signal.SIGUSR1])
                    assert os.read(read, 20) == b"content"
                    os.write(written, b" and more")
                    assert os.pread(written, 20, 0) == b"content and more"
                    assert sorted([first] + [entry.name for entry in listing]) == ["a", "b"]
                    """, hung
                ).start()
                #expect(eventually { reader.printed == "open\n" })
                for pid in servers { kill(pid, SIGSTOP) }
                let before = try town.status()
                kill(before.workerPid, SIGKILL)
                #expect(try eventually { try town.status().workerPid != before.workerPid })
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                #expect(try Client.read(town.keepalive) == KeepaliveDocument.text("gt"))
                for pid in servers { kill(pid, SIGCONT) }
                reader.send(SIGUSR1)
                let outcome = try reader.wait()
                #expect(outcome.status == 0, "\(outcome)")
                try town.pulsefs("unmount", town.path).expectSuccess()
            }
        }

        /// Readers block in the worker, as many as there are files.
        @Test(.townScopeOnly("the mounts of signal directories do not cover the hung one"), arguments: [40, 200])
        func signalFilesAreServedBesideBlockedReaders(readers: Int) throws {
            try withTown { town in
                let hung = try town.scratch.directory("town/hung")
                for number in 0..<readers { try Client.write("content", to: "\(hung)/\(number)") }
                try Command(BuiltProgram.path, "mount", "--no-default-signals", hung).run().expectSuccess()
                // Past the town's mount, whatever became of it.
                defer { umount2("\(town.backing)/hung", CInt(MNT_DETACH)) }
                let inner = try MountedTown.Status(Client.read("\(hung)/.pulse/status.json"))
                defer { for pid in [inner.keeperPid, inner.workerPid] { kill(pid, SIGCONT) } }
                try town.mount()
                let worker = try town.status().workerPid
                let script = """
                    import os, signal, sys, threading, time
                    town, readers, server, worker = sys.argv[1], int(sys.argv[2]), list(map(int, sys.argv[3:5])), sys.argv[5]
                    files = [f"{town}/hung/{number}" for number in range(readers)]
                    for file in files: os.stat(file)
                    heartbeat = f"{town}/.runtime/heartbeats/gt-nux.json"
                    def serving():
                        names = []
                        for thread in os.listdir(f"/proc/{worker}/task"):
                            try: names.append(open(f"/proc/{worker}/task/{thread}/comm").read())
                            except OSError: pass
                        return names.count("fuse\\n")
                    begun, finished = [], []
                    def read(file):
                        begun.append(file)
                        assert open(file).read() == "content"
                        finished.append(file)
                    for pid in server: os.kill(pid, signal.SIGSTOP)
                    threads = [threading.Thread(target=read, args=[file]) for file in files]
                    try:
                        for thread in threads: thread.start()
                        while len(begun) < readers: time.sleep(0.01)
                        for number in range(300):
                            with open(heartbeat, "w") as file: file.write('{"bead":"%d"}' % number)
                            assert f'"{number}"' in open(heartbeat).read()
                            assert "worker_pid" in open(f"{town}/.pulse/status.json").read()
                        os.mkdir(f"{town}/made"); os.rmdir(f"{town}/made")
                        blocked = serving()
                        assert finished == [], finished
                        assert 20 < blocked < 80, blocked
                    finally:
                        for pid in server: os.kill(pid, signal.SIGCONT)
                    for thread in threads: thread.join()
                    assert len(finished) == readers
                    while serving() > blocked // 2: time.sleep(0.1)
                    print("served")
                    """
                let words =
                    ["python3", "-c", script, town.path, "\(readers)", "\(inner.keeperPid)", "\(inner.workerPid)"]
                    + ["\(worker)"]
                #expect(try Command(words, limit: .seconds(50)).output() == "served\n")
                // `unmount()` would count the mount inside.
                try town.pulsefs("unmount", town.path).expectSuccess()
            }
        }
    }
}

import Glibc
import SystemPackage
import TestSupport
import Testing

extension EndToEnd {
    /// `.pulse/events` with ordinary readers: blocking, polling and stuck ones.
    @Suite(.inEachScope) struct EventsTests {
        /// Functions for the scripts below.
        private static let preamble = """
            import errno, fcntl, json, os, resource, select, signal, subprocess, sys, threading, time
            os.chdir(sys.argv[1])
            def touch(name="mayor"): os.close(os.open(f".pulse/alive/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            def open_events(name="events", flags=0): return os.open(f".pulse/{name}", os.O_RDONLY | flags)
            def events(text):
                assert text.endswith(b"\\n"), text[-100:]
                return [json.loads(line) for line in text.splitlines()]
            def status(): return json.load(open(".pulse/status.json"))
            def wait_for(condition, limit=20):
                end = time.monotonic() + limit
                while not condition():
                    assert time.monotonic() < end, "it never came"
                    time.sleep(0.002)
            # Seconds in which tasks waited for a processor or a disk, as in Promise.
            def stalled():
                if not os.path.exists("/proc/pressure/cpu"): return 4
                totals = [open(f"/proc/pressure/{name}").readline().split("total=")[1] for name in ("cpu", "io")]
                return sum(map(int, totals)) / 1e6

            """

        private func python(
            _ script: String, in town: MountedTown, _ words: String..., limit: Duration = .seconds(50)
        ) throws -> String {
            try Command(["python3", "-c", Self.preamble + script, town.path] + words, limit: limit).output()
        }

        // MARK: Waiting

        @Test(.needs("python3")) func readWaitsForEvents() throws {
            try withMountedTown { town in
                let reader = try Command("cat", "\(town.path)/.pulse/events").start()
                #expect(try eventually { try town.status().events?.readers == 1 })
                try town.shell("touch .pulse/alive/mayor; rm .pulse/alive/mayor")
                #expect(eventually { reader.printed.split(separator: "\n").count == 2 })
                #expect(reader.printed.contains(#""event":"touched","runtime":"mayor","source":"command","pid":"#))
                #expect(reader.printed.contains(#""event":"forgotten","runtime":"mayor"}"#))
                reader.send(SIGTERM)
                #expect(try reader.wait().status == 128 + SIGTERM)
            }
        }

        /// Blocked readers hold no worker thread and can be killed at once.
        @Test(.needs("python3")) func hundredBlockedReadersBlockNothingAndDieAtOnce() throws {
            try withMountedTown { town in
                let printed = try python(
                    """
                    readers = [subprocess.Popen(["cat", ".pulse/events"], stdout=subprocess.PIPE) for _ in range(100)]
                    wait_for(lambda: status()["events"]["readers"] == 100)
                    wait_for(lambda: all("S" in open(f"/proc/{reader.pid}/stat").read().split()[2] for reader in readers))
                    start = time.monotonic()
                    for _ in range(20): touch()
                    assert time.monotonic() - start < 5
                    for reader in readers: assert b"mayor" in reader.stdout.readline()
                    start = time.monotonic()
                    for reader in readers: reader.kill()
                    for reader in readers: assert reader.wait(5) == -9
                    print("killed in", time.monotonic() - start)
                    wait_for(lambda: status()["events"]["readers"] == 0)
                    """, in: town)
                #expect(printed.contains("killed"))
            }
        }

        @Test(.needs("python3")) func signalInterruptsAReadAndNothingIsLost() throws {
            try withMountedTown { town in
                let printed = try python(
                    """
                    class Alarm(Exception): pass
                    def raise_alarm(*_): raise Alarm
                    signal.signal(signal.SIGALRM, raise_alarm)
                    file = open_events()
                    for _ in range(20):
                        signal.setitimer(signal.ITIMER_REAL, 0.01)
                        try: os.read(file, 4096)
                        except Alarm: pass
                        else: assert False, "nothing has happened"
                    touch()
                    assert [event["runtime"] for event in events(os.read(file, 4096))] == ["mayor"]
                    # Without an exception it waits on, through any number of signals.
                    signal.signal(signal.SIGALRM, lambda *_: None)
                    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
                    threading.Timer(0.3, lambda: subprocess.run(["touch", ".pulse/alive/nux"])).start()
                    assert events(os.read(file, 4096))[0]["runtime"] == "nux"
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    print("done")
                    """, in: town)
                #expect(printed.contains("done"))
            }
        }

        /// A reader blocked in read(2) holds no lock of the open file.
        ///
        /// Others would wait for it unkillably.
        @Test(.needs("python3")) func readersOfASharedDescriptorCanBeKilled() throws {
            try withMountedTown { town in
                let printed = try python(
                    """
                    file = open_events()
                    readers = [subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) for _ in range(3)]
                    wait_for(lambda: all("S" in open(f"/proc/{reader.pid}/stat").read().split()[2] for reader in readers))
                    readers[2].kill()
                    assert readers[2].wait(5) == -9
                    for number in range(50): touch(f"r{number}")
                    time.sleep(0)
                    wait_for(lambda: status()["events"]["last_seq"] == 50)
                    text = b""
                    os.set_blocking(readers[0].stdout.fileno(), False)
                    os.set_blocking(readers[1].stdout.fileno(), False)
                    def collect():
                        global text
                        for reader in readers[:2]: text += reader.stdout.read() or b""
                        return text.count(b"\\n") == 50
                    wait_for(collect)
                    # Between the two of them, each event once.
                    assert sorted(event["seq"] for event in events(text)) == list(range(1, 51))
                    for reader in readers[:2]:
                        reader.kill()
                        assert reader.wait(5) == -9
                    print("done")
                    """, in: town)
                #expect(printed.contains("done"))
            }
        }

        // MARK: Polling

        @Test(.needs("python3")) func pollSelectAndEpollReportEvents() throws {
            try withMountedTown { town in
                let printed = try python(
                    """
                    file = open_events(flags=os.O_NONBLOCK)
                    def drain():
                        text = b""
                        while True:
                            try: text += os.read(file, 4096)
                            except BlockingIOError: return events(text) if text else []
                    assert drain() == []
                    poll = select.poll()
                    poll.register(file, select.POLLIN)
                    level = select.epoll()
                    level.register(file, select.EPOLLIN)
                    edge = select.epoll()
                    edge.register(file, select.EPOLLIN | select.EPOLLET)
                    waits = {
                        "poll": lambda seconds: poll.poll(seconds * 1000),
                        "select": lambda seconds: select.select([file], [], [], seconds)[0],
                        "epoll": level.poll, "edge": edge.poll,
                    }
                    for name, wait in waits.items():
                        assert not wait(0.02), name
                        for delay in [0, 0.1, 0, 0.1]:
                            threading.Timer(delay, lambda: subprocess.run(["touch", ".pulse/alive/" + name])).start()
                            assert wait(20), name
                            assert [event["runtime"] for event in drain()] == [name]
                            # What is edge-triggered may tell of the same once more; there is nothing then.
                            while wait(0.02): assert drain() == [], name
                    # Without reading, what is level-triggered goes on telling.
                    touch()
                    assert level.poll(20) and level.poll(0) and poll.poll(0)
                    drain()
                    assert not level.poll(0)
                    print("done")
                    """, in: town)
                #expect(printed.contains("done"))
            }
        }

        // MARK: Order, and slow readers

        @Test(.needs("python3")) func everyEventComesOnceAndInOrder() throws {
            try withMountedTown { town in
                let printed = try python(
                    """
                    file = open_events()
                    def write(number):
                        for _ in range(500): touch(f"writer{number}")
                    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
                    for thread in threads: thread.start()
                    got = []
                    while len(got) < 2000: got += events(os.read(file, 1 << 16))
                    assert [event["seq"] for event in got] == list(range(1, 2001))
                    for number in range(4): assert sum(event["runtime"] == f"writer{number}" for event in got) == 500
                    again = []
                    file = open_events("events@1001")
                    while len(again) < 1000: again += events(os.read(file, 5000))
                    assert again == got[1000:]
                    print("done")
                    """, in: town)
                #expect(printed.contains("done"))
            }
        }

        @Test(.needs("python3")) func hundredStuckReadersDoNotSlowTouches() throws {
            try withMountedTown { town in
                let printed = try python(
                    """
                    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
                    def memory():
                        return int(next(line for line in open(f"/proc/{worker}/status") if "VmRSS" in line).split()[1])
                    worker = status()["worker_pid"]
                    touch()
                    readers = [open_events() for _ in range(100)]
                    # The quickest of many batches: the machine's other work slows some of them, but not all.
                    def touches(count):
                        batches = []
                        for _ in range(count // 100):
                            start = time.monotonic()
                            for _ in range(100): os.utime(".pulse/alive/mayor")
                            batches.append((time.monotonic() - start) / 100)
                        return min(batches)
                    quick = touches(1000)
                    before = memory()
                    slow = touches(20_000)
                    # The log itself is less than 3 MB, and its doubling holds it twice.
                    assert memory() - before < 20_000, memory() - before
                    assert slow < 5 * quick, (quick, slow)
                    last = status()["events"]["last_seq"]
                    assert last == 21_001
                    for reader in readers[:3]:
                        first = events(os.read(reader, 1 << 16))
                        assert first[0]["event"] == "lost" and "seq" not in first[0], first[0]
                        # From what happened when it was opened on, to the oldest that is held.
                        assert (first[0]["from"], first[0]["to"]) == (2, last - 16_384), first[0]
                        assert first[1]["seq"] == first[0]["to"] + 1
                    got = first[1:]
                    while got[-1]["seq"] < last: got += events(os.read(reader, 1 << 20))
                    assert [event["seq"] for event in got] == list(range(last - 16_383, last + 1))
                    assert status()["events"]["lost"] >= 3 * (last - 16_384 - 1)
                    resumed = open_events(f"events@{last - 10}", os.O_NONBLOCK)
                    assert [event["seq"] for event in events(os.read(resumed, 1 << 16))] == list(range(last - 10, last + 1))
                    print("done", quick, slow)
                    """, in: town)
                #expect(printed.contains("done"))
            }
        }

        @Test(.needs("python3")) func expiryIsReportedInTimeAndAnIdleMountSleeps() throws {
            try withMountedTown("--ttl", "300ms") { town in
                let printed = try python(
                    """
                    file = open_events()
                    start, stalled_before = time.monotonic(), stalled()
                    touch()
                    got = []
                    while not got or got[-1]["event"] != "expired": got += events(os.read(file, 4096))
                    taken = time.monotonic() - start
                    assert [event["event"] for event in got] == ["touched", "expired"]
                    lag = status()["expiry_lag_seconds"]
                    assert 0 <= lag <= taken - 0.3 and lag < 1 + stalled() - stalled_before, (lag, taken)
                    os.close(file)
                    worker = status()["worker_pid"]
                    def context_switches():
                        switches = {}
                        for thread in os.listdir(f"/proc/{worker}/task"):
                            for line in open(f"/proc/{worker}/task/{thread}/status"):
                                if "ctxt_switches" in line: switches[thread] = switches.get(thread, 0) + int(line.split()[1])
                        assert len(switches) > 2 and min(switches.values()) > 0, switches
                        return switches
                    # No thread of the worker has run in between.
                    wait_for(lambda: context_switches() == (time.sleep(0.5), context_switches())[1])
                    print("done")
                    """, in: town)
                #expect(printed.contains("done"))
            }
        }

        enum End: String, CaseIterable, Sendable { case lazy, signal, killedWorkers }

        /// Blocked and polling readers do not delay the end of the mount, and learn of it.
        @Test(.needs("python3"), arguments: End.allCases) func readersEndWithTheMount(end: End) throws {
            try withMountedTown { town in
                let reader = try Command(
                    "sh", "-c", "cat '\(town.path)/.pulse/events' 2>&1; echo read ended", limit: .seconds(40)
                ).start()
                let poller = try Command(
                    "python3", "-c",
                    """
                    import os, select, sys
                    file = os.open(sys.argv[1] + "/.pulse/events", os.O_RDONLY | os.O_NONBLOCK)
                    poll = select.poll()
                    poll.register(file, select.POLLIN)
                    print("polling", flush=True)
                    print("poll ended", poll.poll(), flush=True)
                    """, town.path, limit: .seconds(40)
                ).start()
                #expect(try eventually { try town.status().events?.readers == 2 && poller.printed == "polling\n" })
                switch end {
                case .lazy: try town.pulsefs("unmount", "--lazy", town.path).expectSuccess()
                case .signal: kill(try town.status().keeperPid, SIGTERM)
                case .killedWorkers: try town.killWorkers()
                }
                #expect(eventually { !town.isMounted })
                #expect(eventually { reader.printed.hasSuffix("read ended\n") }, "\(reader.printed)")
                #expect(eventually { poller.printed.contains("poll ended") }, "\(poller.printed)")
                _ = try reader.wait()
                _ = try poller.wait()
                #expect(eventually { town.processes.isEmpty })
            }
        }

        @Test(.needs("python3")) func readersAreBounded() throws {
            try withMountedTown { town in
                let printed = try python(
                    """
                    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
                    readers = [open_events() for _ in range(1024)]
                    try: open_events()
                    except OSError as error: assert error.errno == errno.ENFILE
                    else: assert False
                    os.close(readers.pop())
                    # The kernel tells of the last close of a file after close(2) has returned.
                    wait_for(lambda: status()["events"]["readers"] == 1023)
                    open_events()
                    print("done")
                    """, in: town)
                #expect(printed.contains("done"))
            }
        }
    }
}

import CLinux
import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Root's worker: it must not keep another user's credentials, and must not follow links out of the town.
    @Suite(.needsRoot, .needs("setpriv", "python3")) struct SecurityTests {
        /// Requests of other users fail in the middle; afterwards every thread has root's credentials again.
        @Test func credentialsAreRestoredAfterErrorsOnEveryThread() throws {
            try withMountedTown("--allow-other") { town in
                try town.shell(
                    "mkdir -m 700 secret; mkdir -m 755 other; mkdir -m 1777 open; touch open/root; echo x > secret/f")
                let script = """
                    import os, sys, threading
                    os.chdir(sys.argv[1])
                    def fail(call, *arguments):
                        try: call(*arguments)
                        except OSError: return
                        raise Exception(arguments)
                    def work(number):
                        for round in range(100):
                            name = f"open/{number}-{round}"
                            fail(os.open, "other/x", os.O_CREAT | os.O_WRONLY)
                            fail(os.mkdir, "other/x")
                            fail(os.mknod, "open/d", 0o20600, 0x103)
                            fail(os.rename, "open/root", name)
                            fail(os.unlink, "open/root")
                            fail(os.link, "secret/f", name)
                            fail(os.symlink, "x" * 5000, name)
                            fail(os.chown, "open/root", 0, 0)
                            os.mkdir(name); fail(os.mkdir, name); fail(os.open, name, os.O_CREAT | os.O_EXCL)
                            assert os.stat(name).st_uid == 65534
                            os.rmdir(name)
                    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
                    for thread in threads: thread.start()
                    for thread in threads: thread.join()
                    """
                let user = try Command("python3", "-c", script, town.path, as: .nobody, limit: .seconds(50)).start()
                // Root's requests come in between, on the same threads.
                var round = 0
                while user.isRunning {
                    round += 1
                    let file = "\(town.path)/secret/\(round)"
                    try Client.write("x", to: file)
                    #expect(try FileStatus(file).st_uid == 0)
                    try Client.unlink(file)
                }
                try user.wait().expectSuccess()
                let worker = try town.status().workerPid
                let threads = try Client.names(in: "/proc/\(worker)/task")
                #expect(threads.count > 2)
                for thread in threads {
                    let status = try Client.read("/proc/\(worker)/task/\(thread)/status")
                    for line in ["Uid:\t0\t0\t0\t0\n", "Gid:\t0\t0\t0\t0\n"] {
                        #expect(status.contains(line), "thread \(thread): \(status)")
                    }
                    let own = try Client.read("/proc/self/status").split(separator: "\n")
                    for name in ["CapEff:", "Groups:"] {
                        let line = try #require(own.first { $0.hasPrefix(name) })
                        #expect(status.contains(line + "\n"), "thread \(thread): \(status)")
                    }
                }
            }
        }

        /// The directory of a signal file and a link to a directory outside are exchanged in the backing tree all the time.
        @Test func touchesWritebackAndRecoveryNeverFollowALinkOutOfTheTown() throws {
            try withTown { town in
                let outside = try town.scratch.directory("outside")
                let (directory, link) = ("\(town.backing)/.runtime", "\(town.backing)/link")
                try Client.write("untouched", to: "\(outside)/keepalive.json")
                #expect(symlink(outside, link) == 0)
                for _ in 0..<3 {
                    if try FileStatus(directory).st_mode & S_IFMT == S_IFLNK {
                        try Client.exchange(directory, link, flags: 2)
                    }
                    try town.mount()
                    // By descriptor: a client that walks the path would follow the link itself.
                    let held = try Client.open("\(town.path)/.runtime", O_RDONLY | O_DIRECTORY)
                    let file = "/proc/self/fd/\(held.rawValue)/keepalive.json"
                    let swapper = try Command(
                        "python3", "-c",
                        """
                        import ctypes, sys
                        libc = ctypes.CDLL(None)
                        a, b = (word.encode() for word in sys.argv[1:3])
                        print("swapping", flush=True)
                        while True: libc.renameat2(-100, a, -100, b, 2)
                        """, directory, link
                    ).start()
                    #expect(eventually { swapper.printed == "swapping\n" })
                    var touched = 0
                    for number in 0..<300 {
                        let wasTouched = (try? Client.write(KeepaliveDocument.text("gt \(number)"), to: file)) != nil
                        touched += wasTouched ? 1 : 0
                        if number % 10 == 0, let opened = try? Client.open(file, O_RDONLY) {
                            try? Client.synchronize(opened)
                            try? Client.close(opened)
                        }
                    }
                    #expect(touched > 0)
                    try town.killWorkers()
                    try Client.close(held)
                    #expect(eventually { town.processes.isEmpty })
                    swapper.send(SIGKILL)
                    _ = try swapper.wait()
                    #expect(try Client.read("\(outside)/keepalive.json") == "untouched")
                    #expect(try Client.names(in: outside) == ["keepalive.json"])
                }
            }
        }
    }
}

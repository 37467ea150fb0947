import CLinux
import Glibc
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Several users in one town of root's: their rights on each other's signal files.
    @Suite(.enabled(if: geteuid() == 0, "takes root")) struct SharedTownTests {
        /// Runs Python with two users, in a town whose `daemon` is writable by everyone.
        ///
        /// `anna(f)` and `ben(f)` call `f` as that user, in a process of its own, and return its result or the name of
        /// its errno. `shared` is the path of a signal file.
        private func expect(_ script: String) throws {
            try withMountedTown("--allow-other") { town in
                let outcome = try Command("python3", "-c", Self.users + script, town.path).run()
                #expect(outcome.status == 0, "\(outcome)")
            }
        }

        private static let users = #"""
            import errno, json, os, sys
            os.chdir(sys.argv[1])
            os.umask(0)
            os.makedirs("daemon", exist_ok=True); os.chmod("daemon", 0o777)
            shared = "daemon/activity.json"
            def as_user(number, work):
                ours, theirs = os.pipe()
                child = os.fork()
                if child == 0:
                    try:
                        os.setgroups([]); os.setresgid(number, number, number); os.setresuid(number, number, number)
                        result = work()
                    except OSError as error: result = errno.errorcode[error.errno]
                    os.write(theirs, json.dumps(result).encode())
                    os._exit(0)
                os.close(theirs); os.waitpid(child, 0)
                with os.fdopen(ours) as answer: return json.load(answer)
            def anna(work): return as_user(60001, work)
            def ben(work): return as_user(60002, work)
            def write(path, text, mode=0o600):
                file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)
                os.write(file, text.encode()); os.close(file)
            def is_equal(one, other): assert one == other, (one, other)
            def mode(path): return oct(os.stat(path).st_mode & 0o7777), os.stat(path).st_uid

            """#

        /// As a container runtime does: ids of the container are 100000 and more on the host.
        @Test(.needs("python3")) func idMappedMountOfATownMapsUsersAsThatOfADirectoryDoes() throws {
            let script = #"""
                import ctypes, os, struct, sys
                libc = ctypes.CDLL(None, use_errno=True)
                def check(result):
                    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                    return result
                def tree(path):
                    return check(libc.syscall(428, -100, path.encode(), 1 | 0x80000))
                def as_root_of_container(work):
                    child = os.fork()
                    if child == 0:
                        os.setgroups([]); os.setresgid(100000, 100000, 100000); os.setresuid(100000, 100000, 100000)
                        try: work(); os._exit(0)
                        except OSError as error: os._exit(error.errno)
                    return os.waitpid(child, 0)[1] >> 8
                ready, go = os.pipe()
                namespace = os.fork()
                if namespace == 0:
                    check(libc.unshare(0x10000000)); os.write(go, b"x"); os.read(os.pipe()[0], 1)
                os.read(ready, 1)
                for name in "uid_map", "gid_map": open(f"/proc/{namespace}/{name}", "w").write("0 100000 65536")
                users = os.open(f"/proc/{namespace}/ns/user", os.O_RDONLY)
                os.umask(0)
                for top in sys.argv[1:]:
                    os.makedirs(top + "/volume"); os.chmod(top + "/volume", 0o777)
                    open(top + "/volume/file", "w").close()
                    mount = tree(top + "/volume")
                    attributes = struct.pack("QQQQ", 0x100000, 0, 0, users)
                    check(libc.syscall(442, mount, b"", 0x1000, attributes, len(attributes)))
                    at = lambda name: os.stat(name, dir_fd=mount)
                    def make(name):
                        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=mount))
                        os.mkdir(name + ".d", dir_fd=mount); os.symlink("x", name + ".l", dir_fd=mount)
                    print(at("file").st_uid, as_root_of_container(lambda: make("made")), end=" ")
                    print([(os.lstat(f"{top}/volume/made{s}").st_uid, os.lstat(f"{top}/volume/made{s}").st_gid)
                           for s in ("", ".d", ".l")], at("made").st_uid, end=" ")
                    as_root_of_container(lambda: os.chown("made", 100001, 100001, dir_fd=mount))
                    print(os.stat(top + "/volume/made").st_uid, os.listxattr(top + "/volume/file"))
                    os.close(mount)
                os.kill(namespace, 9)
                """#
            try withMountedTown("--allow-other") { town in
                let plain = try town.scratch.directory("plain")
                let lines = try Command("python3", "-c", script, plain, town.path).output().split(separator: "\n")
                try #require(lines.count == 2)
                #expect(lines[0] == lines[1])
                #expect(lines[0].hasPrefix("100000 0 [(0, 0)"), "\(lines)")
            }
        }

        @Test func noThreadOfTheWorkerMayUseTheBlocksThatAreReservedForRoot() throws {
            try withMountedTown("--allow-other") { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                let worker = try town.status().workerPid
                for thread in try Client.names(in: "/proc/\(worker)/task") {
                    let status = try Client.read("/proc/\(worker)/task/\(thread)/status").split(separator: "\n")
                    let line = try #require(status.first { $0.hasPrefix("CapPrm:") })
                    let permitted = try #require(UInt64(line.dropFirst("CapPrm:\t".count), radix: 16))
                    #expect(permitted & (1 << UInt64(CAP_SYS_RESOURCE)) == 0, "\(status[0])")
                    #expect(permitted & (1 << UInt64(CAP_SETUID)) != 0, "\(status[0])")
                }
            }
        }

        @Test(.needs("python3")) func writerOfAnUnlinkedFileDoesNotChangeItsSuccessor() throws {
            try expect(
                """
                def work():
                    file = os.open(shared, os.O_CREAT | os.O_RDWR, 0o644)
                    os.write(file, b'{"a":1}'); os.close(os.dup(file)); os.unlink(shared)
                    ben_writes.release(); ben_wrote.acquire()
                    os.fchmod(file, 0o777)
                import multiprocessing
                ben_writes, ben_wrote = multiprocessing.Semaphore(0), multiprocessing.Semaphore(0)
                def other():
                    ben_writes.acquire()
                    ben(lambda: write(shared, '{"b":2}'))
                    os.close(os.open("daemon", os.O_RDONLY))
                    ben_wrote.release()
                process = multiprocessing.Process(target=other); process.start()
                anna(work); process.join()
                is_equal(mode(shared), ("0o600", 60002))
                """)
        }

        @Test(.needs("python3")) func descriptorOfAReplacedFileDoesNotReachTheNewOne() throws {
            try expect(
                """
                def replace():
                    write("daemon/x", '{"secret":1}'); os.rename("daemon/x", shared)
                def work():
                    write(shared, '{"a":1}', 0o666)
                    file = os.open(shared, os.O_RDWR)
                    asked.release(); done.acquire()
                    seen = os.pread(file, 99, 0).decode()
                    os.fchmod(file, 0o666)
                    os.ftruncate(file, 0); os.pwrite(file, b'{"evil":3}', 0)
                    try: os.close(os.dup(file))
                    except OSError: pass
                    try: again = os.read(os.open(f"/proc/self/fd/{file}", os.O_RDONLY), 99).decode()
                    except OSError: again = ""
                    return seen + again
                import multiprocessing
                asked, done = multiprocessing.Semaphore(0), multiprocessing.Semaphore(0)
                def other():
                    asked.acquire(); ben(replace); done.release()
                process = multiprocessing.Process(target=other); process.start()
                assert "secret" not in anna(work)
                process.join()
                is_equal(mode(shared), ("0o600", 60002))
                assert '"secret":1' in open(shared).read()
                """)
        }

        @Test(.needs("python3")) func fileInTheMakingIsItsMakersAlone() throws {
            try expect(
                """
                made = os.open(shared, os.O_CREAT | os.O_RDWR, 0o666)
                is_equal(anna(lambda: write(shared, "{}")), "EACCES")
                os.write(made, b'{"root":1}'); os.close(made)
                os.chmod(shared, 0o600)
                is_equal(anna(lambda: write(shared, "{}")), "EACCES")
                is_equal(anna(lambda: open(shared).read()), "EACCES")
                """)
        }

        @Test(.needs("python3")) func namesOfWritebacksAndSetIDBitsAreRejected() throws {
            try expect(
                """
                is_equal(anna(lambda: os.mkdir("daemon/.pulsefs-activity.json")), "EPERM")
                is_equal(anna(lambda: write("daemon/.pulsefs-activity.json", "x")), "EPERM")
                is_equal(ben(lambda: write(shared, "{}")), None)
                ben(lambda: os.chmod(shared, 0o6755))
                is_equal(mode(shared), ("0o755", 60002))
                """)
        }

        /// As git does with objects: the second name stays, and no descriptor is held for it.
        ///
        /// Uses more files than the cache of 4,096 descriptors holds.
        @Test(.needs("python3")) func linkingAndUnlinkingHoldsNoDescriptors() throws {
            try withMountedTown { town in
                let script = """
                    import json, os, sys
                    os.chdir(sys.argv[1])
                    worker = json.load(open(".pulse/status.json"))["worker_pid"]
                    count = lambda: len(os.listdir(f"/proc/{worker}/fd"))
                    before = count()
                    own = os.open("/proc/self/fd", os.O_RDONLY)
                    for number in range(4500):
                        open(f"t{number}", "w").close(); os.link(f"t{number}", f"o{number}"); os.unlink(f"t{number}")
                        file = os.open(".", os.O_TMPFILE | os.O_RDWR)
                        os.link(f"{file}", f"n{number}", src_dir_fd=own, follow_symlinks=True); os.close(file)
                    print(count() - before)
                    """
                let held = try Int(Command("python3", "-c", script, town.path).output().filter(\.isNumber))
                #expect(held.map { $0 < 4200 } == true, "\(held ?? -1) descriptors are held")
            }
        }
    }
}

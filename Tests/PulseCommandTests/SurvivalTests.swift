import Glibc
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Worker and keeper are killed while processes work in the town.
    ///
    /// No call fails.
    ///
    /// A sixth death in a minute ends the mount, so no test kills more than four workers.
    @Suite(
        .townScopeOnly("with --scope=signals a death ends the mounts"), .needs("python3"), .timeLimit(.minutes(5)))
    struct SurvivalTests {
        enum Victim: String, CaseIterable, Sendable {
            case worker, keeper
            /// Keeper and worker in turn.
            case both
        }

        /// Works in a directory of its own until a file appears, and prints how many calls it made, and which have failed.
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
                try:
                    return function(*arguments)
                except OSError as error:
                    failed.append(f"{name}: {errno.errorcode.get(error.errno)}")
            def check(name, holds):
                if not holds: failed.append(name)
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
            print(calls, *failed, sep="\\n")
            """

        @Test(arguments: Victim.allCases) func noCallFails(victim: Victim) throws {
            try withMountedTown { town in
                let stop = "\(town.scratch.path)/stop"
                let clients = try (1...3).map { number in
                    var command = Command("python3", "-c", Self.client, "\(number)", stop)
                    command.directory = town.path
                    return try command.start()
                }
                #expect(eventually { clients.allSatisfy { $0.printed.hasPrefix("works\n") } })
                for round in 0..<4 {
                    let status = try town.status()
                    let isWorker = victim == .worker || victim == .both && round % 2 == 0
                    kill(isWorker ? status.workerPid : status.keeperPid, SIGKILL)
                    let isReplaced = try eventually {
                        let now = try town.status()
                        return isWorker ? now.workerPid != status.workerPid : now.keeperPid != status.keeperPid
                    }
                    #expect(isReplaced)
                }
                try Client.write("", to: stop)
                for client in clients {
                    let outcome = try client.wait()
                    let lines = outcome.output.split(separator: "\n")
                    #expect(lines.count == 2 && (Int(lines[1]) ?? 0) > 100, "\(outcome)")
                }
            }
        }
    }
}

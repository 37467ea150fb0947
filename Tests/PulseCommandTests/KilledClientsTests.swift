import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Many clients killed at random leave the same behind as in a plain directory.
    @Suite(.inEachScope) struct KilledClientsTests {
        @Test(.needs("git", "sqlite3", "python3")) func completedWorkOfKilledClientsIsIntact() throws {
            try withMountedTown { town in
                let outcome = try Command(
                    "python3", "-c", Self.work, town.path, environment: RealWorkTests.gitSettings, limit: .seconds(90)
                ).run()
                #expect(outcome.status == 0, "\(outcome)")
                let fields = outcome.output.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
                // Kills, commits, rows and files: there must be some of each.
                #expect(fields.count == 4 && fields.allSatisfy { $0 > 0 }, "\(outcome.output)")
            }
        }

        /// Runs four processes of each kind, kills one of them about ten times a second, and checks the result.
        private static let work = #"""
            import hashlib, os, random, sqlite3, subprocess, sys, time
            os.chdir(sys.argv[1])
            random.seed(7)

            COMMITTER = '''
            cd "$1"
            n=0
            while :; do
                n=$((n + 1)); echo "$$ $n" > "f$(($$ % 7))"
                git add -A && git commit -q -m "$$ $n" || rm -f ../repo/.git/worktrees/*/index.lock "$(git rev-parse --git-dir)/index.lock"
            done
            '''
            WRITER = '''
            import sqlite3, os, itertools
            base = sqlite3.connect("base", timeout=30, isolation_level=None)
            for n in itertools.count():
                base.execute("begin immediate")
                for part in range(3): base.execute("insert into t values (?, ?, ?)", (os.getpid(), n, part))
                base.execute("commit")
            '''
            MAKER = '''
            import hashlib, os, itertools
            for n in itertools.count():
                data = os.urandom(3000 + n % 5000)
                name = "files/" + hashlib.sha256(data).hexdigest()
                with open(f"{name}.{os.getpid()}", "wb") as file: file.write(data)
                os.rename(f"{name}.{os.getpid()}", name)
            '''

            def run(*words): return subprocess.run(words, check=True, capture_output=True, text=True).stdout

            run("git", "init", "-q", "repo")
            run("git", "-C", "repo", "commit", "-q", "--allow-empty", "-m", "first")
            for number in range(4): run("git", "-C", "repo", "worktree", "add", "-q", f"../tree{number}", "-b", f"b{number}")
            os.mkdir("files")
            base = sqlite3.connect("base", isolation_level=None)
            base.execute("pragma journal_mode=wal")
            base.execute("create table t (pid, n, part)")

            starters = [["bash", "-c", COMMITTER, "sh", f"tree{number}"] for number in range(4)]
            starters += [[sys.executable, "-c", WRITER]] * 4 + [[sys.executable, "-c", MAKER]] * 4
            def start(number):
                return subprocess.Popen(starters[number], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    start_new_session=True)
            workers = [start(number) for number in range(len(starters))]
            def kill(worker):
                # With whatever it has started.
                os.killpg(worker.pid, 9)
                worker.wait()

            kills = 0
            end = time.monotonic() + 8
            while time.monotonic() < end:
                # How often one is killed; nothing is waited for.
                time.sleep(0.02)
                number = random.randrange(len(workers))
                # Not before it has come to do something.
                if random.random() < 0.2:
                    kill(workers[number])
                    workers[number] = start(number)
                    kills += 1
            for worker in workers: kill(worker)

            print(run("git", "-C", "repo", "fsck", "--no-dangling", "--no-progress"), file=sys.stderr)
            commits = int(run("git", "-C", "repo", "rev-list", "--all", "--count")) - 1
            assert base.execute("pragma integrity_check").fetchall() == [("ok",)]
            halves = base.execute("select pid, n from t group by pid, n having count(*) <> 3").fetchall()
            assert halves == [], halves
            rows = base.execute("select count(*) from t").fetchone()[0]
            files = [name for name in os.listdir("files") if "." not in name]
            for name in files:
                assert hashlib.sha256(open(f"files/{name}", "rb").read()).hexdigest() == name, name
            print(kills, commits, rows, len(files))
            """#
    }
}

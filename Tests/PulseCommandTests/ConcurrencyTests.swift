import Glibc
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Concurrent writers and readers of one signal file.
    @Suite(.inEachScope) struct ConcurrencyTests {
        /// Writes documents that state the length of their filler, which reveals a mixture of two.
        private static let writer = """
            import json, os, sys, time
            path, name, way, seconds = sys.argv[1:5]
            end = time.monotonic() + float(seconds)
            n = 0
            while time.monotonic() < end:
                n += 1
                size = (n * 7919 + int(name) * 104729) % 20000
                stamp = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())
                text = json.dumps({'timestamp': stamp, 'writer': name, 'n': n, 'size': size, 'filler': name * size})
                target = path if way == 'truncate' else path + '.tmp' + name
                fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
                # In two pieces, with another writer in between now and then.
                half = len(text) // 2
                for piece in (text[:half], text[half:]): assert os.write(fd, piece.encode()) == len(piece)
                os.close(fd)
                if target != path: os.rename(target, path)
            print(n)
            """

        private static let pythonReader = """
            import json, sys, time
            path, seconds = sys.argv[1:3]
            end = time.monotonic() + float(seconds)
            n = 0
            while time.monotonic() < end:
                with open(path) as f: text = f.read()
                d = json.loads(text)
                assert d['filler'] == d['writer'] * d['size'], text[:200]
                n += 1
            print(n)
            """

        private static let nodeReader = """
            const fs = require('fs'), [path, seconds] = process.argv.slice(1);
            const end = Date.now() + 1000 * seconds;
            let n = 0;
            while (Date.now() < end) {
                const text = fs.readFileSync(path, 'utf8'), d = JSON.parse(text);
                if (d.filler !== d.writer.repeat(d.size)) throw new Error(text.slice(0, 200));
                n++;
            }
            console.log(n);
            """

        /// Checks only the beginning and the end of each document: a shell is slow.
        private static let shellReader = """
            n=0 end=$(($(date +%s) + $2))
            while [ "$(date +%s)" -lt "$end" ]; do
                text=$(cat "$1")
                case $text in '{"timestamp":'*'"}') n=$((n + 1)) ;; *) echo "torn: $text" >&2; exit 1 ;; esac
            done
            echo $n
            """

        @Test(.needs("python3", "node")) func noReadIsEverEmptyPartialMixedOrMissing() throws {
            try withMountedTown(limit: .seconds(120)) { town in
                let path = town.keepalive
                let seconds = "4"
                try Client.write(
                    #"{"timestamp": "2026-01-01T00:00:00Z", "writer": "x", "size": 1, "filler": "x"}"#, to: path)
                let writers = try (1...6).map { number in
                    try Command(
                        "python3", "-c", Self.writer, path, "\(number)", number <= 4 ? "truncate" : "rename", seconds
                    ).start()
                }
                let readers = try (1...2).flatMap { _ in
                    [
                        try Command("python3", "-c", Self.pythonReader, path, seconds).start(),
                        try Command("node", "-e", Self.nodeReader, path, seconds).start(),
                        try Command("sh", "-c", Self.shellReader, "sh", path, seconds).start(),
                    ]
                }
                var reads = 0
                for reader in readers {
                    let outcome = try reader.wait()
                    #expect(outcome.status == 0, "\(outcome)")
                    reads += Int(outcome.output.split(separator: "\n").first ?? "") ?? 0
                }
                var writes = 0
                for writer in writers {
                    let outcome = try writer.wait()
                    #expect(outcome.status == 0, "\(outcome)")
                    writes += Int(outcome.output.split(separator: "\n").first ?? "") ?? 0
                }
                #expect(reads > 100 && writes > 100, "\(reads) reads, \(writes) writes")
                #expect(try town.status().documents.touches == writes + 1)
                #expect(try town.status().documents.refused == 0)
                #expect(try Client.names(in: "\(town.path)/.runtime").sorted() == ["heartbeats", "keepalive.json"])
                // The last document is the last one committed.
                let last = KeepaliveDocument.text("the last one")
                try Client.write(last, to: path)
                #expect(try Client.read(path) == last)
                try town.unmount()
                #expect(try Client.read(path) == last)
            }
        }

        @Test(.needs("python3")) func lastCloseWins() throws {
            try withMountedTown { town in
                // The closes are sequential, so their order is known.
                for round in 0..<50 {
                    let files = try (0..<4).map { _ in try Client.openForWriting(town.keepalive) }
                    for (number, file) in files.enumerated() {
                        try Client.write(KeepaliveDocument.text("\(round).\(number)"), to: file)
                    }
                    let order = [2, 0, 3, 1].map { ($0 + round) % 4 }
                    for number in order {
                        try Client.close(files[number])
                        #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "\(round).\(number)")
                    }
                }
            }
        }

        @Test(.needs("python3")) func twoWritersOfOneTemporaryNameLeaveAWholeDocument() throws {
            try withMountedTown { town in
                // Renaming a file that the other process has just truncated touches the existing document.
                let first = #"{"timestamp":"2026-01-01T00:00:00Z","writer":"a","n":0,"filler":""}"#
                try Client.write(first, to: town.activity)
                let script = """
                    import json, os, sys
                    path, name = sys.argv[1:3]
                    lost = refused = 0
                    for n in range(400):
                        text = json.dumps({'timestamp': '2026-01-01T00:00:00Z', 'writer': name, 'n': n, 'filler': name * (n % 300)})
                        try:
                            # Closing is refused when the other has renamed it, and the two have mixed their bytes.
                            with open(path + '.tmp', 'w') as f: f.write(text)
                            os.rename(path + '.tmp', path)
                        except FileNotFoundError: lost += 1
                        except OSError as e:
                            if e.errno != 22: raise
                            refused += 1
                        d = json.load(open(path))
                        assert d['filler'] == d['writer'] * (d['n'] % 300)
                    print(400 - lost - refused)
                    """
                let writers = try ["a", "b"].map { try Command("python3", "-c", script, town.activity, $0).start() }
                for writer in writers {
                    let outcome = try writer.wait()
                    #expect(outcome.status == 0, "\(outcome)")
                    // The two collide sometimes, not always.
                    let succeeded = try #require(Int(outcome.output.dropLast()))
                    #expect(succeeded > 0)
                }
                #expect(try Client.names(in: "\(town.path)/daemon").filter { $0 == "activity.json" }.count == 1)
            }
        }

        /// A known failure: an open that races with two removals ends with ESTALE.
        ///
        /// The kernel repeats the lookup only once, and OPEN does not carry O_CREAT.
        @Test(.needs("python3")) func writersSucceedWhileTheFileIsRemovedRepeatedly() throws {
            try withMountedTown { town in
                let writer = """
                    import errno, sys
                    n = stale = 0
                    while n < 500:
                        try: f = open(sys.argv[1], 'w')
                        except OSError as e:
                            if e.errno != errno.ESTALE: raise
                            stale += 1
                            assert stale < 100, n
                            continue
                        stale = 0
                        with f: f.write('{"timestamp":"2026-01-01T00:00:00Z","n":%d}' % n)
                        n += 1
                    """
                let remover = """
                    import os, sys
                    while True:
                        try: os.unlink(sys.argv[1])
                        except FileNotFoundError: pass
                    """
                let removing = try Command("python3", "-c", remover, town.keepalive).start()
                let writers = try (1...3).map { _ in try Command("python3", "-c", writer, town.keepalive).start() }
                for writer in writers {
                    let outcome = try writer.wait()
                    #expect(outcome.status == 0, "\(outcome)")
                }
                removing.send(SIGKILL)
                #expect(try removing.wait().errors == "")
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt")
            }
        }

        @Test(.needs("python3")) func manyAgentsBeatEachTheirOwnFile() throws {
            try withMountedTown { town in
                let script = """
                    import os, sys
                    directory, agent = sys.argv[1:3]
                    path = f'{directory}/gt-{agent}.json'
                    for n in range(200):
                        with open(path, 'w') as f: f.write('{"timestamp":"2026-01-01T00:00:00Z","n":%d}' % n)
                        assert open(path).read().endswith('"n":%d}' % n)
                        names = os.listdir(directory)
                        assert len(names) == len(set(names)) and f'gt-{agent}.json' in names, names
                    """
                let agents = try (1...8).map {
                    try Command("python3", "-c", script, "\(town.path)/.runtime/heartbeats", "\($0)").start()
                }
                for agent in agents {
                    let outcome = try agent.wait()
                    #expect(outcome.status == 0, "\(outcome)")
                }
                #expect(try town.status().signalFiles.alive == 8)
            }
        }

        /// Each create succeeds, as on a plain directory, and readers never see an uncommitted file.
        @Test(.needs("cc")) func processesThatMakeOneFileAtOnceAllSucceed() throws {
            let source = #"""
                #include <errno.h>
                #include <fcntl.h>
                #include <sched.h>
                #include <stdio.h>
                #include <stdlib.h>
                #include <string.h>
                #include <sys/mman.h>
                #include <sys/wait.h>
                #include <unistd.h>
                int main(int count, char **words)
                {
                    int rounds = atoi(words[2]), writers = atoi(words[3]), bad = 0, status;
                    volatile int *at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
                    for (int process = 0; process <= writers; process++) {
                        if (fork() != 0) continue;
                        for (int round = 0; round < rounds; round++) {
                            char path[4096], text[8];
                            __sync_fetch_and_add(at, 1);
                            while (*at <= round * (writers + 1) + writers) sched_yield();
                            snprintf(path, sizeof path, "%s/gt-m%d.json", words[1], round);
                            int isReader = process == writers;
                            int file = open(path, isReader ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC, 0644);
                            if (file < 0 && isReader && (errno == ENOENT || errno == ESTALE)) continue;
                            if (file < 0 || (isReader ? read(file, text, 8) <= 2 : write(file, "{}", 2) != 2) || close(file) != 0) {
                                printf("round %d, process %d: %s\n", round, process, strerror(errno));
                                exit(1);
                            }
                        }
                        exit(0);
                    }
                    while (wait(&status) > 0) bad |= status;
                    return bad != 0;
                }
                """#
            try withMountedTown { town in
                let program = "\(town.scratch.path)/makers"
                try Client.write(source, to: program + ".c")
                try Command("cc", "-O1", "-o", program, program + ".c").output()
                try Command(program, "\(town.path)/.runtime/heartbeats", "400", "4").output()
                #expect(try town.status().documents.touches == 1600)
            }
        }
    }
}

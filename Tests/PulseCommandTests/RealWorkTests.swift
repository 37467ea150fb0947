import Glibc
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Real work of a town, with the same output and tree on a plain directory and on the mount.
    @Suite struct RealWorkTests {
        /// Runs a script in a directory of the town, first plain, then mounted, and expects the same output and tree.
        ///
        /// The path is the same both times, as tools write paths into files. `$SCRATCH` is a directory beside the town.
        ///
        /// - Parameter unlike: Names of files whose content may differ because it has inode numbers or times.
        private func expectSameWork(
            _ script: String, _ mode: MountMode, unlike: [String] = [],
            prepare: (TemporaryDirectory) throws -> Void = { _ in }
        ) throws {
            try withTown(limit: .seconds(180)) { town in
                try prepare(town.scratch)
                let rig = "\(town.path)/rig"
                func tree(of work: Int) throws -> String {
                    let words = [rig, "\(work)", unlike.joined(separator: ",")]
                    return try Command(["python3", "-c", Self.describeTree] + words).output()
                }
                func work(_ when: Comment) throws -> (printed: String, tree: String) {
                    try Client.makeDirectory(rig)
                    // File times come from a coarse clock, which lags behind.
                    let start = Client.now - 1
                    let environment = Self.gitSettings.merging(["SCRATCH": town.scratch.path]) { $1 }
                    let command = Command(
                        "bash", "-euc", script, in: rig, environment: environment, limit: .seconds(90))
                    let outcome = try command.run()
                    #expect(outcome.status == 0, "\(when): \(outcome)")
                    return (outcome.output, try tree(of: start))
                }
                let plain = try work("plain")
                try Command("rm", "-rf", rig).output()
                let redis = mode == .underKills && RedisServer.isInstalled ? try RedisServer() : nil
                var environment = Killer.environment
                environment["PULSEFS_REDIS_URL"] = redis.map { "unix://\($0.socketPath)" }
                try town.mount(mode.options, environment: environment)
                let start = Client.now - 1
                let killer = mode == .underKills ? Killer(of: town, redis, seed: 1) : nil
                let outcome = Result { try work("mounted") }
                killer?.end()
                let mounted = try outcome.get()
                #expect(mounted.printed == plain.printed)
                expectSameLines(mounted.tree, plain.tree)
                let isClosed = try eventually { try town.status().fileSystem.openFiles == 0 }
                #expect(isClosed, "the worker holds files open that no process has")
                try town.unmount()
                expectSameLines(try tree(of: start), plain.tree)
            }
        }

        private func expectSameLines(_ mounted: String, _ plain: String) {
            guard mounted != plain else { return }
            let (mounted, plain) = (mounted.split(separator: "\n"), plain.split(separator: "\n"))
            let differences = mounted.difference(from: plain).prefix(20).map { change in
                switch change {
                case .insert(_, let line, _): "mounted: \(line)"
                case .remove(_, let line, _): "plain:   \(line)"
                }
            }
            Issue.record("trees differ:\n\(differences.joined(separator: "\n"))")
        }

        /// A line for each file: type, mode, owner, links, size, time, target, attributes, content, and the first name
        /// of the same inode.
        ///
        /// Times since the start of the work become `now`.
        private static let describeTree = """
            import hashlib, os, stat, sys
            root, before, unlike = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(',')
            first = {}
            for directory, directories, files in os.walk(root):
                directories.sort()
                for name in sorted(directories + files):
                    path = os.path.join(directory, name)
                    s = os.lstat(path)
                    same = first.setdefault(s.st_ino, path) if not stat.S_ISDIR(s.st_mode) else path
                    fields = [path, oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink]
                    fields.append(s.st_mtime_ns if s.st_mtime < before else 'now')
                    if same != path: fields.append('is ' + same)
                    if stat.S_ISLNK(s.st_mode): fields.append(os.readlink(path))
                    else:
                        for key in sorted(os.listxattr(path)): fields.append((key, os.getxattr(path, key)))
                    if stat.S_ISREG(s.st_mode) and name not in unlike:
                        fields += [s.st_size, hashlib.sha1(open(path, 'rb').read()).hexdigest()]
                    if stat.S_ISCHR(s.st_mode) or stat.S_ISBLK(s.st_mode): fields.append(s.st_rdev)
                    print(*fields)
            """

        /// A repository of 1,200 files with a history, an executable and symbolic links.
        private static let makeRepository = """
            mkdir "$1"; cd "$1"; git init -q
            python3 - <<'END'
            import os
            for i in range(1200):
                d = f'src/{i % 30}/{i % 7}'
                os.makedirs(d, exist_ok=True)
                open(f'{d}/file{i}.txt', 'w').write(f'line of {i}\\n' * (i % 50 + 1))
            os.symlink('src/1', 'link')
            open('run', 'w').write('#!/bin/sh\\necho ran\\n'); os.chmod('run', 0o755)
            END
            git add -A; git commit -qm one
            for i in 1 2 3; do echo "$i" >> src/1/1/file1.txt; git commit -qam "change $i"; done
            """

        private static func makeRepository(in scratch: TemporaryDirectory) throws {
            try Command("bash", "-euc", makeRepository, "bash", "\(scratch.path)/origin", environment: gitSettings)
                .output()
        }

        /// With one thread: packs made by several threads vary.
        static let gitSettings = [
            "GIT_CONFIG_COUNT": "3", "GIT_CONFIG_KEY_0": "gc.auto", "GIT_CONFIG_VALUE_0": "0",
            "GIT_CONFIG_KEY_1": "pack.threads", "GIT_CONFIG_VALUE_1": "1",
            "GIT_CONFIG_KEY_2": "init.defaultBranch", "GIT_CONFIG_VALUE_2": "main",
        ]

        @Test(.needs("git", "python3"), arguments: MountMode.works) func gitClonesCommitsAndCollects(mode: MountMode)
            throws
        {
            try expectSameWork(
                """
                git clone -q --no-local "$SCRATCH/origin" clone 2>&1
                cd clone
                ./run
                git checkout -q -b work
                echo more >> src/2/2/file2.txt; rm src/3/3/file3.txt; git mv src/4 four
                git add -A; git commit -qm work
                git status --porcelain
                git log --oneline --stat | tail -5
                git checkout -q main; git merge -q --no-ff -m merged work
                git stash list; echo x > run; git stash -q; ./run; git stash pop -q; cat run; git checkout -q run
                git gc -q --prune=now
                git fsck --full --strict
                git status --porcelain
                git ls-files -s | sha1sum
                """, mode, unlike: ["index"], prepare: Self.makeRepository(in:))
        }

        @Test(.needs("git", "python3"), arguments: MountMode.works) func worktreesShareABareRepository(
            mode: MountMode
        ) throws {
            try expectSameWork(
                """
                mkdir rig; git clone -q --bare --no-local "$SCRATCH/origin" rig/.repo.git 2>&1
                for name in furiosa nux; do
                    git -C rig/.repo.git worktree add -q -b "$name" "$PWD/rig/polecats/$name"
                    ( cd "rig/polecats/$name"; echo "$name" >> run; git commit -qam "by $name"; git status --porcelain )
                done
                git -C rig/.repo.git worktree add -q -b crew "$PWD/rig/crew/max"
                ( cd rig/crew/max; git merge -q -m one furiosa; git log --oneline | head -3; git status --porcelain )
                git -C rig/.repo.git worktree remove --force "$PWD/rig/polecats/nux"
                git -C rig/.repo.git worktree list | sed "s|$PWD||"
                git -C rig/.repo.git gc -q --prune=now
                git -C rig/.repo.git fsck --full --strict
                """, mode, unlike: ["index"], prepare: Self.makeRepository(in:))
        }

        @Test(.needs("python3", "sqlite3"), arguments: MountMode.works) func twoProcessesShareADatabaseInWALMode(
            mode: MountMode
        ) throws {
            try expectSameWork(
                """
                sqlite3 beads.db 'pragma journal_mode=wal; create table t (writer, n);'
                cat > "$SCRATCH/writer" <<'END'
                import sqlite3, sys
                db = sqlite3.connect('beads.db', timeout=30, isolation_level=None)
                for n in range(200):
                    db.execute('begin immediate')
                    db.execute('insert into t values (?, ?)', (sys.argv[1], n))
                    db.execute('commit')
                    if n % 50 == 0: db.execute('pragma wal_checkpoint(passive)')
                    assert db.execute('select count(*) from t where writer = ?', (sys.argv[1],)).fetchone()[0] == n + 1
                END
                python3 "$SCRATCH/writer" a & first=$!
                python3 "$SCRATCH/writer" b & wait $!; wait $first
                sqlite3 beads.db 'pragma integrity_check; select writer, count(*), sum(n) from t group by 1 order by 1;'
                sqlite3 beads.db 'pragma wal_checkpoint(truncate); vacuum;'
                sqlite3 beads.db 'pragma integrity_check;'
                ls
                rm -f "$SCRATCH/writer"
                """, mode, unlike: ["beads.db"])
        }

        @Test(.needs("git", "python3", "tar"), arguments: MountMode.works) func treesAreArchivedCopiedAndRemoved(
            mode: MountMode
        ) throws {
            try expectSameWork(
                """
                tar -C "$SCRATCH/origin" -cf - --exclude .git . | tar -xpf -
                find . -exec touch -h -d '2020-02-02 02:02:02.123456789' {} +
                chmod 4755 run; chmod 1777 src; chmod 000 src/1/1/file1.txt
                ln run hard; ln run src/hard; mkfifo fifo; ln -s dangling broken; chown 65534:65534 src/2
                setfattr -n user.colour -v blue src/3
                python3 -c 'import os; f = open("sparse", "wb"); f.truncate(10 << 20); f.seek(5 << 20); f.write(b"x")'
                cp -a . "$SCRATCH/copied"; cp -a "$SCRATCH/copied" copy; rm -rf "$SCRATCH/copied"
                tar -cf all.tar --numeric-owner --sparse --xattrs src run hard fifo broken sparse
                tar -df all.tar --sparse
                mkdir extracted; tar -xpf all.tar --numeric-owner --xattrs -C extracted
                diff -r --no-dereference src extracted/src && echo same
                [ "$(stat -c %b sparse)" -lt 100 ] && [ "$(stat -c %b copy/sparse)" -lt 100 ] && echo still sparse
                rm -rf copy/src; rmdir copy 2>&1 || true; find extracted -type f | wc -l
                rm all.tar
                """, mode, prepare: Self.makeRepository(in:))
        }

        @Test(.needs("make", "cc"), arguments: MountMode.works) func programIsBuiltAndRunInPlace(mode: MountMode)
            throws
        {
            try expectSameWork(
                """
                mkdir project; cd project
                for i in $(seq 20); do printf 'int f%d(int x) { return x + %d; }\\n' "$i" "$i" > "f$i.c"; done
                { for i in $(seq 20); do echo "int f$i(int);"; done
                  echo '#include <stdio.h>'; echo 'int main(void) { int x = 0;'
                  for i in $(seq 20); do echo "x = f$i(x);"; done; echo 'printf("%d\\n", x); }'; } > main.c
                printf 'main: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n\\tcc -o $@ $^\\nclean:\\n\\trm -f *.o main\\n' > Makefile
                make -s -j2; ./main; make -s; touch f3.c; make -n | wc -l; make -s; ./main; make -s clean; ls | wc -l; make -s
                cp main renamed; ./renamed
                """, mode)
        }

        @Test(.needs("python3"), arguments: MountMode.works) func linesAppendedByManyProcessesAreAllThere(
            mode: MountMode
        ) throws {
            try expectSameWork(
                """
                for writer in 1 2 3 4 5 6; do
                    python3 -c '
                import os, sys
                fd = os.open("logs", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                for n in range(1000): os.write(fd, f"{sys.argv[1]} {n} {sys.argv[1] * 40}\\n".encode())
                ' "$writer" &
                done
                wait
                sort logs | sha1sum; wc -l < logs; rm logs
                """, mode)
        }

        @Test(.needs("python3"), arguments: MountMode.works) func fileSharedByMappingIsSeenByBoth(mode: MountMode)
            throws
        {
            try expectSameWork(
                """
                python3 - <<'END'
                import mmap, os, subprocess, sys
                with open('shared', 'wb') as f: f.truncate(1 << 20)
                f = open('shared', 'r+b')
                m = mmap.mmap(f.fileno(), 0)
                m[4096:4105] = b'by parent'
                child = '''
                import mmap
                f = open('shared', 'r+b'); m = mmap.mmap(f.fileno(), 0)
                print(m[4096:4105]); m[8192:8200] = b'by child'; m.flush()
                '''
                print(subprocess.run([sys.executable, '-c', child], capture_output=True, text=True).stdout)
                print(m[8192:8200], os.pread(f.fileno(), 8, 8192))
                os.pwrite(f.fileno(), b'by write', 0)
                print(m[:8]); m.flush(); m.close()
                END
                """, mode)
        }

        @Test(.needs("python3"), arguments: MountMode.works) func locksAreKeptBetweenProcesses(mode: MountMode)
            throws
        {
            try expectSameWork(
                """
                python3 - <<'END'
                import fcntl, os, subprocess, sys
                open('lock', 'w').close()
                f = open('lock', 'r+')
                take = '''
                import fcntl, sys
                f = open('lock', 'r+')
                try: eval(sys.argv[1]); print('taken')
                except OSError as e: print(type(e).__name__)
                '''
                whole, part = 'fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)', 'fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)'
                other = 'fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50)'
                def child(way): return subprocess.run([sys.executable, '-c', take, way], capture_output=True, text=True).stdout.strip()
                for held in (whole, part):
                    eval(held)
                    print(held[6:11], [child(way) for way in (whole, part, other)])
                    fcntl.flock(f, fcntl.LOCK_UN); fcntl.lockf(f, fcntl.LOCK_UN)
                    print([child(way) for way in (whole, part, other)])
                END
                """, mode)
        }

        @Test(.needs("python3"), arguments: MountMode.works) func socketsAndFifosConnectProcesses(mode: MountMode)
            throws
        {
            try expectSameWork(
                """
                python3 - <<'END'
                import os, socket, stat, threading
                s = socket.socket(socket.AF_UNIX); s.bind('agent.sock'); os.chmod('agent.sock', 0o600); s.listen()
                print(stat.S_ISSOCK(os.stat('agent.sock').st_mode), oct(os.stat('agent.sock').st_mode & 0o777))
                c = socket.socket(socket.AF_UNIX); c.connect('agent.sock'); c.send(b'hello')
                print(s.accept()[0].recv(10))
                try: socket.socket(socket.AF_UNIX).bind('agent.sock')
                except OSError as e: print(e.errno)
                s.close()
                try: socket.socket(socket.AF_UNIX).connect('agent.sock')
                except OSError as e: print(e.errno)
                os.rename('agent.sock', 'other.sock')
                os.mkfifo('fifo', 0o640)
                threading.Thread(target=lambda: open('fifo', 'w').write('through')).start()
                print(open('fifo').read())
                END
                """, mode)
        }

        @Test(.needs("inotifywait"), arguments: MountMode.works) func changesMadeThroughTheMountAreNoticed(
            mode: MountMode
        ) throws {
            try expectSameWork(
                """
                mkdir queue
                inotifywait -q -m -e create,delete,move,modify,close_write,attrib --format '%e %f' queue > "$SCRATCH/events" &
                watcher=$!
                # It has no way to say that it watches, so it is asked until it answers.
                until grep -q probe "$SCRATCH/events"; do : > queue/probe; rm queue/probe; done
                echo 1 > queue/a; echo 2 >> queue/a; mv queue/a queue/b; mv queue/b c; mv c queue/d; chmod 600 queue/d
                mkdir queue/e; rmdir queue/e; ln queue/d queue/f; rm queue/d; ln -s x queue/g
                : > queue/end; rm queue/end
                until grep -q 'DELETE end' "$SCRATCH/events"; do :; done
                kill $watcher; wait $watcher || true
                grep -v probe "$SCRATCH/events"
                rm "$SCRATCH/events"
                """, mode)
        }

        @Test(.needs("inotifywait")) func watcherOfASignalNoticesTouches() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                let watcher = try Command(
                    "inotifywait", "-q", "-m", "-e", "close_write,moved_to,delete", "--format", "%e %f",
                    "\(town.path)/.runtime"
                ).start()
                #expect(
                    try eventually {
                        try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                        return watcher.printed.contains("CLOSE_WRITE,CLOSE keepalive.json")
                    })
                try Client.replace(town.keepalive, with: KeepaliveDocument.text("bd"))
                #expect(eventually { watcher.printed.contains("MOVED_TO keepalive.json") })
                try Client.unlink(town.keepalive)
                #expect(eventually { watcher.printed.contains("DELETE keepalive.json") })
                watcher.send(SIGTERM)
                _ = try watcher.wait()
            }
        }

        /// System calls with their results or errnos.
        private static let calls = #"""
            import ctypes, errno, fcntl, os, stat, sys
            libc = ctypes.CDLL(None, use_errno=True)
            def rename2(a, b, flags):
                if libc.renameat2(-100, a.encode(), -100, b.encode(), flags): raise OSError(ctypes.get_errno(), '')
            def say(name, call):
                try: result = call()
                except OSError as e: result = errno.errorcode[e.errno]
                print(f'{name}: {result}')
            def write(path, text='x', flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o644):
                fd = os.open(path, flags, mode)
                try: return os.write(fd, text.encode())
                finally: os.close(fd)
            def read(path):
                with open(path, 'rb') as f: return f.read()
            umask = os.umask(0o027)
            os.mkdir('d'); os.mkdir('d/e'); write('f', 'file f'); write('g', 'file g'); os.symlink('f', 'l'); os.symlink('loop', 'loop')
            say('mode of a file made under a mask', lambda: oct(os.stat('f').st_mode))
            say('mode of a directory', lambda: oct(os.stat('d').st_mode))
            say('open missing', lambda: read('missing'))
            say('open exclusively', lambda: write('f', flags=os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            say('open directory to write', lambda: write('d'))
            say('open file as directory', lambda: os.open('f', os.O_DIRECTORY))
            say('open link without following', lambda: os.open('l', os.O_NOFOLLOW))
            say('open loop', lambda: read('loop'))
            say('open below a file', lambda: read('f/x'))
            say('name of 255 bytes', lambda: write('n' * 255))
            say('name of 256 bytes', lambda: write('n' * 256))
            say('mkdir over', lambda: os.mkdir('f'))
            say('rmdir full', lambda: os.rmdir('d'))
            say('rmdir file', lambda: os.rmdir('f'))
            say('rmdir dot', lambda: os.rmdir('d/e/.'))
            say('unlink directory', lambda: os.unlink('d'))
            say('unlink missing', lambda: os.unlink('missing'))
            say('link', lambda: (os.link('f', 'h'), os.stat('f').st_nlink, os.stat('f').st_ino == os.stat('h').st_ino))
            say('link over', lambda: os.link('f', 'g'))
            say('link directory', lambda: os.link('d', 'dd'))
            say('link of a symbolic link', lambda: (os.link('l', 'll', follow_symlinks=False), os.readlink('ll')))
            say('rename file over directory', lambda: os.rename('f', 'd'))
            say('rename directory over file', lambda: os.rename('d', 'f'))
            say('rename into itself', lambda: os.rename('d', 'd/e/x'))
            say('rename to its other name', lambda: (os.rename('f', 'h'), sorted(os.listdir('.')).count('f')))
            say('rename over full directory', lambda: (os.mkdir('d2'), os.rename('d2', 'd')))
            say('rename over empty directory', lambda: (os.rename('d2', 'd/e'), os.listdir('d')))
            say('rename without replacing, taken', lambda: rename2('f', 'g', 1))
            say('rename without replacing, free', lambda: (rename2('g', 'g2', 1), read('g2')))
            say('exchange files', lambda: (rename2('g2', 'f', 2), read('g2'), read('f')))
            say('exchange file and directory', lambda: (rename2('g2', 'd', 2), os.path.isdir('g2'), read('d')))
            say('exchange back', lambda: rename2('g2', 'd', 2))
            say('exchange with nothing', lambda: rename2('g2', 'missing', 2))
            say('rename with nonsense', lambda: rename2('g2', 'x', 3))
            fd = os.open('g2', os.O_RDWR)
            say('unlink while open', lambda: (os.unlink('g2'), os.fstat(fd).st_nlink, os.pread(fd, 10, 0), os.write(fd, b'new'), os.pread(fd, 10, 0)))
            say('chmod of what is unlinked', lambda: (os.fchmod(fd, 0o600), oct(os.fstat(fd).st_mode)))
            say('reopen what is unlinked', lambda: read(f'/proc/self/fd/{fd}'))
            os.close(fd)
            fd = os.open('t', os.O_RDWR | os.O_CREAT, 0o666)
            say('truncate longer', lambda: (os.ftruncate(fd, 10000), os.fstat(fd).st_size, os.pread(fd, 3, 9997)))
            say('truncate to less than nothing', lambda: os.ftruncate(fd, -1))
            say('write beyond the end', lambda: (os.pwrite(fd, b'end', 1 << 20), os.fstat(fd).st_size, os.fstat(fd).st_blocks < 100))
            say('seek data', lambda: os.lseek(fd, 20000, os.SEEK_DATA) == 1 << 20)
            say('seek hole', lambda: os.lseek(fd, 1 << 20, os.SEEK_HOLE) == (1 << 20) + 3)
            say('seek data behind the end', lambda: os.lseek(fd, 2 << 20, os.SEEK_DATA))
            say('fallocate', lambda: (os.posix_fallocate(fd, 0, 2 << 20), os.fstat(fd).st_size, os.fstat(fd).st_blocks >= 4096))
            say('punch a hole', lambda: (libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(1 << 20)), os.fstat(fd).st_blocks < 4096))
            say('copy range', lambda: (os.copy_file_range(os.open('f', os.O_RDONLY), fd, 6, 0, 100), os.pread(fd, 8, 98)))
            say('sendfile', lambda: (os.lseek(fd, 0, 0), os.sendfile(fd, os.open('f', os.O_RDONLY), 0, 6), os.pread(fd, 6, 0)))
            say('write through a reader', lambda: os.write(os.open('t', os.O_RDONLY), b'x'))
            say('read through a writer', lambda: os.read(os.open('t', os.O_WRONLY), 1))
            say('allocate beyond reason', lambda: os.posix_fallocate(fd, 0, 1 << 62))
            say('utimes', lambda: (os.utime('t', ns=(1_111_111_111_222_222_222, 1_333_333_333_444_444_444)), os.stat('t').st_atime_ns, os.stat('t').st_mtime_ns))
            say('utimes of a link', lambda: (os.utime('l', (1, 2), follow_symlinks=False), os.lstat('l').st_mtime, os.stat('f').st_mtime == 2))
            say('chmod', lambda: (os.chmod('t', 0o7751), oct(os.stat('t').st_mode)))
            say('chown takes the set-user bit', lambda: (os.chown('t', 65534, 65534), os.stat('t').st_uid, oct(os.stat('t').st_mode)))
            say('write takes the set-user bit', lambda: (os.chmod('t', 0o4755), write('t', 'x', os.O_WRONLY), oct(os.stat('t').st_mode)))
            say('set attribute', lambda: (os.setxattr('t', 'user.a', b'1'), os.setxattr('t', 'user.b', b''), os.listxattr('t'), os.getxattr('t', 'user.a')))
            say('set attribute that must be new', lambda: os.setxattr('t', 'user.a', b'2', os.XATTR_CREATE))
            say('replace attribute that is not there', lambda: os.setxattr('t', 'user.c', b'2', os.XATTR_REPLACE))
            say('attribute that is not there', lambda: os.getxattr('t', 'user.c'))
            say('attribute of no family', lambda: os.setxattr('t', 'nonsense', b''))
            say('large attribute', lambda: (os.setxattr('t', 'user.large', b'x' * 3000), len(os.getxattr('t', 'user.large'))))
            say('remove attribute', lambda: (os.removexattr('t', 'user.a'), os.listxattr('t')))
            say('attribute of a link', lambda: os.setxattr('l', 'user.a', b'', follow_symlinks=False))
            say('access of what is executable', lambda: (os.access('t', os.X_OK), os.access('f', os.X_OK), os.access('missing', os.F_OK)))
            say('device', lambda: (os.mknod('null', 0o666 | stat.S_IFCHR, os.makedev(1, 3)), os.stat('null').st_rdev))
            say('regular file by mknod', lambda: (os.mknod('m', 0o644 | stat.S_IFREG), os.stat('m').st_size))
            say('link count of a directory', lambda: (os.mkdir('d/n'), os.stat('d').st_nlink))
            say('parent', lambda: os.stat('d/..').st_ino == os.stat('.').st_ino)
            say('inode as listed', lambda: all(e.inode() == os.lstat(e.path).st_ino for e in os.scandir('.')))
            say('empty link', lambda: os.symlink('', 'empty'))
            say('long link', lambda: (os.symlink('x' * 4095, 'long'), len(os.readlink('long'))))
            say('read a file as a link', lambda: os.readlink('f'))
            say('read at an odd place', lambda: os.pread(fd, 10, 1 << 40))
            say('read beyond all places', lambda: os.pread(fd, 10, -1))
            say('name limit', lambda: os.statvfs('.').f_namemax)
            say('sticky directory', lambda: (os.mkdir('s'), os.chmod('s', 0o1777), oct(os.stat('s').st_mode)))
            say('group directory', lambda: (os.chown('s', 0, 65534), os.chmod('s', 0o2775), write('s/f'), os.stat('s/f').st_gid, os.mkdir('s/d'), oct(os.stat('s/d').st_mode)))
            say('fsync directory', lambda: os.fsync(os.open('d', os.O_RDONLY)))
            say('read directory', lambda: os.read(os.open('d', os.O_RDONLY), 10))
            say('many names', lambda: ([write(f'd/{i}') for i in range(3000)][0], len(os.listdir('d')), len(set(os.listdir('d')))))
            say('removed while listed', lambda: ([os.unlink(e.path) for e in os.scandir('d') if e.is_file()][0], os.listdir('d').sort()))
            say('direct', lambda: os.close(os.open('f', os.O_RDONLY | os.O_DIRECT)))
            say('append', lambda: (write('f', 'more', os.O_WRONLY | os.O_APPEND), read('f')))
            say('two appenders', lambda: (write('f', 'a', os.O_WRONLY | os.O_APPEND), write('f', 'b', os.O_WRONLY | os.O_APPEND), read('f')))
            say('exchange of lists', lambda: sorted(os.listdir('.')))
            os.umask(umask)
            """#

        @Test(.needs("python3"), arguments: MountMode.works) func systemCallsReturnTheSameAsOnThePlainDirectory(
            mode: MountMode
        )
            throws
        {
            try expectSameWork("python3 - <<'END'\n\(Self.calls)\nEND\n", mode)
        }
    }
}

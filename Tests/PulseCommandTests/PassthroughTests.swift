import Glibc
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Files that the kernel reads and writes itself (passthrough).
    @Suite(.needsRoot) struct PassthroughTests {
        /// With a stopped worker, open files, cached names and cached absences still work.
        @Test func cachedFilesNeedNoRequests() throws {
            try withMountedTown { town in
                let path = "\(town.path)/file"
                try Client.write("before", to: path)
                try Client.write("known", to: "\(town.path)/known")
                let file = try Client.open(path, O_RDWR)
                let other = try Client.open(path, O_RDONLY)
                #expect(try Client.read(path) == "before")
                #expect(!Client.exists("\(town.path)/nothing"))
                #expect(try FileStatus("\(town.path)/known").st_size == 5)
                _ = try Client.names(in: town.path)
                // The kernel asks once for the file's capabilities.
                #expect(pwrite(file.rawValue, "before", 6, 0) == 6)
                let worker = try town.status().workerPid
                kill(worker, SIGSTOP)
                defer { kill(worker, SIGCONT) }
                #expect(pwrite(file.rawValue, "beyond", 6, 0) == 6)
                var bytes = [UInt8](repeating: 0, count: 10)
                #expect(pread(other.rawValue, &bytes, 10, 0) == 6)
                #expect(bytes.prefix(6).elementsEqual("beyond".utf8))
                #expect(!Client.exists("\(town.path)/nothing"))
                #expect(try FileStatus("\(town.path)/known").st_size == 5)
                kill(worker, SIGCONT)
                try Client.close(file)
                try Client.close(other)
                #expect(try Client.read("\(town.backing)/file") == "beyond")
            }
        }

        /// Reading a small file again needs no request except OPEN.
        @Test func smallFileIsReadFromThePageCache() throws {
            try withMountedTown { town in
                let path = "\(town.path)/file"
                try Client.write("kept", to: path)
                // The reader continues while the writer has the file open.
                #expect(try eventually { try town.status().fileSystem.openFiles == 0 })
                #expect(try Client.read(path) == "kept")
                #expect(try eventually { try town.status().fileSystem.openFiles == 0 })
                let file = try Client.open(path, O_RDONLY)
                #expect(try FileStatus(path).st_size == 4)
                let worker = try town.status().workerPid
                kill(worker, SIGSTOP)
                defer { kill(worker, SIGCONT) }
                var bytes = [UInt8](repeating: 0, count: 10)
                #expect(pread(file.rawValue, &bytes, 10, 0) == 4)
                #expect(bytes.prefix(4).elementsEqual("kept".utf8))
                kill(worker, SIGCONT)
                try Client.close(file)
            }
        }

        /// The kernel never shows cached content of small files after a write, however it was made.
        @Test(.needs("python3"), arguments: MountMode.all) func kernelCachesAreNeverStale(mode: MountMode) throws {
            try expectFine(Self.rewritings, mode)
        }

        /// Runs a Python program in a town.
        ///
        /// It prints `fine` or fails.
        private func expectFine(_ program: String, _ mode: MountMode) throws {
            try withMountedTown(options: mode.options) { town in
                let said = try Command("python3", "-c", program, town.path).output()
                #expect(said == "fine\n")
            }
        }

        private static let rewritings = """
            import mmap, os, random, sys, threading
            os.chdir(sys.argv[1])
            def put(name, text, flags=os.O_TRUNC):
                fd = os.open(name, os.O_WRONLY | os.O_CREAT | flags); os.write(fd, text); os.close(fd)
            def get(name):
                fd = os.open(name, os.O_RDONLY)
                try: return os.read(fd, 1 << 20)
                finally: os.close(fd)
            def overwrite(name, text): put(name, text, 0)
            def replace(name, text): put('other', text); os.rename('other', name)
            def cut(name, text): os.truncate(name, 0); overwrite(name, text)
            def copy(name, text):
                put('source', text)
                a = os.open('source', os.O_RDONLY); b = os.open(name, os.O_RDWR | os.O_TRUNC)
                assert os.copy_file_range(a, b, len(text)) == len(text)
                os.close(a); os.close(b)
            def mapped(name, text):
                fd = os.open(name, os.O_RDWR); os.ftruncate(fd, len(text))
                with mmap.mmap(fd, len(text)) as m: m[:] = text
                os.close(fd)
            def held(name, text):
                # A reader is there first, so that the writer goes its way.
                reader = os.open(name, os.O_RDONLY); os.read(reader, 10)
                overwrite(name, text)
                assert os.pread(reader, 1 << 20, 0) == text
                os.close(reader)
            def joined(name, text):
                # And the other way round.
                writer = os.open(name, os.O_WRONLY); reader = os.open(name, os.O_RDONLY)
                os.read(reader, 10); os.pwrite(writer, text, 0)
                assert os.pread(reader, 1 << 20, 0) == text
                os.close(writer); os.close(reader)
            ways = [put, overwrite, replace, cut, copy, mapped, held, joined]
            chance = random.Random(7)
            for name in ['a', 'b']: put(name, b'0' * 5000)
            for step in range(400):
                name = chance.choice(['a', 'b'])
                way = chance.choice(ways)
                text = ((b'%06d ' % step) * 1000)[:5000]
                way(name, text)
                for _ in range(chance.randrange(3)): assert get(name) == text, (step, way.__name__)
            # Many readers and one writer of another file's worth: no reader sees older content than before the last completed write.
            last = [b'0' * 5000]
            put('c', last[0])
            end = []
            wrong = []
            def read():
                while not end:
                    before = int(last[0].split()[0])
                    got = int(get('c').split()[0])
                    if got < before: wrong.append((before, got))
            threads = [threading.Thread(target=read) for _ in range(3)]
            for thread in threads: thread.start()
            for step in range(1, 400):
                text = (b'%06d ' % step) * 700
                fd = os.open('c', os.O_WRONLY); os.pwrite(fd, text, 0); os.close(fd)
                last[0] = text
            end.append(1)
            for thread in threads: thread.join()
            assert not wrong, wrong[:5]
            print('fine')
            """

        /// No open fails because of the I/O mode of another, in any order.
        @Test(.needs("python3"), arguments: MountMode.all) func openingsOfOneFileGoTogether(mode: MountMode) throws {
            try expectFine(Self.openings, mode)
        }

        private static let openings = """
            import itertools, mmap, os, sys
            os.chdir(sys.argv[1])
            ways = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDONLY | os.O_DIRECT,
                    os.O_RDWR | os.O_SYNC, os.O_RDONLY | os.O_NOATIME]
            for number, order in enumerate(itertools.permutations(ways, 4)):
                name = f'f{number % 5}'
                with open(name, 'wb') as f: f.write(b'x' * 8192)
                fds = [os.open(name, way) for way in order]
                for fd, way in zip(fds, order):
                    if way & os.O_ACCMODE != os.O_RDONLY: assert os.write(fd, b'y') == 1
                    os.fsync(fd)
                    os.fstat(fd)
                appended = sum(1 for way in order if way & os.O_APPEND)
                assert os.stat(name).st_size == 8192 + appended, (order, os.stat(name).st_size)
                if order[0] == os.O_RDWR:
                    m = mmap.mmap(fds[0], 8192)
                    before = os.stat(name).st_mtime_ns
                    m[100] = ord('z')
                    m.flush()
                    assert os.pread(fds[0], 1, 100) == b'z'
                    os.close(fds.pop(0))
                    m[101] = ord('w'); m.flush()
                    with open(name, 'rb') as f: assert f.read()[100:102] == b'zw'
                for fd in fds: os.close(fd)
                if number % 7 == 0: os.truncate(name, 10); assert os.stat(name).st_size == 10
            print('fine')
            """

        /// Large reads from any offset, while other processes truncate the file or are killed.
        @Test(.needs("python3"), arguments: MountMode.all) func largeReadsAreComplete(mode: MountMode) throws {
            try expectFine(Self.readings, mode)
        }

        private static let readings = """
            import mmap, os, random, signal, subprocess, sys, time
            os.chdir(sys.argv[1])
            chance = random.Random(7)
            data = chance.randbytes(5 * 1024 * 1024 + 3)
            with open('big', 'wb') as f: f.write(data)
            fd = os.open('big', os.O_RDWR); os.fsync(fd)
            def forget(): os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            def check(times):
                for _ in range(times):
                    forget()
                    start, size = chance.randrange(len(data) + 5000), chance.randrange(700_000)
                    assert os.pread(fd, size, start) == data[start:start + size], (start, size)
                forget()
                with open('big', 'rb') as f: assert f.read() == data
            check(100)
            m = mmap.mmap(fd, len(data))
            for _ in range(100):
                forget()
                start = chance.randrange(len(data))
                assert m[start:start + 9000] == data[start:start + 9000], start
            m.close()
            # Those who wait for an answer are killed, wherever in their reading they are by then.
            read = "import os, sys\\nfd = os.open('big', os.O_RDONLY)\\nwhile True: os.posix_fadvise(fd, 0, 0, 4); os.pread(fd, 1 << 20, 4096)"
            for _ in range(10):
                readers = [subprocess.Popen([sys.executable, '-c', read]) for _ in range(3)]
                time.sleep(chance.uniform(0.05, 0.2))
                for reader in readers: reader.kill()
                for reader in readers: assert reader.wait() == -signal.SIGKILL
                check(5)
            # Another takes away what is being read, and gives it back.
            change = "import os\\nwhile True: os.truncate('big', 70_001); os.truncate('big', %d)" % len(data)
            other = subprocess.Popen([sys.executable, '-c', change])
            for _ in range(50):
                forget()
                part = os.pread(fd, 300_000, 0)
                assert len(part) >= 70_001 and part[:70_001] == data[:70_001]
                assert all(seen in (0, byte) for seen, byte in zip(part[70_001:], data[70_001:]))
            other.kill(); other.wait()
            with open('big', 'wb') as f: f.write(data)
            os.fsync(fd)
            check(5)
            print('fine')
            """

        /// Time and size are right while a mapping is written, although the worker gets no requests.
        @Test(.needs("python3")) func timeOfAMappedFileIsTrue() throws {
            try withMountedTown { town in
                let said = try Command(
                    "python3", "-c",
                    """
                    import mmap, os, sys, time
                    os.chdir(sys.argv[1])
                    open('f', 'wb').write(b'x' * 4096); os.utime('f', (1, 1)); os.stat('f'); os.stat('f')
                    fd = os.open('f', os.O_RDWR); m = mmap.mmap(fd, 4096); os.close(fd)
                    assert os.stat('f').st_mtime == 1
                    m[0] = 65
                    print(os.stat('f').st_mtime > 1)
                    """, town.path
                ).output()
                #expect(said == "True\n")
            }
        }

        /// Writes to a file that was open in passthrough mode when it was renamed over a signal file.
        @Test(arguments: MountMode.all) func writerContinuesAfterARenameFromElsewhere(mode: MountMode) throws {
            try withMountedTown(options: mode.options) { town in
                try Client.makeDirectory("\(town.path)/elsewhere")
                let path = "\(town.path)/elsewhere/new"
                let first = KeepaliveDocument.text("first")
                try Client.write(first, to: path)
                let file = try Client.open(path, O_RDWR)
                try Client.rename(path, to: town.keepalive)
                #expect(try Client.read(town.keepalive) == first)
                let second = KeepaliveDocument.text("second, and longer")
                #expect(pwrite(file.rawValue, second, second.utf8.count, 0) == second.utf8.count)
                try Client.close(file)
                #expect(try eventually { try Client.read(town.keepalive) == second })
                // A process that only had it open has changed nothing.
                let third = KeepaliveDocument.text("third")
                try Client.write(third, to: path)
                let reader = try Client.open(path, O_RDWR)
                try Client.rename(path, to: town.keepalive)
                let touches = try town.status().documents.touches
                try Client.close(reader)
                #expect(try eventually { try town.status().fileSystem.openFiles == 0 })
                #expect(try town.status().documents.touches == touches)
                #expect(try Client.read(town.keepalive) == third)
            }
        }

        /// A signal file renamed away continues as a plain file with the same inode, in passthrough mode.
        @Test(arguments: MountMode.all) func signalFileRenamedAwayIsAPlainFile(mode: MountMode) throws {
            try withMountedTown(options: mode.options) { town in
                let away = KeepaliveDocument.text("away")
                try Client.write(away, to: town.keepalive)
                let reader = try Client.open(town.keepalive, O_RDONLY)
                let path = "\(town.path)/away.json"
                try Client.rename(town.keepalive, to: path)
                let writer = try Client.open(path, O_WRONLY | O_APPEND)
                #expect(write(writer.rawValue, "more", 4) == 4)
                try Client.close(writer)
                #expect(try Client.read(path) == away + "more")
                try Client.close(reader)
                #expect(try FileStatus(path).st_size == away.utf8.count + 4)
            }
        }

        /// An inode that has been two files: an open of the second does not get the first, which another process still
        /// reads.
        @Test(arguments: MountMode.all) func inodeThatHasBeenAnotherFileIsTheFileItIs(mode: MountMode) throws {
            try withMountedTown(options: mode.options) { town in
                try Client.makeDirectory("\(town.path)/elsewhere")
                let (first, last) = ("\(town.path)/elsewhere/first", "\(town.path)/elsewhere/last")
                try Client.write(KeepaliveDocument.text("first"), to: first)
                let reader = try Client.open(first, O_RDONLY)
                try Client.rename(first, to: town.keepalive)
                let second = KeepaliveDocument.text("second, and longer")
                try Client.write(second, to: town.keepalive)
                try Client.rename(town.keepalive, to: last)
                #expect(try Client.read(last) == second)
                try Client.write("all new", to: last)
                let appending = try Client.open(last, O_WRONLY | O_APPEND)
                #expect(write(appending.rawValue, " and more", 9) == 9)
                try Client.close(appending)
                #expect(try Client.read(last) == "all new and more")
                try Client.close(reader)
                #expect(try eventually { try town.status().fileSystem.openFiles == 0 })
                #expect(try Client.read(last) == "all new and more")
            }
        }

        /// A directory becomes a signal directory while a file in it is open.
        ///
        /// A write to that file is a touch.
        @Test(arguments: MountMode.all) func writerContinuesAfterItsDirectoryBecameOneOfSignals(mode: MountMode) throws
        {
            try withTown { town in
                try Command("rm", "-r", "\(town.path)/daemon").output()
                try town.mount(mode.options)
                try Client.makeDirectory("\(town.path)/made")
                let first = KeepaliveDocument.text("first")
                try Client.write(first, to: "\(town.path)/made/activity.json")
                let file = try Client.open("\(town.path)/made/activity.json", O_RDWR)
                try Client.rename("\(town.path)/made", to: "\(town.path)/daemon")
                #expect(try Client.read(town.activity) == first)
                let second = KeepaliveDocument.text("second, and longer")
                #expect(pwrite(file.rawValue, second, second.utf8.count, 0) == second.utf8.count)
                try Client.close(file)
                #expect(try eventually { try Client.read(town.activity) == second })
                try town.unmount()
                #expect(try Client.read(town.activity) == second)
            }
        }

        /// A file with two names, one of which becomes a signal name when its directory is renamed.
        @Test func linkedNameBecomesASignalWithItsDirectory() throws {
            try withTown { town in
                try Command("rm", "-r", "\(town.path)/daemon").output()
                try Client.makeDirectory("\(town.path)/made")
                let (name, other) = ("\(town.path)/made/activity.json", "\(town.path)/other")
                try Client.write(KeepaliveDocument.text("first"), to: name)
                try Command("ln", name, other).output()
                try town.mount([])
                for path in [name, other] { _ = try FileStatus(path) }
                try Client.rename("\(town.path)/made", to: "\(town.path)/daemon")
                let isSignal = try eventually {
                    try Client.write(KeepaliveDocument.text("second"), to: town.activity)
                    return try town.status().documents.touches > 0
                }
                #expect(isSignal)
                try town.unmount()
            }
        }

        /// Without passthrough, the worker answers large reads with splice(2).
        @Test func bytesOfLargeReadsDoNotGoThroughTheWorkersMemory() throws {
            let size = 8 << 20
            try withMountedTown(
                "--no-passthrough",
                prepare: { town in try Command("sh", "-c", "head -c \(size) /dev/urandom > \(town)/file").output() }
            ) { town in
                let worker = try town.status().workerPid
                let before = try Self.countOfBytesRead(by: worker)
                try Command("cmp", "\(town.path)/file", "\(town.backing)/file").output()
                #expect(try Self.countOfBytesRead(by: worker) - before < size / 8)
            }
        }

        /// Bytes read with read(2), not splice(2): `rchar` in proc_pid_io(5).
        private static func countOfBytesRead(by process: pid_t) throws -> Int {
            let line = try Client.read("/proc/\(process)/io").split(separator: "\n").first { $0.hasPrefix("rchar: ") }
            return try #require(line.flatMap { Int($0.dropFirst(7)) })
        }

        /// With `--shared-backing`, changes in the backing tree are seen within a second.
        @Test func changesInTheBackingTreeAreSeenWithSharedBacking() throws {
            try withMountedTown("--shared-backing") { town in
                try Client.write("above", to: "\(town.path)/file")
                #expect(!Client.exists("\(town.path)/new"))
                #expect(try Client.names(in: town.path).contains("file"))
                #expect(try Client.read("\(town.backing)/file") == "above")
                #expect(try FileStatus("\(town.path)/file").st_ino == FileStatus("\(town.backing)/file").st_ino)
                try Client.write("backing, longer", to: "\(town.backing)/file")
                try Client.write("new", to: "\(town.backing)/new")
                #expect(try eventually { try Client.read("\(town.path)/file") == "backing, longer" })
                #expect(try eventually { try FileStatus("\(town.path)/file").st_size == 15 })
                #expect(eventually { Client.exists("\(town.path)/new") })
                #expect(try eventually { try Client.names(in: town.path).contains("new") })
                try Client.unlink("\(town.backing)/file")
                #expect(eventually { !Client.exists("\(town.path)/file") })
            }
        }
    }
}

/// The I/O modes for plain files.
enum MountMode: String, CaseIterable, CustomTestStringConvertible {
    case usual
    case withoutPassthrough = "--no-passthrough"
    case sharedBacking = "--shared-backing"
    /// Worker and keeper are killed at random: see `Killer`.
    case underKills

    /// For most calls of agents, the third is the same as the first or the second.
    static let all = [MountMode.usual, .withoutPassthrough, .sharedBacking]
    static let distinct = [MountMode.usual, .withoutPassthrough]

    /// For long work.
    static let works = distinct + [MountMode.underKills]

    var options: [String] { self == .usual || self == .underKills ? [] : [rawValue] }
    var testDescription: String { rawValue }
}

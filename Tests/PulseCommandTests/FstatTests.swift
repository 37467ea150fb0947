import Testing

extension EndToEnd {
    /// Readers that open a signal file, take its size from fstat(2) and read, beside writers without a pause.
    @Suite(.inEachScope) struct FstatTests {
        /// Ways to read the file: each calls the functions in its name, and reports sizes and bytes by `check`.
        private static let readers = [
            "the same thread": """
            def read():
                file = os.open(path, os.O_RDONLY); check(file, os.fstat(file).st_size); os.close(file)
            """,
            "a thread of its own opens": """
            tasks, files = queue.Queue(), queue.Queue()
            def opener():
                while tasks.get(): files.put(os.open(path, os.O_RDONLY))
            threading.Thread(target=opener, daemon=True).start()
            def read():
                tasks.put(1); file = files.get(); check(file, os.fstat(file).st_size); os.close(file)
            """,
            "a thread that has ended opened": """
            def read():
                files = []
                opener = threading.Thread(target=lambda: files.append(os.open(path, os.O_RDONLY)))
                opener.start(); opener.join(); check(files[0], os.fstat(files[0]).st_size); os.close(files[0])
            """,
            "several descriptors": """
            def read():
                files = [os.open(path, os.O_RDONLY) for _ in range(6)]; random.shuffle(files)
                sizes = [os.fstat(file).st_size for file in files[:3]]
                for file, size in zip(files, sizes): check(file, size)
                for file in files[3:]: check(file, os.fstat(file).st_size)
                for file in files: os.close(file)
            """,
            "a child": """
            def read():
                file = os.open(path, os.O_RDONLY); size = os.fstat(file).st_size; child = os.fork()
                if not child:
                    size = os.fstat(file).st_size; os._exit(size != len(os.pread(file, 1 << 16, 0)))
                if os.waitpid(child, 0)[1]: sys.exit('in the child')
                check(file, size); os.close(file)
            """,
            "four threads": """
            def once():
                file = os.open(path, os.O_RDONLY); check(file, os.fstat(file).st_size); os.close(file)
            def many():
                while time.time() < end: once()
            def read():
                with concurrent.futures.ThreadPoolExecutor(4) as pool: [f.result() for f in [pool.submit(many) for _ in range(4)]]
            """,
        ]

        private static let script = """
            import concurrent.futures, json, os, queue, random, sys, threading, time
            path, way = sys.argv[1:3]
            end = time.time() + 0.4
            def write(number):
                text = 'gt ' + 'x' * (number * 7 % 300)
                if way != 'rename': open(path, 'w').write(text)
                else: open(path + '.tmp', 'w').write(text); os.rename(path + '.tmp', path)
            def writer():
                number = 0
                while time.time() < end: number += 1; write(number)
            def check(file, size):
                bytes = os.pread(file, 1 << 16, 0)
                if len(bytes) != size: sys.exit(f'fstat said {size}, and there were {len(bytes)}')
                json.loads(bytes)
            write(1)
            if way == 'thread': threading.Thread(target=writer).start()
            elif not os.fork(): writer(); os._exit(0)
            count = 0
            """

        @Test(.needs("python3"), arguments: ["process", "thread", "rename"])
        func fstatAgreesWithTheReadsThatFollow(writer: String) throws {
            try withMountedTown { town in
                for (name, reader) in Self.readers {
                    // A process that forks has no other threads.
                    if name == "a child", writer == "thread" { continue }
                    let script =
                        Self.script + "\n" + reader
                        + "\nwhile time.time() < end: read(); count += 1\nif not count: sys.exit('nothing was read')\n"
                    let outcome = try Command("python3", "-c", script, town.keepalive, writer).run()
                    #expect(outcome.status == 0, "\(name): \(outcome)")
                }
            }
        }

        /// A second opening of one process may get an inode of its own.
        ///
        /// Others meet in the first.
        @Test(.needs("python3")) func lockKeepsOthersOutWhereItsHolderHasReadThroughAnotherOpening() throws {
            try withMountedTown { town in
                let script = """
                    import fcntl, os, sys
                    path = sys.argv[1]
                    def write(size): open(path, 'w').write('x' * size)
                    def wait(pipe): os.read(pipe[0], 1)
                    def signal(pipe): os.write(pipe[1], b'x')
                    held, written, opened, done = (os.pipe() for _ in range(4))
                    write(1)
                    if not os.fork():
                        file = os.open(path, os.O_RDONLY); fcntl.flock(file, fcntl.LOCK_EX); signal(held)
                        wait(written); other = os.open(path, os.O_RDONLY); before, after = os.fstat(file), os.fstat(other)
                        assert after.st_size > before.st_size and before.st_ino == after.st_ino; signal(opened)
                        wait(done); os._exit(0)
                    wait(held); write(100); signal(written); wait(opened)
                    for flags in (os.O_RDONLY, os.O_RDWR):
                        file = os.open(path, flags)
                        try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB); print('taken')
                        except BlockingIOError: print('refused')
                        os.close(file)
                    signal(done); assert os.wait()[1] == 0
                    """
                let printed = try Command("python3", "-c", script, town.keepalive).output()
                #expect(printed == "refused\nrefused\n")
            }
        }
    }
}

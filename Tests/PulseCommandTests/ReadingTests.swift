import CLinux
import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Reading signal files: document, attributes, listing.
    @Suite(.inEachScope) struct ReadingTests {
        @Test func readerGetsOneDocumentAcrossManyReads() throws {
            try withMountedTown { town in
                let first = KeepaliveDocument.text("gt first", filler: 5000)
                try Client.write(first, to: town.keepalive)
                let file = try Client.open(town.keepalive, O_RDONLY)
                var bytes: [UInt8] = []
                var room = [UInt8](repeating: 0, count: 7)
                var round = 0
                while true {
                    // The document is replaced between reads, by shorter and longer ones.
                    round += 1
                    if round % 50 == 1 {
                        let other = KeepaliveDocument.text("gt \(round)", filler: round * 37 % 9000)
                        try Client.write(other, to: town.keepalive)
                    }
                    let count = room.withUnsafeMutableBytes { read(file.rawValue, $0.baseAddress, $0.count) }
                    try #require(count >= 0)
                    if count == 0 { break }
                    bytes += room.prefix(count)
                }
                try Client.close(file)
                #expect(String(decoding: bytes, as: UTF8.self) == first)
            }
        }

        @Test(arguments: [0, 9000]) func fstatAgreesWithTheReadsThatFollow(filler: Int) throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt opened", filler: 4000)
                try Client.write(text, to: town.keepalive)
                let file = try Client.open(town.keepalive, O_RDONLY)
                // Another process writes a shorter or longer document.
                let other = KeepaliveDocument.text("gt other", filler: filler)
                let script = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
                try Command("python3", "-c", script, town.keepalive, other).output()
                #expect(try FileStatus(file).st_size == text.utf8.count)
                #expect(try Client.read(file) == text)
                try Client.close(file)
                #expect(try FileStatus(town.keepalive).st_size == other.utf8.count)
                #expect(try Client.read(town.keepalive) == other)
            }
        }

        @Test(.needs("node")) func readerThatTrustsFstatsSizeGetsAWholeDocument() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                let script = """
                    const fs = require('fs'), path = process.argv[1];
                    for (let i = 0; i < 2000; i++) JSON.parse(fs.readFileSync(path, 'utf8'));
                    """
                let reader = try Command("node", "-e", script, town.keepalive).start()
                var round = 0
                while reader.isRunning {
                    round += 1
                    try Client.write(KeepaliveDocument.text("gt", filler: round * 131 % 3000), to: town.keepalive)
                }
                let outcome = try reader.wait()
                #expect(outcome.status == 0, "\(outcome)")
                #expect(round > 10)
            }
        }

        @Test func attributesAreRightAndTheInodeNumberIsStable() throws {
            try withMountedTown { town in
                let before = Client.now
                try Client.write(KeepaliveDocument.text("gt one"), to: town.keepalive)
                let first = try FileStatus(town.keepalive)
                #expect(first.st_size == KeepaliveDocument.text("gt one").utf8.count)
                #expect(before...Client.now ~= first.st_mtim.tv_sec)
                #expect(first.st_mode == S_IFREG | 0o644)
                #expect(first.st_nlink == 1)
                try Client.replace(town.keepalive, with: KeepaliveDocument.text("gt two, renamed"))
                let second = try FileStatus(town.keepalive)
                #expect(second.st_ino == first.st_ino)
                #expect(second.st_size == KeepaliveDocument.text("gt two, renamed").utf8.count)
                #expect(second.modified > first.modified)
                try town.remount()
                let third = try FileStatus(town.keepalive)
                #expect(third.st_ino == first.st_ino)
                #expect(third.modified == second.modified)
                #expect(third.st_size == second.st_size)
            }
        }

        @Test func modeIsKeptAcrossTouchesAndMounts() throws {
            try withMountedTown { town in
                let path = "\(town.path)/deacon/heartbeat.json"
                try Client.write(KeepaliveDocument.text("gt"), to: path, mode: 0o600)
                #expect(try FileStatus(path).permissions == 0o600)
                try Client.changeMode(path, 0o640)
                try Client.write(KeepaliveDocument.text("gt again"), to: path, mode: 0o600)
                try Client.touch(path)
                #expect(try FileStatus(path).permissions == 0o640)
                try town.remount()
                #expect(try FileStatus(path).permissions == 0o640)
                try Client.write(KeepaliveDocument.text("gt once more"), to: path)
                #expect(try FileStatus(path).permissions == 0o640)
            }
        }

        @Test func writeOnlyDescriptorCannotRead() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                try Client.changeMode(town.keepalive, 0o200)
                let file = try Client.open(town.keepalive, O_WRONLY)
                #expect(throws: Errno.badFileDescriptor) { try Client.read(file) }
                try Client.close(file)
            }
        }

        @Test func directoryListsASignalFileOnce() throws {
            try withMountedTown { town in
                let daemon = "\(town.path)/daemon"
                try Client.write("1", to: "\(daemon)/daemon.pid")
                #expect(try Client.names(in: daemon) == ["daemon.pid"])
                let expected: Set = ["daemon.pid", "activity.json"]
                func expectOnce(_ when: Comment) throws {
                    let names = try Client.names(in: daemon)
                    #expect(names.count == 2 && Set(names) == expected, when)
                    let listed = try Command("ls", "-la", daemon).output()
                    #expect(listed.split(separator: "\n").count == 5, when)
                }
                try Client.write(KeepaliveDocument.text("gt"), to: town.activity)
                try expectOnce("in memory only")
                try town.synchronize()
                try expectOnce("written back")
                try Client.replace(town.activity, with: KeepaliveDocument.text("bd"))
                try expectOnce("renamed over")
                try town.remount()
                try expectOnce("after a new mount")
                try Client.unlink(town.activity)
                #expect(try Client.names(in: daemon) == ["daemon.pid"])
                try Client.write(KeepaliveDocument.text("gt"), to: town.activity)
                try expectOnce("made again")
            }
        }

        @Test func listedInodeIsThatOfTheFile() throws {
            try withMountedTown { town in
                for name in ["a", "b", "c"] {
                    try Client.write(KeepaliveDocument.text(name), to: "\(town.path)/.runtime/heartbeats/\(name).json")
                }
                try town.synchronize()
                try Client.write(KeepaliveDocument.text("d"), to: "\(town.path)/.runtime/heartbeats/d.json")
                let script = """
                    import os, sys
                    for e in os.scandir(sys.argv[1]): assert e.inode() == os.stat(e.path).st_ino, e.name
                    """
                try Command("python3", "-c", script, "\(town.path)/.runtime/heartbeats").output()
            }
        }

        @Test func largeDirectoryOfHeartbeatsIsListedCompletely() throws {
            try withMountedTown { town in
                let directory = "\(town.path)/.runtime/heartbeats"
                let names = (0..<500).map { "gastown-polecat-with-a-long-name-\($0).json" }
                for name in names { try Client.write(KeepaliveDocument.text("gt"), to: "\(directory)/\(name)") }
                #expect(try Client.names(in: directory).sorted() == names.sorted())
                try Client.synchronize(directory: directory)
                #expect(try Client.names(in: directory).sorted() == names.sorted())
                for name in names.prefix(250) { try Client.unlink("\(directory)/\(name)") }
                #expect(try Client.names(in: directory).sorted() == names.dropFirst(250).sorted())
                #expect(try town.status().signalFiles.alive == 250)
            }
        }

        @Test func privateMappingShowsTheDocument() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt mapped", filler: 6000)
                try Client.write(text, to: town.keepalive)
                let script = """
                    import mmap, sys
                    with open(sys.argv[1], 'rb') as f:
                        m = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
                        sys.stdout.write(m[:].decode())
                    """
                let printed = try Command("python3", "-c", script, town.keepalive).output()
                #expect(printed == text)
                // After another touch the mapping must not show old pages.
                let other = KeepaliveDocument.text("gt mapped twice", filler: 3000)
                try Client.write(other, to: town.keepalive)
                #expect(try Command("python3", "-c", script, town.keepalive).output() == other)
            }
        }

        @Test func pollReportsReadableAndWritable() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                let file = try Client.open(town.keepalive, O_RDWR)
                var question = pollfd(fd: file.rawValue, events: Int16(POLLIN | POLLOUT), revents: 0)
                #expect(poll(&question, 1, 0) == 1)
                #expect(question.revents == Int16(POLLIN | POLLOUT))
                try Client.close(file)
            }
        }

        @Test(arguments: ["flock(f, LOCK_EX | LOCK_NB)", "lockf(f, LOCK_EX | LOCK_NB)"])
        func lockHeldByOneProcessKeepsAnotherOut(lock: String) throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                let holder = """
                    import sys, time
                    from fcntl import *
                    f = open(sys.argv[1], 'r+'); \(lock); print('held', flush=True); time.sleep(60)
                    """
                let taker = "import sys\nfrom fcntl import *\nf = open(sys.argv[1], 'r+'); \(lock)"
                let holding = try Command("python3", "-c", holder, town.keepalive).start()
                #expect(eventually { holding.printed == "held\n" })
                let refused = try Command("python3", "-c", taker, town.keepalive).run()
                #expect(refused.status == 1 && refused.errors.contains("BlockingIOError"))
                holding.send(SIGKILL)
                _ = try holding.wait()
                try Command("python3", "-c", taker, town.keepalive).output()
            }
        }

        @Test func documentIsCopiedLikeAnyFile() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt copied")
                try Client.write(text, to: town.keepalive)
                try town.shell(
                    """
                    cp -a .runtime/keepalive.json a; cp --reflink=auto .runtime/keepalive.json b
                    cat .runtime/keepalive.json > c; cp c daemon/activity.json
                    tar -cf d .runtime; tar -xf d --strip-components=1 .runtime/keepalive.json
                    """)
                for name in ["a", "b", "c", "daemon/activity.json", "keepalive.json"] {
                    #expect(try Client.read("\(town.path)/\(name)") == text)
                }
            }
        }

        // MARK: .pulse

        @Test(.townScopeOnly("elsewhere it is a mount: ScopeTests"))
        func pulseIsFoundByNameAndByNothingThatWalks() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                try town.shell("git init -q . && git add -A && git commit -qm all")
                let status = try town.shell("git status --porcelain; ls -a; find .; ls -aR; git ls-files")
                #expect(!status.contains("pulse"))
                let file = try Client.open("\(town.path)/.pulse/status.json", O_RDONLY)
                let size = try FileStatus(file).st_size
                #expect(try Client.read(file).utf8.count == size)
                try Client.close(file)
                #expect(try Command("cat", "\(town.path)/.pulse/status.json").output().utf8.count == size)
                #expect(try town.status().town == town.path)
                #expect(
                    try Client.names(in: "\(town.path)/.pulse").sorted() == [
                        "alive", "events", "metrics", "runtimes", "status.json",
                    ])
            }
        }

        @Test(.townScopeOnly("elsewhere it is a mount: ScopeTests"))
        func pulseIsReadOnly() throws {
            try withMountedTown { town in
                _ = try town.status()
                let pulse = "\(town.path)/.pulse"
                let attempts: [() throws -> Void] = [
                    { try Client.makeDirectory(pulse) },
                    { try Client.makeDirectory("\(pulse)/x") },
                    { try Client.write("x", to: "\(pulse)/x") },
                    { try Client.write("x", to: "\(pulse)/status.json") },
                    { try Client.unlink("\(pulse)/status.json") },
                    { try Client.removeDirectory(pulse) },
                    { try Client.rename(pulse, to: "\(town.path)/x") },
                    { try Client.rename("\(town.path)/daemon", to: pulse) },
                    { try Client.link("\(pulse)/status.json", to: "\(town.path)/x") },
                ]
                for attempt in attempts { #expect(throws: Errno.self) { try attempt() } }
                #expect(try town.status().town == town.path)
                #expect(Client.exists("\(town.path)/daemon"))
            }
        }
    }
}

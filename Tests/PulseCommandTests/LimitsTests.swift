import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Limited resources: a full disk, missing permissions, few descriptors, a renamed parent.
    @Suite struct LimitsTests {
        // MARK: Space

        @Test(.needsRoot) func fullDiskFailsAnFsyncAndBlocksTheUnmount() throws {
            try withTown { town in
                try Command("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", town.path).output()
                for name in [".runtime", "daemon"] { try Client.makeDirectory("\(town.path)/\(name)") }
                try town.mount()
                #expect(throws: Errno.noSpace) {
                    try Client.write(String(repeating: "x", count: 2 << 20), to: "\(town.path)/filler")
                }
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: town.keepalive)
                let file = try Client.open(town.keepalive, O_RDWR)
                #expect(throws: Errno.noSpace) { try Client.synchronize(file) }
                try Client.close(file)
                #expect(try Client.read(town.keepalive) == text)

                let refusal = try town.pulsefs("unmount", town.path)
                #expect(refusal.status == 1)
                #expect(refusal.output == "")
                #expect(refusal.errors.split(separator: "\n").count == 1, "\(refusal.errors)")
                #expect(refusal.errors.contains("--lazy"), "\(refusal.errors)")
                #expect(try Client.read(town.keepalive) == text)
                #expect(try town.pulsefs("unmount", "--lazy", town.path).status == 0)
                #expect(eventually { town.processes.isEmpty })
                #expect(Client.exists("\(town.path)/filler"), "the backing file system is visible")
                #expect(eventually { umount2(town.path, 0) == 0 })
            }
        }

        /// ext4 keeps blocks for root; half of them here.
        @Test(.needsRoot, .needs("mkfs.ext4", "setpriv"), arguments: [[], ["--no-passthrough"]])
        func ordinaryUsersGetNoBlocksThatAreKeptForRoot(options: [String]) throws {
            /// Fills a file as `nobody` and then as root, and prints their sizes in MiB.
            let script = """
                umask 0; mkdir common
                fill='i=0; while dd if=/dev/zero bs=256k count=1 status=none 2>/dev/null; do i=$((i+1)); done'
                user='setpriv --reuid=65534 --regid=65534 --clear-groups'
                : > common/shared
                $user sh -c "$fill >common/theirs" || true
                $user sh -c 'exec 3<>common/shared; dd if=/dev/zero bs=64k count=64 status=none >&3 2>/dev/null' || true
                # Root has the file open, and a user writes to it all the same.
                exec 4<>common/shared
                $user sh -c 'dd if=/dev/zero bs=64k count=64 status=none >>common/shared 2>/dev/null' || true
                $user sh -c 'fallocate -l 4M common/allocated 2>/dev/null' || true
                sh -c "$fill >common/roots" || true
                stat -c '%n %s' common/* | awk '{ print $1, int($2 / 1048576) }'
                """
            try withTown { town in
                let image = "\(town.scratch.path)/image"
                var printed: [String] = []
                for isMounted in [false, true] {
                    try Command("truncate", "-s", "64M", image).output()
                    try Command("mkfs.ext4", "-q", "-F", "-m", "50", image).output()
                    try Command("mount", "-o", "loop", image, town.path).output()
                    defer { umount2(town.path, 0) }
                    if isMounted { try town.mount(["--allow-other"] + options) }
                    printed.append(try Command("sh", "-euc", script, in: town.path, limit: .seconds(60)).output())
                    if isMounted { try town.unmount() }
                }
                #expect(printed[0] == printed[1])
            }
        }

        // MARK: Permissions

        @Test(.needsRoot, .needs("fusermount3", "setpriv"))
        func documentIsWrittenInPlaceInAReadOnlyDirectory() throws {
            func prepare(_ path: String) throws {
                let file = "\(path)/.runtime/keepalive.json"
                try Client.write("{}", to: file)
                chown(file, Command.User.nobody.id, Command.User.nobody.group)
                chown("\(path)/.runtime", 0, 0)
            }
            try withMountedTown(as: .nobody, prepare: prepare) { town in
                let backing = "\(town.backing)/.runtime/keepalive.json"
                let number = try FileStatus(backing).st_ino
                let text = KeepaliveDocument.text("gt prime")
                try town.shell("printf %s '\(text)' > .runtime/keepalive.json; sync .runtime/keepalive.json")
                #expect(try Client.read(backing) == text)
                #expect(try FileStatus(backing).st_ino == number)
                try town.shell("printf x > .runtime/keepalive.json")
                try town.unmount()
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "x")
                #expect(try Client.names(in: "\(town.path)/.runtime").sorted() == ["heartbeats", "keepalive.json"])
            }
        }

        // MARK: Descriptors

        @Test func fewDescriptorsServeManyDirectories() throws {
            try withTown { town in
                for number in 0..<700 {
                    let directory = "\(town.path)/mayor/d\(number)"
                    try Client.makeDirectory(directory)
                    try Client.write("\(number)\n", to: "\(directory)/f")
                }
                var command = town.pulsefsCommand(["mount", "--log", "\(town.scratch.path)/home/log", town.path])
                command.words = ["sh", "-c", #"ulimit -n 256; exec "$@""#, "sh"] + command.words
                try command.output()
                let worker = try town.status().workerPid
                let limits = try Client.read("/proc/\(worker)/limits").split(separator: "\n")
                let limit = limits.first { $0.hasPrefix("Max open files") }?.split(separator: " ").dropFirst(3).first
                #expect(limit == "256")
                // Twice: the second time, known inodes must be found again.
                for _ in 0..<2 {
                    let count = try town.shell("cat mayor/d*/f | wc -l")
                    #expect(count.split(separator: "\n") == ["700"])
                    let names = try town.shell("ls -lR mayor | grep -c ' f$'")
                    #expect(names.split(separator: "\n") == ["700"])
                    try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                    try Client.replace(town.activity, with: KeepaliveDocument.text("bd"))
                }
                #expect(try KeepaliveDocument(Client.read(town.activity)).lastCommand == "bd")
                try town.unmount()
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt")
            }
        }

        /// The worker has no descriptor left.
        ///
        /// Plain files fail, signal files do not, and all works again afterwards.
        @Test(.needs("prlimit")) func workerWithoutDescriptorsStillServesSignalFiles() throws {
            try withMountedTown { town in
                try town.shell("echo x > known; mkdir d; for i in 1 2 3 4; do echo $i > d/f$i; done")
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: town.keepalive)
                let worker = try town.status().workerPid
                let limits = try shell("prlimit --pid \(worker) --nofile --noheadings --output SOFT").split(
                    separator: "\n")
                let limit = try #require(limits.first?.split(separator: " ").first)
                let open = try Client.names(in: "/proc/\(worker)/fd").count
                // No new descriptor above those that are open.
                try shell("prlimit --pid \(worker) --nofile=\(open):")
                defer { _ = try? shell("prlimit --pid \(worker) --nofile=\(limit):") }
                for round in 0..<50 {
                    _ = try? Client.write("x", to: "\(town.path)/new-\(round)")
                    _ = try? Client.names(in: "\(town.path)/d")
                    let text = KeepaliveDocument.text("gt \(round)")
                    try Client.write(text, to: town.keepalive)
                    #expect(try Client.read(town.keepalive) == text)
                }
                #expect(try town.status().documents.touches == 51)
                try shell("prlimit --pid \(worker) --nofile=\(limit):")
                #expect(try town.shell("cat known d/f*") == "x\n1\n2\n3\n4\n")
                try Client.write("y", to: "\(town.path)/after")
                try town.unmount()
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt 49")
            }
        }

        /// The limit on processes leaves no thread to the worker, or no worker to the keeper.
        @Test(.needsRoot, .needs("fusermount3", "setpriv", "prlimit"))
        func mountWithoutThreadsFailsAndLeavesNothing() throws {
            try withTown(as: .nobody) { town in
                for limit in 1...12 {
                    var command = town.pulsefsCommand(
                        ["mount", "--log", "\(town.scratch.path)/home/log", town.path])
                    command.words = ["prlimit", "--nproc=\(limit)", "--"] + command.words
                    let outcome = try command.run()
                    if outcome.status == 0 {
                        try town.shell("echo gt > .runtime/keepalive.json; grep -q '\"gt\"' .runtime/keepalive.json")
                        try town.unmount()
                    } else {
                        #expect(outcome.errors != "")
                        #expect(eventually { !town.isMounted && town.processes.isEmpty }, "limit \(limit): \(outcome)")
                    }
                }
            }
        }

        // MARK: Paths

        @Test func townWhoseParentWasRenamedIsPlainFilesAfterTheLastWorkersDeath() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt last")
                try Client.write("plain", to: "\(town.path)/file")
                try Client.write(text, to: town.keepalive)
                let moved = town.scratch.path + "-moved"
                try Client.rename(town.scratch.path, to: moved)
                defer { try? Client.rename(moved, to: town.scratch.path) }
                let isBack = eventually {
                    for pid in town.processes where (try? Client.read("/proc/\(pid)/comm")) == "pulsefs-worker\n" {
                        kill(pid, SIGKILL)
                    }
                    return (try? Client.read("/proc/self/mountinfo"))?.contains("\(moved)/town") == false
                }
                #expect(isBack)
                #expect(try Client.read("\(moved)/town/file") == "plain")
                #expect(try Client.read("\(moved)/town/.runtime/keepalive.json") == text)
                #expect(eventually { town.processes.isEmpty })
            }
        }

        // MARK: Mount options

        /// The mount options in /proc/self/mountinfo.
        private func flags(of town: MountedTown) throws -> Set<Substring> {
            let lines = try Client.read("/proc/self/mountinfo").split(separator: "\n").map { $0.split(separator: " ") }
            let fields = try #require(lines.last { $0[4] == town.path })
            return Set(fields[5].split(separator: ","))
        }

        @Test func programsDevicesAndSetIDAreForbiddenWhenAsked() throws {
            try withMountedTown("-o", "nosuid,nodev,noexec") { town in
                #expect(try flags(of: town).isSuperset(of: ["rw", "nosuid", "nodev", "noexec"]))
                try town.shell("printf '#!/bin/sh\\n' > run; chmod 755 run; refused ./run")
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
            }
        }

        @Test func readOnlyTownIsReadAndNotTouched() throws {
            let text = KeepaliveDocument.text("gt", age: 60)
            func prepare(_ path: String) throws { try Client.write(text, to: "\(path)/.runtime/keepalive.json") }
            try withMountedTown("-o", "ro", prepare: prepare) { town in
                let flags = try flags(of: town)
                #expect(flags.contains("ro"))
                #expect(try Client.read(town.keepalive) == text)
                #expect(throws: Errno.readOnlyFileSystem) { try Client.write(text, to: town.keepalive) }
                #expect(throws: Errno.readOnlyFileSystem) { try Client.touch(town.keepalive) }
                #expect(throws: Errno.readOnlyFileSystem) { try Client.write("", to: "\(town.path)/file") }
            }
        }

        // MARK: Kernel caches

        @Test func fileRenamedOverASignalHasTheSignalsStatusAtOnce() throws {
            try withMountedTown { town in
                try Client.write("{}", to: town.activity)
                let number = try FileStatus(town.activity).st_ino
                for count in 0..<5 {
                    // With another size and time than the document will have, cached by the kernel.
                    let script = """
                        cd daemon
                        printf '{"n":\(count)}' > activity.json.tmp
                        touch -d 2001-01-01 activity.json.tmp
                        stat -c %s activity.json.tmp > /dev/null
                        mv activity.json.tmp activity.json
                        stat -c '%s %Y %i' activity.json
                        """
                    let printed = try town.shell(script).split(separator: "\n").first ?? ""
                    let status = try FileStatus(town.activity)
                    #expect(try Client.read(town.activity).utf8.count == status.st_size)
                    #expect(printed == "\(status.st_size) \(status.st_mtim.tv_sec) \(number)")
                    #expect(status.st_size > 8 && status.modified > 1_000_000_000)
                }
            }
        }
    }
}

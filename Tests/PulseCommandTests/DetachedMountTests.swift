import Glibc
import SystemPackage
import TestSupport
import Testing

extension EndToEnd {
    /// Mounts that outlive the unmount of their town: in another mount namespace, as bind mounts, as open files.
    @Suite(.inEachScope, .needsRoot, .needs("unshare", "nsenter")) struct DetachedMountTests {
        /// A process with a mount namespace of its own.
        private struct Sandbox {
            let process: RunningCommand

            /// - Parameter script: Run in the namespace first.
            init(propagation: String = "private", _ script: String = ":") throws {
                process = try Command(
                    "unshare", "-m", "--propagation", propagation, "sh", "-ec", "\(script); echo ready; exec sleep 60",
                    limit: .seconds(60)
                ).start()
                let isReady = eventually { [process] in process.printed.contains("ready") }
                try #require(isReady, "\(process.printedErrors)")
            }

            func run(_ script: String) throws -> String {
                try Command("nsenter", "-t", "\(process.pid)", "-m", "sh", "-ec", script).output()
            }

            func end() throws {
                process.send(SIGKILL)
                _ = try process.wait()
            }
        }

        /// A shell's output for everything that may be cached of these files, each on a line.
        private static func view(of directory: String) -> String {
            """
            cd '\(directory)'; for f in same grow shrink new gone renamed keepalive.json
            do if [ -e $f ]; then echo "$f $(stat -c '%s %a' $f) $(md5sum <$f)"; else echo "$f none"; fi; done
            ls; ls -l link; cat link
            """
        }

        private static func fill(_ directory: String) throws {
            for name in ["same", "grow", "shrink", "gone", "old"] {
                try Client.write(String(repeating: "a", count: 3000), to: "\(directory)/\(name)")
            }
            symlink("same", "\(directory)/link")
        }

        private static func change(_ directory: String) throws {
            try Client.write(String(repeating: "b", count: 3000), to: "\(directory)/same")
            try Client.write(String(repeating: "a", count: 3005), to: "\(directory)/grow")
            try Client.write("short", to: "\(directory)/shrink")
            try Client.write("new", to: "\(directory)/new")
            try Client.unlink("\(directory)/gone")
            try Client.rename("\(directory)/old", to: "\(directory)/renamed")
            try Client.changeMode("\(directory)/grow", 0o600)
            try Client.unlink("\(directory)/link")
            symlink("shrink", "\(directory)/link")
        }

        @Test(.townScopeOnly("it is not the town that is mounted"), arguments: [false, true])
        func sandboxReadsWhatOthersWriteAfterTheUnmount(isMountedAgain: Bool) throws {
            try withMountedTown { town in
                let directory = "\(town.path)/.runtime"
                let plain = "\(town.path)/mayor"
                for directory in [directory, plain] { try Self.fill(directory) }
                try Client.write(KeepaliveDocument.text("before"), to: town.keepalive)
                let views = [directory, plain].map(Self.view)
                let sandbox = try Sandbox("cd /; \(views.map { "(\($0)) >/dev/null" }.joined(separator: "; "))")
                let outcome = try town.pulsefs("unmount", town.path)
                #expect(outcome.status == 0, "\(outcome)")
                #expect(outcome.errors.contains("pid \(sandbox.process.pid): its mount namespace"), "\(outcome)")
                if isMountedAgain { try town.mount() }
                for directory in [directory, plain] { try Self.change(directory) }
                try Client.write(KeepaliveDocument.text("after"), to: town.keepalive)
                if isMountedAgain { try town.synchronize() }
                for view in views {
                    var last = ("", "")
                    let isSame = try eventually(within: .seconds(5)) {
                        last = (try sandbox.run(view), try Command("sh", "-ec", view).output())
                        return last.0 == last.1
                    }
                    #expect(isSame, "\(last)")
                }

                // The other way round.
                _ = try sandbox.run("echo sandbox >\(plain)/same; echo more >\(plain)/another; rm \(plain)/new")
                let isSeen = eventually(within: .seconds(5)) {
                    (try? Client.read("\(plain)/same")) == "sandbox\n" && Client.exists("\(plain)/another")
                        && !Client.exists("\(plain)/new")
                }
                #expect(isSeen)
                try sandbox.end()
                if isMountedAgain { try town.unmount() }
                #expect(eventually { town.processes.isEmpty })
            }
        }

        @Test(.townScopeOnly("it is not the town that is mounted"))
        func bindMountReadsWhatOthersWriteAfterTheUnmount() throws {
            try withMountedTown { town in
                let bind = try town.scratch.directory("bind")
                try Self.fill("\(town.path)/mayor")
                try Command("mount", "--bind", "\(town.path)/mayor", bind).output()
                defer { umount2(bind, CInt(MNT_DETACH)) }
                _ = try Command("sh", "-ec", Self.view(of: bind)).output()
                let outcome = try town.pulsefs("unmount", town.path)
                #expect(outcome.status == 0 && outcome.errors.contains("the bind mount \(bind)"), "\(outcome)")
                try Self.change("\(town.path)/mayor")
                var last = ("", "")
                let isSame = try eventually(within: .seconds(5)) {
                    let views = [bind, "\(town.path)/mayor"].map(Self.view)
                    last = (try Command("sh", "-ec", views[0]).output(), try Command("sh", "-ec", views[1]).output())
                    return last.0 == last.1
                }
                #expect(isSame, "\(last)")
                try Command("umount", bind).output()
                #expect(eventually { town.processes.isEmpty })
            }
        }

        @Test(.townScopeOnly("a file of the main mount"))
        func fileThatStaysOpenIsReadAsItIs() throws {
            try withMountedTown("--no-passthrough") { town in
                let path = "\(town.path)/mayor/file"
                try Client.write("first", to: path)
                let file = try Client.open(path, O_RDONLY)
                defer { try? Client.close(file) }
                func content() throws -> String {
                    lseek(file.rawValue, 0, SEEK_SET)
                    return try Client.read(file)
                }
                #expect(try content() == "first")
                #expect(try town.pulsefs("unmount", "--lazy", town.path).status == 0)
                let plain = try Client.open(path, O_WRONLY)
                try Client.pwrite("other", to: plain, at: 0)
                try Client.close(plain)
                #expect(try eventually(within: .seconds(5)) { try content() == "other" })
            }
        }

        @Test func touchThroughAFileThatStaysOpenReachesTheBackingFile() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("before"), to: town.keepalive)
                let file = try Client.open(town.keepalive, O_WRONLY | O_TRUNC)
                #expect(try town.pulsefs("unmount", "--lazy", town.path).status == 0)
                let text = KeepaliveDocument.text("after")
                try Client.write(text, to: file)
                try Client.close(file)
                #expect(try eventually { try Client.read(town.keepalive) == text })
                #expect(eventually { town.processes.isEmpty })
            }
        }

        // MARK: What keeps a town from being unmounted

        /// Uses the town, and returns the words by which `unmount` has to name that.
        enum Use: String, CaseIterable, Sendable {
            case socket, relativeSocket, loopDevice, mountInside, program

            func begin(in town: MountedTown) throws -> (names: String, end: () throws -> Void) {
                let directory = "\(town.path)/daemon"
                func python(_ script: String) throws -> (names: String, end: () throws -> Void) {
                    let process = try Command(
                        "python3", "-c", "\(script); print('ready', flush=True); import time; time.sleep(60)"
                    ).start()
                    try #require(eventually { process.printed.contains("ready") }, "\(process.printedErrors)")
                    return (
                        "python3 (pid \(process.pid): ",
                        {
                            process.send(SIGKILL)
                            _ = try process.wait()
                        }
                    )
                }
                switch self {
                case .socket:
                    return try python(
                        "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\(directory)/s'); s.listen()")
                case .relativeSocket:
                    return try python(
                        "import os, socket; os.chdir('\(directory)'); s = socket.socket(socket.AF_UNIX); s.bind('s')")
                case .loopDevice:
                    try Client.write(String(repeating: "x", count: 1 << 16), to: "\(directory)/disk")
                    let device = try Command("losetup", "-f", "--show", "\(directory)/disk").output().dropLast()
                    return ("loop device \(device)", { try Command("losetup", "-d", String(device)).output() })
                case .mountInside:
                    try Command("mount", "-t", "tmpfs", "none", directory).output()
                    return ("the tmpfs mount at \(directory)", { try Command("umount", directory).output() })
                case .program:
                    try Command("cp", "/bin/sleep", "\(directory)/program").output()
                    let process = try Command("\(directory)/program", "60").start()
                    try #require(eventually { (try? Client.read("/proc/\(process.pid)/comm")) == "program\n" })
                    return (
                        "program (pid \(process.pid): its program",
                        {
                            process.send(SIGKILL)
                            _ = try process.wait()
                        }
                    )
                }
            }
        }

        @Test(.townScopeOnly("unmounts the town"), .needs("losetup", "python3"), arguments: Use.allCases)
        func unmountNamesWhatUsesTheTown(_ use: Use) throws {
            if use == .loopDevice, access("/dev/loop-control", F_OK) != 0 { return }
            try withMountedTown { town in
                let (names, end) = try use.begin(in: town)
                let promise = Promise(.seconds(2))
                let outcome = try town.pulsefs("unmount", town.path)
                #expect(promise.isKept)
                #expect(outcome.status == 5 && outcome.errors.contains(names), "\(outcome)")
                try end()
                try town.unmount()
            }
        }

        @Test(.townScopeOnly("unmounts the town")) func unmountNamesAProcessInASandboxThatFollowsIt() throws {
            func parent(of path: String) -> String {
                String(path.prefix(upTo: path.lastIndex(of: "/") ?? path.endIndex))
            }
            try withMountedTown(
                prepare: { path in
                    // Mounts propagate to slaves only within a shared mount.
                    try Command("mount", "--bind", parent(of: path), parent(of: path)).output()
                    try Command("mount", "--make-shared", parent(of: path)).output()
                },
                { town in
                    defer { umount2(town.scratch.path, CInt(MNT_DETACH)) }
                    let sandbox = try Sandbox(propagation: "slave", "cd \(town.path)/daemon")
                    let promise = Promise(.seconds(2))
                    let outcome = try town.pulsefs("unmount", town.path)
                    #expect(promise.isKept)
                    let names = "sleep (pid \(sandbox.process.pid): its current directory"
                    #expect(outcome.status == 5 && outcome.errors.contains(names), "\(outcome)")
                    try sandbox.end()
                    try town.unmount()
                })
        }

        @Test(.townScopeOnly("unmounts the town")) func unmountReturnsAtOnceThoughASandboxKeepsTheTown() throws {
            try withMountedTown { town in
                let sandbox = try Sandbox("cd \(town.path)/daemon")
                let promise = Promise(.seconds(2))
                let outcome = try town.pulsefs("unmount", town.path)
                #expect(promise.isKept)
                #expect(outcome.status == 0, "\(outcome)")
                #expect(outcome.errors.contains("(pid \(sandbox.process.pid): its mount namespace)"), "\(outcome)")
                try sandbox.end()
                #expect(eventually { town.processes.isEmpty })
            }
        }

        @Test(.townScopeOnly("unmounts the town"), .needs("fusermount3", "setpriv"))
        func sandboxOfAnOrdinaryUsersTownGetsErrorsRatherThanOldContent() throws {
            try withMountedTown(as: .nobody) { town in
                let sandbox = try Sandbox()
                let outcome = try town.pulsefs("unmount", town.path)
                #expect(outcome.status == 0, "\(outcome)")
                #expect(eventually { town.processes.isEmpty })
                let words = try sandbox.run(
                    "setpriv --reuid=65534 --regid=65534 --clear-groups ls '\(town.path)' 2>&1 || true")
                #expect(words.contains("not connected"), "\(words)")
                try sandbox.end()
            }
        }
    }
}

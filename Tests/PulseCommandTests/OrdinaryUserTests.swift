import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// An unprivileged user, who mounts with `fusermount3`.
    @Suite(.inEachScope, .needsRoot, .needs("fusermount3", "setpriv")) struct OrdinaryUserTests {
        @Test(.townScopeOnly(".pulse is a directory of the town root: ScopeTests"), .needs("python3"))
        func userMountsTouchesAndUnmounts() throws {
            try withMountedTown(as: .nobody) { town in
                let text = KeepaliveDocument.text("gt prime")
                try town.shell("printf %s '\(text)' > .runtime/keepalive.json")
                let printed = try town.shell("cat .runtime/keepalive.json")
                #expect(printed == text)
                // A tool that checks close(2). A shell's redirection also closes a duplicate before the write, a touch.
                try town.shell(
                    "refused python3 -c \"f = open('.runtime/keepalive.json', 'w'); f.write('{'); f.close()\" 2> /dev/null"
                )
                let kept = try town.shell("cat .runtime/keepalive.json")
                #expect(kept == text)
                try town.shell("echo x > .tmp; mv .tmp daemon/activity.json")
                try town.shell("mkdir a; echo b > a/b; ln a/b c; chmod 600 c; rm -r a; [ $(stat -c %a c) = 600 ]")
                try town.shell("[ $(stat -c %u .runtime/keepalive.json) = 65534 ]")
                #expect(try !town.shell("ls -a").contains("pulse"))
                #expect(try town.status().town == town.path)
                try town.unmount()
                #expect(try Client.read(town.keepalive) == text)
                #expect(try FileStatus(town.keepalive).st_uid == 65534)
                #expect(try KeepaliveDocument(Client.read(town.activity)).lastCommand == "x")
            }
        }

        @Test func townOfAUserIsPlainFilesAfterTheLastWorkersDeath() throws {
            try withMountedTown(as: .nobody) { town in
                try town.shell("echo 'gt prime' > .runtime/keepalive.json")
                try town.killWorkers()
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt prime")
                #expect(eventually { town.processes.isEmpty })
            }
        }

        @Test func userReplacesADeadMount() throws {
            try withMountedTown(as: .nobody) { town in
                try town.shell("echo 'gt prime' > .runtime/keepalive.json; sync . .pulse")
                town.killAll()
                #expect(eventually { town.processes.isEmpty })
                #expect(town.isMounted)
                try town.mount()
                #expect(try town.shell("cat .runtime/keepalive.json").contains("gt prime"))
            }
        }

        @Test func userCannotMountTwiceOrUnmountABusyTown() throws {
            try withMountedTown(as: .nobody) { town in
                #expect(try town.pulsefs("mount", town.path).status == 4)
                let holder = try Command("sh", "-c", "cd \(town.path)/daemon && exec sleep 60", as: .nobody).start()
                #expect(eventually { Client.isProcess(holder.pid, in: "\(town.path)/daemon") })
                #expect(try town.pulsefs("unmount", town.path).status == 5)
                #expect(try town.pulsefs("unmount", town.path).errors.contains("\(holder.pid)"))
                #expect(try town.pulsefs("unmount", "--lazy", town.path).status == 0)
                #expect(!town.isMounted)
                holder.send(SIGKILL)
                _ = try holder.wait()
                #expect(eventually { town.processes.isEmpty })
            }
        }

        @Test func anotherUsersTownIsNotMounted() throws {
            try withTown(as: .nobody) { town in
                chown(town.path, 0, 0)
                let outcome = try town.pulsefs("mount", town.path)
                #expect(outcome.status == 1)
                #expect(!town.isMounted)
                #expect(town.processes == [])
            }
        }

        @Test func missingFusermountIsNamed() throws {
            try withTown(as: .nobody) { town in
                // No program is on this PATH.
                let path = "\(town.scratch.path)/home"
                var command = town.pulsefsCommand(["mount", town.path])
                let program = command.words[0]
                command.words = ["/usr/bin/env", "PATH=\(path)", program, "mount", town.path]
                let outcome = try command.run()
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("fusermount3"))
                #expect(outcome.errors.split(separator: "\n").count == 1, "\(outcome.errors)")
                #expect(!town.isMounted)
            }
        }

        @Test func deviceThatMayNotBeOpenedIsNamed() throws {
            // A /dev of its own, so that the machine's device keeps its mode.
            try withTown(as: .nobody) { town in
                let script = """
                    mount -t tmpfs none /dev && mknod -m 600 /dev/fuse c 10 229 && mknod -m 666 /dev/null c 1 3
                    exec setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
                    """
                let words = town.pulsefsCommand(["mount", "--log", "\(town.path)/log", town.path]).words
                let outcome = try Command(["unshare", "-m", "sh", "-ec", script, "sh"] + words).run()
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("/dev/fuse") && outcome.errors.contains("666"), "\(outcome)")
                #expect(!town.isMounted)
            }
        }

        @Test func deviceThatIsMissingIsNamed() throws {
            try withTown { town in
                let script = #"mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@""#
                let words = town.pulsefsCommand(["mount", "--log", "\(town.path)/log", town.path]).words
                let outcome = try Command(["unshare", "-m", "sh", "-ec", script, "sh"] + words).run()
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("/dev/fuse"), "\(outcome)")
                #expect(!town.isMounted)
            }
        }
    }
}

import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Error messages of one line, and exit statuses.
    @Suite struct CommandLineTests {
        /// A mistake: words for `pulsefs`, in which TOWN stands for a directory and FILE for a file.
        struct Mistake: Sendable, CustomTestStringConvertible {
            let words: [String]
            let status: Int32
            /// A string that the message must contain.
            let names: String

            init(_ words: String..., status: Int32, naming names: String) {
                self.words = words
                self.status = status
                self.names = names
            }

            var testDescription: String { words.joined(separator: " ") }
        }

        static let mistakes = [
            Mistake("mount", status: 64, naming: "town"),
            Mistake("mount", "TOWN/none", status: 1, naming: "TOWN/none"),
            Mistake("mount", "FILE", status: 1, naming: "FILE"),
            Mistake("mount", "/", status: 1, naming: "root directory"),
            Mistake("mount", "-o", "ro,rwx", "TOWN", status: 64, naming: "rwx"),
            Mistake("mount", "", status: 1, naming: "no town"),
            Mistake("mount", "--ttl", "90", "TOWN", status: 64, naming: "90"),
            Mistake("mount", "--ttl", "0s", "TOWN", status: 64, naming: "0s"),
            Mistake("mount", "--ttl", "-1s", "TOWN", status: 64, naming: "ttl"),
            Mistake("mount", "--ttl", "1000000h", "TOWN", status: 64, naming: "1000000h"),
            Mistake("mount", "--signal", "[", "TOWN", status: 64, naming: "["),
            Mistake("mount", "--signal", "/absolute", "TOWN", status: 64, naming: "/absolute"),
            Mistake("mount", "--signal", "a/../b", "TOWN", status: 64, naming: "a/../b"),
            Mistake("mount", "--on-expiry", "never", "TOWN", status: 64, naming: "never"),
            Mistake("mount", "--nonsense", "TOWN", status: 64, naming: "nonsense"),
            Mistake("mount", "-o", "nonsense", "TOWN", status: 64, naming: "nonsense"),
            Mistake("mount", "-o", "=", "TOWN", status: 64, naming: "mount option"),
            Mistake("mount", "-o", "rw,ttl=x", "TOWN", status: 64, naming: "x"),
            Mistake("mount", "--log", "TOWN/none/log", "TOWN", status: 1, naming: "TOWN/none/log"),
            Mistake("unmount", "TOWN", status: 3, naming: "TOWN"),
            Mistake("unmount", "TOWN/none", status: 1, naming: "TOWN/none"),
            Mistake("status", "TOWN", status: 3, naming: "TOWN"),
            Mistake("status", "FILE", status: 3, naming: "FILE"),
            Mistake("nonsense", status: 64, naming: "nonsense"),
            Mistake("worker", "TOWN", status: 64, naming: "mount"),
            Mistake("keeper", "TOWN", status: 64, naming: "mount"),
        ]

        @Test(arguments: mistakes) func mistakeGetsOneLineAndItsExitStatus(_ mistake: Mistake) throws {
            try withTown { town in
                let file = "\(town.scratch.path)/file"
                try Client.write("", to: file)
                func inserted(_ word: String) -> String {
                    switch word {
                    case "FILE": file
                    case _ where word.hasPrefix("TOWN"): town.path + word.dropFirst("TOWN".count)
                    default: word
                    }
                }
                let outcome = try town.pulsefsCommand(mistake.words.map(inserted)).run()
                #expect(outcome.status == mistake.status)
                #expect(outcome.output == "")
                #expect(outcome.errors.split(separator: "\n").count == 1, "\(outcome.errors)")
                #expect(outcome.errors.contains(inserted(mistake.names)), "\(outcome.errors)")
                #expect(!town.isMounted)
                #expect(town.processes == [])
                #expect(try Client.names(in: town.scratch.path).sorted() == ["file", "home", "town"])
            }
        }

        @Test func optionsAreAcceptedInFstabSyntax() throws {
            try withMountedTown(
                "-o", "rw,noauto,x-systemd.automount,ttl=5m,signal=mine.json",
                "-o", "no-default-signals,on-expiry=absent"
            ) { town in
                let status = try town.status()
                #expect(status.ttlSeconds == 300)
                #expect(status.onExpiry == "absent")
                #expect(throws: (any Error).self) { try Client.write("{", to: "\(town.path)/mine.json") }
                try Client.write("{", to: town.keepalive)
            }
        }

        /// In its own mount namespace, where the helper can be installed.
        @Test(.needsRoot) func townIsMountedByMount() throws {
            try withTown { town in
                let script = """
                    mkdir "$SCRATCH/helper"
                    sed "s|^pulsefs=.*|pulsefs='$PROGRAM'|" "$HELPER" > "$SCRATCH/helper/mount.fuse.pulsefs"
                    chmod 755 "$SCRATCH/helper/mount.fuse.pulsefs"
                    mount -t overlay none -o lowerdir="$SCRATCH/helper:/usr/sbin" /usr/sbin
                    log=$SCRATCH/home/log
                    mount -t fuse.pulsefs -o "rw,noatime,ttl=5m,log=$log" pulsefs "$TOWN"
                    echo 'gt prime' > "$TOWN/daemon/activity.json"
                    grep -o '"ttl_seconds" : 300' "$TOWN/.pulse/status.json"
                    mount -t fuse.pulsefs -o "log=$log" pulsefs "$TOWN" || echo "again: $?"
                    umount "$TOWN"
                    mount -t fuse.pulsefs -o nonsense pulsefs "$TOWN" || echo "nonsense: $?"
                    """
                let helper = FilePath(#filePath).removingLastComponent().removingLastComponent()
                    .removingLastComponent().appending("mount-scripts/mount.fuse.pulsefs").string
                let environment = [
                    "SCRATCH": town.scratch.path, "TOWN": town.path, "PROGRAM": BuiltProgram.path, "HELPER": helper,
                ]
                let printed = try Command("unshare", "-m", "bash", "-euc", script, environment: environment).output()
                #expect(printed == "\"ttl_seconds\" : 300\nagain: 32\nnonsense: 1\n")
                #expect(eventually { town.processes.isEmpty })
                #expect(try KeepaliveDocument(Client.read(town.activity)).lastCommand == "gt prime")
            }
        }

        @Test func statusMatchesPulse() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                try Client.write(KeepaliveDocument.text("gt"), to: "\(town.path)/.runtime/heartbeats/gt-crew-max.json")
                let printed = try MountedTown.Status(town.pulsefsCommand(["status", "--json", town.path]).output())
                #expect(printed.town == town.path)
                #expect(printed.signalFiles.alive == 2)
                #expect(printed.documents.touches == 2)
                #expect(printed.documents.notWrittenDown == 2)
                // A standby is the third.
                #expect(Set(town.processes).isSuperset(of: [printed.keeperPid, printed.workerPid]))
                let text = try town.pulsefsCommand(["status", town.path]).output()
                #expect(text.contains(town.path) && text.contains("\(printed.keeperPid)"))
            }
        }

        @Test func townIsFoundThroughASymbolicLinkAndFromWithin() throws {
            try withTown { town in
                let link = "\(town.scratch.path)/link"
                #expect(symlink("town", link) == 0)
                try town.pulsefsCommand(["mount", "--log", "\(town.scratch.path)/log", link + "/"]).output()
                #expect(town.isMounted)
                #expect(try town.pulsefs("status", link).status == 0)
                var command = town.pulsefsCommand(["status", "."])
                command.directory = town.path
                #expect(try command.run().status == 0)
                #expect(try town.pulsefs("unmount", link).status == 0)
                #expect(!town.isMounted)
            }
        }

        @Test func townWithAnOddNameIsMounted() throws {
            try TemporaryDirectory.with { scratch in
                let path = try scratch.directory("-odd \\ name\n,ü=1")
                let program = BuiltProgram.path
                try Command(program, "mount", "--log", "\(scratch.path)/log", path).output()
                try Command(program, "status", path).output()
                try Client.makeDirectory("\(path)/daemon")
                try Client.write("gt", to: "\(path)/daemon/activity.json")
                #expect(try KeepaliveDocument(Client.read("\(path)/daemon/activity.json")).lastCommand == "gt")
                try Command(program, "unmount", path).output()
            }
        }

        @Test(arguments: [["--help"], ["help", "mount"], ["mount", "--help"], ["--version"]])
        func helpSucceeds(words: [String]) throws {
            let outcome = try Command([BuiltProgram.path] + words).run()
            #expect(outcome.status == 0)
            #expect(outcome.output != "" && outcome.errors == "")
        }
    }
}

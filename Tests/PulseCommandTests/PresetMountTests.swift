import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// `pulsefs preset`, and `--preset` on a real mount.
    @Suite struct PresetMountTests {
        // MARK: pulsefs preset

        private static let names = [
            "gastown", "gascity", "claude-code", "agent-deck", "nanoclaw", "cortextos", "touch-files",
        ]

        @Test func listHasEachBuiltInPresetAndItsSummary() throws {
            let lines = try Command(BuiltProgram.path, "preset", "list").output().split(separator: "\n")
            #expect(lines.map { $0.split(separator: " ")[0] } == Self.names.map { $0[...] })
            #expect(lines.allSatisfy { $0.hasSuffix(".") && $0.count < 100 })
        }

        @Test func shownPresetIsAValidFile() throws {
            try TemporaryDirectory.with { scratch in
                var files: [String] = []
                for name in Self.names {
                    files.append("\(scratch.path)/\(name).json5")
                    try Client.write(Command(BuiltProgram.path, "preset", "show", name).output(), to: files.last ?? "")
                }
                let printed = try Command([BuiltProgram.path, "preset", "check"] + files).output()
                let expected = zip(files, Self.names).map { "\($0): the preset '\($1)' is valid.\n" }
                #expect(printed == expected.joined())
            }
            let unknown = try Command(BuiltProgram.path, "preset", "show", "nope").run()
            #expect(unknown.status == 64 && unknown.output == "" && unknown.errors.contains("'nope'"), "\(unknown)")
        }

        @Test func checkReportsEachErrorWithItsPlace() throws {
            try TemporaryDirectory.with { scratch in
                let file = "\(scratch.path)/bad"
                try Client.write("{ name: 'x',\n  signals: [{ path: '/a', ttl: 5 }],\n}", to: file)
                let check = Command(
                    "timeout", "10", BuiltProgram.path, "preset", "check", file, "\(scratch.path)/none", "/dev/zero")
                let outcome = try check.run()
                let lines = outcome.output.split(separator: "\n")
                #expect(outcome.status == 1 && outcome.errors == "" && lines.count == 4, "\(outcome)")
                #expect(lines[0].hasPrefix("\(file):2:21: The signal pattern '/a' cannot be used"))
                #expect(lines[1] == "\(file):2:32: 'ttl' must be text in quotes, not a number.")
                #expect(lines[2] == "\(scratch.path)/none: cannot be read: No such file or directory.")
                #expect(lines[3] == "/dev/zero:1:1: The text is longer than 1 MiB.")
            }
            #expect(try Command(BuiltProgram.path, "preset", "check").run().status == 64)
        }

        /// 128 MiB of memory are enough for any text, and 512 KiB of stack for any nesting.
        @Test func hostileTextNeedsLittleMemory() throws {
            try TemporaryDirectory.with { scratch in
                let file = "\(scratch.path)/hostile"
                for piece in ["[", "{a:", "[],", "{},", "1,", "{path:'/'},", "\"a\","] {
                    for start in ["", "[", "{name:'x',signals:[", "{name:'x',variables:["] {
                        try Client.write(
                            start + String(repeating: piece, count: 1_048_000 / piece.utf8.count), to: file)
                        let limited = Command(
                            "prlimit", "--data=134217728", "--stack=524288", BuiltProgram.path, "preset", "check", file)
                        let outcome = try limited.run()
                        #expect(outcome.status == 1 && outcome.errors == "", "\(start)\(piece): \(outcome)")
                        #expect(outcome.output.split(separator: "\n").count == 1)
                    }
                }
            }
        }

        // MARK: mount

        /// A mistake: options, in which FILE stands for a broken preset, and words of the message.
        static let mistakes: [(options: [String], names: String)] = [
            (["--preset", "nope"], "Built in are gastown"),
            (["--preset", "/nope"], "No such file"),
            (["--preset", "FILE"], "1:13: A preset has no 'foo'"),
            (["-o", "preset=FILE"], "1 more: 'pulsefs preset check'"),
            (["--preset", "{"], "the text:1:1: The object"),
            (["--preset", "/"], "directory"),
            (["--min-agent-age", "0"], "'0'"),
            (["-o", "min-agent-age=x"], "'x'"),
            (["--signal", "hb/{id};kind=yaml"], "there is no kind 'yaml'; known are document, json, raw and mtime"),
            (["--signal", "hb/{x}"], "a { or } is only for {id}, once"),
            (["--signal", "hb/{id};kind"], "'kind' is not of the form name=value"),
            (["--signal", "hb/{id};ttl=x"], "the ttl 'x' is no duration"),
            (["--signal", "hb/{id};state=x"], "fields can be named for kind json only"),
        ]

        @Test(arguments: mistakes) func wrongPresetOrSignalIsRefused(options: [String], naming words: String) throws {
            try withTown { town in
                let file = "\(town.scratch.path)/file"
                try Client.write("{name: 'x', foo: 1, signals: 2}", to: file)
                let inserted = options.map { $0.replacing("FILE", with: file) }
                let outcome = try town.pulsefsCommand(["mount"] + inserted + [town.path]).run()
                #expect(outcome.status == 64 && outcome.output == "", "\(outcome)")
                #expect(
                    outcome.errors.split(separator: "\n").count == 1 && outcome.errors.contains(words), "\(outcome)")
                #expect(!town.isMounted)
            }
        }

        /// Its path is relative, and the file is gone when another worker starts.
        @Test func presetOfAFileOutlivesTheFile() throws {
            try withTown { town in
                let file = "\(town.scratch.path)/mine.json5"
                try Client.write(
                    """
                    { // mine
                        name: "mine",
                        signals: [{ path: "beats/{id}", kind: "raw", ttl: "1h" }],
                        variables: ["MY_AGENT"],
                    }
                    """, to: file)
                _ = try town.scratch.directory("town/beats")
                var command = town.pulsefsCommand([
                    "mount", "--preset", "mine.json5", "--log", "\(town.scratch.path)/home/log", town.path,
                ])
                command.directory = town.scratch.path
                try command.output()
                #expect(unlink(file) == 0)

                try town.shell("date +%s > beats/backup; grep -q 1 beats/backup")
                #expect(try Client.read("\(town.path)/.pulse/runtimes/backup.json").contains("\"state\" : \"alive\""))
                // Gas Town's files are ordinary ones.
                try Client.write("{", to: town.keepalive)
                #expect(try Client.read(town.keepalive) == "{")
                try town.shell("MY_AGENT=nux GT_ROLE=mayor sh -c 'echo x > notes; sleep 0.1'")
                #expect(try eventually { try town.pulsefs("alive", town.path, "nux").output.contains("MY_AGENT") })
                #expect(try town.pulsefs("alive", town.path, "mayor").output.hasPrefix("never"))

                let former = try town.status().workerPid
                kill(former, SIGKILL)
                #expect(eventually { (try? town.status().workerPid).map { $0 != former } ?? false })
                try town.shell("echo 2 > beats/other; grep -q 2 beats/other")
                #expect(try town.pulsefs("alive", town.path, "backup", "other").status == 0)
                #expect(try town.pulsefs("upgrade", town.path).status == 0)
                try town.shell("echo 3 > beats/third; grep -q 3 beats/third")
                #expect(try town.pulsefs("alive", town.path, "backup", "other", "third").status == 0)
                try town.unmount()
                #expect(try Client.read("\(town.path)/beats/other") == "2\n")
            }
        }

        /// What a tool does, the preset for it, and the id that is alive then.
        static let tools: [(preset: String, script: String, id: String)] = [
            ("gastown", "echo 'gt prime' > .runtime/heartbeats/gt-nux.json", "gt-nux"),
            (
                "claude-code",
                """
                mkdir sessions
                start=$(cut -d ' ' -f 22 /proc/$PPID/stat)
                printf '{"pid":%d,"procStart":"%s","sessionId":"x","status":"busy","updatedAt":1}' $PPID "$start" \
                    > sessions/1.json
                grep -q updatedAt..1 sessions/1.json
                echo '{"session_id":"y"}' > sessions/pid-2.json
                """, "1"
            ),
            (
                "agent-deck",
                """
                mkdir hooks
                printf '{"status":"running","session_id":"x","event":"Stop","ts":%d}' "$(date +%s)" > hooks/a-1.json.tmp
                mv hooks/a-1.json.tmp hooks/a-1.json
                """, "a-1"
            ),
            ("nanoclaw", "mkdir -p data/v2-sessions/g/s1; touch data/v2-sessions/g/s1/.heartbeat", "s1"),
            (
                "cortextos",
                """
                mkdir -p state/writer
                printf '{"agent":"writer","status":"x","last_heartbeat":"%s"}' "$(date -u +%FT%TZ)" > state/writer/.tmp
                mv state/writer/.tmp state/writer/heartbeat.json
                """, "writer"
            ),
            (
                "touch-files",
                "mkdir heartbeats; date +%s > heartbeats/x.tmp; mv heartbeats/x.tmp heartbeats/backup", "backup"
            ),
        ]

        @Test(arguments: tools) func toolIsAliveWithItsPreset(preset: String, script: String, id: String) throws {
            try withMountedTown("-o", "preset=\(preset)") { town in
                try town.shell(script)
                let names = try Client.names(in: "\(town.path)/.pulse/alive")
                #expect(names == [id])
                try town.shell("refused test -e .pulse/runtimes/pid-2.json")
            }
        }

        @Test func agentOfGasCityIsAliveByItsWorkUntilItExits() throws {
            try withMountedTown("--preset", "gascity", "--min-agent-age", "0s") { town in
                var agent = Command("sh", "-c", "echo x > notes; exec sleep 30", in: town.path)
                agent.environment = ["GC_ALIAS": "rig/nux", "GC_SESSION_NAME": "rig--nux"]
                let running = try agent.start()
                #expect(try eventually { try town.pulsefs("alive", town.path, "rig/nux").status == 0 })
                running.send(SIGKILL)
                _ = try running.wait()
                #expect(try eventually { try town.pulsefs("alive", town.path, "rig/nux").output.hasPrefix("exited") })
            }
        }
    }
}

import Glibc
import TestSupport
import Testing
import TownFS

@testable import PulseCommand

extension ParallelEndToEnd {
    /// `pulsefs watch`, in a real terminal and in a pipe.
    @Suite(.needs("tmux")) struct WatchTests {
        /// A document that a malicious agent might write.
        private static let hostile = #"""
            {"state":"working","last_command":"\u001b[31m\u001b]0;gone\u0007\u001b[2J日本語のコマンド\u202e\nfaked"}
            """#

        private func watch(_ town: MountedTown, options: String = "") -> String {
            // An interactive shell ignores Ctrl-C, too.
            "trap : INT; echo before; '\(BuiltProgram.path)' watch \(options) '\(town.path)'; echo \"after $?\"; exec cat"
        }

        /// Two runtimes, one of which writes a malicious document.
        private func fill(_ town: MountedTown) throws {
            try Client.write(
                #"{"state":"idle","last_command":"gt mail check"}"#,
                to: "\(town.path)/.runtime/heartbeats/gt-crew-max.json")
            try Client.write(Self.hostile, to: "\(town.path)/.runtime/heartbeats/gt-witness.json")
        }

        /// A screen with the values that change from run to run replaced, from the second line on.
        private func normalized(_ screen: String) -> String {
            var lines = screen.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
            guard lines.count > 2 else { return screen }
            // Process ids vary.
            if let evidence = lines[2].firstRange(of: "EVIDENCE")?.lowerBound {
                let columns = TerminalText.width(String(lines[2][..<evidence]))
                lines = lines.map { Self.prefix(of: $0, columns: columns) }
            }
            return lines.dropFirst().map { line in
                // Numbers are right-aligned: the column before one is a space or a digit.
                line.replacing(/[ ]+[0-9]+(m[0-9]{2})?s\b/) {
                    String(repeating: " ", count: $0.output.0.count - 1) + "#"
                }
            }.joined(separator: "\n")
        }

        private static func prefix(of line: String, columns: Int) -> String {
            var prefix = ""
            for scalar in line.unicodeScalars {
                prefix.unicodeScalars.append(scalar)
                if TerminalText.width(prefix) >= columns { break }
            }
            while prefix.last == " " { prefix.removeLast() }
            return prefix
        }

        struct Kept: Sendable, CustomTestStringConvertible {
            let columns: Int
            let rows: Int
            let screen: String
            var testDescription: String { "\(columns)x\(rows)" }
        }

        static let kept = [
            Kept(
                columns: 80, rows: 24,
                screen: """
                    no mirror
                    STATE    RUNTIME         AGE    LEFT  SAYS     LAST COMMAND
                    alive    gt-crew-max       #       #  idle     gt mail check
                    alive    gt-witness        #       #  working  ␛[31m␛]0;gone␇…
                    """),
            Kept(
                columns: 120, rows: 40,
                screen: """
                    no mirror
                    STATE    RUNTIME         AGE    LEFT  SAYS     LAST COMMAND
                    alive    gt-crew-max       #       #  idle     gt mail check
                    alive    gt-witness        #       #  working  ␛[31m␛]0;gone␇␛[2J日本語のコマンド␊faked
                    """),
            Kept(
                columns: 40, rows: 10,
                screen: """
                    no mirror
                    STATE    RUNTIME         AGE    LEFT
                    alive    gt-crew-max       #       #
                    alive    gt-witness        #       #
                    """),
        ]

        @Test(arguments: kept) func tableFillsTheTerminal(_ kept: Kept) throws {
            try withMountedTown("--ttl", "1h") { town in
                try fill(town)
                let session = try TerminalSession(
                    watch(town), columns: kept.columns, rows: kept.rows, in: town.scratch)
                let isShown = try eventually { try normalized(session.screen()) == kept.screen }
                let screen = try session.screen()
                #expect(isShown, "\(screen)\n\(normalized(screen))")
                #expect(screen.split(separator: "\n").first?.hasSuffix("2 alive") == true)
                let colours = try session.colouredScreen()
                #expect(colours.contains("\u{1b}["))
                // Red could only come from the document.
                #expect(!colours.contains("\u{1b}[31m"))
                #expect(try session.state() == (true, false))
            }
        }

        @Test func tableFollowsTheTerminalsSize() throws {
            try withMountedTown("--ttl", "1h") { town in
                try fill(town)
                let session = try TerminalSession(watch(town), columns: 80, rows: 24, in: town.scratch)
                for kept in Self.kept.reversed() + Self.kept {
                    try session.resize(columns: kept.columns, rows: kept.rows)
                    let isShown = try eventually { try normalized(session.screen()) == kept.screen }
                    #expect(isShown, "\(kept.testDescription):\n\(session.shown)")
                }
            }
        }

        @Test func noColoursWithNoColor() throws {
            try withMountedTown("--ttl", "1h") { town in
                try fill(town)
                let session = try TerminalSession(
                    watch(town), columns: 80, rows: 24, in: town.scratch, environment: ["NO_COLOR": "1"])
                #expect(try eventually { try session.screen().contains("2 alive") })
                #expect(try !session.colouredScreen().contains("\u{1b}["))
            }
        }

        /// A way to end it, and what the shell prints then.
        static let ends: [(keys: String?, signal: CInt, status: String)] = [
            ("q", 0, "after 0"), ("C-c", 0, "after 0"), (nil, SIGINT, "after 0"), (nil, SIGTERM, "after 143"),
            (nil, SIGHUP, "after 129"),
        ]

        @Test(arguments: ends) func screenIsGivenBack(keys: String?, signal: CInt, status: String) throws {
            try withMountedTown { town in
                let session = try TerminalSession(watch(town), columns: 80, rows: 24, in: town.scratch)
                #expect(try eventually { try session.screen().contains("no runtimes yet") })
                #expect(try session.state() == (true, false))
                if let keys {
                    try session.press(keys)
                } else {
                    for pid in watchers(of: town) { kill(pid, signal) }
                }
                #expect(try eventually { try session.screen().contains(status) })
                #expect(try session.screen().hasPrefix("before\n"))
                #expect(try session.state() == (false, true))
                // Echo is on again.
                try session.press("typed", "Enter")
                #expect(try eventually { try session.screen().hasSuffix("typed\ntyped") })
            }
        }

        private func watchers(of town: MountedTown) -> [pid_t] {
            town.processes.filter { pid in
                let words = (try? Client.read("/proc/\(pid)/cmdline").split(separator: "\0")) ?? []
                return words.dropFirst().first == "watch"
            }
        }

        @Test func keysScrollLongLists() throws {
            try withMountedTown("--ttl", "1h") { town in
                for number in 10..<40 { try town.touch("agent-\(number)") }
                let session = try TerminalSession(watch(town), columns: 40, rows: 10, in: town.scratch)
                func shows(_ first: Int, _ last: Int) throws -> Bool {
                    try eventually {
                        let lines = try session.screen().split(separator: "\n")
                        return lines.count == 10 && lines[3].contains("agent-\(first) ")
                            && lines[8].contains("agent-\(last) ") && lines[9] == "… and 24 more"
                    }
                }
                #expect(try shows(10, 15), "\(session.shown)")
                try session.press("Down")
                #expect(try shows(11, 16), "\(session.shown)")
                try session.press("Space")
                #expect(try shows(17, 22), "\(session.shown)")
                try session.press("G")
                #expect(try shows(34, 39), "\(session.shown)")
                try session.press("Up")
                #expect(try shows(33, 38), "\(session.shown)")
                try session.press("g")
                #expect(try shows(10, 15), "\(session.shown)")
            }
        }

        @Test func tableShowsAHungOrUnmountedTownAndRecovers() throws {
            try withMountedTown("--ttl", "1h") { town in
                try fill(town)
                let session = try TerminalSession(watch(town), columns: 100, rows: 24, in: town.scratch)
                func shows(_ words: String) throws -> Bool {
                    try eventually {
                        let lines = try session.screen().split(separator: "\n")
                        return lines.count > 3 && lines[1].contains(words)
                    }
                }
                #expect(try shows("no mirror"))
                let worker = try town.status().workerPid
                kill(worker, SIGSTOP)
                #expect(try shows("has not answered for"), "\(session.shown)")
                kill(worker, SIGCONT)
                #expect(try shows("no mirror"), "\(session.shown)")
                // A watcher does not make the town busy.
                let unmounted = try town.pulsefs("unmount", town.path)
                #expect(unmounted.status == 0, "\(unmounted)")
                #expect(!town.isMounted)
                #expect(eventually { town.processes == watchers(of: town) })
                #expect(try shows("is not mounted any more"), "\(session.shown)")
                try town.mount(["--ttl", "1h"])
                try town.touch("newcomer")
                #expect(try shows("no mirror"), "\(session.shown)")
                #expect(try eventually { try session.screen().contains("newcomer") })
                try session.press("q")
                #expect(try eventually { try session.screen().contains("after 0") })
            }
        }

        // MARK: In a pipe

        /// The output of `watch` into a pipe while `body` runs.
        private func printed(
            by town: MountedTown, _ options: String..., during body: (RunningCommand) throws -> Void
        ) throws -> Command.Outcome {
            let watch = try town.pulsefsCommand(["watch", town.path] + options).start()
            // It watches once the town has an event reader.
            #expect(try eventually { try town.status().events?.readers == 1 })
            try body(watch)
            watch.send(SIGTERM)
            return try watch.wait()
        }

        @Test func pipeGetsALineForEachEvent() throws {
            try withMountedTown("--ttl", "1h") { town in
                let outcome = try printed(by: town) { watch in
                    try town.pulsefs("touch", town.path, "mayor", "--ttl", "20ms").expectSuccess()
                    // One line per event, immediately.
                    #expect(eventually { watch.printed.contains("expired      mayor\n") }, "\(watch.printed)")
                    try town.pulsefs("forget", town.path, "mayor").expectSuccess()
                    #expect(eventually { watch.printed.contains("forgotten    mayor\n") }, "\(watch.printed)")
                }
                #expect(outcome.errors == "")
                #expect(!outcome.output.contains("\u{1b}"))
                let lines = outcome.output.split(separator: "\n")
                #expect(lines.first?.contains("Z  touched      mayor  command") == true, "\(lines)")
            }
        }

        @Test func jsonLinesAreThoseOfTheTown() throws {
            try withMountedTown("--ttl", "1h") { town in
                let outcome = try printed(by: town, "--json") { watch in
                    for id in ["a", "b/c"] { try town.pulsefs("touch", town.path, id).expectSuccess() }
                    #expect(eventually { watch.printed.split(separator: "\n").count == 2 }, "\(watch.printed)")
                }
                let events = try outcome.output.split(separator: "\n").map {
                    try #require(JSONText.decode(String($0)) as TownEvent?)
                }
                #expect(events.map(\.seq) == [1, 2])
                #expect(events.map(\.event) == ["touched", "touched"])
                #expect(events.map(\.runtime) == ["a", "b/c"])
            }
        }

        @Test func pipeContinuesWithAnotherMount() throws {
            try withMountedTown("--ttl", "1h") { town in
                let outcome = try printed(by: town) { watch in
                    try town.pulsefs("unmount", town.path).expectSuccess()
                    #expect(eventually { watch.printedErrors.contains("is not mounted any more; waiting.") })
                    try town.mount(["--ttl", "1h"])
                    #expect(eventually { watch.printedErrors.contains("answers again.") })
                    try town.pulsefs("touch", town.path, "newcomer").expectSuccess()
                    #expect(eventually { watch.printed.contains("newcomer") }, "\(watch.printed)")
                }
                #expect(outcome.status == 128 + SIGTERM)
            }
        }

        @Test func watchEndsWhenItsPipeIsClosed() throws {
            try withMountedTown("--ttl", "1h") { town in
                let words = ["sh", "-c", "'\(BuiltProgram.path)' watch '\(town.path)' | head -n 1"]
                let pipeline = try Command(words).start()
                #expect(try eventually { try town.status().events?.readers == 1 })
                try town.pulsefs("touch", town.path, "mayor").expectSuccess()
                let outcome = try pipeline.wait()
                #expect(outcome.status == 0 && outcome.errors == "", "\(outcome)")
                #expect(outcome.output.contains("mayor"))
                #expect(eventually { watchers(of: town).isEmpty })
            }
        }
    }
}

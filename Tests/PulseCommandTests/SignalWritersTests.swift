import FoundationEssentials
import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Programs that write heartbeats, each in its own way: one write is one touch and one event.
    @Suite(.inEachScope) struct SignalWritersTests {
        static let kinds = SignalKindExamples.all

        private func withSignals(limit: Duration = .seconds(60), _ body: (MountedTown) throws -> Void) throws {
            try withMountedTown(
                options: SignalKindExamples.options, limit: limit, prepare: { try Client.makeDirectory("\($0)/run") },
                body)
        }

        /// A way to write a signal file.
        struct Writer: Sendable, CustomStringConvertible {
            let description: String
            /// A script for `sh -e` that writes `$f` once, with `$t` if the content matters; `$s` is a file outside the
            /// town for temporary content.
            let script: String
            var kinds = SignalWritersTests.kinds
            /// What is in the file afterwards, in one that had `before`; nil if it depends on the kind.
            var result: String? = SignalWritersTests.text
            /// Programs that have to be installed.
            var program = "sh"
            /// Whether it changes a file that is there.
            var needsFile = false

            init(
                _ description: String, _ script: String, kinds: [String] = SignalWritersTests.kinds,
                result: String? = SignalWritersTests.text, program: String = "sh", needsFile: Bool = false
            ) {
                self.needsFile = needsFile
                self.description = description
                self.script = script
                self.kinds = kinds
                self.result = result
                self.program = program
            }
        }

        /// A JSON object with a timestamp, so that every kind keeps it byte for byte.
        private static let text = #"{"timestamp":"2026-01-01T00:00:00Z","n":1}"# + "\n"
        /// What was in the file before.
        private static let before = #"{"timestamp":"2026-01-01T00:00:00Z","n":0}"# + "\n"
        /// Kinds that take bytes which are no JSON.
        private static let plain = ["raw", "mtime"]

        /// Before, an epoch number failed with EINVAL at close, and an ISO line or a pid was read back as
        /// `{"last_command":…}`; bash, and a program that a shell becomes, were two touches, the first of them an empty
        /// file; so was `cp -p`.
        private static let writers: [Writer] = [
            Writer("sh: echo >", #"sh -c 'printf "%s\n" "$2" > "$1"' sh "$f" "$t""#),
            // The C library asks for the status of standard output before the first write.
            Writer("bash: echo >", #"bash -c 'echo "$2" > "$1"' bash "$f" "$t""#, program: "bash"),
            Writer(
                "bash: echo > in a loop's body", #"bash -c 'for i in 1; do echo "$2" > "$1"; done; :' bash "$f" "$t""#,
                program: "bash"),
            Writer("sh: program that a shell becomes", #"sh -c 'exec cat "$2" > "$1"' sh "$f" "$s""#),
            Writer("sh: program that a shell becomes, with stdio", #"sh -c 'exec env echo "$2" > "$1"' sh "$f" "$t""#),
            Writer("sh: program that a shell starts", #"sh -c 'cat "$2" > "$1"; :' sh "$f" "$s""#),
            Writer("sh: group", #"sh -c '{ printf "%s" "$2"; echo; } > "$1"' sh "$f" "$t""#),
            Writer("sh: subshell", #"sh -c '( printf "%s" "$2"; echo ) > "$1"; :' sh "$f" "$t""#),
            Writer("sh: descriptor 3", #"sh -c 'exec 3> "$1"; echo "$2" >&3; exec 3>&-' sh "$f" "$t""#),
            Writer("sh: opened and closed", #"sh -c 'exec 3>"$1"; exec 3>&-; exit 0' sh "$f""#, result: nil),
            Writer("date +%s >", #"sh -c 'date +%s > "$1"' sh "$f""#, kinds: plain, result: nil),
            Writer("date -Is >", #"sh -c 'date -Is > "$1"; :' sh "$f""#, kinds: plain, result: nil),
            Writer("pid", #"sh -c 'echo $$ > "$1"' sh "$f""#, kinds: plain, result: nil),
            Writer(
                "key=value lines", #"bash -c 'printf "state=%s\n" idle busy > "$1"' bash "$f""#, kinds: plain,
                result: "state=idle\nstate=busy\n", program: "bash"),
            Writer(": >", #"sh -c ': > "$1"' sh "$f""#, result: nil),
            Writer("touch", #"touch "$f""#, result: nil),
            Writer("touch -d", #"touch -d '10 seconds ago' "$f""#, result: nil),
            Writer("truncate", #"truncate -s 0 "$f""#, result: nil),
            Writer("tee", #"tee "$f" < "$s" > /dev/null"#),
            Writer("cp", #"cp "$s" "$f""#),
            Writer("cp -p", #"cp -p "$s" "$f""#),
            Writer("install", #"install -m 644 "$s" "$f""#),
            Writer("mv in the directory", #"cp "$s" run/tmp; mv run/tmp "$f""#),
            Writer("mv from elsewhere", #"cp "$s" "$s.other"; mv "$s.other" "$f""#),
            Writer("sed -i", #"sed -i 's/"n":0/"n":1/' "$f""#, needsFile: true),
            Writer("dd", #"dd if="$s" of="$f" status=none"#),
            Writer("awk", #"awk -v f="$f" -v t="$t" 'BEGIN { print t > f }'"#, program: "awk"),
            Writer(
                "perl", #"perl -e 'open(F, ">", $ARGV[0]); print F $ARGV[1], "\n"; close(F)' "$f" "$t""#,
                program: "perl"),
            Writer(
                "Python: Path.touch", #"python3 -c 'import pathlib, sys; pathlib.Path(sys.argv[1]).touch()' "$f""#,
                result: nil, program: "python3"),
            Writer(
                "Python: open, write",
                #"python3 -c 'import sys; open(sys.argv[1], "w").write(sys.argv[2] + "\n")' "$f" "$t""#,
                program: "python3"),
            Writer(
                "Python: str(time.time())",
                #"python3 -c 'import sys, time; open(sys.argv[1], "w").write(str(time.time()))' "$f""#,
                kinds: plain, result: nil, program: "python3"),
            Writer(
                "Python: json.dump in pieces",
                #"python3 -c 'import sys; f = open(sys.argv[1], "w", buffering=1, newline=""); [f.write(c) for c in sys.argv[2] + "\n"]; f.close()' "$f" "$t""#,
                program: "python3"),
            Writer(
                "Python: program with its output there",
                #"python3 -c 'import subprocess, sys; subprocess.run(["echo", sys.argv[2]], stdout=open(sys.argv[1], "w"), check=True)' "$f" "$t""#,
                program: "python3"),
            Writer(
                "Python: temporary file, fsync, rename",
                #"python3 -c 'import os, sys, tempfile; d, p = tempfile.mkstemp(dir="run"); os.write(d, (sys.argv[2] + "\n").encode()); os.fsync(d); os.close(d); os.chmod(p, 0o600); os.replace(p, sys.argv[1])' "$f" "$t""#,
                program: "python3"),
            Writer(
                "Node: writeFileSync",
                #"node -e 'require("fs").writeFileSync(process.argv[1], process.argv[2] + "\n")' "$f" "$t""#,
                program: "node"),
            Writer(
                "Node: utimesSync",
                #"node -e 'const n = new Date(); require("fs").utimesSync(process.argv[1], n, n)' "$f""#,
                result: nil, program: "node", needsFile: true),
        ]

        @Test(arguments: kinds) func oneWriteIsOneTouch(kind: String) throws {
            try withSignals { town in
                let source = "\(town.scratch.path)/source"
                try Client.write(Self.text, to: source)
                let writers = Self.writers.filter { $0.kinds.contains(kind) && (isInstalled($0.program) || isCI) }
                for (number, writer) in writers.enumerated() {
                    for isKnown in writer.needsFile ? [true] : [true, false] {
                        let label: Comment = "\(writer), \(isKnown ? "over a file" : "a new file")"
                        let name = "\(isKnown ? "known" : "new")\(number)"
                        let signal = "run/\(name).\(kind)"
                        let path = "\(town.path)/\(signal)"
                        if isKnown { try Client.write(Self.before, to: path) }
                        try waitForReleases(in: town)
                        let start = try counts(of: signal, in: town)
                        let script = "f=\(signal) s='\(source)' t='\(Self.text.dropLast())'\n\(writer.script)"
                        try Command("sh", "-euc", script, in: town.path).output()
                        try waitForReleases(in: town)
                        #expect(try counts(of: signal, in: town) - start == Counts(all: 1), label)
                        if let result = writer.result { #expect(try Client.read(path) == result, label) }
                        let view = try town.runtime(name)
                        #expect(view?.state == "alive" && view?.evidence.by == "path", label)
                    }
                }
                #expect(try town.status().documents.refused == 0)
                // Temporary files are gone.
                let names = try Client.names(in: "\(town.path)/run")
                #expect(names.allSatisfy { $0.hasSuffix(".\(kind)") }, "\(names)")
            }
        }

        // MARK: Counting

        /// Touches by all that counts them.
        private struct Counts: Equatable {
            var inStatus: Int
            var inMetrics: Int
            var events: Int

            init(inStatus: Int, inMetrics: Int, events: Int) {
                (self.inStatus, self.inMetrics, self.events) = (inStatus, inMetrics, events)
            }

            init(all count: Int) { self.init(inStatus: count, inMetrics: count, events: count) }

            static func - (end: Self, start: Self) -> Self {
                Self(
                    inStatus: end.inStatus - start.inStatus, inMetrics: end.inMetrics - start.inMetrics,
                    events: end.events - start.events)
            }
        }

        private func counts(of signal: String, in town: MountedTown) throws -> Counts {
            let metrics = try ["written", "renamed", "attributes"].map {
                try town.metric(#"pulsefs_touches_total{source="\#($0)"}"#)
            }
            return Counts(
                inStatus: try town.status().documents.touches, inMetrics: metrics.reduce(0, +),
                events: try town.pastEvents().count { $0.event == "touched" && $0.signal == signal })
        }

        /// The kernel sends RELEASE some time after the last close.
        private func waitForReleases(in town: MountedTown) throws {
            #expect(try eventually { try town.status().fileSystem.openFiles == 0 })
        }

        // MARK: The end

        @Test(arguments: kinds) func unlinkAtShutdownForgetsTheRuntime(kind: String) throws {
            try withSignals { town in
                let path = "\(town.path)/run/worker.\(kind)"
                try Client.write(Self.text, to: path)
                #expect(try town.runtime("worker")?.state == "alive")
                #expect(Client.exists("\(town.path)/.pulse/alive/worker"))
                try Client.unlink(path)
                #expect(!Client.exists(path))
                // Before, only the file was forgotten: the runtime stayed alive for its ttl.
                #expect(try town.runtime("worker") == nil)
                #expect(!Client.exists("\(town.path)/.pulse/alive/worker"))
                let forgotten = try town.pastEvents().filter { $0.event == "forgotten" }
                #expect(forgotten.contains { $0.signal == "run/worker.\(kind)" })
                #expect(forgotten.contains { $0.runtime == "worker" })
                #expect(try Client.names(in: "\(town.path)/run") == [])
            }
        }

        // MARK: Readers beside writers

        /// Writes `$n` times in a loop, in five ways; each content is a line of six words and a sum of their lengths.
        private static let writer = #"""
            import os, subprocess, sys, time
            path, kind, name, way, seconds = sys.argv[1:]
            end, n = time.monotonic() + float(seconds), 0
            def content(n):
                size = (n * 7919 + ord(name) * 104729) % 9000
                text = f'"writer":"{name}","n":{n},"size":{size},"filler":"{name * size}"'
                return '{"timestamp":"2026-01-01T00:00:00Z",' + text + '}\n'
            while time.monotonic() < end:
                n += 1
                text = content(n)
                if way == "pieces":
                    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                    # A shell closes a duplicate first, and the C library asks for the size.
                    os.close(os.dup(file)); os.fstat(file)
                    for piece in text[:len(text) // 2], text[len(text) // 2:]: os.write(file, piece.encode())
                    os.close(file)
                elif way == "rename":
                    with open(f"{path}.tmp{name}", "w") as file: file.write(text)
                    os.rename(f"{path}.tmp{name}", path)
                elif way == "bash":
                    subprocess.run(["bash", "-c", 'echo "$1" > "$2"', "bash", text[:-1], path], check=True)
                elif way == "exec":
                    subprocess.run(["sh", "-c", 'exec env echo "$1" > "$2"', "sh", text[:-1], path], check=True)
                else: os.utime(path)
                # Fewer writes than the town holds events.
                time.sleep(0.002)
            print(n)
            """#

        private static let checker = #"""
            import json, os, subprocess, sys, time
            path, way, seconds = sys.argv[1:]
            end, n, last = time.monotonic() + float(seconds), 0, 0
            def check(text):
                value = json.loads(text)
                assert text.endswith("}\n") and value["filler"] == value["writer"] * value["size"], text[:200]
            while time.monotonic() < end:
                n += 1
                if way == "python":
                    with open(path) as file: check(file.read())
                elif way == "go":
                    # os.ReadFile: the size is a hint, and it reads to the end.
                    file = os.open(path, os.O_RDONLY)
                    size = os.fstat(file).st_size
                    assert size > 0
                    text = b""
                    while piece := os.read(file, max(512, size + 1 - len(text))): text += piece
                    os.close(file)
                    assert len(text) == size, (len(text), size)
                    check(text.decode())
                elif way == "shell":
                    check(subprocess.run(["sh", "-c", 'cat "$1"', "sh", path], check=True, capture_output=True, text=True).stdout)
                else:
                    found = subprocess.run(["find", path, "-mmin", "-1", "-size", "+0"], check=True, capture_output=True, text=True)
                    assert found.stdout == path + "\n", found
                    time_ = int(subprocess.run(["stat", "-c", "%Y", path], check=True, capture_output=True, text=True).stdout)
                    # A renamed file keeps its own time.
                    assert last - 1 <= time_ <= time.time(), (last, time_)
                    last = time_
            print(n)
            """#

        private static let nodeChecker = """
            const fs = require('fs'), [path, way, seconds] = process.argv.slice(1);
            const end = Date.now() + 1000 * seconds;
            let n = 0;
            while (Date.now() < end) {
                const text = fs.readFileSync(path, 'utf8'), value = JSON.parse(text);
                if (value.filler !== value.writer.repeat(value.size)) throw new Error(text.slice(0, 200));
                n++;
            }
            console.log(n);
            """

        /// Before, the writes of bash and of a program that a shell became were two touches each, and a `raw` file was
        /// empty between them.
        @Test(.needs("python3", "node", "bash"), arguments: kinds)
        func noReadIsPartialEmptyOrForeign(kind: String) throws {
            try withSignals(limit: .seconds(120)) { town in
                let (signal, seconds) = ("run/busy.\(kind)", "3")
                let path = "\(town.path)/\(signal)"
                try Client.write(
                    #"{"timestamp":"2026-01-01T00:00:00Z","writer":"x","n":0,"size":1,"filler":"x"}"# + "\n", to: path)
                let ways = ["pieces", "rename", "bash", "exec", "touch"]
                let writers = try zip("abcde", ways).map { name, way in
                    try Command("python3", "-c", Self.writer, path, kind, "\(name)", way, seconds).start()
                }
                let readers =
                    try ["python", "go", "shell", "find"].map {
                        try Command("python3", "-c", Self.checker, path, $0, seconds).start()
                    } + [try Command("node", "-e", Self.nodeChecker, path, "node", seconds).start()]
                for reader in readers {
                    let outcome = try reader.wait()
                    #expect(outcome.status == 0, "\(outcome)")
                    #expect(Int(outcome.output.dropLast()) ?? 0 > 5)
                }
                var writes = 1
                for writer in writers {
                    let outcome = try writer.wait()
                    #expect(outcome.status == 0, "\(outcome)")
                    writes += Int(outcome.output.dropLast()) ?? 0
                }
                try waitForReleases(in: town)
                let end = try counts(of: signal, in: town)
                #expect(end == Counts(all: writes))
                #expect(try town.status().documents.refused == 0)
                #expect(try Client.names(in: "\(town.path)/run") == ["busy.\(kind)"])
            }
        }
    }
}

/// A line of `.pulse/events`.
struct SignalEvent: Decodable {
    let seq: Int?
    let event: String
    let time: String
    let runtime: String?
    let signal: String?
    let by: String?
}

extension MountedTown {
    /// The events so far that the town still holds.
    func pastEvents() throws -> [SignalEvent] {
        let file = try Client.open("\(path)/.pulse/events@1", O_RDONLY | O_NONBLOCK)
        defer { try? Client.close(file) }
        var (bytes, room) = ([UInt8](), [UInt8](repeating: 0, count: 1 << 16))
        while case let count = room.withUnsafeMutableBytes({ read(file.rawValue, $0.baseAddress, $0.count) }), count > 0
        {
            bytes += room.prefix(count)
        }
        return try bytes.split(separator: UInt8(ascii: "\n")).map {
            try JSONDecoder().decode(SignalEvent.self, from: Data($0))
        }
    }
}

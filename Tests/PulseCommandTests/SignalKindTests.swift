import Dispatch
import FoundationEssentials
import Glibc
import Synchronization
import SystemPackage
import TestSupport
import Testing

extension EndToEnd {
    /// Signal files of each kind: what is kept, who is alive, and until when.
    @Suite(.inEachScope) struct SignalKindTests {
        /// A signal `run/{id}.<kind>` of each kind.
        private static let options = SignalKindExamples.options

        private func withSignals(
            _ options: String..., limit: Duration = .seconds(60), _ body: (MountedTown) throws -> Void
        ) throws {
            try withMountedTown(
                options: Self.options + options, limit: limit, prepare: { try Client.makeDirectory("\($0)/run") }, body)
        }

        /// Contents that other tools write, with the kinds that keep them byte for byte.
        private static let contents: [(kind: String, text: String)] = [
            ("document", #"{"last_command":"gt","timestamp":"2026-01-01T00:00:00Z"}"#),
            ("json", #"{"timestamp": 1716944400}"#),
            ("json", #"{"last_heartbeat":"2026-01-01T00:00:00Z","timestamp":null,"pid":17}"# + "\n"),
            ("json", #"{"status":"waiting","ts":1716944400123}"#),
            ("raw", "1785585600\n"), ("raw", "1785585600.123"), ("raw", "2026-08-01T12:00:00+00:00\n"), ("raw", "4711"),
            ("raw", "state=idle\nsince=now\n"), ("raw", "\u{0}\u{1}"), ("raw", ""), ("raw", "{"),
            ("mtime", ""), ("mtime", "anything\n"),
        ]

        // MARK: What is kept

        /// Before, an epoch number failed with EINVAL at close, an ISO line or a pid was read back as
        /// `{"last_command":…}`, and the number in `{"timestamp": 1716944400}` was replaced by a string.
        @Test func contentIsKeptByteForByteByWorkerRemountAndWriteback() throws {
            try withSignals { town in
                var expected: [String: String] = [:]
                for (number, (kind, text)) in Self.contents.enumerated() {
                    let name = "c\(number).\(kind)"
                    if number % 2 == 0 {
                        try Client.write(text, to: "\(town.path)/run/\(name)")
                    } else {
                        try Client.replace("\(town.path)/run/\(name)", with: text)
                    }
                    expected[name] = text
                }
                func expectContents(_ directory: String, _ when: Comment) throws {
                    for (name, text) in expected { #expect(try Client.read("\(directory)/\(name)") == text, when) }
                    #expect(try Set(Client.names(in: directory)) == Set(expected.keys), when)
                }
                let run = "\(town.path)/run"
                try expectContents(run, "written")
                let times = try expected.mapValues { _ in 0.0 }.map { name, _ in
                    (name, try FileStatus("\(run)/\(name)").modified)
                }
                let worker = try town.status().workerPid
                kill(worker, SIGKILL)
                #expect(try eventually { try town.status().workerPid != worker })
                try expectContents(run, "after the worker's death")
                try town.synchronize()
                try expectContents("\(town.backing)/run", "written back")
                try town.remount(Self.options)
                try expectContents(run, "mounted again")
                for (name, time) in times { #expect(try FileStatus("\(run)/\(name)").modified == time, "\(name)") }
                try Client.write("2\n", to: "\(run)/last.raw")
                try town.unmount()
                expected["last.raw"] = "2\n"
                try expectContents(run, "unmounted")
                try town.mount(Self.options)
            }
        }

        /// A writer has the file open while the worker dies: emptied and closed once, as a shell does, or written to and
        /// dated, as `cp -p` does.
        @Test(arguments: SignalKindExamples.all) func draftGoesOnAfterTheWorkersDeath(kind: String) throws {
            try withSignals { town in
                let text = #"{"timestamp":"2026-01-01T00:00:00Z"}"#
                let paths = ["emptied", "dated"].map { "\(town.path)/run/\($0).\(kind)" }
                for path in paths { try Client.write("{}", to: path) }
                let before = try paths.map { path in try Client.read(path) }
                let files = try paths.map { path in try Client.openForWriting(path) }
                let duplicate = FileDescriptor(rawValue: fcntl(files[0].rawValue, F_DUPFD_CLOEXEC, 0))
                try Client.close(duplicate)
                try Client.write(text, to: files[1])
                let time = Client.now - 30
                let times = [timespec(tv_sec: time, tv_nsec: 0), timespec(tv_sec: time, tv_nsec: 0)]
                #expect(futimens(files[1].rawValue, times) == 0)
                let worker = try town.status().workerPid
                kill(worker, SIGKILL)
                #expect(try eventually { try town.status().workerPid != worker })
                // By another thread: a program that the test starts would close copies of the descriptors.
                for (path, content) in zip(paths, before) { #expect(try Client.readOnOtherThread(path) == content) }
                try Client.write(text, to: files[0])
                for file in files { try Client.close(file) }
                for path in paths { #expect(try Client.read(path) == text) }
                let modified = Int(try FileStatus(paths[1]).modified)
                #expect(kind == "mtime" ? modified == time : modified >= time + 30)
                #expect(try eventually { try town.status().fileSystem.openFiles == 0 })
                #expect(try town.status().documents.touches == 4)
            }
        }

        @Test func badContentIsRefusedAndTheLastOneStays() throws {
            try withSignals { town in
                let bad = [
                    ("document", "[]"), ("document", "1785585600"), ("document", "{"), ("json", "gt status\n"),
                    ("json", "[]"), ("json", #"{"a":1"#), ("json", "1"),
                ]
                for kind in ["document", "json"] {
                    try Client.write(#"{"timestamp":"2026-01-01T00:00:00Z"}"#, to: "\(town.path)/run/a.\(kind)")
                }
                for (kind, text) in bad {
                    let path = "\(town.path)/run/a.\(kind)"
                    #expect(throws: Errno.invalidArgument, "\(kind): \(text)") { try Client.write(text, to: path) }
                    #expect(throws: Errno.invalidArgument, "\(kind): \(text)") { try Client.replace(path, with: text) }
                    #expect(try Client.read(path) == #"{"timestamp":"2026-01-01T00:00:00Z"}"#)
                    try? Client.unlink(path + ".tmp")
                }
                for kind in SignalKindExamples.all {
                    #expect(throws: Errno.fileTooLarge, "\(kind)") {
                        try Client.write(String(repeating: " ", count: 65_537), to: "\(town.path)/run/large.\(kind)")
                    }
                    #expect(!Client.exists("\(town.path)/run/large.\(kind)"))
                }
                let documents = try town.status().documents
                #expect(documents.touches == 2 && documents.refused == 2 * bad.count + 4)
            }
        }

        // MARK: Rules

        @Test(arguments: [
            ("run/x;kind=yaml", "yaml"), ("run/x;kind", "name=value"), ("run/x;kin=raw", "'kin'"),
            ("run/x;", "name=value"),
            ("run/x;ttl=soon", "soon"), ("run/x;ttl=0s", "0s"), ("run/x;kind=raw;kind=raw", "twice"),
            ("run/x;kind=raw;timestamp=t", "json only"), ("run/x;kind=json;start=s", "pid"), (";kind=raw", "empty"),
            ("run/{id}/{id};kind=raw", "{id}"), ("run/{name};kind=raw", "{id}"), ("run/{id}*;kind=raw", "*"),
            ("run/x;exclude=a/b", "slash"), ("run/x;exclude={id}", "{id}"), ("/x;kind=raw", "slash"),
        ])
        func malformedSignalIsRefused(_ signal: String, _ reason: String) throws {
            try withTown { town in
                for words in [["--signal", signal], ["-o", "signal=\(signal)"]] {
                    let outcome = try town.pulsefsCommand(["mount"] + words + [town.path]).run()
                    #expect(outcome.status == 64, "\(outcome)")
                    #expect(outcome.errors.contains(reason), "\(outcome)")
                    #expect(!town.isMounted)
                }
            }
        }

        @Test func eachSignalHasItsTTLAndItsRuntimeAndTheFirstRuleWins() throws {
            let options = [
                "--signal", "state/{id}/heartbeat.json;kind=json;ttl=5h;id=name", "--signal",
                "run/agent-{id}.pid;kind=raw;ttl=2m;exclude=*-old.pid",
                "--signal", "run/*.pid;kind=raw", "--signal", ".runtime/heartbeats/{id}.json;kind=json;ttl=7m",
                "--ttl", "30s",
            ]
            func prepare(_ path: String) throws {
                for name in ["run", "state", "state/anna", "state/bad name"] {
                    try Client.makeDirectory("\(path)/\(name)")
                }
            }
            try withMountedTown(options: options, prepare: prepare) { town in
                try Client.write(#"{"name":"other"}"#, to: "\(town.path)/state/anna/heartbeat.json")
                try Client.write("17\n", to: "\(town.path)/run/agent-bert.pid")
                try Client.write("18\n", to: "\(town.path)/run/agent-carl-old.pid")
                try Client.write(#"{"timestamp":17}"#, to: town.heartbeat("dora"))
                try Client.write("{}", to: "\(town.path)/state/bad name/heartbeat.json")
                for (id, ttl) in [("anna", 18000.0), ("bert", 120), ("dora", 420)] {
                    let view = try #require(try town.runtime(id))
                    #expect(view.state == "alive" && view.evidence.by == "path")
                    #expect(ttl - 20...ttl ~= view.ttlLeftSeconds ?? -1, "\(view)")
                    #expect(Client.exists("\(town.path)/.pulse/alive/\(id)"))
                }
                // The second rule of the command line serves what the first one excludes, and names nobody.
                #expect(try Client.read("\(town.path)/run/agent-carl-old.pid") == "18\n")
                #expect(try town.runtimes() == ["anna", "bert", "dora", "bad name"])
                #expect(try Client.read(town.heartbeat("dora")) == #"{"timestamp":17}"#)
                #expect(try town.status().signalFiles.alive == 5)
            }
        }

        // MARK: Dates

        @Test func modificationTimeDatesAnMtimeSignal() throws {
            try withSignals("--ttl", "90s") { town in
                let path = "\(town.path)/run/old.mtime"
                try town.shell("touch -d '10 minutes ago' run/old.mtime")
                let view = try #require(try town.runtime("old"))
                #expect(view.state == "expired")
                #expect(600..<660 ~= view.ageSeconds ?? -1)
                #expect(!Client.exists("\(town.path)/.pulse/alive/old"))
                #expect(600..<660 ~= Double(Client.now) + 1 - (try FileStatus(path).modified))
                // A touch that is late is no slow expiry: before, the lag was reported as 510 s, with an event `expired`.
                #expect(try town.pastEvents().map(\.event) == ["touched"])
                #expect(try town.metric("pulsefs_runtime_expirations_total") == 0)
                let worker = try town.status().workerPid
                kill(worker, SIGKILL)
                #expect(try eventually { try town.status().workerPid != worker })
                #expect(try town.runtime("old")?.state == "expired")
                try town.remount(Self.options)
                #expect(try town.runtime("old")?.state == "expired")
                #expect(600..<660 ~= Double(Client.now) + 1 - (try FileStatus(path).modified))
                try town.shell("touch run/old.mtime")
                #expect(try town.runtime("old")?.state == "alive")
                // Other kinds are dated by the receipt.
                try town.shell("touch -d '10 minutes ago' run/new.raw")
                #expect(try town.runtime("new")?.state == "alive")
            }
        }

        @Test func timestampFieldDatesAJSONSignal() throws {
            let options = ["--signal", "run/{id}.json;kind=json;timestamp=ts;ttl=90s"]
            try withMountedTown(options: options, prepare: { try Client.makeDirectory("\($0)/run") }) { town in
                let now = Client.now
                let past = now - 1000
                let values = [
                    ("seconds", "\(past)", "expired"), ("milliseconds", "\(past)000", "expired"),
                    ("quoted", "\"\(past)\"", "expired"),
                    ("fraction", "\(past).25", "expired"),
                    ("rfc", "\"\(KeepaliveDocument.timestamp(age: 1000))\"", "expired"),
                    ("fresh", "\(now - 5)", "alive"), ("future", "\(now + 3600)", "alive"),
                    ("word", "\"soon\"", "alive"),
                    ("none", "null", "alive"),
                ]
                for (id, value, state) in values {
                    let text = #"{"ts":\#(value),"timestamp":"2000-01-01T00:00:00Z"}"#
                    try Client.write(text, to: "\(town.path)/run/\(id).json")
                    #expect(try Client.read("\(town.path)/run/\(id).json") == text)
                    let view = try #require(try town.runtime(id))
                    #expect(view.state == state, "\(id)")
                    if state == "expired" { #expect(995..<1100 ~= view.ageSeconds ?? -1, "\(view)") }
                    if id == "fresh" { #expect(4.9..<80 ~= view.ageSeconds ?? -1) }
                }
                #expect(try town.status().documents.fromFuture == 1)
            }
        }

        // MARK: Other hosts

        @Test(.needsRedis) func eachKindIsSharedWithItsBytesAndItsTime() throws {
            let redis = try RedisServer.onSocket()
            let options = Self.options + ["--redis", redis.url, "--town-name", "gt", "--share"]
            func prepare(_ path: String) throws { try Client.makeDirectory("\(path)/run") }
            try withMountedTown(options: options, prepare: prepare) { here in
                try withMountedTown(options: options, prepare: prepare) { there in
                    #expect(try eventually { try here.mirror.isUp && there.mirror.isUp })
                    for (number, (kind, text)) in Self.contents.enumerated() {
                        try Client.write(text, to: "\(here.path)/run/s\(number).\(kind)")
                        let isThere = eventually { (try? Client.read("\(there.path)/run/s\(number).\(kind)")) == text }
                        #expect(isThere, "\(kind): \(text)")
                        #expect(try eventually { try there.runtime("s\(number)")?.state == "alive" })
                    }
                    // Before, the other host took a file of ten minutes ago for a sign of life.
                    try here.shell("touch -d '10 minutes ago' run/old.mtime")
                    #expect(try eventually { try there.runtime("old") != nil })
                    let view = try #require(try there.runtime("old"))
                    #expect(view.state == "expired" && 600..<660 ~= view.ageSeconds ?? -1, "\(view)")
                    #expect(eventually { Client.exists("\(there.path)/run/old.mtime") })
                    let ages = try [here, there].map { try FileStatus("\($0.path)/run/old.mtime").modified }
                    #expect(abs(ages[0] - ages[1]) < 30)
                    try Client.unlink("\(there.path)/run/s0.document")
                    #expect(try eventually { try here.runtime("s0") == nil })
                    #expect(eventually { !Client.exists("\(here.path)/run/s0.document") })
                }
            }
        }

        // MARK: Expiry

        @Test(arguments: SignalKindExamples.all) func expiredSignalIsAbsentIfAskedFor(kind: String) throws {
            try withSignals("--ttl", "500ms", "--on-expiry", "absent") { town in
                let path = "\(town.path)/run/a.\(kind)"
                for _ in 0..<2 {
                    try Client.write(#"{"timestamp":"2026-01-01T00:00:00Z"}"#, to: path)
                    #expect(eventually { !Client.exists(path) })
                    #expect(try Client.names(in: "\(town.path)/run") == [])
                    #expect(try eventually { try town.runtime("a")?.state == "expired" })
                }
            }
        }

        /// 1,000 signals of all kinds with ttls of 1 to 3 s; then the town is idle.
        ///
        /// `ExpiryTests` has exact deadlines of 1 s to 8 h.
        @Test(.needs("python3")) func eachOfManySignalsExpiresAtItsOwnDeadlineAndAnIdleTownSleeps() throws {
            let tenths = [10, 15, 20, 25, 30]
            var options: [String] = []
            var names: [String] = []
            for kind in SignalKindExamples.all {
                for ttl in tenths {
                    options += ["--signal", "run/{id}.\(kind)\(ttl);kind=\(kind);ttl=\(ttl * 100)ms"]
                    names.append("\(kind)\(ttl)")
                }
            }
            func prepare(_ path: String) throws { try Client.makeDirectory("\(path)/run") }
            try withMountedTown(options: options, limit: .seconds(120), prepare: prepare) { town in
                try expectOwnDeadlines(of: names, in: town)
                try expectIdleness(of: town)
            }
        }

        private func expectOwnDeadlines(of names: [String], in town: MountedTown) throws {
            let script = """
                for n in range(50):
                    for name in \(names):
                        with open(f"run/{name}-{n}.{name}", "w") as file: file.write('{"timestamp":"2026-01-01T00:00:00Z"}')
                """
            let promise = Promise(.milliseconds(50))
            try Command("python3", "-c", script, in: town.path).output()
            let count = 50 * names.count
            let haveExpired = try eventually { try town.metric("pulsefs_runtime_expirations_total") == count }
            #expect(haveExpired)
            let lags = try Self.expiryLags(in: town.pastEvents())
            #expect(lags.count == count)
            // The wall clock may be adjusted meanwhile, by very little.
            let isNeverEarly = lags.allSatisfy { $0 > -0.005 }
            #expect(isNeverEarly)
            let worst = lags.max() ?? 1000
            let isInTime = promise.isKept(by: .seconds(worst))
            #expect(isInTime, "\(worst) s")
        }

        /// No work, no processor time; it counts in hundredths of a second.
        private func expectIdleness(of town: MountedTown) throws {
            let worker = try town.status().workerPid
            let isIdle = try eventually {
                let before = try Self.processorTicks(of: worker)
                usleep(1_000_000)
                return try Self.processorTicks(of: worker) - before <= 1
            }
            #expect(isIdle)
        }

        /// How long after the last touch and its ttl each runtime was reported as expired, in seconds.
        ///
        /// The digits at the end of a signal's name are its ttl in tenths of a second.
        private static func expiryLags(in events: [SignalEvent]) throws -> [Double] {
            var deadlines: [String: Double] = [:]
            var lags: [Double] = []
            for event in events {
                guard let id = event.runtime else { continue }
                let time = try HeartbeatReading.seconds(event.time)
                if let signal = event.signal, event.event == "touched" {
                    let digits = String(signal.reversed().prefix { $0.isNumber }.reversed())
                    deadlines[id] = time + (Double(digits) ?? 0) / 10
                } else if let deadline = deadlines[id], event.event == "expired" {
                    lags.append(time - deadline)
                }
            }
            return lags
        }

        /// Fields 14 and 15 of `/proc/<pid>/stat`.
        private static func processorTicks(of process: pid_t) throws -> Int {
            let fields =
                try Client.read("/proc/\(process)/stat").split(separator: ")").last?.split(separator: " ") ?? []
            let times = fields.dropFirst(11).prefix(2).compactMap { Int($0) }
            #expect(times.count == 2)
            return times.reduce(0, +)
        }

        // MARK: Fuzzing

        /// Random bytes are kept, or refused with EINVAL and the last content stays.
        @Test(arguments: [1, 2] as [UInt64]) func randomContentIsKeptOrRefused(seed: UInt64) throws {
            try withSignals(limit: .seconds(120)) { town in
                var random = SplitMix64(state: seed)
                var (last, touches, refused) = ([String: [UInt8]](), 0, 0)
                func memory(_ worker: pid_t) throws -> Int {
                    let line = try Client.read("/proc/\(worker)/status").split(separator: "\n").first {
                        $0.hasPrefix("VmRSS")
                    }
                    return try #require(Int((line ?? "").filter(\.isNumber)))
                }
                let worker = try town.status().workerPid
                var before = 0
                for round in 0..<3000 {
                    if round == 1000 { before = try memory(worker) }
                    let kind = SignalKindExamples.all.randomElement(using: &random) ?? "raw"
                    let path = "\(town.path)/run/f\(Int.random(in: 0..<5, using: &random)).\(kind)"
                    var bytes: [UInt8] = []
                    for _ in 0..<Int.random(in: 0..<6, using: &random) {
                        bytes += Self.pieces.randomElement(using: &random) ?? []
                    }
                    let file = try Client.open(path, O_WRONLY | O_CREAT | O_TRUNC)
                    if !bytes.isEmpty { #expect(write(file.rawValue, bytes, bytes.count) == bytes.count) }
                    do {
                        try Client.close(file)
                        touches += 1
                        let isKept = kind == "raw" || kind == "mtime"
                        let read = try Client.readBytes(at: path)
                        if isKept { #expect(read == bytes) }
                        if kind == "json" { #expect(read == bytes || bytes.allSatisfy { " \n".utf8.contains($0) }) }
                        last[path] = read
                    } catch Errno.invalidArgument {
                        refused += 1
                        if let text = last[path] { #expect(try Client.readBytes(at: path) == text) }
                    }
                }
                #expect(touches > 1000 && refused > 100)
                #expect(try eventually { try town.status().fileSystem.openFiles == 0 })
                let documents = try town.status().documents
                #expect(documents.touches == touches && documents.refused == refused)
                for (path, bytes) in last { #expect(try Client.readBytes(at: path) == bytes) }
                let growth = try memory(worker) - before
                #expect(growth < 8192, "\(growth) KiB")
            }
        }

        private static let pieces: [[UInt8]] =
            [
                "{", "}", "{}", #"{"a":1}"#, #"{"timestamp":"2026-01-01T00:00:00Z"}"#, #""timestamp":"#, "1785585600",
                "\n", " ", ",", "[]", "x",
            ]
            .map { Array($0.utf8) } + [[0], [0xFF], [UInt8](repeating: 0x20, count: 9000)]
    }
}

/// Signal files `run/<id>.<kind>`, one of each kind, whose id is the runtime's.
enum SignalKindExamples {
    static let all = ["document", "json", "raw", "mtime"]
    static let options = all.flatMap { ["--signal", "run/{id}.\($0);kind=\($0)"] }
}

extension Client {
    fileprivate static func readOnOtherThread(_ path: String) throws -> String {
        let text = Mutex("")
        let ended = DispatchSemaphore(value: 0)
        DispatchQueue(label: "reader").async {
            let read = try? Client.read(path)
            text.withLock { $0 = read ?? "unreadable" }
            ended.signal()
        }
        ended.wait()
        return text.withLock { $0 }
    }

    fileprivate static func readBytes(at path: String) throws(Errno) -> [UInt8] {
        let file = try open(path, O_RDONLY)
        defer { try? close(file) }
        return try readBytes(file)
    }
}

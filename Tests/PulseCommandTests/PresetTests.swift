import FoundationEssentials
import Liveness
import TestSupport
import Testing
import TownFS

@testable import Daemon

/// The text form of presets, and `--preset`.
@Suite struct PresetTests {
    private func decode(_ text: String) throws -> Preset { try PresetText.decode(Array(text.utf8)) }

    /// The errors of a text, as `3:15: …`; empty if it is a preset.
    private func errors(_ bytes: [UInt8]) -> [String] {
        do throws(PresetErrors) {
            _ = try PresetText.decode(bytes)
            return []
        } catch {
            return error.items.map(\.description)
        }
    }

    // MARK: Built in

    @Test func builtInGasTownIsThatOfTheLibrary() throws {
        #expect(try BuiltInPreset.standard.preset == .gasTown)
    }

    @Test(arguments: BuiltInPreset.all.map(\.name)) func builtInPresetHasItsNameAndASummary(name: String) throws {
        let preset = try #require(BuiltInPreset.named(name)).preset
        #expect(preset.name == name)
        #expect(preset.summary.hasSuffix("."))
        #expect(preset.summary.count < 80)
    }

    @Test(arguments: BuiltInPreset.all.map(\.name)) func compactTextIsTheSamePreset(name: String) throws {
        let preset = try #require(BuiltInPreset.named(name)).preset
        let text = PresetText.compact(preset)
        #expect(text.hasPrefix("{"))
        #expect(!text.contains("\n"))
        #expect(try decode(text) == preset)
    }

    /// A path, the built-in preset it belongs to, and the id in it; nil if it is no signal file.
    static let paths: [(preset: String, path: String, id: String?)] = [
        ("claude-code", "sessions/4711.json", "4711"),
        ("claude-code", "sessions/pid-4711.json", nil),
        ("claude-code", "sessions/4711.key", nil),
        ("claude-code", "projects/x/4711.json", nil),
        ("agent-deck", "hooks/a1b2-17.json", "a1b2-17"),
        ("agent-deck", "hooks/a1b2-17.generation.json", nil),
        ("nanoclaw", "data/v2-sessions/main/s-1/.heartbeat", "s-1"),
        ("nanoclaw", "data/v2-sessions/s-1/.heartbeat", nil),
        ("cortextos", "state/writer/heartbeat.json", "writer"),
        ("touch-files", "worker.heartbeat", "worker"),
        ("touch-files", "worker_heartbeat", "worker"),
        ("touch-files", "heartbeats/backup", "backup"),
        ("touch-files", "heartbeats/backup.tmp", nil),
        ("touch-files", "heartbeats/tmp8x_1", nil),
        ("touch-files", "heartbeats/.backup", nil),
        ("touch-files", ".status/reviewer.txt", "reviewer"),
        ("touch-files", "smart.prom", "smart"),
        ("touch-files", "smart.prom.123", nil),
        ("touch-files", "README.md", nil),
        ("touch-files", "src/heartbeat", nil),
        ("touch-files", ".git/index", nil),
    ]

    @Test(arguments: paths) func builtInPathsNameTheirRuntimes(preset: String, path: String, id: String?) throws {
        let signals = try #require(BuiltInPreset.named(preset)).preset.signals
        let match = try SignalPatterns(signals).match(path: Array(path.utf8))
        #expect(match?.runtime?.description == id)
        #expect((match == nil) == (id == nil))
    }

    // MARK: Decoding

    @Test func everyKeyIsDecoded() throws {
        let preset = try decode(
            """
            // A comment.
            {
                name: 'mine', "summary": "It\\u2019s \\"mine\\".", /* another
                one */
                identities: "gastown",
                signals: [
                    { path: "a/{id}.json", kind: "json", ttl: "5h", exclude: ["x*", "y"],
                      id: "i", state: "s", timestamp: "t", pid: "p", start: "st" },
                    { path: "b;c" }, { path: "d", kind: "raw", ttl: "500ms" }, { path: "e", kind: "mtime" },
                ],
                variables: ["MY_AGENT", "_X"],
                helpers: [{ program: "p", variable: "P", subcommands: ["a", "b"] }, { program: "q" }],
            }
            """)
        let fields = Signal.Fields(id: "i", state: "s", timestamp: "t", pid: "p", start: "st")
        let expected = Preset(
            name: "mine", summary: "It\u{2019}s \"mine\".",
            signals: [
                try Signal("a/{id}.json", kind: .json, ttl: .seconds(18000), excluding: ["x*", "y"], fields: fields),
                Signal(document: "b;c"), try Signal("d", kind: .raw, ttl: .milliseconds(500)),
                try Signal("e", kind: .mtime),
            ],
            isGasTown: true, variables: ["MY_AGENT", "_X"],
            helpers: [HelperProgram("p", orNamedBy: "P", subcommands: ["a", "b"]), HelperProgram("q")])
        #expect(preset == expected)
        #expect(try decode(PresetText.compact(preset)) == expected)
    }

    @Test func durationsAreSpelledInTheirLargestUnit() {
        let spelled = ["1ns", "1001us", "90s", "61m", "5h", "876600h"]
        #expect(spelled.map { try? Duration(spelled: $0).spelled } == spelled)
        #expect((try? Duration(spelled: "60s"))?.spelled == "1m")
        #expect(Duration.zero.spelled == "0s")
    }

    /// A text, and its errors in part: where, and words of the sentence.
    static let mistakes: [(text: String, errors: [String])] = [
        ("", ["1:1: The text ends"]),
        ("[]", ["1:1: A preset must be an object"]),
        ("{}", ["1:1: A preset needs a name."]),
        (#"{name: ""}"#, ["1:8: 'name' must not be empty."]),
        (#"{name: "a b", variables: ["A"]}"#, ["1:8: A name has"]),
        (#"{name: "-a", variables: ["A"]}"#, ["1:8: A name has"]),
        (#"{name: "x"}"#, ["1:1: A preset needs signals"]),
        (#"{name: "x", nmae: 1}"#, ["1:13: A preset has no 'nmae'. Known are name,"]),
        (#"{name: "x", name: "y", variables: ["A"]}"#, ["1:13: 'name' is given twice."]),
        (#"{name: 1, summary: null, identities: true}"#, ["1:8: 'name'", "1:20: 'summary'", "1:38: 'identities'"]),
        (#"{name: "x", identities: "gascity"}"#, ["1:25: There are no identities 'gascity'"]),
        (#"{name: "x", signals: {}}"#, ["1:22: 'signals' must be an array"]),
        (#"{name: "x", signals: ["a"]}"#, ["1:23: A signal must be an object in braces, not a string."]),
        (#"{name: "x", signals: [{}]}"#, ["1:23: A signal needs a path."]),
        (#"{name: "x", signals: [{path: ""}]}"#, ["1:30: 'path' must not be empty."]),
        (#"{name: "x", signals: [{path: "/a"}]}"#, ["1:30: The signal pattern '/a' cannot be used"]),
        (#"{name: "x", signals: [{path: "{x}"}]}"#, ["1:30: The signal pattern '{x}' cannot be used"]),
        (#"{name: "x", signals: [{path: "a", kind: "yaml"}]}"#, ["1:41: There is no kind 'yaml'; known are document"]),
        (#"{name: "x", signals: [{path: "a", ttl: "0s"}]}"#, ["1:40: The ttl cannot be used: '0s'"]),
        (#"{name: "x", signals: [{path: "a", ttl: 90}]}"#, ["1:40: 'ttl' must be text in quotes, not a number."]),
        (#"{name: "x", signals: [{path: "a", exclude: "b"}]}"#, ["1:44: 'exclude' must be an array"]),
        (
            #"{name: "x", signals: [{path: "a", exclude: ["b/c", 1]}]}"#,
            ["1:45: The signal pattern 'b/c'", "1:52: Each of"]
        ),
        (#"{name: "x", signals: [{path: "a", state: "s"}]}"#, ["1:42: Fields can be named for kind json only"]),
        (#"{name: "x", signals: [{path: "a", kind: "raw", pid: "s"}]}"#, ["1:53: Fields can be named for kind json"]),
        (#"{name: "x", signals: [{path: "a", kind: "json", start: "s"}]}"#, ["1:56: 'start' needs 'pid'"]),
        (#"{name: "x", signals: [{path: "a"}, {path: "a"}]}"#, ["1:43: The path 'a' is given twice."]),
        (#"{name: "x", signals: [{path: "a", knid: "raw"}]}"#, ["1:35: A signal has no 'knid'"]),
        (
            #"{name: "x", variables: ["1A", "A=B", "A", "A", ""]}"#,
            ["1:25:", "1:31:", "1:43: 'A' is given", "1:48: Each"]
        ),
        (
            #"{name: "x", helpers: [{}, {program: "a/b"}, 1]}"#,
            ["1:23: A helper needs", "1:37: A program", "1:45: A helper"]
        ),
        (#"{name: "x", helpers: [{program: "a", variable: "A B"}]}"#, ["1:48: The name of a variable"]),
        (#"{name: "x", helpers: [{program: "a", subcommands: ["-v"]}]}"#, ["1:52: A subcommand"]),
        (#"{name: "x\u0007"}"#, ["1:8: 'name' must not contain control characters."]),
        // The column counts characters.
        (
            "{\n  name: \"x\", summary: \"äöü\", x: 1,\n\tvariables: 1}",
            ["2:30: A preset has no 'x'", "3:13: 'variables'"]
        ),
        ("{ // ä\r\n  name: }", ["2:9: A value is expected here, not '}'."]),
        // Syntax.
        (#"{name: "x" variables: []}"#, ["1:12: A comma or } is expected here, not 'v'."]),
        (#"{name "x"}"#, ["1:7: A colon is expected"]),
        (#"{name: x}"#, [#"1:8: Text must be in quotes: "x"."#]),
        (#"{name: "x""#, ["1:1: The object that begins here is not closed."]),
        (#"{a: ["x", "#, ["1:5: The array that begins here is not closed."]),
        (#"{,}"#, ["1:2: A name is expected here"]),
        (#"{a: [,]}"#, ["1:6: A value is expected here"]),
        (#"{name: "x"} y"#, ["1:13: The text goes on after its end with 'y'."]),
        ("{name: \"x\n\"}", ["1:8: The string that begins here is not closed in its line."]),
        (#"{name: "x"#, ["1:8: The string that begins here is not closed."]),
        (#"{name: "\x"}"#, ["1:9: There is no escape of a backslash and 'x'."]),
        (#"{name: "\u12"}"#, ["1:9: An escape with u needs four"]),
        (#"{name: "\ud800"}"#, ["1:9: This escape is half of a character"]),
        ("{/* x", ["1:2: The comment that begins here is not closed"]),
        ("{/ x", ["1:2: A comment begins with"]),
        ("{\0}", ["1:2: A name is expected here, not the character U+0000."]),
        ("{name: \"\0\"}", ["1:9: A string must not contain the character U+0000."]),
        ("{ name: ☠ }", ["1:9: A value is expected here, not the character U+2620."]),
    ]

    @Test(arguments: mistakes) func mistakeIsReportedWithItsPlace(text: String, expected: [String]) {
        let errors = errors(Array(text.utf8))
        #expect(errors.count == expected.count, "\(errors)")
        for (error, beginning) in zip(errors, expected) { #expect(error.hasPrefix(beginning), "\(error)") }
    }

    @Test func allMistakesAreReportedUpToALimit() throws {
        let signals = (1...150).map { _ in "{ path: '/' },\n" }.joined()
        do throws(PresetErrors) {
            _ = try PresetText.decode(Array("{ name: 'x', signals: [\n\(signals)] }".utf8))
            Issue.record("it is accepted")
        } catch {
            #expect(error.items.map(\.line).prefix(3) == [2, 3, 3])
            #expect(error.items.count == 100)
            // Each path is wrong, and all but the first are repeated.
            #expect(error.omitted == 199)
            #expect(error.lines(for: "f").last == "f: 199 more errors.")
        }
    }

    // MARK: Hostile texts

    @Test(arguments: ["[", "{", "{a:", "[{a:", "{a:[", "/*", "\"", "\\", "'", "0", "[],", "\0", "//\n", "\n", "ä", "["])
    func textOfOneMiBIsRefused(piece: String) {
        let count = PresetText.maximumSize / piece.utf8.count
        for start in ["", "[", "{signals:["] {
            let text = Array((start + String(repeating: piece, count: count)).utf8.prefix(PresetText.maximumSize))
            #expect(errors(text).count == 1)
        }
    }

    @Test func textThatIsTooLongIsRefused() {
        let text = [UInt8](repeating: UInt8(ascii: " "), count: PresetText.maximumSize + 1)
        #expect(errors(text) == ["1:1: The text is longer than 1 MiB."])
    }

    @Test func invalidUTF8IsReportedWhereItBegins() {
        #expect(errors(Array("{\n a: \"".utf8) + [0xC3, 0x28]) == ["2:6: This byte is not valid UTF-8."])
    }

    /// It is an argument of keeper and worker.
    @Test func presetThatFitsIntoNoArgumentIsRefused() {
        let signals = (0..<4000).map { "{path:'some/directory/\($0)'}," }.joined()
        let errors = errors(Array("{name:'x',signals:[\(signals)]}".utf8))
        #expect(errors.count == 1 && errors[0].contains("bytes without comments, more than 65536"), "\(errors)")
    }

    private static let pieces =
        [
            "{", "}", "[", "]", "\"", "'", ",", ":", "//", "/*", "*/", "\\", "\\u0000", "\n", "\0", "null", "1e9",
            "{id}",
            "**", "name", "signals", "path: \"x\",", "kind: \"raw\",", "json", "ttl: \"1s\",", "\u{FEFF}", "\u{2028}",
            "ü",
        ].map { Array($0.utf8) } + [[0xFF], [0xC3], [0xED, 0xA0, 0x80]]

    private func mutate(_ bytes: inout [UInt8], using random: inout SplitMix64) {
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let at = Int.random(in: 0...bytes.count, using: &random)
            switch Int.random(in: 0..<5, using: &random) {
            case 0: bytes.insert(UInt8.random(in: 0...255, using: &random), at: at)
            case 1: bytes.insert(contentsOf: Self.pieces.randomElement(using: &random) ?? [], at: at)
            case 2: bytes.removeSubrange(at..<Int.random(in: at...min(bytes.count, at + 8), using: &random))
            case 3: bytes.insert(contentsOf: bytes[at...].prefix(40), at: at)
            default: if at < bytes.count { bytes[at] = UInt8.random(in: 0...255, using: &random) }
            }
        }
    }

    /// What is accepted, the JSON5 decoder of FoundationEssentials accepts too, and means the same.
    @Test(arguments: UInt64(1)...8) func mutantIsAPresetOrHasErrors(seed: UInt64) throws {
        struct Named: Decodable {
            let name: String
        }
        let decoder = JSONDecoder()
        decoder.allowsJSON5 = true
        var random = SplitMix64(state: seed)
        let texts = try BuiltInPreset.all.flatMap {
            [Array($0.text.utf8), Array(PresetText.compact(try $0.preset).utf8)]
        }
        var accepted = 0
        for _ in 0..<1500 {
            var text = texts.randomElement(using: &random) ?? []
            mutate(&text, using: &random)
            do throws(PresetErrors) {
                let preset = try PresetText.decode(text)
                accepted += 1
                let again = try PresetText.decode(Array(PresetText.compact(preset).utf8))
                #expect(again == preset)
                #expect(throws: Never.self, "\(String(decoding: text, as: UTF8.self))") {
                    #expect(try decoder.decode(Named.self, from: Data(text)).name == preset.name)
                    _ = try SignalPatterns(preset.signals)
                }
            } catch {
                #expect(error.items.allSatisfy { $0.line >= 1 && $0.column >= 1 && $0.message.hasSuffix(".") })
            }
        }
        #expect(accepted > 50)
    }

    @Test(arguments: UInt64(1)...8) func mutantOfASignalIsARuleOrIsRefused(seed: UInt64) {
        var random = SplitMix64(state: seed)
        let rules = [
            "state/{id}/heartbeat.json;kind=json;ttl=5h;timestamp=last_heartbeat",
            "run/{id}.pid;kind=raw;exclude=*.old",
            "**/x[a-z]?.json;kind=mtime;ttl=1ns", "a;kind=json;pid=p;start=s;state=x;id=i",
        ]
        for _ in 0..<2000 {
            var bytes = Array((rules.randomElement(using: &random) ?? "").utf8)
            mutate(&bytes, using: &random)
            let text = String(decoding: bytes, as: UTF8.self)
            guard let signal = try? Signal(text), let patterns = try? SignalPatterns([signal]) else { continue }
            _ = patterns.match(path: bytes)
        }
    }

    // MARK: Options

    private func options(_ arguments: String...) throws -> MountOptions { try MountOptions.parse(arguments) }

    private func configuration(_ arguments: String...) throws -> (signals: MountOptions, identities: IdentityRules) {
        let options = try MountOptions.parse(arguments)
        return (options, try options.configuration(of: "/t").identities)
    }

    @Test func presetReplacesTheDefault() throws {
        let heartbeat = Array(".runtime/heartbeats/x.json".utf8)
        let session = Array("sessions/1.json".utf8)
        func found(_ arguments: String...) throws -> [Bool] {
            let options = try MountOptions.parse(arguments)
            let patterns = try options.patterns()
            return [patterns.match(path: heartbeat) != nil, patterns.match(path: session) != nil]
                + [try options.configuration(of: "/t").identities.isGasTown]
        }
        #expect(try found() == [true, false, true])
        #expect(try found("--no-default-signals") == [false, false, true])
        #expect(try found("--preset", "claude-code") == [false, true, false])
        #expect(try found("--preset", "gastown", "--preset", "claude-code") == [true, true, true])
        #expect(try found("--preset", "gastown", "--no-default-signals") == [true, false, true])
        #expect(try found("--preset", "gascity") == [false, false, false])
        #expect(try configuration().identities == .gasTown)
    }

    @Test func firstRuleDecidesAndThoseOfTheCommandLineComeFirst() throws {
        func kind(_ arguments: String...) throws -> SignalKind? {
            let options = try MountOptions.parse(arguments)
            return try options.patterns().match(path: Array("sessions/1.json".utf8))?.signal.kind
        }
        let other = "{name: 'x', signals: [{path: 'sessions/*.json', kind: 'mtime'}]}"
        #expect(try kind("--preset", "claude-code", "--preset", other) == .json)
        #expect(try kind("--preset", other, "--preset", "claude-code") == .mtime)
        #expect(try kind("--preset", other, "--signal", "sessions/*;kind=raw") == .raw)
    }

    @Test func keeperAndWorkerGetThePresetsThemselves() throws {
        try TemporaryDirectory.with { scratch in
            let file = "\(scratch.path)/mine.json5"
            try Client.write("{name: 'mine', signals: [{path: 'hb/{id}', kind: 'raw', ttl: '7s'}]}", to: file)
            let given = try options(
                "--preset", file, "--preset", "cortextos", "--min-agent-age", "0s", "--signal", "a;kind=raw")
            try Client.write("broken", to: file)
            #expect(!given.arguments.contains(file))
            let received = try MountOptions.parse(given.arguments)
            #expect(received.preset == given.preset)
            #expect(received.preset.map(\.name) == ["mine", "cortextos"])
            #expect(received.preset[0].signals == [try Signal("hb/{id};kind=raw;ttl=7s")])
            #expect(received.minAgentAge == .zero)
            #expect(received.arguments == given.arguments)
            #expect(try received.configuration(of: "/t").minimumAgentAge == .zero)
        }
        #expect(try options().configuration(of: "/t").minimumAgentAge == .seconds(30))
        #expect(try options("--min-agent-age", "90s").arguments.contains("90s"))
        #expect(try !options().arguments.contains("--preset"))
    }

    @Test func presetsAreGivenInFstab() throws {
        let words = try MountOptions.arguments(fromMountOptions: ["rw,preset=nanoclaw,preset=/a/b,min-agent-age=1m"])
        #expect(words == ["--preset", "nanoclaw", "--preset", "/a/b", "--min-agent-age", "1m"])
    }

    @Test func presetsAreCheckedForTheScope() throws {
        #expect(throws: Never.self) { try options("--scope", "signals", "--preset", "cortextos") }
        #expect(throws: (any Error).self) { try options("--scope", "signals", "--preset", "gascity") }
        #expect(throws: (any Error).self) { try options("--scope", "signals", "--preset", "touch-files") }
    }
}

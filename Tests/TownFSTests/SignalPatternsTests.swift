import Liveness
import TestSupport
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct SignalPatternsTests {
    /// Walks a path as lookups do, one name at a time.
    private func isSignal(_ path: String, _ patterns: [String]) throws -> Bool {
        let names = path.utf8.split(separator: UInt8(ascii: "/"))
        let last = try #require(names.last)
        return try names.dropLast().reduce(SignalPatterns(patterns).root) { $0.entering($1) }.matches(last)
    }

    @Test(arguments: [
        ".runtime/keepalive.json", "daemon/activity.json", ".runtime/heartbeats/gt-nux.json", "deacon/heartbeat.json",
        "deacon/.deacon-heartbeat",
    ])
    func defaultsCoverTheLegacyFiles(_ path: String) throws {
        #expect(try isSignal(path, SignalPatterns.defaults))
    }

    @Test(arguments: [
        "keepalive.json", "daemon", "daemon/daemon.pid", "daemon/activity.json.tmp", "daemon/Activity.json",
        "gastown/.runtime/keepalive.json", "daemon/activity.json/activity.json", ".runtime/heartbeats",
        ".runtime/heartbeats/.hidden.json", ".runtime/heartbeats/a/b.json", "deacon/deacon-heartbeat",
    ])
    func defaultsCoverNothingElse(_ path: String) throws {
        #expect(try !isSignal(path, SignalPatterns.defaults))
    }

    @Test(arguments: [
        ("a", "a"), ("*", "abc"), ("a*", "a"), ("*c", "abc"), ("a*c", "ac"), ("a*b*c", "a-b-b-c"),
        ("*.json", "x.json.json"),
        ("?", "a"), ("a?c", "abc"), ("??", "ü"), ("*?", "ab"), ("?*", "a"),
        ("[abc]", "b"), ("[a-c]x", "bx"), ("[!a-c]", "d"), ("[^a-c]", "d"), ("[]]", "]"), ("[!]]", "a"), ("[a-]", "-"),
        ("[-a]", "-"), ("[*]", "*"), ("[?]", "?"), ("[[]", "["), ("a]", "a]"), ("[a-cx-z]", "y"), ("*[0-9]", "a1"),
        (".*", ".x"), (".?", ".x"), ("a*", "a.b"), ("\\a", "\\a"), ("ü", "ü"),
        ("**/a", "a"), ("**/a", "x/a"), ("**/a", "x/y/z/a"), ("x/**/a", "x/a"), ("x/**/a", "x/y/z/a"), ("**/**/a", "a"),
        ("**/.runtime/a", ".runtime/a"), ("**/.runtime/a", "x/.runtime/a"), ("**/x/**/a", "x/a"),
        ("**/x/**/a", "b/x/c/x/d/a"), ("**/*", "x/y"), ("**/x/a", "x/x/a"), ("*/a", "x/a"),
    ])
    func patternMatches(_ pattern: String, _ path: String) throws {
        #expect(try isSignal(path, [pattern]))
    }

    @Test(arguments: [
        ("a", "b"), ("a", "A"), ("a", "aa"), ("a", "x/a"), ("a/b", "a"), ("a/b", "b"), ("a/b", "a/b/b"),
        ("a*c", "abcd"), ("a*b*c", "acb"), ("?", "ab"), ("?", "ü"), ("*", "x/y"), ("*/*", "x"), ("a?", "a"),
        ("[abc]", "d"), ("[!a-c]", "b"), ("[^a-c]", "b"), ("[a-c]", "-"), ("[a-]", "b"), ("[a]", "[a]"),
        ("*", ".x"), ("?x", ".x"), ("[.]x", ".x"), ("[!a]x", ".x"), ("*.json", ".json"),
        ("**/a", "b"), ("**/a", "a/b"), ("**/a", ".git/a"), ("**/a", "x/.git/a"), ("x/**/a", "a"), ("x/**/a", "y/a"),
        ("**/.runtime/a", ".git/.runtime/a"), ("**/x/**/a", "y/a"), ("**/*", ".x"),
    ])
    func patternDoesNotMatch(_ pattern: String, _ path: String) throws {
        #expect(try !isSignal(path, [pattern]))
    }

    @Test(arguments: [
        ("", SignalPatterns.Invalid.Reason.empty),
        ("/", .absolute),
        ("/a", .absolute),
        ("a/", .trailingSlash),
        ("a//b", .emptyComponent),
        (".", .dots),
        ("./a", .dots),
        ("a/../b", .dots),
        ("a**", .starsInName),
        ("**.json", .starsInName),
        ("***", .starsInName),
        ("**", .starsAtEnd),
        ("a/**", .starsAtEnd),
        ("[", .openBracket),
        ("[]", .openBracket),
        ("[!]", .openBracket),
        ("a[b/c]", .openBracket),
        ("[a-", .openBracket),
        ("[z-a]", .backwardRange),
    ])
    func invalidPatternIsRejectedWithAReason(_ pattern: String, _ reason: SignalPatterns.Invalid.Reason) {
        #expect(throws: SignalPatterns.Invalid(pattern: pattern, reason: reason)) {
            try SignalPatterns(["a", pattern])
        }
    }

    @Test func warningNamesThePattern() {
        let message = SignalPatterns.Invalid(pattern: "a/**", reason: .starsAtEnd).description
        #expect(message == "The signal pattern 'a/**' cannot be used: it must name files, so must not end with **.")
    }

    // MARK: {id}

    /// The id that a path names, the rule's number, or why there is neither.
    private func match(_ path: String, _ patterns: [String]) throws -> (rule: Int, id: RuntimeID?)? {
        let signals = try patterns.map { try Signal($0) }
        guard let match = try SignalPatterns(signals).match(path: Array(path.utf8)) else { return nil }
        return (try #require(signals.firstIndex(of: match.signal)), match.runtime)
    }

    @Test(arguments: [
        ("state/{id}/heartbeat.json", "state/anna/heartbeat.json", "anna"),
        ("run/{id}.pid", "run/anna.pid", "anna"), ("run/{id}", "run/anna", "anna"), ("{id}", "anna", "anna"),
        ("run/agent-{id}.pid", "run/agent-anna.pid", "anna"), ("run/agent-{id}.pid", "run/agent-a.pid", "a"),
        ("run/{id}.pid", "run/anna.b.pid", "anna.b"), ("run/{id}.pid", "run/anna.pid.pid", "anna.pid"),
        ("run/{id}.pid", "run/Anna_1-x.pid", "Anna_1-x"), ("run/[a-c]{id}?", "run/bannab", "anna"),
        ("run/.{id}.pid", "run/.anna.pid", "anna"), ("run/.{id}", "run/.anna", "anna"),
        ("*/{id}/.heartbeat", "g/anna/.heartbeat", "anna"), ("{id}/*/hb", "anna/x/hb", "anna"),
        ("**/{id}/hb", "anna/hb", "anna"), ("**/{id}/hb", "a/b/anna/hb", "anna"), ("{id}/**/hb", "anna/hb", "anna"),
        ("{id}/**/hb", "anna/b/c/hb", "anna"), ("x/**/{id}.pid", "x/a/b/anna.pid", "anna"),
        // The last directory that can be it.
        ("**/{id}/**/hb", "a/b/c/hb", "c"), ("a[{]id[}]/{id}", "a{id}/anna", "anna"),
    ])
    func pathNamesItsRuntime(_ pattern: String, _ path: String, _ id: String) throws {
        let match = try #require(try match(path, [pattern]))
        #expect(match.id == (try RuntimeID(id)))
    }

    @Test(arguments: [
        ("state/{id}/heartbeat.json", "state/heartbeat.json"),
        ("state/{id}/heartbeat.json", "state/a/b/heartbeat.json"),
        ("state/{id}/heartbeat.json", "state/.anna/heartbeat.json"), ("run/{id}.pid", "run/.pid"),
        ("run/{id}.pid", "run/.anna.pid"), ("run/{id}.pid", "run/anna.PID"), ("run/{id}.pid", "Run/anna.pid"),
        ("run/agent-{id}.pid", "run/agent-.pid"), ("run/agent-{id}.pid", "run/Agent-a.pid"), ("run/a{id}a", "run/aa"),
        ("run/{id}", "run"), ("{id}", ".anna"), ("**/{id}/hb", "hb"), ("**/{id}/hb", ".git/anna/hb"),
        ("**/{id}/hb", "anna/.git/hb"),
    ])
    func pathIsNoSignal(_ pattern: String, _ path: String) throws {
        #expect(try match(path, [pattern]) == nil)
    }

    /// The file is a signal file all the same; whoever writes it is named by other evidence.
    @Test(arguments: ["run/an na.pid", "run/anna+.pid", "run/ü.pid", "run/a:b.pid", "run/%.pid", "run/...pid"])
    func invalidIDNamesNobody(_ path: String) throws {
        let match = try #require(try match(path, ["run/{id}.pid", "run/.{id}.pid"]))
        #expect(match.id == nil)
    }

    @Test func bytesThatAreNoUTF8NameNobody() throws {
        let patterns = try SignalPatterns([try Signal("run/{id}.pid;kind=raw")])
        let path = Array("run/".utf8) + [0xFF, 0x80] + Array(".pid".utf8)
        let match = try #require(patterns.match(path: path))
        #expect(match.runtime == nil && match.signal.kind == .raw)
    }

    @Test(arguments: [
        // The first that matches, whatever is more specific.
        ("run/a.pid", ["run/*.pid;kind=raw", "run/a.pid;kind=json"], 0),
        ("run/a.pid", ["run/a.pid;kind=json", "run/*.pid;kind=raw"], 0),
        ("run/b.pid", ["run/a.pid;kind=json", "run/*.pid;kind=raw"], 1),
        // What a rule excludes may be another one's.
        ("run/a.old.pid", ["run/*.pid;kind=raw;exclude=*.old.pid", "run/{id}.pid;kind=mtime"], 1),
        ("run/a.pid", ["run/*.pid;kind=raw;exclude=*.old.pid;exclude=b*", "run/{id}.pid;kind=mtime"], 0),
        ("run/b.pid", ["run/*.pid;kind=raw;exclude=*.old.pid;exclude=b*", "run/{id}.pid;kind=mtime"], 1),
        // Different ways through directories.
        ("x/y/hb", ["**/hb;kind=raw", "x/{id}/hb;kind=json"], 0),
        ("x/y/hb", ["x/{id}/hb;kind=json", "**/hb;kind=raw"], 0),
        ("x/y/z/hb", ["x/{id}/hb;kind=json", "**/hb;kind=raw"], 1),
    ])
    func firstRuleThatMatchesDecides(_ path: String, _ patterns: [String], _ rule: Int) throws {
        #expect(try match(path, patterns)?.rule == rule)
    }

    @Test func ruleBeforeGasTownsServesItsFiles() throws {
        let rule = try Signal(".runtime/heartbeats/{id}.json;kind=json;ttl=5h;exclude=gt-*")
        let patterns = try SignalPatterns([rule] + Preset.gasTown.signals)
        let own = try #require(patterns.match(path: Array(".runtime/heartbeats/anna.json".utf8)))
        let anna = try RuntimeID("anna")
        #expect(own.signal == rule && own.runtime == anna)
        let town = try #require(patterns.match(path: Array(".runtime/heartbeats/gt-nux.json".utf8)))
        #expect(town.signal == Signal(document: ".runtime/heartbeats/*.json") && town.runtime == nil)
    }

    @Test func excludedNameIsNoSignal() throws {
        let patterns = ["hooks/{id}.json;kind=json;exclude=*.generation.json"]
        #expect(try match("hooks/a.generation.json", patterns) == nil)
        #expect(try match("hooks/a.json", patterns)?.id == RuntimeID("a"))
        // Of names, not of directories.
        #expect(try match("a/b", ["{id}/b;exclude=a"])?.id == RuntimeID("a"))
    }

    @Test(arguments: [
        ("{id", SignalPatterns.Invalid.Reason.braces), ("id}", .braces), ("{}", .braces), ("{ID}", .braces),
        ("{name}", .braces), ("{id}{id}", .braces), ("{id}/{id}", .braces), ("a{id}/b/{id}", .braces),
        ("{id}*", .starBesideID), ("*-{id}", .starBesideID), ("**{id}", .starsInName), ("{id}/**", .starsAtEnd),
        ("a/{id}/", .trailingSlash), ("/{id}", .absolute),
    ])
    func invalidIDPatternIsRejected(_ pattern: String, _ reason: SignalPatterns.Invalid.Reason) {
        #expect(throws: SignalPatterns.Invalid(pattern: pattern, reason: reason)) { try SignalPatterns([pattern]) }
    }

    @Test(arguments: [
        ("", SignalPatterns.Invalid.Reason.empty), ("a/b", .excludedPath), ("{id}", .braces), ("**", .starsInName),
        ("[", .openBracket), ("[b-a]", .backwardRange),
    ])
    func invalidExclusionIsRejected(_ pattern: String, _ reason: SignalPatterns.Invalid.Reason) throws {
        let signal = try Signal("x", kind: .raw, excluding: [pattern])
        #expect(throws: SignalPatterns.Invalid(pattern: pattern, reason: reason)) { try SignalPatterns([signal]) }
    }

    @Test func idsOfSiblingsDoNotMix() throws {
        let root = try SignalPatterns(["**/{id}/**/hb"]).root
        let deep = ["a", "b", "a"].reduce(root) { $0.entering($1.utf8) }
        #expect(deep.match("hb".utf8)?.runtime == (try RuntimeID("a")))
        #expect(root.entering("b".utf8).match("hb".utf8)?.runtime == (try RuntimeID("b")))
        #expect(root.match("hb".utf8) == nil)
    }

    /// Any text is used or refused, and what is used matches without trapping.
    @Test(arguments: UInt64(1)...4) func randomPatternsAreUsedOrRefused(seed: UInt64) throws {
        let pieces = [
            "{id}", "{", "}", "*", "**", "?", "[", "]", "[a-c]", "[!x]", "-", "/", ".", "..", "a", "b", "run", ".pid",
            ";",
            "=", ";kind=raw", ";kind=json", ";kind=", ";ttl=5m", ";ttl=-1", ";exclude=*.old", ";exclude=", ";id=name",
            ";pid=p", ";start=s", ";timestamp=ts", "\u{0}", "ü", " ", "\n", "99999999999999999999h",
        ]
        var random = SplitMix64(state: seed)
        var used = 0
        for _ in 0..<4_000 {
            let count = Int.random(in: 0..<8, using: &random)
            let text = (0..<count).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
            do {
                let signal = try Signal(text)
                let patterns = try SignalPatterns([signal])
                used += 1
                #expect(signal.kind == .json || signal.fields == .none)
                for _ in 0..<4 {
                    let names = (0..<Int.random(in: 1..<4, using: &random)).map { _ in
                        ["a", "b", "run", "x.pid", ".a", "ab", "a.old", "[", "{id}"].randomElement(using: &random) ?? ""
                    }
                    guard let match = patterns.match(path: Array(names.joined(separator: "/").utf8)) else { continue }
                    // An id is a part of one of the names.
                    if let id = match.runtime {
                        #expect(names.contains { $0.contains(id.description) }, "\(text): \(names)")
                    }
                }
            } catch let error as Signal.Invalid {
                #expect(!error.description.isEmpty)
            } catch let error as SignalPatterns.Invalid {
                #expect(error.description.hasSuffix("."))
            }
        }
        #expect(used > 200)
    }

    @Test func directoryWithoutSignalFilesHasAnEmptyScope() throws {
        let root = try SignalPatterns(SignalPatterns.defaults).root
        #expect(root.entering("src".utf8).isEmpty)
        #expect(root.entering("src".utf8).entering("daemon".utf8).isEmpty)
        #expect(root.entering("daemon".utf8).entering("activity.json".utf8).isEmpty)
        #expect(!root.entering("daemon".utf8).isEmpty)
        #expect(try SignalPatterns([String]()).root.isEmpty)
    }

    @Test func scopeUnderStarsIsBounded() throws {
        let root = try SignalPatterns(["**/x/**/x/**/a"]).root
        let deep = (0..<50).reduce(root) { scope, _ in scope.entering("x".utf8) }
        #expect(deep == deep.entering("x".utf8))
        #expect(deep == deep.entering("other".utf8))
        #expect(deep.matches("a".utf8))
    }

    @Test func manyStarsAreMatchedInBoundedTime() throws {
        let pattern = String(repeating: "a*", count: 100) + "b"
        #expect(try !isSignal(String(repeating: "a", count: 255), [pattern]))
        let path = String(repeating: "x/", count: 500) + "b"
        #expect(try !isSignal(path, [String(repeating: "**/x/", count: 50) + "a"]))
    }

    @Test func namesNeedNotBeUTF8() throws {
        let root = try SignalPatterns(["?a[!b]"]).root
        #expect([0xFF, 0x61, 0x80].withUnsafeBufferPointer { root.matches($0) })
    }
}

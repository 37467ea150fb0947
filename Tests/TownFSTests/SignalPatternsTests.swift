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

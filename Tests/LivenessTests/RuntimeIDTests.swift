import TestSupport
import Testing

@testable import Liveness

@Suite(.timeLimit(.minutes(5))) struct RuntimeIDTests {
    @Test(arguments: [
        "mayor", "gastown/polecats/furiosa", "deacon/dogs/n-1", "0b6f7d0e-6c2f-4a6e-9d0a-2f1f6c1f7a55", "a", ".hidden",
        "...", "a..b", "Mayor", String(repeating: "a", count: 255),
        Array(repeating: String(repeating: "a", count: 255), count: 16).joined(separator: "/"),
        "a b", " a", "a ", "a:b", "müller", "e\u{301}", "\u{301}", "a/\u{301}", "日本語", "👩‍🚀", "$(reboot)", "a\\b\"c'",
        "\u{FFFD}",
        "/mayor", "mayor/", "a//b", "/", "//", ".", "..", "a/../b", "a/.", "100%", "%2F", "bob@", "@", "x.json", " /a",
        String(repeating: "é", count: 127) + "e", String(repeating: "%", count: 85),
    ])
    func printableTextIsAnID(_ text: String) throws {
        let id = try RuntimeID(text)
        #expect(id.description.utf8.elementsEqual(text.utf8))
        #expect(try RuntimeID(bytes: Array(text.utf8)) == id)
    }

    private static let invalid: [(String, RuntimeID.Invalid)] = [
        ("", .empty),
        (" ", .blank),
        ("\u{A0}\u{2003}", .blank),
        ("a\0", .forbidden("\0")),
        ("a\nb", .forbidden("\n")),
        ("\u{1B}[2J", .forbidden("\u{1B}")),
        ("\u{7F}", .forbidden("\u{7F}")),
        ("a\u{85}", .forbidden("\u{85}")),
        ("a\u{9B}", .forbidden("\u{9B}")),
        ("a\u{2028}", .forbidden("\u{2028}")),
        ("a\u{2029}", .forbidden("\u{2029}")),
        ("\u{202E}a", .forbidden("\u{202E}")),
        ("\u{2067}a", .forbidden("\u{2067}")),
        ("\u{61C}a", .forbidden("\u{61C}")),
        ("\u{200E}a", .forbidden("\u{200E}")),
        (String(repeating: "a", count: 256), .nameTooLong),
        ("a/" + String(repeating: "é", count: 128), .nameTooLong),
        (String(repeating: "%", count: 86), .encodedNameTooLong),
        ("/" + String(repeating: "a", count: 253), .encodedNameTooLong),
        (String(repeating: "/", count: 86), .encodedNameTooLong),
        (String(repeating: "a/", count: 2048) + "a", .tooLong),
    ]

    @Test(arguments: invalid)
    func invalidIDHasAReason(_ text: String, _ reason: RuntimeID.Invalid) {
        #expect(throws: reason) { try RuntimeID(text) }
        #expect(!reason.description.isEmpty)
    }

    @Test(arguments: [[0xFF], [0x61, 0xC3], [0xED, 0xA0, 0x80], [0xC0, 0xAF]] as [[UInt8]])
    func idIsUTF8(_ bytes: [UInt8]) {
        #expect(throws: RuntimeID.Invalid.notUTF8) { try RuntimeID(bytes: bytes) }
    }

    /// Strings are equal in each of these pairs.
    @Test(arguments: [("\u{E9}", "e\u{301}"), ("K", "\u{212A}"), ("a\u{323}\u{307}", "a\u{307}\u{323}")])
    func idsAreComparedAsBytes(_ one: String, _ other: String) throws {
        #expect(one == other)
        let (first, second) = (try RuntimeID(one), try RuntimeID(other))
        #expect(first != second)
        #expect(Set([first, second]).count == 2)
        #expect((first < second) == one.utf8.lexicographicallyPrecedes(other.utf8))
        #expect((second < first) == other.utf8.lexicographicallyPrecedes(one.utf8))
    }

    @Test func caseCounts() throws {
        #expect(try RuntimeID("mayor") != RuntimeID("Mayor"))
    }

    @Test func orderIsThatOfBytes() throws {
        let ids = try ["b", "a/c", "a", "B", "a-c"].map { try RuntimeID($0) }
        #expect(ids.sorted().map(\.description) == ["B", "a", "a-c", "a/c", "b"])
        let others = try ["ab", "a\u{301}", "é", "a", "a/\u{301}", "a/", "a0"].map { try RuntimeID($0) }
        #expect(
            others.sorted().map { Array($0.description.utf8) }
                == others.map { Array($0.description.utf8) }.sorted { $0.lexicographicallyPrecedes($1) })
    }

    @Test(arguments: [
        (".runtime/heartbeats/gt-nux.json", "gt-nux"),
        ("gastown/.runtime/heartbeats/hq-mayor.json", "hq-mayor"),
        ("a/b/c/.runtime/heartbeats/x.json", "x"),
        (".runtime/heartbeats/a.b.json", "a.b"),
        (".runtime/heartbeats/gt nüx.json", "gt nüx"),
        (".runtime/heartbeats/...json", ".."),
    ])
    func heartbeatPathNamesItsSession(_ path: String, _ session: String) {
        #expect(RuntimeID(heartbeatPath: Array(path.utf8))?.description == session)
    }

    @Test(arguments: [
        "", "gt-nux.json", "heartbeats/gt-nux.json", "runtime/heartbeats/gt-nux.json",
        "x.runtime/heartbeats/gt-nux.json",
        ".runtime/heartbeats/.json", ".runtime/heartbeats/gt-nux", ".runtime/heartbeats/ .json",
        ".runtime/heartbeats/gt\nnux.json", ".runtime/heartbeats/gt-nux.json/", ".runtime/heartbeats/a/gt-nux.json",
        ".runtime/heartbeats/gt-nux.json.tmp", ".runtime//gt-nux.json", ".runtime/keepalive.json",
        "deacon/heartbeat.json",
    ])
    func otherPathsHaveNoSession(_ path: String) {
        #expect(RuntimeID(heartbeatPath: Array(path.utf8)) == nil)
    }

    // MARK: Paths

    @Test(arguments: [
        ("gastown/polecats/nux", ["gastown", "polecats", "nux"]),
        ("Jane's agent", ["Jane's agent"]),
        ("müller", ["müller"]),
        ("100%", ["100%25"]),
        ("%2F", ["%252F"]),
        ("/home/x/agent", ["%2Fhome", "x", "agent"]),
        ("//host/x", ["%2F%2Fhost", "x"]),
        ("a//b/", ["a", "%2Fb%2F"]),
        ("a///b", ["a", "%2F%2Fb"]),
        ("a/", ["a%2F"]),
        ("a//", ["a", "%2F"]),
        ("/", ["%2F"]),
        ("//", ["%2F%2F"]),
        (".", ["%2E"]),
        ("../a/.", ["%2E%2E", "a", "%2E"]),
        ("...", ["..."]),
        ("/.", ["%2F."]),
        ("bob@", ["bob%40"]),
        ("@/a@@/b@c", ["%40", "a@%40", "b@c"]),
        ("x.json", ["x.json"]),
    ])
    func idHasAPath(_ text: String, _ names: [String]) throws {
        let id = try RuntimeID(text)
        #expect(id.names == names)
        var place = RuntimeDirectory.top
        for name in names.dropLast() { place = try #require(try place.directory(named: name)) }
        #expect(try place.id(named: names[names.count - 1]) == id)
        #expect(try #require(try place.directory(named: names[names.count - 1])).id == id)
    }

    @Test(arguments: [
        "", ".", "..", "a/b", "%", "%2", "%2f", "%41", "%ZZ", "%+1", "100%", "a@", "@", "a%2Fb", "a%2F%2F", "%2F%2",
        "a%2E",
        "%2E.", "a%40b", "%FF", "%C3", "%C3%A9", "%00", "%0A", "a b%20",
    ])
    func otherNameNamesNoID(_ name: String) {
        #expect((try? RuntimeDirectory.top.id(named: name)) == nil)
    }

    @Test func directoryHasItsAncestors() throws {
        let directory = try #require(try RuntimeDirectory(validated: "/a/b/").directory(named: "%2Fc"))
        #expect(directory.prefix == "/a/b//c/")
        #expect(directory.lineage.map(\.prefix) == ["/a/", "/a/b/", "/a/b//c/"])
        #expect(directory.names == ["%2Fa", "b", "%2Fc"])
        #expect(
            RuntimeDirectory.top.lineage == [] && RuntimeDirectory.top.names == [] && RuntimeDirectory.top.id == nil)
    }

    /// Of any printable text, most of it odd: encoding is a round trip, no two ids have one path, and percent-decoding
    /// the path gives the id.
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func pathsAreInjectiveAndDecodable(_ seed: UInt64) throws {
        var random = SplitMix64(state: seed)
        var ids: [[String]: RuntimeID] = [:]
        for _ in 0..<4000 {
            let text = Self.oddText(&random)
            guard let id = try? RuntimeID(text) else { continue }
            let names = id.names
            if let other = ids.updateValue(id, forKey: names.map { $0.utf8.map { "\($0)," }.joined() }) {
                #expect(other == id, "\(names)")
            }
            #expect(names.allSatisfy { (1...255).contains($0.utf8.count) && $0 != "." && $0 != ".." })
            #expect(!names.contains { $0.utf8.contains(UInt8(ascii: "/")) || $0.utf8.last == UInt8(ascii: "@") })
            #expect(Self.percentDecoded(names.joined(separator: "/")) == Array(text.utf8))
            var place = RuntimeDirectory.top
            for name in names.dropLast() {
                let next = try #require(try place.directory(named: name))
                #expect(next.mayContainIDs)
                #expect(place.child(towards: text) == next)
                place = next
            }
            #expect(try place.id(named: names[names.count - 1]) == id)
            #expect(place.child(towards: text) == nil)
            #expect(place.names == names.dropLast())
        }
    }

    static func oddText(_ random: inout SplitMix64) -> String {
        let pieces = [
            "/", "/", "/", ".", "..", "%", "%2F", "%25", "@", "a", "b", "Z", "0", " ", "é", "e\u{301}", "\u{301}",
            "\u{600}", "日",
            "👩‍🚀", "-", ".json", "\\", "\"", "'", "$", "K", "\u{212A}", "\u{FFFD}", "\u{FEFF}", "\u{10FFFF}",
        ]
        return (0..<Int.random(in: 1...8, using: &random)).map { _ in
            // because it is not empty.
            pieces.randomElement(using: &random)!
        }.joined()
    }

    /// As any other program decodes it.
    private static func percentDecoded(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
            {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return bytes
    }
}

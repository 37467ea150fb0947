import Liveness
import Testing

@Suite(.timeLimit(.minutes(5))) struct RuntimeIDTests {
    @Test(arguments: [
        "mayor", "gastown/polecats/furiosa", "deacon/dogs/n-1", "0b6f7d0e-6c2f-4a6e-9d0a-2f1f6c1f7a55", "a", ".hidden",
        "...", "a..b", "Mayor", String(repeating: "a", count: 255),
        Array(repeating: String(repeating: "a", count: 255), count: 16).joined(separator: "/"),
    ])
    func nameOrPathOfNamesIsAnID(_ text: String) throws {
        #expect(try RuntimeID(text).description == text)
    }

    @Test(arguments: [
        ("", RuntimeID.Invalid.empty),
        ("/mayor", .emptyName),
        ("mayor/", .emptyName),
        ("a//b", .emptyName),
        ("/", .emptyName),
        (".", .dots),
        ("..", .dots),
        ("a/../b", .dots),
        ("a/.", .dots),
        ("a b", .forbidden(byte: 0x20)),
        ("a\0", .forbidden(byte: 0)),
        ("a:b", .forbidden(byte: 0x3A)),
        ("müller", .forbidden(byte: 0xC3)),
        (String(repeating: "a", count: 256), .nameTooLong),
        (String(repeating: "a/", count: 2048) + "a", .tooLong),
    ])
    func invalidIDHasAReason(_ text: String, _ reason: RuntimeID.Invalid) {
        #expect(throws: reason) { try RuntimeID(text) }
    }

    @Test func caseCounts() throws {
        #expect(try RuntimeID("mayor") != RuntimeID("Mayor"))
    }

    @Test func orderIsThatOfBytes() throws {
        let ids = try ["b", "a/c", "a", "B", "a-c"].map { try RuntimeID($0) }
        #expect(ids.sorted().map(\.description) == ["B", "a", "a-c", "a/c", "b"])
    }

    @Test(arguments: [
        (".runtime/heartbeats/gt-nux.json", "gt-nux"),
        ("gastown/.runtime/heartbeats/hq-mayor.json", "hq-mayor"),
        ("a/b/c/.runtime/heartbeats/x.json", "x"),
        (".runtime/heartbeats/a.b.json", "a.b"),
    ])
    func heartbeatPathNamesItsSession(_ path: String, _ session: String) {
        #expect(RuntimeID(heartbeatPath: Array(path.utf8))?.description == session)
    }

    @Test(arguments: [
        "", "gt-nux.json", "heartbeats/gt-nux.json", "runtime/heartbeats/gt-nux.json",
        "x.runtime/heartbeats/gt-nux.json",
        ".runtime/heartbeats/.json", ".runtime/heartbeats/...json", ".runtime/heartbeats/gt-nux",
        ".runtime/heartbeats/gt nux.json", ".runtime/heartbeats/gt-nux.json/", ".runtime/heartbeats/a/gt-nux.json",
        ".runtime/heartbeats/gt-nux.json.tmp", ".runtime//gt-nux.json", ".runtime/keepalive.json",
        "deacon/heartbeat.json",
    ])
    func otherPathsHaveNoSession(_ path: String) {
        #expect(RuntimeID(heartbeatPath: Array(path.utf8)) == nil)
    }
}

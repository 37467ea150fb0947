import Liveness
import Testing

@Suite(.timeLimit(.minutes(5))) struct DocumentTests {
    private typealias Judgement = Document.Judgement

    /// Noon of 2026-08-01, UTC.
    private let now = WallTime(seconds: 1_785_585_600)

    private func judge(
        _ text: String, previous: String? = nil, isEmptyAllowed: Bool = false
    ) throws(Document.Rejection) -> (text: String, outcome: Document.Outcome) {
        let previous = previous.map { Document(Array($0.utf8)) }
        let judgement = try Document.judge(
            Array(text.utf8), receivedAt: now, previous: previous, isEmptyAllowed: isEmptyAllowed)
        return (String(decoding: judgement.document.bytes, as: UTF8.self), judgement.outcome)
    }

    // MARK: Unchanged

    @Test(arguments: [
        #"{"last_command":"gt mail send x","timestamp":"2026-08-01T11:59:59.123456789Z"}"#,
        #"{"timestamp":"2026-08-01T13:59:59+02:00","state":"working","cycle":7,"deep":{"timestamp":null,"a":[{}]}}"#,
        "{\n  \"timestamp\": \"2026-08-01T11:00:00Z\",\n  \"cycle\": 3\n}\n",
        " \t\r\n{\"timestamp\":\"2026-08-01T11:00:00Z\"}\r\n ",
        #"{"TimeStamp":"2026-08-01T11:00:00Z"}"#,
        #"{"time\u0073tamp":"2026-08-01T11:00:00Z"}"#,
        #"{"time\u017Ftamp":"2026-08-01T11:00:00Z"}"#,
        "{\"time\u{17F}tamp\":\"2026-08-01T11:00:00Z\"}",
        #"{"timestamp":"2025-01-01T00:00:00Z","timestamp":"2026-08-01T11:00:00Z"}"#,
        #"{"timestamp":"1999-01-01T00:00:00Z"}"#,
        #"{"timestamp":"2026-08-01T12:00:05Z"}"#,
    ])
    func validDocumentIsKeptByteForByte(_ text: String) throws {
        #expect(try judge(text) == (text, .verbatim))
    }

    // MARK: Added timestamps

    @Test(arguments: [
        ("{}", #"{"timestamp":"2026-08-01T12:00:00Z"}"#),
        ("{ }", #"{"timestamp":"2026-08-01T12:00:00Z" }"#),
        (" {}\n", " {\"timestamp\":\"2026-08-01T12:00:00Z\"}\n"),
        (#"{"a":1}"#, #"{"a":1,"timestamp":"2026-08-01T12:00:00Z"}"#),
        ("{\n  \"a\": {}\n}\n", "{\n  \"a\": {},\"timestamp\":\"2026-08-01T12:00:00Z\"\n}\n"),
        (#"{"time":"2026-08-01T11:00:00Z"}"#, #"{"time":"2026-08-01T11:00:00Z","timestamp":"2026-08-01T12:00:00Z"}"#),
        (
            #"{"a":{"timestamp":"2026-08-01T11:00:00Z"}}"#,
            #"{"a":{"timestamp":"2026-08-01T11:00:00Z"},"timestamp":"2026-08-01T12:00:00Z"}"#
        ),
        (#"{"times\tamp":1}"#, #"{"times\tamp":1,"timestamp":"2026-08-01T12:00:00Z"}"#),
    ])
    func missingTimestampIsAddedAsLastMember(_ text: String, _ result: String) throws {
        #expect(try judge(text) == (result, .timestampAdded))
    }

    @Test(arguments: [
        "null", "true", "1785585600", #""""#, #""now""#, "[]", #"{"a":[1,2]}"#, #""2026-08-01 11:00:00""#,
        #""2026-08-01T11:00:60Z""#, #""0001-01-01T00:00:00Z""#, #""0001-01-01T02:00:00+02:00""#,
        // Go does not decode escapes here.
        #""2026-08-01T11:00:00\u005a""#,
    ])
    func unreadableTimestampIsReplacedInPlace(_ value: String) throws {
        let result = #"{"a":"b", "Timestamp" : "2026-08-01T12:00:00Z" ,"c":null}"#
        #expect(try judge(#"{"a":"b", "Timestamp" : \#(value) ,"c":null}"#) == (result, .timestampAdded))
    }

    @Test(arguments: ["2026-08-01T12:00:05.000000001Z", "2026-08-01T15:00:00+02:00", "9999-12-31T23:59:59Z"])
    func timestampFromTheFutureIsReplaced(_ timestamp: String) throws {
        let result = #"{"timestamp":"2026-08-01T12:00:00Z","cycle":1}"#
        #expect(try judge(#"{"timestamp":"\#(timestamp)","cycle":1}"#) == (result, .timestampFromFuture))
    }

    @Test func eachRepeatedTimestampIsJudgedByItself() throws {
        let text = #"{"timestamp":0,"timestamp":"2026-08-01T11:00:00Z","TIMESTAMP":"2027-08-01T11:00:00Z"}"#
        let result =
            #"{"timestamp":"2026-08-01T12:00:00Z","timestamp":"2026-08-01T11:00:00Z","TIMESTAMP":"2026-08-01T12:00:00Z"}"#
        #expect(try judge(text) == (result, .timestampFromFuture))
    }

    // MARK: Plain text

    @Test(arguments: [
        ("gt status", "gt status"),
        ("gt status\n", "gt status"),
        ("gt status\r\n", "gt status"),
        ("  gt\tstatus \n", #"  gt\tstatus "#),
        (#"echo "a\b" <&> 'c'"#, #"echo \"a\\b\" \u003c\u0026\u003e 'c'"#),
        ("\u{1}\u{8}\u{C}\u{1B}\u{7F}", "\\u0001\\b\\f\\u001b\u{7F}"),
        ("grüße\u{2028}\u{2029}😀", #"grüße\u2028\u2029😀"#),
        ("nullable", "nullable"), ("1 2", "1 2"), ("-", "-"), ("truefalse", "truefalse"), ("a {", "a {"), ("01", "01"),
    ])
    func lineOfTextBecomesTheLastCommand(_ text: String, _ command: String) throws {
        let result = #"{"last_command":"\#(command)","timestamp":"2026-08-01T12:00:00Z"}"#
        #expect(try judge(text) == (result, .plainText))
    }

    // MARK: Empty writes

    @Test(arguments: ["", " ", "\n", " \t\r\n"])
    func emptyWriteKeepsTheLastCommand(_ nothing: String) throws {
        let previous = "{\"last_command\":\"gt prime\", \"timestamp\":\"2026-08-01T11:00:00Z\"}\n"
        let result = "{\"last_command\":\"gt prime\", \"timestamp\":\"2026-08-01T12:00:00Z\"}\n"
        #expect(try judge(nothing, previous: previous) == (result, .empty))
        #expect(try judge(nothing, previous: previous, isEmptyAllowed: true) == (result, .empty))
    }

    @Test(arguments: [nil, "", "{", "[]", "gt prime", #"{"a":1} x"#])
    func emptyWriteWithoutObjectIsEmptyIfThatIsAllowed(_ previous: String?) throws {
        #expect(try judge("", previous: previous) == (#"{"timestamp":"2026-08-01T12:00:00Z"}"#, .empty))
        #expect(try judge("", previous: previous, isEmptyAllowed: true) == ("", .empty))
    }

    @Test func refreshedDocumentHasEveryTimestampReplaced() throws {
        let previous = Document(Array(#"{"timestamp":null,"a":1,"Timestamp":"2026-08-01T11:00:00Z"}"#.utf8))
        let refreshed = try Document.refreshed(previous, at: now, isEmptyAllowed: false)
        let result = #"{"timestamp":"2026-08-01T12:00:00Z","a":1,"Timestamp":"2026-08-01T12:00:00Z"}"#
        #expect(refreshed == Document(Array(result.utf8)))
    }

    @Test func refreshedDocumentWithoutTimestampGetsOne() throws {
        let refreshed = try Document.refreshed(Document(Array(#"{"a":1}"#.utf8)), at: now, isEmptyAllowed: true)
        #expect(refreshed == Document(Array(#"{"a":1,"timestamp":"2026-08-01T12:00:00Z"}"#.utf8)))
    }

    // MARK: Rejected

    @Test(arguments: [
        "{", #"{"timestamp":"2026-08-01T11:00:00Z""#, #"{"timestamp":"2026-08-01T11:00:00Z"#, #"{"a":}"#, #"{"a"}"#,
        "{a:1}",
        "{'a':1}", #"{"a":1,}"#, #"{,"a":1}"#, #"{"a":1 "b":2}"#, #"{"a":1]"#, "[}", "[1,]", "[,]", "[1 2]", "{}{}",
        "{} x",
        #""a"#, #""a" b"#, "{} \u{B}", #"{"a":01}"#, #"{"a":+1}"#, #"{"a":.5}"#, #"{"a":1.}"#, #"{"a":1e}"#,
        #"{"a":-}"#,
        #"{"a":0x1}"#, #"{"a":tru}"#, #"{"a":True}"#, #"{"a":NaN}"#, #"{"a":nullx}"#, #"{"a":"\x"}"#,
        #"{"a":"\u12g4"}"#,
        #"{"a":"\u123"}"#, "{\"a\":\"\n\"}", "{\"a\":\"\u{1F}\"}", #"{"a":"\"#, "\u{FEFF}{}", "\u{FEFF}gt status",
        "{\"a\":1}//", #"{/**/"a":1}"#, #"{1:1}"#, #"{null:1}"#, "{\"a\"\u{A0}:1}",
    ])
    func brokenJSONIsRefused(_ text: String) {
        #expect(throws: Document.Rejection.brokenJSON) { try judge(text) }
    }

    @Test(arguments: [
        "[]", #"[{"timestamp":"2026-08-01T11:00:00Z"}]"#, #""gt status""#, "null", " true\n", "false", "0", "-0", "12",
        "-1.5e+3",
        "1E5", "0.25", "20260801\n",
    ])
    func anotherJSONTypeIsRefused(_ text: String) {
        #expect(throws: Document.Rejection.notAnObject) { try judge(text) }
    }

    @Test(arguments: ["a\nb", "a\n\n", "\na\n", "a\rb", "a\r\r\n", "gt status\ngt prime\n"])
    func severalLinesAreRefused(_ text: String) {
        #expect(throws: Document.Rejection.severalLines) { try judge(text) }
    }

    @Test(arguments: [
        [0xFF], [0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80],
        Array(#"{"a":""#.utf8) + [0xE2, 0x82] + Array(#""}"#.utf8), [0x20, 0x80],
    ])
    func invalidUTF8IsRefused(_ bytes: [UInt8]) {
        #expect(throws: Document.Rejection.invalidUTF8) {
            try Document.judge(bytes, receivedAt: now, previous: nil, isEmptyAllowed: false)
        }
    }

    @Test(arguments: ["\0", "{}\0", "{\"a\":\"\0\"}", "gt\0status", " \0"])
    func nulIsRefused(_ text: String) {
        #expect(throws: Document.Rejection.containsNUL) { try judge(text) }
    }

    // MARK: Sizes and depths

    private func object(ofSize size: Int, timestamp: String) -> String {
        let frame = #"{"timestamp":"\#(timestamp)","a":""}"#
        return #"{"timestamp":"\#(timestamp)","a":"\#(String(repeating: "a", count: size - frame.utf8.count))"}"#
    }

    @Test func documentMayBeOfTheMaximumSizeAndNoMore() throws {
        let largest = object(ofSize: Document.maximumSize, timestamp: "2026-08-01T11:00:00Z")
        #expect(try judge(largest) == (largest, .verbatim))
        #expect(throws: Document.Rejection.tooLarge) { try judge(largest + " ") }
        #expect(throws: Document.Rejection.tooLarge) { try judge(String(repeating: " ", count: 65_537)) }
    }

    @Test func addedTimestampCountsTowardsTheSize() throws {
        let full = object(ofSize: Document.maximumSize, timestamp: "2026-08-01")
        #expect(throws: Document.Rejection.tooLarge) { try judge(full) }
        #expect(throws: Document.Rejection.tooLarge) { try judge("", previous: full) }
        #expect(throws: Document.Rejection.tooLarge) { try judge(String(repeating: "<", count: 20_000)) }
    }

    @Test func nestingMayBeAsDeepAsInGo() throws {
        func nested(_ depth: Int) -> String {
            #"{"timestamp":"2026-08-01T11:00:00Z","a":"#
                + String(repeating: "[", count: depth - 1) + String(repeating: "]", count: depth - 1) + "}"
        }
        #expect(try judge(nested(10_000)).outcome == .verbatim)
        #expect(throws: Document.Rejection.brokenJSON) { try judge(nested(10_001)) }
    }

    @Test(arguments: ["[", "{\"\":", "[{\"\":", "\"", "{\"\\", "-", "[[],"])
    func endlessOpeningsAreRefused(_ opening: String) {
        let text = String(repeating: opening, count: Document.maximumSize / opening.utf8.count)
        #expect(throws: Document.Rejection.self) { try judge("{\"a\":" + text.dropLast(5)) }
    }

    @Test func manyMembersAreJudgedOnce() throws {
        let members = Array(repeating: #""timestamp":"2026-08-01T11:00:00Z""#, count: 1_700).joined(separator: ",")
        #expect(try judge("{\(members)}").outcome == .verbatim)
    }

    // MARK: Reading

    @Test(arguments: [
        (#"{"last_command":"gt status"}"#, "gt status"),
        (#"{"LAST_COMMAND":"a","last_command":"b"}"#, "b"),
        (#"{"last_command":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#, "\"\\/\u{8}\u{C}\n\r\té😀"),
        (#"{"last_command":"\ud83dx\ude00"}"#, "\u{FFFD}x\u{FFFD}"),
        (#"{"last_command":""}"#, ""),
        (#"{"last_command":1}"#, nil),
        (#"{"a":{"last_command":"x"}}"#, nil),
        (#"["last_command"]"#, nil),
        ("gt status", nil),
        ("", nil),
    ])
    func stringFieldIsReadAsByGo(_ text: String, _ value: String?) {
        #expect(Document(Array(text.utf8)).string("last_command") == value)
    }

    @Test(arguments: Document.Rejection.allCases)
    func rejectionIsOneSentence(_ rejection: Document.Rejection) {
        #expect(rejection.description.hasPrefix("The document "))
        #expect(rejection.description.hasSuffix("."))
    }
}

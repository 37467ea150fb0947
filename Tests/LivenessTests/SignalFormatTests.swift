import Liveness
import Testing

@Suite(.timeLimit(.minutes(5))) struct SignalFormatTests {
    /// Noon of 2026-08-01, UTC.
    private let now = WallTime(seconds: 1_785_585_600)

    private func format(_ text: String, fileName: String = "hb.json") throws -> SignalFormat {
        SignalFormat(try Signal(text), fileName: fileName.utf8)
    }

    private func judge(
        _ text: String, as signal: String, previous: String? = nil
    ) throws -> SignalFormat.Judgement {
        try format(signal).judge(
            Array(text.utf8), receivedAt: now, previous: previous.map { Document(Array($0.utf8)) })
    }

    // MARK: Bytes

    @Test(arguments: [
        "1785585600\n", "1785585600.123", "2026-08-01T12:00:00Z", "12345", "state=idle\nsince=now\n", "", "{", "[]",
        "\u{0}",
    ])
    func rawAndMtimeKeepAnyBytes(_ text: String) throws {
        for kind in ["raw", "mtime"] {
            let judgement = try judge(text, as: "x;kind=\(kind)", previous: "before")
            #expect(judgement.document.bytes == Array(text.utf8))
            #expect(judgement.aliveAt == now)
            #expect(judgement.isWritten)
        }
    }

    @Test func rawKeepsInvalidUTF8() throws {
        let bytes: [UInt8] = [0xFF, 0xFE, 0x00, 0x80]
        #expect(try format("x;kind=raw").judge(bytes, receivedAt: now, previous: nil).document.bytes == bytes)
    }

    @Test(arguments: SignalKind.allCases)
    func moreThan64KiBAreRefused(_ kind: SignalKind) throws {
        let bytes = [UInt8](repeating: UInt8(ascii: " "), count: Document.maximumSize + 1)
        let format = SignalFormat(try Signal("x", kind: kind), fileName: "x".utf8)
        #expect(throws: Document.Rejection.tooLarge) { try format.judge(bytes, receivedAt: now, previous: nil) }
    }

    @Test(arguments: [
        #"{"timestamp": 1716944400}"#, #"{"timestamp":"never","x":[1,2]}"#, "{}\n", #" {"timestamp":null} "#,
        #"{"timestamp":"2126-01-01T00:00:00Z"}"#,
    ])
    func jsonIsKeptByteForByte(_ text: String) throws {
        #expect(try judge(text, as: "x;kind=json").document.bytes == Array(text.utf8))
    }

    @Test(arguments: [
        ("{", Document.Rejection.brokenJSON), ("[]", .notAnObject), ("1", .notAnObject), ("gt status", .brokenJSON),
        ("{}{}", .brokenJSON), ("{\"a\":\"\u{0}\"}", .containsNUL),
    ])
    func jsonThatIsNoObjectIsRefused(_ text: String, _ reason: Document.Rejection) throws {
        let format = try format("x;kind=json")
        #expect(throws: reason) { try format.judge(Array(text.utf8), receivedAt: now, previous: nil) }
    }

    @Test(arguments: [("json", "{\"a\":1}"), ("raw", ""), ("mtime", "")])
    func emptyWriteKeepsOnlyJSON(_ kind: String, _ result: String) throws {
        let judgement = try judge("", as: "x;kind=\(kind)", previous: "{\"a\":1}")
        #expect(judgement.document.bytes == Array(result.utf8))
        #expect(judgement.aliveAt == now)
    }

    // MARK: Dates

    @Test(arguments: [
        ("\"2026-08-01T11:59:00Z\"", -60), ("1785585540", -60), ("1785585540.5", -60), ("1785585540000", -60),
        ("\"1785585540\"", -60),
        // Not ahead by more than clocks differ.
        ("\"2026-08-01T12:00:04Z\"", 0),
        // In the future, or no time at all.
        ("\"2026-08-01T12:00:06Z\"", 0), ("1785585700", 0), ("null", 0), ("\"soon\"", 0), ("-5", 0), ("1e300", 0),
        ("{}", 0), ("true", 0),
    ])
    func namedFieldTellsWhenTheWriterWasAlive(_ value: String, _ seconds: Int64) throws {
        let judgement = try judge("{\"ts\":\(value)}", as: "x;kind=json;timestamp=ts")
        #expect(judgement.aliveAt.seconds == now.seconds + seconds)
    }

    @Test func modificationTimeDatesAnMtimeSignal() throws {
        let earlier = now + .seconds(-600)
        let later = now + .seconds(600)
        let mtime = try format("x;kind=mtime")
        #expect(try mtime.refreshed(nil, at: now, modified: earlier).aliveAt == earlier)
        #expect(try mtime.refreshed(nil, at: now, modified: later).aliveAt == now)
        for kind in ["document", "json", "raw"] {
            #expect(try format("x;kind=\(kind)").refreshed(nil, at: now, modified: earlier).aliveAt == now)
        }
    }

    @Test(arguments: [
        ("2026-08-01T12:40:00Z", 2400), ("2026-08-01T12:00:10Z", 10), ("2026-08-01T20:00:00Z", 3600),
        ("2026-08-01T11:00:00Z", nil), ("0001-01-01T00:00:00Z", nil), ("later", nil),
    ])
    func announcedSilenceLastsAnHourAtMost(_ until: String, _ seconds: Int64?) throws {
        let text = #"{"timestamp":"2026-08-01T12:00:00Z","expected_idle_until":"\#(until)"}"#
        for kind in ["document", "json"] {
            let judgement = try judge(text, as: "x;kind=\(kind)")
            #expect(judgement.announcedTTL(receivedAt: now) == seconds.map { .seconds($0) })
        }
    }

    // MARK: Fields

    @Test func fieldsNameRuntimeAndProcess() throws {
        let text = #"{"pid":4711,"procStart":"98765","name":"worker-1","Name":"other"}"#
        let judgement = try judge(text, as: "x;kind=json;id=name;pid=pid;start=procStart")
        #expect(judgement.runtime == (try RuntimeID("worker-1")))
        #expect(
            try format("x;kind=json;id=name;pid=pid;start=procStart").process(in: Array(text.utf8))
                == SignalFormat.NamedProcess(pid: 4711, startTime: 98765))
    }

    @Test(arguments: ["{}", #"{"pid":0}"#, #"{"pid":-1}"#, #"{"pid":"x"}"#, #"{"pid":99999999999}"#, #"{"pid":null}"#])
    func processThatCannotExistIsNoProcess(_ text: String) throws {
        #expect(try format("x;kind=json;pid=pid").process(in: Array(text.utf8)) == nil)
    }
}

@Suite(.timeLimit(.minutes(5))) struct SignalTests {
    @Test func textHasPatternKindAndOptions() throws {
        let signal = try Signal(
            "state/{id}/heartbeat.json;kind=json;ttl=5h;timestamp=last_heartbeat;exclude=a;exclude=b")
        #expect(signal.pattern == "state/{id}/heartbeat.json")
        #expect(signal.kind == .json)
        #expect(signal.ttl == .seconds(18000))
        #expect(signal.excluded == ["a", "b"])
        #expect(signal.fields == Signal.Fields(timestamp: "last_heartbeat"))
    }

    @Test func patternAloneIsADocument() throws {
        #expect(try Signal("*/.runtime/keepalive.json") == Signal("*/.runtime/keepalive.json", kind: .document))
    }

    @Test(arguments: [
        ("x;", Signal.Invalid.noValue("")), ("x;kind", .noValue("kind")), ("x;kind=", .noValue("kind=")),
        ("x;kind=yaml", .unknownKind("yaml")), ("x;kin=raw", .unknownName("kin")), ("x;ttl=soon", .noDuration("soon")),
        ("x;kind=raw;kind=json", .repeated("kind")), ("x;kind=raw;timestamp=t", .fieldsOfNoJSON(.raw)),
        ("x;kind=json;start=s", .startWithoutProcess),
    ])
    func malformedTextIsRefused(_ text: String, _ reason: Signal.Invalid) {
        #expect(throws: reason) { try Signal(text) }
    }
}

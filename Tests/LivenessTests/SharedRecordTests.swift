import TestSupport
import Testing

@testable import Liveness

@Suite(.timeLimit(.minutes(5))) struct SharedRecordTests {
    private let origin = Origin(host: "build 1", path: "/home/anna/gt")
    private let stamp: HLCTimestamp

    init() {
        stamp = HLCTimestamp(WallTime(seconds: 1_785_585_600, nanoseconds: 123_456_789), by: origin)
    }

    private func subjects() throws -> [RecordSubject] {
        [
            .runtime(try RuntimeID("gastown/polecats/furiosa")),
            .signal(SignalPath(bytes: Array(".runtime/keepalive.json".utf8))),
            .signal(SignalPath(bytes: Array("a b%\n\u{e9}/x.json".utf8) + [0xff])),
        ]
    }

    private var documents: [Document?] {
        [nil, Document(), Document(Array("{\"a\":\n\n1}".utf8)), Document(Array(repeating: 0x20, count: 65_536))]
    }

    @Test func recordSurvivesEncoding() throws {
        for subject in try subjects() {
            for document in documents {
                let record = SharedRecord(
                    subject: subject, stamp: stamp,
                    event: .touched(source: .renamed, alive: .milliseconds(89_500), document: document))
                #expect(SharedRecord(record.encoded(by: origin)) == record)
                #expect(SharedRecord(record.encoded(by: origin))?.stamp.origin?.host == "build 1")
            }
            let forgotten = SharedRecord(subject: subject, stamp: stamp, event: .forgotten)
            #expect(SharedRecord(forgotten.encoded(by: origin)) == forgotten)
        }
    }

    /// Before, another host took the touch for one of its receipt.
    @Test(arguments: [(60, 30), (600, 0)]) func lateTouchIsAsOldForOtherHosts(_ lateness: Int, _ rest: Int) throws {
        let clock = FakeClock(wall: stamp.time)
        var touch = Touch(at: clock, runtime: try RuntimeID("r"))
        touch.stamp = stamp
        touch.moveBack(by: .seconds(lateness))
        let sent = SharedRecord(.touched(.runtime(try RuntimeID("r")), Record(touch)))
        let record = try #require(SharedRecord(sent.encoded(by: origin)))
        let received = try #require(record.touch(shared: stamp.time, wall: clock.wallTime, instant: clock.now)).touch
        #expect(received.at == touch.at && received.receivedAt == touch.receivedAt)
        #expect(received.lateness == touch.lateness)
        #expect(received.deadline == clock.now + .seconds(rest))
    }

    /// Later touches would need even later stamps.
    @Test func stampFarAheadOfTheSharedClockIsNotPlausible() throws {
        let subject = try subjects()[0]
        let now = stamp.time
        for (ahead, isPlausible) in [(-86_400, true), (0, true), (10, true), (3600, false), (250_000_000_000, false)] {
            let record = SharedRecord(
                subject: subject, stamp: HLCTimestamp(now + .seconds(ahead), by: origin), event: .forgotten)
            #expect(record.isPlausible(shared: now) == isPlausible, "\(ahead) s")
        }
    }

    @Test func unknownWordsAreIgnored() throws {
        let record = SharedRecord(subject: try subjects()[0], stamp: stamp, event: .forgotten)
        let text = String(decoding: record.encoded(by: origin), as: UTF8.self)
        let later = text.replacing("host ", with: "state working\nhost ", maxReplacements: 1)
        #expect(SharedRecord(Array(later.utf8)) == record)
    }

    @Test(arguments: [
        "", "\n\n", "pulsefs 1\n\n",
        "pulsefs 2\nruntime a\nevent forgotten\norigin a\nhost a\nstamp 2026-01-01T00:00:00Z\n\n",
        "pulsefs 1\nruntime ../a\nevent forgotten\norigin a\nhost a\nstamp 2026-01-01T00:00:00Z\n\n",
        "pulsefs 1\nsignal /etc/passwd\nevent forgotten\norigin a\nhost a\nstamp 2026-01-01T00:00:00Z\n\n",
        "pulsefs 1\nsignal a/../b\nevent forgotten\norigin a\nhost a\nstamp 2026-01-01T00:00:00Z\n\n",
        "pulsefs 1\nsignal a%00b\nevent forgotten\norigin a\nhost a\nstamp 2026-01-01T00:00:00Z\n\n",
        "pulsefs 1\nsignal a%zz\nevent forgotten\norigin a\nhost a\nstamp 2026-01-01T00:00:00Z\n\n",
        "pulsefs 1\nruntime a\nevent risen\norigin a\nhost a\nstamp 2026-01-01T00:00:00Z\n\n",
        "pulsefs 1\nruntime a\nevent forgotten\norigin a:b\nhost a\nstamp 2026-01-01T00:00:00Z\n\n",
        "pulsefs 1\nruntime a\nevent forgotten\norigin a\nhost a\nstamp yesterday\n\n",
        "pulsefs 1\nruntime a\nevent touched\nalive -1\nsource written\norigin a\nhost a\nstamp 2026-01-01T00:00:00Z\n\n",
        "pulsefs 1\nruntime a\nevent touched\nalive 9999999999999999\nsource written\norigin a\nhost a\nstamp 2026-01-01T00:00:00Z\n\n",
        "pulsefs 1\nruntime a\nevent touched\nalive 1\nsource magic\norigin a\nhost a\nstamp 2026-01-01T00:00:00Z\n\n",
        "pulsefs 1\nruntime a\nevent touched\nalive 1\nsource written\ndocument 5\norigin a\nhost a\nstamp 2026-01-01T00:00:00Z\n\n{}",
    ])
    func malformedRecordIsNil(_ text: String) {
        #expect(SharedRecord(Array(text.utf8)) == nil)
    }

    @Test func everyTruncatedRecordIsNil() throws {
        let record = SharedRecord(
            subject: try subjects()[1], stamp: stamp,
            event: .touched(source: .written, alive: .seconds(90), document: Document(Array("{}".utf8))))
        let bytes = record.encoded(by: origin)
        for count in 0..<bytes.count { #expect(SharedRecord(Array(bytes.prefix(count))) == nil) }
        #expect(SharedRecord(bytes + [0x20]) == nil)
    }

    @Test func ageIsMeasuredByTheSharedClock() throws {
        let record = SharedRecord(
            subject: try subjects()[0], stamp: stamp,
            event: .touched(source: .written, alive: .seconds(90), document: nil))
        let instant = ContinuousClock.now
        // The local clock is an hour ahead of the shared one.
        let wall = stamp.time + .seconds(3620)
        let touch = try #require(record.touch(shared: stamp.time + .seconds(20), wall: wall, instant: instant)).touch
        #expect(touch.at == instant - .seconds(20))
        #expect(touch.receivedAt == stamp.time + .seconds(3600))
        #expect(touch.deadline == instant + .seconds(70))
        let early = try #require(record.touch(shared: stamp.time + .seconds(-20), wall: wall, instant: instant)).touch
        #expect(early.at == instant)
    }
}

@Suite(.timeLimit(.minutes(5))) struct SharedTableTests {
    private let start = FakeClock.start
    private let wall = WallTime(seconds: 1_785_585_600)
    private let here = Origin(host: "here", path: "/gt")
    private let there = Origin(host: "there", path: "/gt")
    private let path = Array("keepalive.json".utf8)
    private let mayor: RuntimeID

    init() throws {
        mayor = try RuntimeID("mayor")
    }

    private func touch(_ document: String, after delay: Duration, by origin: Origin) -> Touch {
        Touch(
            signal: path, receivedAt: wall + delay, at: start + delay, document: Document(Array(document.utf8)),
            source: .written, stamp: HLCTimestamp(wall + delay, by: origin))
    }

    private func document(_ table: LivenessTable) -> String? {
        table.record(ofSignal: path)?.touch.document.map { String(decoding: $0.bytes, as: UTF8.self) }
    }

    @Test func laterStampWinsInAnyOrder() {
        let (first, second) = (touch("1", after: .zero, by: there), touch("2", after: .seconds(1), by: here))
        var one = LivenessTable(isShared: true)
        let isNews1 = one.receive(first, at: start)
        #expect(isNews1)
        let isNews2 = one.receive(second, at: start)
        #expect(isNews2)
        let isNews3 = one.receive(second, at: start)
        #expect(!isNews3)
        var other = LivenessTable(isShared: true)
        let isNews4 = other.receive(second, at: start)
        #expect(isNews4)
        let isNews5 = other.receive(first, at: start)
        #expect(!isNews5)
        #expect(document(one) == "2")
        #expect(document(other) == "2")
    }

    @Test func atOneTimeTheOriginDecides() {
        let (mine, theirs) = (touch("mine", after: .zero, by: here), touch("theirs", after: .zero, by: there))
        var one = LivenessTable(isShared: true)
        _ = one.receive(mine, at: start)
        _ = one.receive(theirs, at: start)
        var other = LivenessTable(isShared: true)
        _ = other.receive(theirs, at: start)
        _ = other.receive(mine, at: start)
        #expect(document(one) == document(other))
    }

    @Test func localTouchFollowsAllKnownStamps() throws {
        var table = LivenessTable(isShared: true)
        let ahead = touch("ahead", after: .seconds(3600), by: there)
        let isNews6 = table.receive(ahead, at: start)
        #expect(isNews6)
        table.touch(touch("here", after: .seconds(1), by: here))
        let record = try #require(table.record(ofSignal: path))
        #expect(document(table) == "here")
        #expect(record.touch.stamp > ahead.stamp)
        #expect(record.touch.stamp.origin == here)
        let isNews7 = table.receive(ahead, at: start)
        #expect(!isNews7)
    }

    @Test func olderTouchDoesNotBringAForgottenRecordBack() {
        var table = LivenessTable(isShared: true)
        let subject = RecordSubject.signal(SignalPath(bytes: path))
        _ = table.receive(touch("1", after: .zero, by: there), at: start)
        let stamp = table.forget(subject, stamp: HLCTimestamp(wall + .seconds(-5), by: here), at: start)
        #expect(stamp > HLCTimestamp(wall, by: there))
        let isNews8 = table.receive(touch("1", after: .zero, by: there), at: start)
        #expect(!isNews8)
        #expect(document(table) == nil)
        let isNews9 = table.receive(touch("2", after: .seconds(2), by: there), at: start)
        #expect(isNews9)
        let isNews10 = table.receiveForget(subject, stamp: stamp, at: start)
        #expect(!isNews10)
        #expect(document(table) == "2")
    }

    @Test func touchOfAForgottenRuntimeIsLaterThanItsEnd() throws {
        var table = LivenessTable(isShared: true)
        let end = HLCTimestamp(wall + .seconds(10), by: there)
        let isNews11 = table.receiveForget(.runtime(mayor), stamp: end, at: start)
        #expect(isNews11)
        table.touch(
            Touch(
                runtime: mayor, receivedAt: wall, at: start, document: nil, source: .command,
                stamp: HLCTimestamp(wall, by: here)))
        #expect(try #require(table.record(of: mayor)).stamp > end)
    }

    @Test func tombstonesAreSweptInTime() throws {
        var table = LivenessTable(retention: .seconds(10), isShared: true)
        let isNews12 = table.receiveForget(.runtime(mayor), stamp: HLCTimestamp(wall, by: there), at: start)
        #expect(isNews12)
        table.sweep(at: start + .seconds(11))
        var touch = touch("old", after: .seconds(-1), by: here)
        (touch.signal, touch.runtime) = (nil, mayor)
        let isNews13 = table.receive(touch, at: start)
        #expect(isNews13)
    }
}

import TestSupport
import Testing

@testable import Liveness

@Suite(.timeLimit(.minutes(5))) struct EventLogTests {
    private func event(_ number: Int) -> LivenessEvent {
        LivenessEvent(.touched, at: WallTime(seconds: Int64(number)))
    }

    private func times(_ excerpt: EventLog.Excerpt) -> [Int] { excerpt.events.map { Int($0.time.seconds) } }

    @Test func eventsAreNumberedFromOneOn() {
        var log = EventLog(capacity: 4)
        #expect(log.last == 0 && log.first == 1)
        #expect(log.excerpt(from: 1, limit: 10).events.isEmpty)
        log.append(event(1))
        log.append(event(2))
        let excerpt = log.excerpt(from: 2, limit: 10)
        #expect(excerpt.first == 2 && excerpt.lost == nil && times(excerpt) == [2])
        #expect(log.excerpt(from: 3, limit: 10).events.isEmpty)
        #expect(log.excerpt(from: .max, limit: 10).events.isEmpty)
    }

    @Test func eventsAreHeldUnchanged() throws {
        let ids: [RuntimeID?] =
            [nil] + (try [1, 15, 16, 200].map { try RuntimeID(String(repeating: "x", count: $0)) })
        var random = SplitMix64(state: 1)
        var log = EventLog(capacity: 5)
        var all: [LivenessEvent] = []
        for number in 0..<500 {
            let id = ids[Int.random(in: 0..<ids.count, using: &random)]
            let touch = Touch(
                signal: number % 3 == 0 ? [1] : nil, runtime: id, receivedAt: WallTime(seconds: Int64(number)),
                at: FakeClock.start, document: nil, source: .written,
                process: number % 2 == 0 ? Touch.Process(pid: 1, program: "gt") : nil)
            var event = LivenessEvent(touch, runtime: id)
            if Bool.random(using: &random) { event.origin = Origin(name: "b", host: "b") }
            log.append(event)
            all.append(event)
            #expect(log.excerpt(from: log.first, limit: 9).events == all.suffix(5))
        }
    }

    @Test func droppedEventsAreReportedAsLost() {
        var log = EventLog(capacity: 4)
        for number in 1...10 { log.append(event(number)) }
        let excerpt = log.excerpt(from: 3, limit: 2)
        #expect(excerpt.lost == 3...6)
        #expect(excerpt.first == 7 && times(excerpt) == [7, 8])
        #expect(log.excerpt(from: 7, limit: 9).lost == nil)
        #expect(log.excerpt(from: 0, limit: 9).lost == 0...6)
    }

    /// Slow and fast readers, against an unbounded list.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func agreesWithAnUnboundedList(_ seed: UInt64) {
        var random = SplitMix64(state: seed)
        for capacity in [1, 2, 7, 64] {
            var log = EventLog(capacity: capacity)
            var all: [Int] = []
            var next: UInt64 = 1
            for _ in 0..<5000 {
                if Int.random(in: 0..<3, using: &random) < 2 {
                    all.append(all.count + 1)
                    log.append(event(all.count))
                    continue
                }
                let limit = Int.random(in: 1...10, using: &random)
                let excerpt = log.excerpt(from: next, limit: limit)
                let held = max(1, all.count - capacity + 1)
                #expect(excerpt.lost == (Int(next) < held ? next...UInt64(held - 1) : nil))
                let start = max(Int(next), held)
                #expect(Int(excerpt.first) == start)
                #expect(times(excerpt) == Array(all.dropFirst(start - 1).prefix(limit)))
                next = excerpt.first + UInt64(excerpt.events.count)
            }
        }
    }

    @Test func eventIsSmall() {
        #expect(MemoryLayout<LivenessEvent>.stride <= 104)
    }

    // MARK: Text

    private func text(_ event: LivenessEvent) -> String { String(decoding: event.line(number: 7), as: UTF8.self) }

    @Test func keysComeInTheirOrder() throws {
        var event = LivenessEvent(.touched, at: WallTime(seconds: 0))
        #expect(text(event) == #"{"seq":7,"time":"1970-01-01T00:00:00Z","event":"touched"}"# + "\n")
        event.runtime = try RuntimeID("gastown/polecats/nux")
        event.signal = Array(".runtime/keepalive.json".utf8)
        event.source = .written
        event.evidence = .environment(.role)
        event.process = Touch.Process(pid: 41, program: "gt")
        event.origin = Origin(name: "x.1", host: "build1")
        #expect(
            text(event)
                == #"{"seq":7,"time":"1970-01-01T00:00:00Z","event":"touched","runtime":"gastown/polecats/nux","#
                + #""signal":".runtime/keepalive.json","source":"written","by":"GT_ROLE","pid":41,"program":"gt","#
                + #""host":"build1"}"# + "\n")
        let down = LivenessEvent(.mirrorDown, at: WallTime(seconds: 0), reason: "none")
        #expect(text(down) == #"{"seq":7,"time":"1970-01-01T00:00:00Z","event":"mirror_down","reason":"none"}"# + "\n")
    }

    @Test func lostLineHasNoNumberOfItsOwn() {
        let line = LivenessEvent.line(ofLost: 3...9, at: WallTime(seconds: 0))
        #expect(
            String(decoding: line, as: UTF8.self)
                == #"{"time":"1970-01-01T00:00:00Z","event":"lost","from":3,"to":9}"# + "\n")
    }

    /// The line of any path is one line of JSON.
    @Test(arguments: [
        (Array("a\"b\\c".utf8), #"a\"b\\c"#), ([0x61, 0x0A, 0x1F, 0x7F], #"a\n\u001f\u007f"#),
        (Array("a\u{80}\u{9B}2J\u{A0}".utf8), "a\\u0080\\u009b2J\u{A0}"),
        ([0xFF, 0xFE], "\u{FFFD}\u{FFFD}"), (Array("größe".utf8), "größe"), ([0xE2, 0x82], "\u{FFFD}"),
    ])
    func anyPathIsEncodedAsJSON(_ path: [UInt8], _ spelled: String) {
        var event = LivenessEvent(.touched, at: WallTime(seconds: 0))
        event.signal = path
        #expect(text(event).contains(#""signal":"\#(spelled)""#))
        #expect(text(event).utf8.filter { $0 == UInt8(ascii: "\n") }.count == 1)
    }
}

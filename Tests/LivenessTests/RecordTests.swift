import Testing

@testable import Liveness

@Suite(.timeLimit(.minutes(5))) struct RecordTests {
    private let start = ContinuousClock.now

    private func touch(
        at seconds: Int64, _ source: Touch.Source = .written, by writer: String? = nil, ttl: Int64 = 90,
        announced: Int64? = nil, origin: String? = nil
    ) throws -> Touch {
        let wall = WallTime(seconds: 1_785_585_600 + seconds)
        var touch = Touch(
            runtime: try RuntimeID("a"), receivedAt: wall, at: start + .seconds(seconds), ttl: .seconds(ttl),
            document: [.written, .renamed, .attributes].contains(source) ? Document() : nil, source: source,
            writer: try writer.map { try RuntimeID($0) },
            process: Touch.Process(pid: 7, program: origin ?? "here"),
            stamp: HLCTimestamp(wall, by: origin.map { Origin(name: $0, host: $0) }))
        touch.announcedTTL = announced.map { .seconds($0) }
        return touch
    }

    private func record(_ touches: Touch...) -> Record {
        var record = Record(touches[0])
        record.note(touches[0])
        for touch in touches.dropFirst() {
            record.merge(touch)
            record.note(touch)
        }
        return record
    }

    private func state(_ record: Record, at seconds: Int64) -> Record.State {
        record.state(at: start + .seconds(seconds))
    }

    // MARK: On behalf

    @Test func touchesOfOthersAreNoSignOfLife() throws {
        let never = record(try touch(at: 0, by: "daemon"), try touch(at: 5, by: "daemon"))
        #expect(state(never, at: 6) == .never)
        #expect(state(never, at: 1000) == .never)
        #expect(never.clocks.beat == nil)
        #expect(never.onBehalf?.writer == (try RuntimeID("daemon")))
        #expect(never.onBehalf?.moment.instant == start + .seconds(5))
    }

    @Test func ownTouchEndsNever() throws {
        let own = record(try touch(at: 0, by: "daemon"), try touch(at: 5))
        #expect(state(own, at: 94) == .alive)
        #expect(state(own, at: 95) == .expired)
        #expect(own.onBehalf?.moment.instant == start)
    }

    @Test func touchesOfOthersNeitherExtendNorRevive() throws {
        var own = record(try touch(at: 0), try touch(at: 80, by: "daemon"))
        #expect(state(own, at: 89) == .alive)
        #expect(state(own, at: 90) == .expired)
        #expect(own.touch.writer == nil)
        let process = Touch.Process(pid: 7, program: "claude")
        own.end(
            by: .init(of: process, noticedAt: WallTime(seconds: 1_785_585_690), at: start + .seconds(90)),
            stamp: own.stamp)
        own.merge(try touch(at: 95, by: "daemon"))
        #expect(state(own, at: 96) == .exited)
    }

    // MARK: Clocks

    @Test func eachSourceHasItsClock() throws {
        let all = record(
            try touch(at: 1), try touch(at: 2, .activity), try touch(at: 3, .background), try touch(at: 4, .attributes),
            try touch(at: 5, .command), try touch(at: 6, by: "daemon"))
        #expect(all.clocks.beat?.instant == start + .seconds(5))
        #expect(all.clocks.work?.instant == start + .seconds(2))
        #expect(all.clocks.backgroundWork?.instant == start + .seconds(3))
    }

    @Test func lateTouchDoesNotTurnAClockBack() throws {
        let late = record(try touch(at: 5), try touch(at: 3))
        #expect(late.clocks.beat?.instant == start + .seconds(5))
    }

    // MARK: Announced silence

    @Test func announcedSilenceLastsUntilTheNextBeat() throws {
        var silent = record(try touch(at: 0, announced: 2400))
        #expect(state(silent, at: 2399) == .alive)
        #expect(state(silent, at: 2400) == .expired)
        // Work and a command say nothing of it.
        silent.merge(try touch(at: 100, .activity))
        silent.merge(try touch(at: 101, .command))
        #expect(state(silent, at: 2399) == .alive)
        #expect(silent.touch.source == .command)
        silent.merge(try touch(at: 200))
        #expect(state(silent, at: 289) == .alive)
        #expect(state(silent, at: 290) == .expired)
    }

    @Test func announcementDoesNotShortenALongerTTL() throws {
        let long = record(try touch(at: 0, ttl: 8 * 3600), try touch(at: 10, announced: 600), try touch(at: 20))
        #expect(state(long, at: 8 * 3600 - 1) == .alive)
    }

    // MARK: Held by a process

    @Test func heldRuntimeOutlivesItsDeadlineUntilItsProcessEnds() throws {
        var held = try touch(at: 0)
        held.isHeld = true
        // A command and work do not end the hold.
        var runtime = record(held, try touch(at: 1, .command), try touch(at: 2, .activity))
        #expect(state(runtime, at: 100_000) == .alive)
        #expect(!runtime.isObsolete(since: (start + .seconds(100_000)).offset))
        runtime.isSuspended = true
        #expect(state(runtime, at: 91) == .alive)
        #expect(state(runtime, at: 100_000) == .expired)
        runtime.isSuspended = false
        #expect(state(runtime, at: 100_000) == .alive)
    }

    // MARK: Rivals

    @Test func twoOriginsInTurnsAreRivals() throws {
        #expect(record(try touch(at: 0, origin: "one"), try touch(at: 1, origin: "two")).rival == nil, "it moved")
        let contested = record(
            try touch(at: 0, origin: "one"), try touch(at: 1, origin: "two"), try touch(at: 2, origin: "one"))
        #expect(contested.rival?.origin?.host == "two")
        #expect(contested.rival?.process?.program == "two")
        let slow = record(
            try touch(at: 0, origin: "one"), try touch(at: 1, origin: "two"), try touch(at: 200, origin: "one"))
        #expect(slow.rival == nil)
    }
}

import Synchronization
import TestSupport
import Testing

@testable import Liveness

/// A suspended machine, or a process that did not run.
@Suite(.timeLimit(.minutes(5))) struct StallTests {
    private struct Watcher: LivenessWatcher {
        func eventsChanged() {}
        func deadlineMovedEarlier() {}
    }

    private let clock = FakeClock()
    private let store: InMemoryLivenessStore
    private let ttl: Duration = .seconds(90)

    init() {
        let clock = clock
        store = InMemoryLivenessStore(
            table: LivenessTable(), mirror: nil, watcher: Watcher(), persistence: nil, restoring: nil,
            stallLimit: .seconds(5), now: { clock.now }, wallTime: { clock.wallTime })
    }

    private func touch(_ id: String, ttl: Duration? = nil, signal: String? = nil) throws {
        store.touch(
            Touch(at: clock, runtime: try RuntimeID(id), signal: signal.map { Array($0.utf8) }, ttl: ttl ?? self.ttl))
    }

    private func isAlive(_ id: String) throws -> Bool { store.isAlive(try RuntimeID(id)) }

    /// Time in which the store is served.
    private func pass(_ duration: Duration) {
        var rest = duration
        while rest > .zero {
            let step = min(rest, .seconds(2))
            clock.advance(by: step)
            _ = store.expire(limit: 100)
            rest -= step
        }
    }

    private var described: [String] {
        store.events(from: 1, limit: 1000).events.map { event in
            [event.kind.rawValue, event.runtime?.description, event.reason].compactMap { $0 }.joined(separator: " ")
        }
    }

    /// Every question finds the runtime alive, also the first after the stall.
    @Test(arguments: 0..<4) func runtimeStaysAliveForATTLAfterAStall(_ question: Int) throws {
        try touch("mayor")
        pass(.seconds(60))
        clock.advance(by: .seconds(450))
        let mayor = try RuntimeID("mayor")
        switch question {
        case 0: #expect(try isAlive("mayor"))
        case 1: #expect(store.areAlive([mayor]) == [true])
        case 2: #expect(store.record(of: mayor)?.isAlive(at: clock.now) == true)
        default: #expect(store.counts().runtimes.alive == 1)
        }
        pass(.seconds(88))
        #expect(try isAlive("mayor"))
        pass(.seconds(4))
        #expect(try !isAlive("mayor"))
        #expect(described == ["touched mayor", "resumed 450.000", "expired mayor"])
    }

    @Test func graceIsGrantedOncePerStall() throws {
        try touch("mayor")
        clock.advance(by: .seconds(600))
        #expect(try isAlive("mayor"))
        pass(.seconds(50))
        clock.advance(by: .seconds(7))
        #expect(try isAlive("mayor"))
        pass(.seconds(88))
        #expect(try isAlive("mayor"))
        pass(.seconds(4))
        #expect(try !isAlive("mayor"))
        #expect(described == ["touched mayor", "resumed 600.000", "resumed 7.000", "expired mayor"])
    }

    @Test func whatHadEndedBeforeStaysSo() throws {
        try touch("expired", ttl: .seconds(10))
        try touch("exited")
        try touch("alive", ttl: .seconds(20))
        let process = Touch.Process(pid: 7, program: "claude")
        store.exit(try RuntimeID("exited"), Record.Exit(of: process, noticedAt: clock.wallTime, at: clock.now))
        pass(.seconds(12))
        clock.advance(by: .seconds(30))
        #expect(try isAlive("alive"))
        #expect(try !isAlive("expired"))
        #expect(store.record(of: try RuntimeID("exited"))?.state(at: clock.now) == .exited)
        // Its own ttl.
        pass(.seconds(18))
        #expect(try isAlive("alive"))
        pass(.seconds(4))
        #expect(try !isAlive("alive"))
        #expect(store.tally.expired == 2)
    }

    @Test func longerDeadlineStays() throws {
        try touch("mayor", ttl: .seconds(1000))
        try touch("mayor", ttl: .seconds(10))
        clock.advance(by: .seconds(100))
        #expect(store.record(of: try RuntimeID("mayor"))?.deadline == FakeClock.start + .seconds(1000))
    }

    @Test func filesStayAliveWithTheirRuntimes() throws {
        try touch("mayor", signal: "a.json")
        clock.advance(by: .seconds(450))
        #expect(store.counts().signals.alive == 1)
        #expect(store.record(ofSignal: Array("a.json".utf8))?.deadline == clock.now + ttl)
    }

    /// Without a living runtime nobody calls, and a gap means nothing.
    @Test func quietTimeIsNoStall() throws {
        clock.advance(by: .seconds(450))
        try touch("mayor")
        pass(.seconds(92))
        #expect(try !isAlive("mayor"))
        clock.advance(by: .seconds(450))
        #expect(try !isAlive("mayor"))
        try touch("deacon")
        #expect(described == ["touched mayor", "expired mayor", "touched deacon"])
    }
}

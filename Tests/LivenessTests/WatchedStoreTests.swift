import Synchronization
import TestSupport
import Testing

@testable import Liveness

/// The events of a store, and its calls of the watcher.
@Suite(.timeLimit(.minutes(5))) struct WatchedStoreTests {
    private final class Watcher: LivenessWatcher {
        let events = Atomic(0)
        let earlier = Atomic(0)
        func eventsChanged() { events.add(1, ordering: .relaxed) }
        func deadlineMovedEarlier() { earlier.add(1, ordering: .relaxed) }
    }

    private let clock = FakeClock()
    private let watcher = Watcher()
    private let store: InMemoryLivenessStore

    init() {
        let clock = clock
        store = InMemoryLivenessStore(watcher: watcher, now: { clock.now }, wallTime: { clock.wallTime })
    }

    private func touch(_ id: String, signal: String? = nil, ttl: Duration = .seconds(90)) throws {
        store.touch(Touch(at: clock, runtime: try RuntimeID(id), signal: signal.map { Array($0.utf8) }, ttl: ttl))
    }

    private var described: [String] {
        store.events(from: 1, limit: 1000).events.map { event in
            [event.kind.rawValue, event.runtime?.description, event.signal.map { String(decoding: $0, as: UTF8.self) }]
                .compactMap { $0 }.joined(separator: " ")
        }
    }

    @Test func eventsAreInTheOrderOfChanges() throws {
        try touch("mayor", signal: "a.json")
        store.forget(try RuntimeID("mayor"))
        store.forget(try RuntimeID("mayor"))
        store.forget(signal: Array("a.json".utf8))
        try touch("deacon")
        let process = Touch.Process(pid: 7, program: "claude")
        let exit = Record.Exit(of: process, noticedAt: clock.wallTime, at: clock.now)
        #expect(store.exit(try RuntimeID("deacon"), exit))
        #expect(!store.exit(try RuntimeID("deacon"), exit))
        store.mirrorChanged(isUp: false, reason: "refused")
        #expect(
            described == [
                "touched mayor a.json", "forgotten mayor", "forgotten a.json", "touched deacon", "exited deacon",
                "mirror_down",
            ])
        #expect(store.lastEvent == 6)
        #expect(store.tally.forgotten == 2)
    }

    @Test func expiryIsReportedOnceForEachLife() throws {
        try touch("mayor")
        #expect(watcher.earlier.load(ordering: .relaxed) == 1)
        #expect(store.expire(limit: 10) == FakeClock.start + .seconds(90))
        clock.advance(by: .seconds(60))
        try touch("mayor")
        // Not an earlier deadline.
        #expect(watcher.earlier.load(ordering: .relaxed) == 1)
        clock.advance(by: .seconds(30))
        #expect(store.expire(limit: 10) == FakeClock.start + .seconds(150))
        clock.advance(by: .seconds(61))
        #expect(store.expire(limit: 10) == nil)
        #expect(store.expire(limit: 10) == nil)
        #expect(described == ["touched mayor", "touched mayor", "expired mayor"])
        #expect(store.tally.expiryLag == .seconds(1))
        try touch("mayor", ttl: .seconds(5))
        #expect(watcher.earlier.load(ordering: .relaxed) == 2)
        clock.advance(by: .seconds(5))
        #expect(store.expire(limit: 10) == nil)
        #expect(described.suffix(2) == ["touched mayor", "expired mayor"])
    }

    @Test func exitedOrForgottenRuntimeDoesNotExpire() throws {
        for id in ["mayor", "deacon"] { try touch(id) }
        let process = Touch.Process(pid: 7, program: "claude")
        store.exit(try RuntimeID("mayor"), Record.Exit(of: process, noticedAt: clock.wallTime, at: clock.now))
        store.forget(try RuntimeID("deacon"))
        clock.advance(by: .seconds(900))
        #expect(store.expire(limit: 10) == nil)
        #expect(store.tally.expired == 0)
        // A new life expires as any other, and may be shorter than the former one.
        try touch("mayor", ttl: .seconds(1))
        try touch("deacon", ttl: .seconds(2))
        clock.advance(by: .seconds(2))
        _ = store.expire(limit: 10)
        #expect(described.suffix(2) == ["expired mayor", "expired deacon"])
    }

    @Test func manyExpiriesAreReportedInBatches() throws {
        for number in 0..<1000 { try touch("r\(number)") }
        #expect(watcher.earlier.load(ordering: .relaxed) == 1)
        clock.advance(by: .seconds(90))
        var batches = 0
        while let next = store.expire(limit: 100) {
            #expect(next <= clock.now)
            batches += 1
        }
        #expect(batches == 9)
        #expect(store.tally.expired == 1000)
    }

    /// The events and their order do not depend on the batch size.
    @Test func batchSizeChangesNoEvent() throws {
        let whole = InMemoryLivenessStore(watcher: watcher, now: { [clock] in clock.now }, wallTime: { .goZero })
        for (number, store) in (0..<500).flatMap({ number in [(number, store), (number, whole)] }) {
            let id = try RuntimeID("rig\(number % 7)/r\(number)")
            store.touch(Touch(at: clock, runtime: id, ttl: .seconds(10 + number % 5), source: .command))
        }
        clock.advance(by: .seconds(13))
        _ = whole.expire(limit: .max)
        while let next = store.expire(limit: 9), next <= clock.now {
            // A touch in between causes no event.
            try touch("rig6/r4")
        }
        func expired(_ store: InMemoryLivenessStore) -> [RuntimeID?] {
            store.events(from: 1, limit: .max).events.filter { $0.kind == .expired }.map(\.runtime)
        }
        #expect(expired(store).count == 400)
        let isSame = expired(store) == expired(whole)
        #expect(isSame)
        #expect(store.counts().runtimes.expired == 400)
    }

    @Test func storeWithoutWatcherKeepsNoEvents() throws {
        let clock = clock
        let store = InMemoryLivenessStore(now: { clock.now }, wallTime: { clock.wallTime })
        try store.touch(try RuntimeID("mayor"), ttl: .seconds(1))
        #expect(store.lastEvent == 0)
        #expect(store.expire(limit: 10) == nil)
    }
}

import Liveness
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5))) struct InMemoryLivenessStoreTests {
    private let clock = FakeClock()

    private func makeStore() -> InMemoryLivenessStore {
        InMemoryLivenessStore(now: { [clock] in clock.now }, wallTime: { [clock] in clock.wallTime })
    }

    @Test func fileSystemAndStoreShareOneTable() throws {
        let (store, id, path) = (makeStore(), try RuntimeID("mayor"), Array("daemon/activity.json".utf8))
        let document = Document(Array("{}".utf8))
        store.touch(Touch(at: clock, runtime: id, signal: path, document: "{}"))
        #expect(store.areAlive([id]) == [true])
        #expect(store.record(ofSignal: path)?.touch.document == document)
        #expect(store.counts().signals.alive == 1)
        store.forget(signal: path)
        #expect(store.record(ofSignal: path) == nil)
        #expect(store.counts().runtimes.alive == 1)
    }

    @Test func touchByCommandKeepsTheDocument() throws {
        let (store, id) = (makeStore(), try RuntimeID("mayor"))
        let document = Document(Array("{}".utf8))
        store.touch(Touch(runtime: id, receivedAt: clock.wallTime, at: clock.now, document: document, source: .written))
        clock.advance(by: .seconds(5))
        try store.touch(id, ttl: .seconds(90))
        let touch = try #require(store.record(of: id)?.touch)
        #expect(touch.document == document)
        #expect(touch.source == .command)
        #expect(touch.receivedAt == clock.wallTime)
    }

    @Test func everyIDIsAnsweredInItsPlace() throws {
        let store = makeStore()
        let ids = try (0..<1000).map { try RuntimeID("runtime-\($0 % 700)") }
        for id in ids.prefix(300) { try store.touch(id, ttl: .seconds(90)) }
        #expect(store.areAlive(ids) == ids.indices.map { $0 % 700 < 300 })
        #expect(store.areAlive([]) == [])
    }

    @Test func countsTellTheStatesApart() throws {
        let (store, path) = (makeStore(), Array("a.json".utf8))
        func touch(_ id: String, signal: [UInt8]? = nil, ttl: Duration) throws {
            store.touch(Touch(at: clock, runtime: try RuntimeID(id), signal: signal, ttl: ttl, source: .command))
        }
        for number in 0..<600 { try touch("r\(number)", ttl: .seconds(number < 400 ? 90 : 10)) }
        try touch("mayor", signal: path, ttl: .seconds(90))
        clock.advance(by: .seconds(10))
        let exit = Record.Exit(
            of: Touch.Process(pid: 1, program: "claude"), noticedAt: clock.wallTime, at: clock.now)
        store.exit(try RuntimeID("r0"), exit)
        let counts = store.counts()
        #expect((counts.runtimes.alive, counts.runtimes.expired, counts.runtimes.exited) == (400, 200, 1))
        #expect((counts.signals.alive, counts.signals.expired, counts.signals.exited) == (1, 0, 0))
    }

    @Test func directoriesAreSearchedBeyondOneSlice() throws {
        let store = makeStore()
        for number in 0..<1000 { try store.touch(RuntimeID("dead/r\(number)"), ttl: .seconds(1)) }
        try store.touch(RuntimeID("dead/z"), ttl: .seconds(90))
        clock.advance(by: .seconds(2))
        #expect(store.hasLivingRuntimes(in: "dead/") && store.hasLivingRuntimes(in: ""))
        #expect(!store.hasLivingRuntimes(in: "dead/r/") && !store.hasLivingRuntimes(in: "z/"))
        #expect(store.runtimes(in: "dead/").count == 1001 && store.runtimes(in: "d").count == 1001)
        let listing = store.listing(of: "")
        #expect(listing.directories.map(\.path) == ["dead/"] && listing.directories.map(\.isAlive) == [true])
        #expect(store.listing(of: "dead/").runtimes.count == 1001)
    }

    @Test func threadsMayTouchAtOnce() async throws {
        let store = makeStore()
        let ids = try (0..<64).map { try RuntimeID("runtime-\($0)") }
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<8 {
                group.addTask { [clock] in
                    for id in ids where Int(id.description.utf8.last ?? 0) % 2 == worker % 2 {
                        store.touch(Touch(at: clock, runtime: id, source: .command))
                        _ = store.areAlive(ids)
                    }
                }
            }
        }
        #expect(store.counts().runtimes.alive == 64)
    }
}

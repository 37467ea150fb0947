import Liveness
import TestSupport
import Testing

@Suite struct InMemoryLivenessStoreTests {
    private let clock = FakeClock()

    private func makeStore() -> InMemoryLivenessStore {
        InMemoryLivenessStore(now: { [clock] in clock.now }, wallTime: { [clock] in clock.wallTime })
    }

    @Test func fileSystemAndStoreShareOneTable() throws {
        let (store, id, path) = (makeStore(), try RuntimeID("mayor"), Array("daemon/activity.json".utf8))
        let document = Document(Array("{}".utf8))
        store.touch(
            Touch(
                signal: path, runtime: id, receivedAt: clock.wallTime, at: clock.now, document: document,
                source: .written
            )
        )
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

    @Test func threadsMayTouchAtOnce() async throws {
        let store = makeStore()
        let ids = try (0..<64).map { try RuntimeID("runtime-\($0)") }
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<8 {
                group.addTask { [clock] in
                    for id in ids where Int(id.description.utf8.last ?? 0) % 2 == worker % 2 {
                        store.touch(
                            Touch(
                                runtime: id, receivedAt: clock.wallTime, at: clock.now, document: nil, source: .command)
                        )
                        _ = store.areAlive(ids)
                    }
                }
            }
        }
        #expect(store.counts().runtimes.alive == 64)
    }
}

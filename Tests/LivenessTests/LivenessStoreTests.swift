import Liveness
import Testing

/// What every store must do, run over all of them; where one may differ, its case says so by name.
@Suite struct LivenessStoreTests {
    enum Kind: CaseIterable, CustomTestStringConvertible {
        case inMemory, noOp

        /// Whether the store knows who is alive; one that does not answers nil to everything.
        var canSay: Bool { self != .noOp }

        var testDescription: String { "\(self)" }

        func make(_ clock: FakeClock) -> any LivenessStore {
            switch self {
            case .inMemory: InMemoryLivenessStore(now: { clock.now }, wallTime: { clock.wallTime })
            case .noOp: NoOpLivenessStore()
            }
        }
    }

    private let clock = FakeClock()
    private let mayor: RuntimeID
    private let deacon: RuntimeID

    init() throws {
        mayor = try RuntimeID("mayor")
        deacon = try RuntimeID("deacon")
    }

    @Test(arguments: Kind.allCases)
    func storeSaysWhetherItIsAvailable(_ kind: Kind) {
        #expect(kind.make(clock).isAvailable == kind.canSay)
    }

    @Test(arguments: Kind.allCases)
    func everyIDIsAnsweredAndMissingIsFalse(_ kind: Kind) throws {
        let store = kind.make(clock)
        try store.touch(mayor, ttl: Touch.defaultTTL)
        #expect(store.areAlive([mayor, deacon]) == (kind.canSay ? [mayor: true, deacon: false] : nil))
    }

    @Test(arguments: Kind.allCases)
    func emptyBatchIsAnsweredEmpty(_ kind: Kind) {
        #expect(kind.make(clock).areAlive([]) == (kind.canSay ? [:] : nil))
    }

    @Test(arguments: Kind.allCases)
    func oneSecondIsOverAfterOneAndAHalf(_ kind: Kind) throws {
        let store = kind.make(clock)
        try store.touch(mayor, ttl: .seconds(1))
        clock.advance(by: .milliseconds(500))
        #expect(store.areAlive([mayor]) == (kind.canSay ? [mayor: true] : nil))
        clock.advance(by: .seconds(1))
        #expect(store.areAlive([mayor]) == (kind.canSay ? [mayor: false] : nil))
    }

    @Test(arguments: Kind.allCases)
    func touchAgainExtendsLife(_ kind: Kind) throws {
        let store = kind.make(clock)
        for _ in 0..<3 {
            try store.touch(mayor, ttl: .seconds(10))
            clock.advance(by: .seconds(9))
            #expect(store.areAlive([mayor]) == (kind.canSay ? [mayor: true] : nil))
        }
    }

    @Test(arguments: Kind.allCases)
    func shorterTouchDoesNotShortenLife(_ kind: Kind) throws {
        let store = kind.make(clock)
        try store.touch(mayor, ttl: .seconds(60))
        try store.touch(mayor, ttl: .seconds(1))
        clock.advance(by: .seconds(59))
        #expect(store.areAlive([mayor]) == (kind.canSay ? [mayor: true] : nil))
    }

    @Test(arguments: Kind.allCases)
    func forgetIsImmediate(_ kind: Kind) throws {
        let store = kind.make(clock)
        try store.touch(mayor, ttl: Touch.defaultTTL)
        try store.forget(mayor)
        try store.forget(deacon)
        #expect(store.areAlive([mayor]) == (kind.canSay ? [mayor: false] : nil))
    }

    @Test(arguments: Kind.allCases, [Duration.zero, .nanoseconds(-1), .seconds(-90)])
    func ttlMustBePositive(_ kind: Kind, _ ttl: Duration) {
        let store = kind.make(clock)
        #expect(throws: NonPositiveTTL.self) { try store.touch(mayor, ttl: ttl) }
        #expect(store.areAlive([mayor]) == (kind.canSay ? [mayor: false] : nil))
    }

    @Test(arguments: Kind.allCases)
    func emptyIDIsAnError(_ kind: Kind) {
        #expect(throws: RuntimeID.Invalid.empty) {
            try kind.make(clock).touch(RuntimeID(""), ttl: Touch.defaultTTL)
        }
    }
}

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
        #expect(store.areAlive([id]) == [id: true])
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

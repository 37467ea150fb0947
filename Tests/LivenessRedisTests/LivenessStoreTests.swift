import Liveness
import LivenessRedis
import Synchronization
import TestSupport
import Testing

/// The contract of every store; `Kind` lists where one may differ.
@Suite(.onOwnThread, .timeLimit(.minutes(5))) struct LivenessStoreTests {
    enum Kind: CaseIterable, CustomTestStringConvertible {
        case inMemory, noOp, redis

        /// The kinds that this machine can run; `storeInRedisIsTested` fails in CI if one is missing.
        static let present = allCases.filter { $0 != .redis || RedisServer.isInstalled }

        /// Whether the store answers queries.
        var answersQueries: Bool { self != .noOp }

        /// Whether a touch may shorten a life, as SET does.
        var mayShortenLife: Bool { self == .redis }

        var testDescription: String { "\(self)" }
    }

    /// A store and its clock.
    private struct StoreUnderTest {
        let store: any LivenessStore
        let advance: (Duration) throws -> Void

        init(_ kind: Kind) throws {
            switch kind {
            case .inMemory:
                let (start, clock) = (ContinuousClock.now, Elapsed())
                store = InMemoryLivenessStore(
                    now: { start + clock.duration }, wallTime: { WallTime(seconds: clock.duration.components.seconds) })
                advance = clock.advance
            case .noOp:
                store = NoOpLivenessStore()
                advance = { _ in }
            case .redis:
                let server = try RedisServer { $0.listensOnLoopback = false }
                let url = try RedisURL("unix://\(server.socketPath)")
                store = RedisLivenessStore(RedisOptions(url: url, replyTimeout: .seconds(10)))
                // Ages every key.
                let script = """
                    for _, key in ipairs(redis.call('KEYS', '*')) do
                        local left = redis.call('PTTL', key) - tonumber(ARGV[1])
                        if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('DEL', key) end
                    end
                    """
                advance = { duration in
                    let milliseconds = duration / .milliseconds(1)
                    try server.cli("EVAL", script, "0", "\(Int(milliseconds))")
                }
            }
        }
    }

    private final class Elapsed: Sendable {
        private let elapsed = Mutex(Duration.zero)

        var duration: Duration { elapsed.withLock { $0 } }

        func advance(by duration: Duration) { elapsed.withLock { $0 += duration } }
    }

    private let mayor: RuntimeID
    private let deacon: RuntimeID

    init() throws {
        mayor = try RuntimeID("mayor")
        deacon = try RuntimeID("deacon")
    }

    @Test(.needsRedis) func storeInRedisIsTested() {
        #expect(Kind.present.contains(.redis))
    }

    @Test(arguments: Kind.present)
    func availabilityIsReported(_ kind: Kind) throws {
        let subject = try StoreUnderTest(kind)
        #expect(subject.store.isAvailable == kind.answersQueries)
    }

    @Test(arguments: Kind.present)
    func everyIDIsAnswered(_ kind: Kind) throws {
        let subject = try StoreUnderTest(kind)
        try subject.store.touch(mayor, ttl: Touch.defaultTTL)
        #expect(subject.store.areAlive([mayor, deacon]) == (kind.answersQueries ? [true, false] : nil))
    }

    @Test(arguments: Kind.present)
    func emptyBatchIsAnsweredEmpty(_ kind: Kind) throws {
        let subject = try StoreUnderTest(kind)
        #expect(subject.store.areAlive([]) == (kind.answersQueries ? [] : nil))
    }

    @Test(arguments: Kind.present)
    func oneSecondIsOverAfterOneAndAHalf(_ kind: Kind) throws {
        let subject = try StoreUnderTest(kind)
        try subject.store.touch(mayor, ttl: .seconds(1))
        try subject.advance(.milliseconds(500))
        #expect(subject.store.areAlive([mayor]) == (kind.answersQueries ? [true] : nil))
        try subject.advance(.seconds(1))
        #expect(subject.store.areAlive([mayor]) == (kind.answersQueries ? [false] : nil))
    }

    @Test(arguments: Kind.present)
    func touchAgainExtendsLife(_ kind: Kind) throws {
        let subject = try StoreUnderTest(kind)
        for _ in 0..<3 {
            try subject.store.touch(mayor, ttl: .seconds(10))
            try subject.advance(.seconds(9))
            #expect(subject.store.areAlive([mayor]) == (kind.answersQueries ? [true] : nil))
        }
    }

    @Test(arguments: Kind.present)
    func shorterTouchDoesNotShortenLife(_ kind: Kind) throws {
        let subject = try StoreUnderTest(kind)
        try subject.store.touch(mayor, ttl: .seconds(60))
        try subject.store.touch(mayor, ttl: .seconds(1))
        try subject.advance(.seconds(59))
        #expect(subject.store.areAlive([mayor]) == (kind.answersQueries ? [!kind.mayShortenLife] : nil))
    }

    @Test(arguments: Kind.present)
    func forgetIsImmediate(_ kind: Kind) throws {
        let subject = try StoreUnderTest(kind)
        try subject.store.touch(mayor, ttl: Touch.defaultTTL)
        try subject.store.forget(mayor)
        try subject.store.forget(deacon)
        #expect(subject.store.areAlive([mayor]) == (kind.answersQueries ? [false] : nil))
    }

    @Test(arguments: Kind.present, [Duration.zero, .nanoseconds(-1), .seconds(-90)])
    func ttlMustBePositive(_ kind: Kind, _ ttl: Duration) throws {
        let subject = try StoreUnderTest(kind)
        #expect(throws: NonPositiveTTL.self) { try subject.store.touch(mayor, ttl: ttl) }
        #expect(subject.store.areAlive([mayor]) == (kind.answersQueries ? [false] : nil))
    }

    @Test(arguments: Kind.present)
    func emptyIDIsAnError(_ kind: Kind) throws {
        let subject = try StoreUnderTest(kind)
        #expect(throws: RuntimeID.Invalid.empty) {
            try subject.store.touch(RuntimeID(""), ttl: Touch.defaultTTL)
        }
    }
}

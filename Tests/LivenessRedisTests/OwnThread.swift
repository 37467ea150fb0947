import Dispatch
import Glibc
import RedisServing
import Testing

extension Trait where Self == OwnThread {
    /// Runs each test on its own thread, so that blocking calls stay off Swift's cooperative pool.
    static var onOwnThread: Self { OwnThread() }
}

struct OwnThread: SuiteTrait, TestTrait, TestScoping {
    let isRecursive = true

    func scopeProvider(for test: Test, testCase: Test.Case?) -> Self? {
        testCase == nil ? nil : self
    }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        try await withTaskExecutorPreference(Executor()) { try await function() }
    }

    private final class Executor: TaskExecutor {
        private let queue = DispatchQueue(label: "test")

        func enqueue(_ job: consuming ExecutorJob) {
            let job = UnownedJob(job)
            queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
        }
    }
}

extension Trait where Self == ConditionTrait {
    /// Skips a test without Redis, except in CI, where it fails.
    static var needsRedis: Self {
        let mayMissIt = getenv("CI").map { String(cString: $0) } != "true"
        return .disabled(
            if: mayMissIt && !RedisServer.isInstalled, "redis-server, redis-cli or openssl is not installed")
    }
}

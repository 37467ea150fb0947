import Dispatch
import Glibc
import RedisServing
import Testing

/// All tests with a real mount, one after the other: they measure times and load the machine.
@Suite(.serialized, .onOwnThread, .needsFUSE) struct EndToEnd {}

extension Trait where Self == OwnThread {
    static var onOwnThread: Self { OwnThread() }
}

/// Runs each test on a thread of its own, so that its blocking calls stay off Swift's cooperative pool.
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

/// Whether what is missing on this machine is a reason to skip a test; in CI it is a reason to fail.
private let mayMissThings = getenv("CI").map { String(cString: $0) } != "true"

extension Trait where Self == ConditionTrait {
    static var needsFUSE: Self {
        .disabled(if: mayMissThings && access("/dev/fuse", R_OK | W_OK) != 0, "/dev/fuse cannot be opened here")
    }

    static var needsRoot: Self {
        .disabled(if: mayMissThings && geteuid() != 0, "needs root, to become other users or abort connections")
    }

    static var needsRedis: Self {
        .disabled(if: mayMissThings && !RedisServer.isInstalled, "redis-server, redis-cli or openssl is not installed")
    }

    static func needs(_ programs: String...) -> Self {
        let missing = programs.filter { !Command.isInstalled($0) }
        return .disabled(if: mayMissThings && !missing.isEmpty, "not installed: \(missing.joined(separator: ", "))")
    }
}

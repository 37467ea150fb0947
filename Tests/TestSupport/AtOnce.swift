import Synchronization
import Testing

extension Trait where Self == AtOnce {
    /// Runs at most `count` tests of a suite at once, whatever the runner allows.
    ///
    /// A test's time limit includes its wait.
    package static func atOnce(_ count: Int) -> Self { Self(slots: Slots(count)) }
}

package struct AtOnce: SuiteTrait, TestTrait, TestScoping {
    fileprivate let slots: Slots
    package let isRecursive = true

    package func scopeProvider(for test: Test, testCase: Test.Case?) -> Self? {
        testCase == nil ? nil : self
    }

    package func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        await slots.acquire()
        defer { slots.release() }
        try await function()
    }
}

/// An asynchronous counting semaphore, first come, first served.
private final class Slots: Sendable {
    private struct State {
        var free: Int
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let state: Mutex<State>

    init(_ count: Int) { state = Mutex(State(free: count)) }

    func acquire() async {
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                guard state.free > 0 else {
                    state.waiting.append(continuation)
                    return false
                }
                state.free -= 1
                return true
            }
            if isFree { continuation.resume() }
        }
    }

    func release() {
        let next = state.withLock { state in
            guard state.waiting.isEmpty else { return state.waiting.removeFirst() as CheckedContinuation? }
            state.free += 1
            return nil
        }
        next?.resume()
    }
}

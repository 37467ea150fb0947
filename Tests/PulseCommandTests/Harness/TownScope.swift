import Glibc
import TestSupport
import Testing

/// The `--scope` that towns are mounted with while a test runs.
enum TownScope: String, CaseIterable, Sendable {
    case town
    case signals

    @TaskLocal static var current = TownScope.town

    /// Options for `pulsefs mount`.
    var options: [String] { self == .town ? [] : ["--scope", rawValue] }

    /// The scope that `PULSEFS_SCOPE` names; by default, `town`.
    static let requested =
        getenv("PULSEFS_SCOPE").flatMap { TownScope(rawValue: String(cString: $0)) } ?? .town
}

/// Runs a suite in the scope that `PULSEFS_SCOPE` names: signal files behave the same in each.
struct InRequestedScope: SuiteTrait, TestTrait, TestScoping {
    let isRecursive = true

    func scopeProvider(for test: Test, testCase: Test.Case?) -> Self? {
        testCase == nil ? nil : self
    }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        try await TownScope.$current.withValue(.requested) { try await function() }
    }
}

extension Trait where Self == InRequestedScope {
    /// Marks a suite that `mount-scripts/test` runs once for each scope.
    ///
    /// It finds the suites by this word.
    static var inEachScope: Self { Self() }
}

extension Trait where Self == ConditionTrait {
    /// Skips a test of such a suite in signals scope.
    ///
    /// - Parameter reason: Why the test makes no sense there.
    static func townScopeOnly(_ reason: Comment) -> Self {
        .disabled(if: TownScope.requested == .signals, reason)
    }
}

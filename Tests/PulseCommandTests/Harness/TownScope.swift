import Glibc
import Testing

/// What towns are mounted with while a test runs, `--scope`.
enum TownScope: String, CaseIterable, Sendable {
    case town
    case signals

    @TaskLocal static var current = TownScope.town

    /// For `pulsefs mount`.
    var options: [String] { self == .town ? [] : ["--scope", rawValue] }

    /// The one that `PULSEFS_SCOPE` names.
    fileprivate static let asked = getenv("PULSEFS_SCOPE").flatMap { TownScope(rawValue: String(cString: $0)) }
}

/// Runs each test of a suite in several scopes: what signal files do is the same in all of them.
struct InScopes: SuiteTrait, TestTrait, TestScoping {
    let isRecursive = true
    let scopes: [TownScope]

    func scopeProvider(for test: Test, testCase: Test.Case?) -> Self? {
        testCase == nil ? nil : self
    }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        for scope in scopes {
            try await TownScope.$current.withValue(scope) { try await function() }
        }
    }
}

/// Leaves a test of such a suite out where the town itself is not mounted over.
struct InTownScopeAlone: TestTrait, TestScoping {
    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        if TownScope.current == .town { try await function() }
    }
}

extension Trait where Self == InScopes {
    /// Once in each scope, or only in that which `PULSEFS_SCOPE` names.
    static var inEachScope: Self { Self(scopes: TownScope.asked.map { [$0] } ?? TownScope.allCases) }

    /// For suites that take their time: in that which `PULSEFS_SCOPE` names, else in town scope.
    static var inScopeAskedFor: Self { Self(scopes: [TownScope.asked ?? .town]) }
}

extension Trait where Self == InTownScopeAlone {
    /// - Parameter reason: Why it can be so in no other.
    static func inTownScopeAlone(_ reason: String) -> Self { Self() }
}

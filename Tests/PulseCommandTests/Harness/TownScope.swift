import Glibc
import Testing

/// What towns are mounted with while a test runs, `--scope`.
enum TownScope: String, CaseIterable, Sendable {
    case town
    case signals

    @TaskLocal static var current = TownScope.town

    /// For `pulsefs mount`.
    var options: [String] { self == .town ? [] : ["--scope", rawValue] }

    /// Those to be tried: both, or the one that `PULSEFS_SCOPE` names.
    static let wanted: [TownScope] = {
        guard let name = getenv("PULSEFS_SCOPE").map({ String(cString: $0) }) else { return allCases }
        return TownScope(rawValue: name).map { [$0] } ?? allCases
    }()
}

/// Runs each test of a suite once for each scope: what signal files do is the same in all of them.
struct InEachScope: SuiteTrait, TestTrait, TestScoping {
    let isRecursive = true

    func scopeProvider(for test: Test, testCase: Test.Case?) -> Self? {
        testCase == nil ? nil : self
    }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        for scope in TownScope.wanted {
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

extension Trait where Self == InEachScope {
    static var inEachScope: Self { Self() }
}

extension Trait where Self == InTownScopeAlone {
    /// - Parameter reason: Why it can be so in no other.
    static func inTownScopeAlone(_ reason: String) -> Self { Self() }
}

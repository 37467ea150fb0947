import Liveness
import TestSupport
import Testing

/// Attributes damaged and hostile touches, the same in every run: nothing traps, and every id is one of the town's.
@Suite(.timeLimit(.minutes(5))) struct AttributionMutationTests {
    private static let values = [
        "mayor", "deacon", "deacon/boot", "boot", "deacon-boot", "daemon", "deacon/dogs/alpha", "gastown/witness",
        "gastown/polecats/nux", "gastown/crew/max", "gastown-crew-max", "gastown-witness", "gastown/nux", "polecat",
        "crew", "dog", "witness", "gastown", "nux", "hq-mayor", "hq-dog-alpha", "gt-nux", "gt-web-crew-max", "",
    ].map { Array($0.utf8) }

    private static let paths = [
        ".runtime/heartbeats/gt-nux.json", "deacon/heartbeat.json", "gastown/polecats/nux/src (deleted)", "mayor/rig",
        "gastown/crew/max", "deacon/dogs/alpha", "gastown/refinery", "",
    ].map { Array($0.utf8) }

    private static let documents = [
        #"{"actor":"gastown/polecats/nux","timestamp":"2026-08-01T11:59:59Z"}"#, #"{"actor":"gastown\/nux"}"#, "{",
    ].map { Array($0.utf8) }

    /// Fragments that random bytes rarely form.
    private static let pieces =
        [
            "/", "//", "..", "/../", ".", "-", "-crew-", "crew-", "-witness", " ", "\n", "\0", "=", "polecats", "mayor",
            ".json", " (deleted)", "\\u0000", "\"", "ü",
        ].map { Array($0.utf8) } + [[0xFF], [0xC3]]

    @Test(arguments: UInt64(1)...8)
    func nothingTrapsAndEveryIDIsCanonical(seed: UInt64) {
        var random = SplitMix64(state: seed)
        for _ in 0..<4_000 {
            var it = Case()
            it.command = ["gt", ["daemon", "mail"].randomElement(using: &random) ?? "", "run"].map {
                mutant(of: [Array($0.utf8)], using: &random)
            }
            for variable in IdentityClaims.Variable.gasTown where Bool.random(using: &random) {
                it.environment[variable] = mutant(of: Self.values, using: &random)
            }
            it.signal = Bool.random(using: &random) ? mutant(of: Self.paths, using: &random) : nil
            it.document = Bool.random(using: &random) ? mutant(of: Self.documents, using: &random) : nil
            it.directory = Bool.random(using: &random) ? mutant(of: Self.paths, using: &random) : nil
            check(it)
        }
    }

    private func mutant(of corpus: [[UInt8]], using random: inout SplitMix64) -> [UInt8] {
        var bytes = corpus.randomElement(using: &random) ?? []
        for _ in 0..<max(0, Int.random(in: -3...4, using: &random)) {
            let at = Int.random(in: 0...bytes.count, using: &random)
            switch Int.random(in: 0..<5, using: &random) {
            case 0: bytes.insert(UInt8.random(in: 0...255, using: &random), at: at)
            case 1: bytes.insert(contentsOf: Self.pieces.randomElement(using: &random) ?? [], at: at)
            case 2: bytes.removeSubrange(at..<Int.random(in: at...min(bytes.count, at + 4), using: &random))
            case 3: bytes.removeLast(bytes.count - at)
            default: bytes.insert(contentsOf: bytes.prefix(at), at: at)
            }
        }
        return bytes
    }

    @Test(arguments: [
        [UInt8](repeating: UInt8(ascii: "a"), count: 8192), [UInt8](repeating: UInt8(ascii: "/"), count: 8192),
        [UInt8](repeating: UInt8(ascii: "-"), count: 8192), [UInt8](repeating: UInt8(ascii: " "), count: 8192),
        [UInt8](repeating: 0xFF, count: 8192), [UInt8](repeating: 0, count: 8192), Array(0...31) + [0x7F],
        [0xC3, 0x28],
        Array(String(repeating: "gt-", count: 2731).utf8), Array(String(repeating: "-crew-", count: 1366).utf8),
        Array("gastown/crew/".utf8) + [UInt8](repeating: UInt8(ascii: "x"), count: 8192), Array("mayor\u{1B}[2J".utf8),
        Array("gastown/crew/max\0".utf8), Array("gastown/crew/".utf8) + [0xFF], [],
    ])
    func hostileValueIdentifiesNoRuntime(_ value: [UInt8]) {
        for role in ["polecat", "crew", "dog", "witness"] {
            var it = Case()
            it.command = [value, value]
            it.environment = Dictionary(uniqueKeysWithValues: IdentityClaims.Variable.gasTown.map { ($0, value) })
            it.document = value
            it.directory = value
            it.check()
            it.document = Array(#"{"actor":""#.utf8) + value + Array(#""}"#.utf8)
            it.signal = Array(".runtime/heartbeats/".utf8) + value + Array(".json".utf8)
            it.environment[.role] = Array(role.utf8)
            it.check()
        }
        #expect(SessionNames(rigsDocument: value) == nil)
    }

    private func check(_ it: Case) {
        guard case .runtime(let runtime, let evidence) = it.attribution else { return }
        // The heartbeat of an unknown session.
        let isSession = evidence == .path && !runtime.description.contains("/")
        #expect(isSession || isCanonical(runtime), "\(it.testDescription): \(runtime)")
    }

    private func isCanonical(_ runtime: RuntimeID) -> Bool {
        let names = runtime.description.split(separator: "/", omittingEmptySubsequences: false)
        let isRig = !["mayor", "deacon", "daemon"].contains(names[0]) && !names[0].hasPrefix(".")
        return switch names.count {
        case 1: ["mayor", "deacon", "daemon"].contains(names[0])
        case 2: runtime.description == "deacon/boot" || isRig && ["witness", "refinery"].contains(names[1])
        case 3: names[0...1] == ["deacon", "dogs"] || isRig && ["polecats", "crew"].contains(names[1])
        default: false
        }
    }
}

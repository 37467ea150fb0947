import TestSupport
import Testing

@testable import Liveness

/// Judges thousands of damaged documents, the same in every run, and checks invariants of the result.
@Suite(.timeLimit(.minutes(5))) struct DocumentMutationTests {
    private static let corpus = [
        #"{"last_command":"gt mail send x","timestamp":"2026-08-01T11:59:59.123456789Z"}"#,
        #"{"timestamp":null,"a":[1,-2.5e+3,true,{"timestamp":false}],"TIMESTAMP":"2030-08-01T11:00:00+02:00"}"#,
        "{\n  \"timestamp\": \"0001-01-01T00:00:00Z\",\n  \"cycle\": 3\n}\n",
        #"{"time\u017ftamp":"2026-08-01T3:00:00,5Z","s":"\"\\\/\b\ud83d\ude00"}"#,
        "{}", "[[[{}]]]", "gt status <&>\n", " \r\n", "\"ü\u{2028}😀\"",
    ].map { Array($0.utf8) }

    /// Fragments that random bytes rarely form.
    private static let pieces = [
        "{", "}", "[", "]", "\"", ",", ":", "\\", "\\u0054", "\"timestamp\":", "\u{17F}", "null", "0", "1e5", "-", "\n",
        "\0",
        "\u{FEFF}", "\"2026-08-01T11:00:00Z\"", "{\"a\":", " ",
    ].map { Array($0.utf8) }

    @Test(arguments: UInt64(1)...8)
    func judgementOfAnyBytesIsValid(seed: UInt64) {
        var random = SplitMix64(state: seed)
        for _ in 0..<2_000 { check(mutant(using: &random)) }
    }

    private func mutant(using random: inout SplitMix64) -> [UInt8] {
        var bytes = Self.corpus.randomElement(using: &random) ?? []
        for _ in 0..<Int.random(in: 0...4, using: &random) {
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

    private func check(_ bytes: [UInt8]) {
        let now = WallTime(seconds: 1_785_585_600)
        let label = Comment(rawValue: String(decoding: bytes, as: UTF8.self))
        guard let judgement = try? Document.judge(bytes, receivedAt: now, previous: nil, isEmptyAllowed: false) else {
            return
        }
        let document = judgement.document

        #expect((judgement.outcome == .verbatim) == (document.bytes == bytes), label)
        // The result is valid if written back.
        let again = try? Document.judge(document.bytes, receivedAt: now, previous: nil, isEmptyAllowed: false)
        #expect(again == Document.Judgement(document: document, outcome: .verbatim), label)
        // It has a timestamp for Go that is not in the future.
        let timestamp = document.string("timestamp").flatMap { WallTime(rfc3339: $0.utf8) }
        #expect(timestamp.map { $0 != .goZero && $0 - now <= .seconds(5) } == true, label)
        // A refreshed document differs only in its timestamps.
        let refreshed = try? Document.refreshed(document, at: now, isEmptyAllowed: false)
        #expect(refreshed?.string("timestamp") == now.rfc3339, label)
        #expect(refreshed?.string("last_command") == document.string("last_command"), label)
    }

    @Test(arguments: corpus)
    func everyTruncationIsJudgedWithoutTrapping(_ bytes: [UInt8]) {
        for length in 0...bytes.count {
            check(Array(bytes.prefix(length)))
            check(Array(bytes.suffix(length)))
        }
    }
}

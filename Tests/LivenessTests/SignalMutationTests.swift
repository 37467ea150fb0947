import TestSupport
import Testing

@testable import Liveness

/// Judges thousands of damaged documents of each kind, the same in every run.
@Suite(.timeLimit(.minutes(5))) struct SignalMutationTests {
    /// Noon of 2026-08-01, UTC.
    private static let now = WallTime(seconds: 1_785_585_600)

    private static let pieces =
        ([
            "{", "}", "[", "]", "\"", ",", ":", "\\", "\\u0000", "\"ts\":", "\"pid\":", "\"name\":", "\"start\":",
            "\"expected_idle_until\":", "\"2026-08-01T11:00:00Z\"", "\"9999-12-31T23:59:59Z\"", "1785585600",
            "1785585600123", "-1", "1e308", "1e-308", "99999999999999999999", "0.1", "true", "null", "\n", " ", "4711",
            "\"a/../b\"", "\"worker-1\"", "ü", "\0",
        ].map { Array($0.utf8) }) + [[0xFF], [0xC3]]

    private static let whole = Array(
        #"{"ts":1785585540,"pid":4711,"start":"17","name":"worker-1","expected_idle_until":"2026-08-01T12:40:00Z"}"#
            .utf8)

    private func mutant(using random: inout SplitMix64) -> [UInt8] {
        var bytes = Bool.random(using: &random) ? Self.whole : []
        for _ in 0..<Int.random(in: 0...5, using: &random) {
            let at = Int.random(in: 0...bytes.count, using: &random)
            switch Int.random(in: 0..<4, using: &random) {
            case 0: bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 0...9, using: &random)))
            case 1: bytes.removeLast(bytes.count - at)
            default: bytes.insert(contentsOf: Self.pieces.randomElement(using: &random) ?? [], at: at)
            }
        }
        return bytes
    }

    @Test(arguments: SignalKind.allCases, UInt64(1)...3)
    func judgementOfAnyBytesIsValid(_ kind: SignalKind, seed: UInt64) throws {
        let fields =
            kind == .json ? Signal.Fields(id: "name", state: "s", timestamp: "ts", pid: "pid", start: "start") : .none
        let format = SignalFormat(try Signal("x", kind: kind, fields: fields), fileName: "x.json".utf8)
        var random = SplitMix64(state: seed)
        var previous: Document?
        var kept = 0
        for _ in 0..<3_000 {
            let bytes = mutant(using: &random)
            let label = Comment(rawValue: "\(kind): \(String(decoding: bytes, as: UTF8.self))")
            // Both look at bytes that may be refused.
            let process = format.process(in: bytes)
            #expect(process.map { $0.pid > 0 } ?? true, label)
            do throws(Document.Rejection) {
                let judgement = try format.judge(bytes, receivedAt: Self.now, previous: previous)
                kept += 1
                #expect(judgement.aliveAt <= Self.now, label)
                let ttl = judgement.ttl(.seconds(90), receivedAt: Self.now)
                #expect(ttl >= .seconds(90), label)
                // An announced silence ends an hour after the receipt.
                #expect(ttl == .seconds(90) || judgement.aliveAt + ttl <= Self.now + .seconds(3600), label)
                switch kind {
                case .raw, .mtime: #expect(judgement.document.bytes == bytes, label)
                case .json:
                    #expect(judgement.document.bytes == (judgement.isWritten ? bytes : previous?.bytes ?? []), label)
                case .document: #expect(judgement.document.timestamp != nil, label)
                }
                // The result is accepted again, and is the same then.
                let again = try format.judge(judgement.document.bytes, receivedAt: Self.now, previous: nil)
                #expect(again.document == judgement.document || kind == .document, label)
                previous = judgement.document
            } catch {
                #expect(kind == .json || kind == .document, label)
                #expect(!error.description.isEmpty)
            }
        }
        #expect(kept > 300)
    }
}

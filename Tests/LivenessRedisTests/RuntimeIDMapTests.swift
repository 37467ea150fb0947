import Foundation
import Liveness
import Testing

@testable import LivenessRedis

@Suite(.timeLimit(.minutes(5))) struct RuntimeIDMapTests {
    private let uuid = "0198C0DE-0000-7000-8000-000000000001"

    private func map(_ text: String) throws(RuntimeIDMap.Problem) -> RuntimeIDMap {
        try RuntimeIDMap(json: Array(text.utf8))
    }

    @Test func idsAreMappedToLowerCaseUUIDs() throws {
        let map = try map(#"{"gastown/polecats/furiosa": "\#(uuid)"}"#)
        #expect(map.count == 1)
        #expect(map[try RuntimeID("gastown/polecats/furiosa")] == uuid.lowercased())
        #expect(map[try RuntimeID("mayor")] == "mayor")
    }

    @Test(arguments: [
        "", "[]", "{", "{\"a\": 1}", "{\"a\": null}", "{\" \": \"UUID\"}", "{\"\": \"UUID\"}", "{\"a\": \"\"}",
        "{\"a\": \"0198\"}", "{\"a\": \"UUID\", \"b\": \"UUID\"}",
    ])
    func invalidMapIsReported(_ text: String) {
        #expect(throws: RuntimeIDMap.Problem.self) { try map(text.replacing("UUID", with: uuid)) }
    }

    @Test func changedFileIsReadAndAnInvalidOneChangesNothing() throws {
        let path = "/tmp/pulsefs-ids-\(UUID().uuidString).json"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let mayor = try RuntimeID("mayor")
        var file = RuntimeIDFile(path: path)
        func refresh() -> Bool { file.refresh() }
        func write(_ text: String) throws {
            try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
        }

        #expect(refresh())
        #expect(file.problem?.contains("cannot be read") == true)
        #expect(!refresh())
        try write(#"{"mayor": "\#(uuid)"}"#)
        #expect(refresh())
        #expect(file.problem == nil)
        #expect(file.map[mayor] == uuid.lowercased())
        #expect(!refresh())
        try write("{")
        #expect(refresh())
        #expect(file.problem != nil)
        #expect(file.map[mayor] == uuid.lowercased())
        #expect(!refresh())
        try FileManager.default.removeItem(atPath: path)
        #expect(refresh())
        #expect(file.map[mayor] == uuid.lowercased())
        try write("{}")
        #expect(refresh())
        #expect(file.problem == nil)
        #expect(file.map[mayor] == "mayor")
    }
}

@Suite(.timeLimit(.minutes(5))) struct BackoffTests {
    @Test func pausesGrowToALimitAndBeginAnew() {
        var backoff = Backoff()
        var pauses: [Duration] = []
        for _ in 0..<7 { pauses.append(backoff.pause(isPermanent: false, random: 0)) }
        #expect(pauses == [100, 200, 400, 800, 1600, 2000, 2000].map { .milliseconds($0) })
        let now = ContinuousClock.now
        backoff.connectionEnded(upSince: nil, at: now)
        backoff.connectionEnded(upSince: now - .seconds(1), at: now)
        let still = backoff.pause(isPermanent: false, random: 0)
        #expect(still == .seconds(2))
        backoff.connectionEnded(upSince: now - .seconds(10), at: now)
        let first = backoff.pause(isPermanent: false, random: 0)
        #expect(first == .milliseconds(100))
    }

    @Test func pausesDiffer() {
        var backoff = Backoff()
        let shortest = backoff.pause(isPermanent: true, random: 1)
        let longest = backoff.pause(isPermanent: true, random: 0)
        #expect(shortest < longest)
        #expect(shortest > .seconds(2))
        #expect(longest <= .seconds(4))
    }
}
